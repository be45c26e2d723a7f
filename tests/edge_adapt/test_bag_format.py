"""Bags on disk: what other readers find in them, and what is left of one that was cut short."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from helpers.bag_samples import SECOND, TOPICS, add_topics, camera_frame, encoded, frames_bag, grasp_plan
from mcap.reader import make_reader

from edge_adapt.bag.background import BackgroundBagWriter
from edge_adapt.bag.messages import with_named_terms
from edge_adapt.bag.writer import BagWriter
from robin_perception.bags import cdr
from robin_perception.bags.definitions import MESSAGE_FOLDER, full_text, message_text, parse_fields
from robin_perception.bags.frames import BagFrames
from robin_perception.bags.reader import BagReader
from robin_perception.core.errors import Code, RobinError
from robin_perception.core.frame import Frame

ROOT = Path(__file__).resolve().parents[2]
PLAN = "robin_msgs/msg/GraspPlan"


def same(a: Frame, b: Frame) -> bool:
    arrays = ("rgb", "depth", "K", "T_base_camera")
    return a.stamp_s == b.stamp_s and all(np.array_equal(getattr(a, n), getattr(b, n)) for n in arrays)


# Messages


def test_own_message_texts_are_those_of_the_ros_package() -> None:
    for path in sorted((ROOT / "ros2_ws/src/robin_msgs/msg").glob("*.msg")):
        assert (MESSAGE_FOLDER / "robin_msgs" / path.name).read_text() == path.read_text(), f"copy {path.name} again"


def test_standard_message_texts_have_the_fields_of_the_installed_ones() -> None:
    share = Path(sys.prefix) / "share"
    if not (share / "sensor_msgs/msg").is_dir():
        pytest.skip("ROS 2 is not installed here")
    compared = 0
    for path in sorted(MESSAGE_FOLDER.glob("*/*.msg")):
        package = path.parent.name
        installed = share / package / "msg" / path.name
        if package != "robin_msgs" and installed.is_file():
            assert parse_fields(path.read_text(), package) == parse_fields(installed.read_text(), package), path.name
            compared += 1
    assert compared >= 10


def test_a_message_survives_encoding_and_decoding() -> None:
    values = grasp_plan(np.random.default_rng(1))
    found = cdr.decode(PLAN, cdr.encode(PLAN, values))
    for name in ("excluded_instances", "rejected_codes", "rejected_counts", "thresholds"):
        assert found.pop(name).tolist() == values.pop(name).tolist()
    assert found["motion"].pop("transfer_axis_xy").tolist() == values["motion"].pop("transfer_axis_xy").tolist()
    for got, want in zip(found["grasps"], values["grasps"], strict=True):
        assert np.array_equal(got.pop("cup_seal"), want.pop("cup_seal"), equal_nan=True)
    assert with_named_terms(found) == with_named_terms(values)


def test_another_decoder_reads_the_same_values() -> None:
    decoder = pytest.importorskip("mcap_ros2._dynamic")
    values = grasp_plan(np.random.default_rng(2))
    found = decoder.generate_dynamic(PLAN, full_text(PLAN))[PLAN](cdr.encode(PLAN, values))
    assert found.plan_id == values["plan_id"]
    assert [g.score for g in found.grasps] == [g["score"] for g in values["grasps"]]
    assert found.rejected[0].pose.orientation.w == values["rejected"][0]["pose"]["orientation"]["w"]
    assert list(found.excluded_instances) == [4, 9, 300]
    assert (list(found.rejected_codes), list(found.rejected_counts)) == ([5, 12], [3, 70_000])
    assert found.timings[0].ms == 1.5


def test_big_endian_messages_are_read() -> None:
    data = b"\x00\x00\x00\x00" + (5).to_bytes(4, "big") + (7).to_bytes(4, "big")
    assert cdr.decode("builtin_interfaces/msg/Time", data) == {"sec": 5, "nanosec": 7}


@pytest.mark.parametrize(
    "data", [b"", b"\x00\x01\x00\x00", b"\x00\x01\x00\x00\xff\xff\xff\xff", b"\x09\x01\x00\x00\x00"]
)
def test_what_is_no_message_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError):
        cdr.decode(PLAN, data)


def test_constants_defaults_and_bounds_are_no_part_of_the_fields() -> None:
    text = 'uint8 A=1\nstring<=5 name "a # b"\nfloat64[<=3] x\nint32[2] y\nHeader header # note\n'
    fields = [(f.name, f.type, f.length) for f in parse_fields(text, "p")]
    assert fields == [
        ("name", "string", None),
        ("x", "float64", -1),
        ("y", "int32", 2),
        ("header", "std_msgs/Header", None),
    ]


# Files


def test_the_file_is_what_rosbag2_writes(tmp_path: Path) -> None:
    frames_bag(tmp_path / "bag", 5)
    with (tmp_path / "bag/bag_0.mcap").open("rb") as stream:
        reader = make_reader(stream, validate_crcs=True)
        assert reader.get_header().profile == "ros2"
        summary = reader.get_summary()
        assert summary is not None and summary.statistics is not None
        assert summary.statistics.message_count == 16
        assert summary.statistics.message_end_time == 5 * SECOND
        assert len(summary.chunk_indexes) >= 3
        assert {chunk.compression for chunk in summary.chunk_indexes} == {"zstd"}
        by_topic = {channel.topic: channel for channel in summary.channels.values()}
        color = by_topic[TOPICS.frames.color]
        schema = summary.schemas[color.schema_id]
        assert (color.message_encoding, schema.encoding, schema.name) == ("cdr", "ros2msg", "sensor_msgs/msg/Image")
        assert "MSG: std_msgs/Header" in schema.data.decode()
        qos = yaml.safe_load(by_topic[TOPICS.frames.tf_static].metadata["offered_qos_profiles"])
        assert qos[0]["durability"] == "transient_local"
        # Found through the index, not by reading everything.
        found = list(
            reader.iter_messages(topics=[TOPICS.frames.depth], starting_at=3 * SECOND, ending_before=4 * SECOND)
        )
        assert [message.log_time for _, _, message in found] == [3 * SECOND]


def test_metadata_is_version_nine(tmp_path: Path) -> None:
    frames_bag(tmp_path / "bag", 3)
    info = yaml.safe_load((tmp_path / "bag/metadata.yaml").read_text())["rosbag2_bagfile_information"]
    assert (info["version"], info["storage_identifier"], info["message_count"]) == (9, "mcap", 10)
    assert info["relative_file_paths"] == ["bag_0.mcap"]
    assert info["duration"] == {"nanoseconds": 2 * SECOND}
    counts = {t["topic_metadata"]["name"]: t["message_count"] for t in info["topics_with_message_count"]}
    assert counts[TOPICS.frames.info] == 3
    assert info["topics_with_message_count"][0]["topic_metadata"]["offered_qos_profiles"][0]["history"] == "keep_last"


def test_an_independent_reader_decodes_the_images(tmp_path: Path) -> None:
    reader = pytest.importorskip("mcap_ros2.reader")
    kept = frames_bag(tmp_path / "bag", 2)
    found = list(reader.read_ros2_messages(str(tmp_path / "bag/bag_0.mcap"), topics=[TOPICS.frames.color]))
    assert len(found) == 2
    image = np.frombuffer(found[1].ros_msg.data, np.uint8).reshape(kept[1].rgb.shape)
    assert found[1].ros_msg.encoding == "rgb8" and np.array_equal(image, kept[1].rgb)


@pytest.mark.parametrize("jpeg_quality", [0, 90])
def test_frames_come_back_to_the_last_bit(tmp_path: Path, jpeg_quality: int) -> None:
    kept = frames_bag(tmp_path / "bag", 3, jpeg_quality=jpeg_quality)
    found = list(BagFrames(tmp_path / "bag"))
    assert len(found) == 3 and all(f.pose_known for f in found)
    assert all(same(a, b.frame) for a, b in zip(kept, found, strict=True))


def test_recording_rounds_depth_to_millimetres_and_nothing_more() -> None:
    frame = camera_frame(np.random.default_rng(3))
    kept = encoded(frame).frame
    assert np.abs(kept.depth - frame.depth).max() <= 0.0005001
    assert np.array_equal(kept.rgb, frame.rgb) and np.array_equal(kept.K, frame.K)
    assert np.abs(kept.T_base_camera - frame.T_base_camera).max() < 1e-14


def test_a_bag_of_several_files_is_read_in_their_order(tmp_path: Path) -> None:
    frames_bag(tmp_path / "bag", 2)
    folder = tmp_path / "split"
    folder.mkdir()
    for name in ("split_10.mcap", "split_9.mcap"):
        (folder / name).write_bytes((tmp_path / "bag/bag_0.mcap").read_bytes())
    assert [file.name for file in BagReader(folder).files] == ["split_9.mcap", "split_10.mcap"]
    info = {"storage_identifier": "mcap", "relative_file_paths": ["split_10.mcap", "split_9.mcap"]}
    (folder / "metadata.yaml").write_text(yaml.safe_dump({"rosbag2_bagfile_information": info}))
    reader = BagReader(folder)
    assert [file.name for file in reader.files] == ["split_10.mcap", "split_9.mcap"]
    assert sum(1 for _ in reader.messages([TOPICS.frames.depth])) == 4


# What goes wrong


def test_a_bag_cut_anywhere_is_read_up_to_there(tmp_path: Path) -> None:
    frames_bag(tmp_path / "bag", 4)
    whole = (tmp_path / "bag/bag_0.mcap").read_bytes()
    assert BagReader(tmp_path / "bag").warnings == []
    counts = []
    for end in range(16, len(whole) - 8, max(1, len(whole) // 60)):  # without its last 8 bytes a file lacks nothing
        cut = tmp_path / "cut.mcap"
        cut.write_bytes(whole[:end])
        reader = BagReader(cut)
        counts.append(sum(1 for _ in reader.messages()))
        assert len(reader.warnings) == 1, end
    assert counts == sorted(counts) and counts[0] == 0 and counts[-1] == 13


def test_a_damaged_chunk_costs_only_itself(tmp_path: Path) -> None:
    frames_bag(tmp_path / "bag", 4)
    file = tmp_path / "bag/bag_0.mcap"
    data = bytearray(file.read_bytes())
    with file.open("rb") as stream:
        summary = make_reader(stream).get_summary()
    assert summary is not None
    chunk = summary.chunk_indexes[1]
    middle = chunk.chunk_start_offset + chunk.chunk_length // 2
    data[middle : middle + 16] = bytes(16)
    file.write_bytes(data)
    reader = BagReader(tmp_path / "bag")
    count = sum(1 for _ in reader.messages())
    assert 5 < count < 13 and reader.warnings == ["bag_0.mcap: a damaged chunk was left out"]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "empty"),
        (b"hello, not a bag at all", "not an MCAP file"),
        (b"SQLite format 3\x00" + bytes(100), "sqlite3"),
        (b"#ROSBAG V2.0\n", "not an MCAP file"),
    ],
)
def test_foreign_files_are_refused(tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / "x.mcap"
    path.write_bytes(content)
    with pytest.raises(RobinError, match=said) as caught:
        BagReader(path)
    assert caught.value.code is Code.BAG_INVALID


def test_other_profiles_storages_and_empty_folders_are_refused(tmp_path: Path) -> None:
    from mcap.writer import Writer

    with (tmp_path / "ros1.mcap").open("wb") as stream:
        writer = Writer(stream)
        writer.start(profile="ros1", library="x")
        writer.finish()
    with pytest.raises(RobinError, match="profile 'ros1'"):
        list(BagReader(tmp_path / "ros1.mcap").messages())
    folder = tmp_path / "db3"
    folder.mkdir()
    with pytest.raises(RobinError, match=r"no \.mcap file"):
        BagReader(folder)
    info = {"storage_identifier": "sqlite3", "relative_file_paths": ["x.db3"]}
    (folder / "metadata.yaml").write_text(yaml.safe_dump({"rosbag2_bagfile_information": info}))
    with pytest.raises(RobinError, match="storage 'sqlite3'"):
        BagReader(folder)
    with pytest.raises(RobinError) as caught:
        BagReader(tmp_path / "nowhere")
    assert caught.value.code is Code.INPUT_MISSING


def test_a_bag_without_frames_says_what_is_missing(tmp_path: Path) -> None:
    with BagWriter(tmp_path / "bag") as writer:
        writer.add_topic("/note", "std_msgs/msg/String")
        writer.write("/note", {"data": "hello"}, SECOND)
    with pytest.raises(RobinError, match="camera_info") as caught:
        list(BagFrames(tmp_path / "bag"))
    assert caught.value.code is Code.BAG_TOPIC_MISSING


def test_an_existing_folder_is_not_written_over(tmp_path: Path) -> None:
    frames_bag(tmp_path / "bag", 1)
    with pytest.raises(RobinError, match="exists already"):
        BagWriter(tmp_path / "bag")


_ENDLESS = """
import sys, time
from pathlib import Path
import numpy as np
from helpers.bag_samples import add_topics, camera_frame, encoded, write_frame
from edge_adapt.bag.mcap_file import StorageConfig
from edge_adapt.bag.writer import BagWriter
rng = np.random.default_rng(0)
writer = BagWriter(Path(sys.argv[1]), StorageConfig(chunk_bytes=20_000))
add_topics(writer)
for index in range(10**9):
    write_frame(writer, encoded(camera_frame(rng, 1.0 + index)), (1 + index) * 10**9)
    print(index, flush=True)
"""


def test_what_was_written_before_a_kill_is_read(tmp_path: Path) -> None:
    command = [sys.executable, "-c", _ENDLESS, str(tmp_path / "bag")]
    process = subprocess.Popen(command, cwd=Path(__file__).parents[1], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    written = 0
    while written < 20:
        written = int(process.stdout.readline())
    process.send_signal(signal.SIGKILL)
    process.wait()
    reader = BagReader(tmp_path / "bag")
    stamps = [m.log_ns // SECOND for m in reader.messages([TOPICS.frames.depth])]
    assert stamps == list(range(1, len(stamps) + 1))
    assert len(stamps) >= written - 1, "at most the chunk being filled may be lost"
    assert "not closed" in reader.warnings[0]


_FULL = """
import resource, signal, sys
from pathlib import Path
import numpy as np
from helpers.bag_samples import add_topics, camera_frame, encoded
from edge_adapt.bag.background import BackgroundBagWriter
from edge_adapt.bag.mcap_file import StorageConfig
from edge_adapt.bag.writer import BagWriter
from robin_perception.bags import cdr
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
writer = BagWriter(Path(sys.argv[1]), StorageConfig(chunk_bytes=80_000))
add_topics(writer)
resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, resource.RLIM_INFINITY))
background = BackgroundBagWriter(writer)
rng = np.random.default_rng(0)
for index in range(40):
    for topic, (kind, values) in encoded(camera_frame(rng, 1.0 + index)).messages.items():
        background.put(topic, cdr.encode(kind, values), (1 + index) * 10**9)
state = background.close()
print(state.failure.code.name, state.received, state.written, sum(state.dropped.values()))
"""


def test_a_full_disk_ends_the_recording_and_nothing_else(tmp_path: Path) -> None:
    command = [sys.executable, "-c", _FULL, str(tmp_path / "bag")]
    done = subprocess.run(command, cwd=Path(__file__).parents[1], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    code, received, written, dropped = done.stdout.split()
    assert code == "DISK_FULL" and int(received) == 120 and int(written) + int(dropped) == 120
    reader = BagReader(tmp_path / "bag")
    count = sum(1 for _ in reader.messages())
    assert 30 < count <= int(written)
    with (tmp_path / "bag/bag_0.mcap").open("rb") as stream:  # the half chunk made room for the summary
        summary = make_reader(stream).get_summary()
    assert summary is not None and summary.statistics is not None and summary.statistics.message_count == count


class _SlowWriter(BagWriter):
    """A disk that takes its time."""

    def write_cdr(self, topic: str, data: bytes, log_ns: int) -> None:
        time.sleep(0.02)
        super().write_cdr(topic, data, log_ns)


def test_a_full_queue_drops_and_counts(tmp_path: Path) -> None:
    writer = _SlowWriter(tmp_path / "bag")
    add_topics(writer)
    background = BackgroundBagWriter(writer, queue_bytes=50_000)
    sample = encoded(camera_frame(np.random.default_rng(0)))
    data: Any = {t: cdr.encode(kind, values) for t, (kind, values) in sample.messages.items()}
    started = time.monotonic()
    for index in range(30):
        for topic in data:
            background.put(topic, data[topic], index)
    assert time.monotonic() - started < 0.5, "a pipeline must not wait for the disk"
    state = background.close()
    assert state.received == 90 and state.failure is None
    assert state.written + sum(state.dropped.values()) == 90 and state.dropped[TOPICS.frames.color] > 10
    assert sum(1 for _ in BagReader(tmp_path / "bag").messages()) == state.written


def test_message_text_of_an_unknown_type_is_an_error() -> None:
    with pytest.raises(RobinError, match="nowhere_msgs"):
        message_text("nowhere_msgs/msg/X")
