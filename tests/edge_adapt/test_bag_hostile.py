"""Bags of a stranger: what a chunk, a definition or a message claims is bounded before it is believed."""

from __future__ import annotations

import os
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from helpers.bag_samples import TOPICS, frames_bag, grasp_plan
from helpers.hostile_bags import (
    bag_bytes,
    channel,
    encoded_message,
    message,
    packed,
    repeated_message,
    write_bag,
)

from edge_adapt.bag.messages import PLAN_TYPE, failed_picks, recorded_grasp, with_named_terms
from edge_adapt.bag.replay import Replay
from robin_perception.bags.chunks import MOST_CHUNK_BYTES
from robin_perception.bags.definitions import full_text
from robin_perception.bags.frames import BagFrames
from robin_perception.bags.reader import BagReader
from robin_perception.core.errors import Code, RobinError

NOTE = "x_msgs/msg/Note"
HEADER = b"\x00\x01\x00\x00"
BASE = Path(__file__).resolve().parents[2] / "models" / "base"


def refusal(path: Path) -> RobinError:
    with pytest.raises(RobinError) as refused:
        for found in BagReader(path).messages():
            found.values()
    assert "\n" not in str(refused.value)
    return refused.value


def test_a_chunk_that_claims_gigabytes_is_refused_before_it_is_unpacked(tmp_path: Path) -> None:
    path = write_bag(tmp_path / "x.mcap", packed(b"", claims=8 << 30))
    tracemalloc.start()
    assert refusal(path).code is Code.INPUT_TOO_LARGE
    assert tracemalloc.get_traced_memory()[1] < 10_000_000
    tracemalloc.stop()


@pytest.mark.parametrize("claims", [0, 100, MOST_CHUNK_BYTES])
def test_a_chunk_that_becomes_more_or_less_than_it_claims_is_left_out(tmp_path: Path, claims: int) -> None:
    reader = BagReader(write_bag(tmp_path / "x.mcap", packed(bytes(1_000_000), claims=claims)))
    assert list(reader.messages()) == [] and "damaged chunk" in reader.warnings[0]


def test_a_file_of_a_few_kilobytes_does_not_unpack_to_gigabytes(tmp_path: Path) -> None:
    chunk = packed(bytes(MOST_CHUNK_BYTES))
    assert refusal(write_bag(tmp_path / "x.mcap", *[chunk] * 20)).code is Code.INPUT_TOO_LARGE


def test_a_file_of_a_few_kilobytes_holds_no_million_messages(tmp_path: Path) -> None:
    records = (*channel(1, "/note", NOTE, ""), packed(repeated_message(1, 1_000_000)))
    path = write_bag(tmp_path / "x.mcap", *records)
    with pytest.raises(RobinError) as refused:
        list(BagReader(path).messages())
    assert refused.value.code is Code.INPUT_TOO_LARGE


def test_a_record_that_claims_more_than_the_file_ends_the_reading(tmp_path: Path) -> None:
    path = tmp_path / "x.mcap"
    path.write_bytes(bag_bytes()[:-60] + b"\x03" + (1 << 62).to_bytes(8, "little") + bytes(100))
    reader = BagReader(path)
    assert list(reader.messages()) == [] and len(reader.warnings) == 1


def nested(depth: int, last: str = "uint8 x\n") -> str:
    """A definition whose fields name each other, ``depth`` deep."""
    parts = [f"M{i + 1} a\nM{i + 1} b\n" for i in range(depth)]
    texts = [parts[0], *(f"MSG: x_msgs/M{i + 1}\n{text}" for i, text in enumerate([*parts[1:], last]))]
    return ("=" * 80 + "\n").join(texts)


@pytest.mark.parametrize(
    ("text", "data"),
    [
        ("Note again\n", bytes(1000)),
        ("Note[2] again\n", bytes(1000)),
        (nested(1000), bytes(1000)),
        (nested(30, "\n"), bytes(1_000_000)),
        (f"Empty[] many\n{'=' * 80}\nMSG: x_msgs/Empty\n", (10_000_000).to_bytes(4, "little") + bytes(10_000_000)),
        (f"Empty[99999999999] many\n{'=' * 80}\nMSG: x_msgs/Empty\n", bytes(1_000_000)),
        ("string[] many\n", (1_000_000).to_bytes(4, "little") + bytes(4_000_000)),
        ("uint8[99999999999999999999] many\n", bytes(1000)),
        ("Nowhere x\n", bytes(1000)),
        ("string x\n", b"\xff\xff\xff\xff" + bytes(100)),
        ("string x\n", b"\x01\x00\x00\x00\xff"),
    ],
)
def test_messages_without_end_are_refused(tmp_path: Path, text: str, data: bytes) -> None:
    path = write_bag(tmp_path / "x.mcap", *channel(1, "/note", NOTE, text), message(1, HEADER + data))
    assert refusal(path).code is Code.BAG_INVALID


@pytest.mark.parametrize("text", ["uint8[" + "9" * 5000 + "] x\n", "?", "uint8 x\n" * 100_000])
def test_definitions_that_cannot_be_are_left_out(tmp_path: Path, text: str) -> None:
    reader = BagReader(write_bag(tmp_path / "x.mcap", *channel(1, "/note", NOTE, text), message(1, HEADER)))
    assert list(reader.messages()) == [] and "not understood" in reader.warnings[0]


PLAN_TEXT = full_text(PLAN_TYPE)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("string plan_id", "uint8 plan_id"),
        ("string plan_id", "string[] plan_id"),
        ("std_msgs/Header header", "string header"),
        ("\nGrasp[] grasps", "\nstring[] grasps"),
        ("\nGrasp[] grasps", "\nGrasp grasps"),
        ("string plan_id", "string plan_id\nuint8 plan_id"),
        ("float64 w", "string w"),
    ],
)
def test_plans_whose_fields_have_other_types_are_left_out(tmp_path: Path, old: str, new: str) -> None:
    assert old in PLAN_TEXT
    schema = channel(1, TOPICS.plan, PLAN_TYPE, PLAN_TEXT.replace(old, new, 1))
    path = write_bag(tmp_path / "x.mcap", *schema, message(1, HEADER + bytes(1000)))
    with pytest.raises(RobinError) as refused:
        Replay(path, BASE)
    assert refused.value.code is Code.BAG_TOPIC_MISSING


def test_fields_that_an_older_definition_lacks_read_as_empty(tmp_path: Path) -> None:
    text = "std_msgs/Header header\nstring plan_id\n" + "=" * 80 + "\nMSG: std_msgs/Header\n"
    text += full_text("std_msgs/Header")
    data = HEADER + bytes(12) + b"\x02\x00\x00\x00p\x00"
    path = write_bag(tmp_path / "x.mcap", *channel(1, TOPICS.plan, PLAN_TYPE, text), message(1, data))
    (found,) = BagReader(path).messages()
    plan = with_named_terms(found.values())
    assert plan["plan_id"] == "p" and plan["requested"] is False and failed_picks(plan) == ()
    assert recorded_grasp(plan) is None and plan["excluded_instances"].shape == (0,)


def test_a_topic_of_another_type_is_left_out(tmp_path: Path) -> None:
    topics = TOPICS.frames
    records = [
        record
        for number, topic in enumerate((topics.color, topics.depth, topics.info, topics.tf_static), start=1)
        for record in (
            *channel(number, topic, "std_msgs/msg/String"),
            encoded_message(number, "std_msgs/msg/String", data="?"),
        )
    ]
    with pytest.raises(RobinError) as refused:
        list(BagFrames(write_bag(tmp_path / "x.mcap", *records)))
    assert refused.value.code is Code.BAG_TOPIC_MISSING


def test_a_channel_that_is_told_anew_is_judged_anew(tmp_path: Path) -> None:
    kinds = TOPICS.reads(TOPICS.plan, TOPICS.pipeline)
    first, again = channel(1, TOPICS.pipeline, "std_msgs/msg/String"), channel(1, TOPICS.plan, "std_msgs/msg/String")
    note = encoded_message(1, "std_msgs/msg/String", data="?")
    reader = BagReader(write_bag(tmp_path / "x.mcap", *first, note, *again, note))
    assert [found.topic for found in reader.messages(kinds)] == [TOPICS.pipeline]
    assert "holds std_msgs/msg/String" in reader.warnings[0]


@pytest.mark.parametrize("name", ["../../victim", "..", "a/b", ""])
def test_a_decision_whose_id_is_no_file_name_is_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / "x.mcap"
    plan = {**grasp_plan(np.random.default_rng(0)), "plan_id": "p-1"}
    decision = "robin_msgs/msg/Decision"
    write_bag(
        path,
        *channel(1, TOPICS.plan, PLAN_TYPE),
        encoded_message(1, PLAN_TYPE, **plan),
        *channel(2, TOPICS.decision, decision),
        encoded_message(2, decision, plan_id="p-1", decision_id=name),
    )
    with pytest.raises(RobinError) as refused:
        Replay(path, BASE)
    assert refused.value.code is Code.ID_INVALID


HOSTILE_METADATA = {
    "impossible date": "rosbag2_bagfile_information: {version: 2020-99-99}",
    "nested": "- " * 2000,
    "aliases": "a: &a [*a]",
    "other kinds": "rosbag2_bagfile_information: {storage_identifier: mcap, relative_file_paths: 5}",
    "a list": "rosbag2_bagfile_information: []",
    "no names": "rosbag2_bagfile_information: {storage_identifier: mcap, relative_file_paths: [{}, '..', '']}",
    "bytes": "\x00",
    "long name": f"rosbag2_bagfile_information: {{storage_identifier: mcap, relative_file_paths: [{'x' * 5000}]}}",
}


@pytest.mark.parametrize("name", HOSTILE_METADATA)
def test_metadata_that_cannot_be_is_done_without(tmp_path: Path, name: str) -> None:
    frames_bag(tmp_path / "bag", 1)
    (tmp_path / "bag/metadata.yaml").write_text(HOSTILE_METADATA[name])
    try:
        reader = BagReader(tmp_path / "bag")
    except RobinError as refused:
        assert refused.code is Code.BAG_INVALID
    else:
        assert sum(1 for _ in reader.messages()) == 4


def test_a_file_that_is_listed_often_is_read_once(tmp_path: Path) -> None:
    frames_bag(tmp_path / "bag", 1)
    names = ", ".join(["bag_0.mcap"] * 800)
    text = f"rosbag2_bagfile_information: {{storage_identifier: mcap, relative_file_paths: [{names}]}}"
    (tmp_path / "bag/metadata.yaml").write_text(text)
    assert len(BagReader(tmp_path / "bag").files) == 1


def test_pipes_in_place_of_a_bag_are_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "x.mcap")
    with pytest.raises(RobinError):
        BagReader(tmp_path / "x.mcap")
    (tmp_path / "bag").mkdir()
    os.mkfifo(tmp_path / "bag/bag_0.mcap")
    os.mkfifo(tmp_path / "bag/metadata.yaml")
    with pytest.raises(RobinError):
        BagReader(tmp_path / "bag")
