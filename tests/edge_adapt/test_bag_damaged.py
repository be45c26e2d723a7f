"""Bags with a part missing, a damaged chunk, a tail of zeros, a clock that was set: read as far as they go, and it is
said what was left out."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import yaml
from helpers.bag_samples import SECOND, TOPICS, add_topics, camera_frame, encoded, frames_bag, write_frame

from edge_adapt.bag.mcap_file import StorageConfig
from edge_adapt.bag.replay import Replay
from edge_adapt.bag.writer import BagWriter
from robin_perception.bags.frames import BagFrames
from robin_perception.bags.reader import BagReader, raw_records
from robin_perception.cameras import make_source, source_config
from robin_perception.core.errors import Code, RobinError


def edit_metadata(bag: Path, **changes: object) -> None:
    path = bag / "metadata.yaml"
    values = yaml.safe_load(path.read_text())
    values["rosbag2_bagfile_information"] |= changes
    path.write_text(yaml.safe_dump(values))


def data_file(bag: Path) -> Path:
    (file,) = bag.glob("*.mcap")
    return file


def test_a_listed_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    kept = frames_bag(tmp_path / "bag", 3)
    edit_metadata(tmp_path / "bag", relative_file_paths=[data_file(tmp_path / "bag").name, "bag_1.mcap"])
    reader = BagReader(tmp_path / "bag")
    for _ in range(2):
        assert sum(message.topic == TOPICS.frames.depth for message in reader.messages()) == len(kept)
        assert reader.warnings == ["bag_1.mcap: listed in metadata.yaml, but not there"]


def test_a_storage_without_a_name_is_told_by_its_files(tmp_path: Path) -> None:
    kept = frames_bag(tmp_path / "bag", 3)
    edit_metadata(tmp_path / "bag", storage_identifier="")
    assert len(list(BagFrames(tmp_path / "bag"))) == len(kept)
    edit_metadata(tmp_path / "bag", storage_identifier="sqlite3")
    with pytest.raises(RobinError, match="sqlite3"):
        BagReader(tmp_path / "bag")


def test_a_damaged_chunk_stands_in_the_refusal(tmp_path: Path) -> None:
    frames_bag(tmp_path / "bag", 2, StorageConfig(chunk_bytes=10_000_000))
    file = data_file(tmp_path / "bag")
    data = bytearray(file.read_bytes())
    data[len(data) // 3] ^= 0x10
    file.write_bytes(bytes(data))
    for refused in (lambda: next(BagFrames(tmp_path / "bag")), lambda: Replay(tmp_path / "bag", tmp_path)):
        with pytest.raises(RobinError, match="a damaged chunk was left out") as caught:
            refused()
        assert caught.value.code == Code.BAG_TOPIC_MISSING


def test_a_tail_of_zeros_ends_the_reading(tmp_path: Path) -> None:
    frames_bag(tmp_path / "bag", 3)
    file = data_file(tmp_path / "bag")
    cut = file.read_bytes()[: -len(file.read_bytes()) // 3]
    file.write_bytes(cut)
    whole = [message.data for message in BagReader(tmp_path / "bag").messages()]
    zeros = bytes(1 << 20)
    file.write_bytes(cut + zeros)
    reader = BagReader(tmp_path / "bag")
    assert [message.data for message in reader.messages()] == whole
    assert any("was not closed" in warning for warning in reader.warnings)
    stream = io.BytesIO(cut + zeros)
    list(raw_records(stream, len(cut + zeros)))
    assert stream.tell() < len(cut) + 100_000  # not one zero after the other: a gigabyte of them would take minutes


def test_a_frame_that_is_refused_costs_one_read(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    with BagWriter(tmp_path / "bag", StorageConfig()) as writer:
        add_topics(writer)
        for index in range(3):
            sample = encoded(camera_frame(rng, 1.0 + index))
            if index == 1:
                depth = sample.messages[TOPICS.frames.depth][1]
                depth["data"] = np.zeros_like(depth["data"])
            write_frame(writer, sample, (1 + index) * SECOND)
    with make_source(source_config("bag", {"path": str(tmp_path / "bag")})) as source:
        assert source.read(1.0).stamp_s == 1.0
        with pytest.raises(RobinError) as caught:
            source.read(1.0)
        assert caught.value.code == Code.DEPTH_EMPTY
        assert source.read(1.0).stamp_s == 3.0
        with pytest.raises(RobinError, match="end of the bag"):
            source.read(1.0)


def test_a_clock_that_was_set_is_no_pause(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    with BagWriter(tmp_path / "bag", StorageConfig()) as writer:
        add_topics(writer)
        for stamp_s in (1.0, 1_790_000_000.0):
            write_frame(writer, encoded(camera_frame(rng, stamp_s)), round(stamp_s * SECOND))
    config = {"path": str(tmp_path / "bag"), "speed": 1.0, "max_gap_s": 0.05}
    with make_source(source_config("bag", config)) as source:
        assert source.read(1.0).stamp_s == 1.0
        assert source.read(5.0).stamp_s == 1_790_000_000.0


def test_a_camera_that_froze_is_refused_from_a_recording_too(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    frame = camera_frame(rng)
    with BagWriter(tmp_path / "bag", StorageConfig()) as writer:
        add_topics(writer)
        for index in range(6):
            sample = encoded(type(frame)(frame.rgb, frame.depth, frame.K, frame.T_base_camera, 1.0 + index))
            write_frame(writer, sample, (1 + index) * SECOND)
    config = {"path": str(tmp_path / "bag"), "gate": {"frozen_after": 4}}
    with make_source(source_config("bag", config)) as source:
        for _ in range(4):
            source.read(1.0)
        with pytest.raises(RobinError) as caught:
            source.read(1.0)
        assert caught.value.code == Code.PICTURE_FROZEN
