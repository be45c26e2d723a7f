"""What every frame source keeps to, and the two that need no camera: image folders and MCAP bags."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.bag_samples import frames_bag
from numpy.typing import NDArray

from robin_perception.cameras import make_source, source_config, source_config_type, source_names
from robin_perception.cameras.source import FrameSource
from robin_perception.core.errors import Code, RobinError
from robin_perception.core.frame import Frame
from robin_perception.core.image_folder import save_frame

HEIGHT, WIDTH = 24, 32
K = np.array([[40.0, 0, 16], [0, 40, 12], [0, 0, 1]])


def pose(x_m: float = 0.0) -> NDArray[np.float64]:
    """Camera that looks straight down from 1 m."""
    T = np.array([[0.0, -1, 0, x_m], [-1, 0, 0, 0], [0, 0, -1, 1], [0, 0, 0, 1]])
    return T


def frame(number: int) -> Frame:
    rgb = np.full((HEIGHT, WIDTH, 3), number, np.uint8)
    depth = np.full((HEIGHT, WIDTH), 0.5 + number / 1000, np.float32)
    depth[0, 0] -= 0.005
    return Frame(rgb, depth, K, pose(number / 10), stamp_s=100.0 + number / 10)


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    for number in range(3):
        save_frame(tmp_path / f"scene_{number}", frame(number))
    return tmp_path


def number_of(got: Frame) -> int:
    return int(got.rgb[0, 0, 0])


def folder_source(path: Path, T_base_camera: NDArray[np.float64] | None = None, **values: Any) -> FrameSource:
    return make_source(source_config("folder", {"path": str(path), **values}), T_base_camera)


def fails(code: Code, call: Any, *args: Any) -> str:
    with pytest.raises(RobinError) as caught:
        call(*args)
    assert caught.value.code == code, caught.value
    return caught.value.text


def test_every_source_has_a_config_that_knows_its_name() -> None:
    assert set(source_names()) == {"realsense", "realsense_bag", "folder", "bag"}
    for name in source_names():
        assert source_config_type(name).kind == name
        assert make_source(source_config(name, {})).name == name  # no SDK and no file is needed before `open`
    assert "known: realsense" in fails(Code.OPTION_INVALID, source_config, "webcam", {})
    assert "'colour_width'" in fails(Code.CONFIG_UNKNOWN_KEY, source_config, "realsense", {"colour_width": 1})


def test_folder_once_in_order_of_names_then_the_end(folders: Path) -> None:
    source = folder_source(folders, repeat=False, camera_id="cell_3")
    fails(Code.SOURCE_NOT_OPEN, source.read, 0.1)
    with source:
        frames = [source.read(0.1) for _ in range(3)]
        fails(Code.END_OF_SOURCE, source.read, 0.1)
        assert source.describe()["folders"] == 3
    assert [number_of(f) for f in frames] == [0, 1, 2]
    assert [f.camera_id for f in frames] == ["cell_3"] * 3
    np.testing.assert_allclose(frames[2].T_base_camera, pose(0.2))
    assert frames[0].stamp_s < frames[1].stamp_s < frames[2].stamp_s
    assert source.counters.frames == 3 and source.counters.failures == 0
    fails(Code.SOURCE_NOT_OPEN, source.read, 0.1)
    source.close()


def test_folder_repeats_at_its_rate_and_keeps_the_pose_it_is_given(folders: Path) -> None:
    with folder_source(folders, pose(9.0), rate_hz=50, keep_in_memory=True) as source:
        begin = time.monotonic()
        frames = [source.read(5.0) for _ in range(7)]
        took_s = time.monotonic() - begin
    assert [number_of(f) for f in frames] == [0, 1, 2, 0, 1, 2, 0]
    assert took_s >= 6 / 50 - 0.005
    assert all((f.T_base_camera == pose(9.0)).all() for f in frames)
    assert len({f.stamp_s for f in frames}) == 7


def test_a_frame_that_is_not_due_is_a_timeout_and_comes_later(folders: Path) -> None:
    with folder_source(folders, rate_hz=4) as source:
        assert number_of(source.read(1.0)) == 0
        fails(Code.FRAME_TIMEOUT, source.read, 0.02)
        assert number_of(source.read(2.0)) == 1
        assert source.counters.timeouts == 1


def test_a_damaged_folder_costs_one_read(folders: Path) -> None:
    (folders / "scene_1" / "depth.png").write_bytes(b"no picture")
    with folder_source(folders, repeat=False) as source:
        assert number_of(source.read(0.1)) == 0
        assert "scene_1" in fails(Code.INPUT_UNREADABLE, source.read, 0.1)
        assert number_of(source.read(0.1)) == 2
        assert source.counters.failures == 1


def test_folder_that_is_not_there_or_holds_nothing(tmp_path: Path) -> None:
    fails(Code.INPUT_MISSING, folder_source(tmp_path / "none").open)
    empty = folder_source(tmp_path)
    fails(Code.INPUT_MISSING, empty.open)
    assert not empty.is_open
    save_frame(tmp_path / "later", frame(5))
    empty.reopen()
    assert number_of(empty.read(0.1)) == 5
    with folder_source(tmp_path / "later") as one:  # an image folder itself
        assert number_of(one.read(0.1)) == 5


def test_a_pose_that_is_none_is_refused(folders: Path) -> None:
    for bad in (np.zeros((4, 4)), np.eye(3), np.diag([1.0, 1, -1, 1]), np.full((4, 4), np.nan)):
        fails(Code.POSE_INVALID, folder_source, folders, bad)
    source = folder_source(folders)
    fails(Code.POSE_INVALID, source.set_pose, np.diag([2.0, 1, 1, 1]))
    with source:
        np.testing.assert_allclose(source.read(0.1).T_base_camera, pose(0.0))
        source.set_pose(pose(3.0))
        np.testing.assert_allclose(source.read(0.1).T_base_camera, pose(3.0))


def bag_source(path: Path, T_base_camera: NDArray[np.float64] | None = None, **values: Any) -> FrameSource:
    return make_source(source_config("bag", {"path": str(path), **values}), T_base_camera)


def test_bag_gives_its_frames_with_their_stamps_and_pose(tmp_path: Path) -> None:
    kept = frames_bag(tmp_path / "bag", 4)
    source = bag_source(tmp_path / "bag")
    with source:
        assert source.pose_known
        for expected in kept:
            got = source.read(0.1)
            assert got.stamp_s == expected.stamp_s
            assert (got.rgb == expected.rgb).all() and (got.depth == expected.depth).all()
            assert (got.T_base_camera == expected.T_base_camera).all()
        fails(Code.END_OF_SOURCE, source.read, 0.1)
    with bag_source(tmp_path / "bag", pose(2.0)) as other:
        assert (other.read(0.1).T_base_camera == pose(2.0)).all()


def test_bag_over_and_over_at_a_multiple_of_its_pace(tmp_path: Path) -> None:
    kept = frames_bag(tmp_path / "bag", 3)  # a second apart
    with bag_source(tmp_path / "bag", speed=10, repeat=True, restamp=True) as source:
        begin = time.monotonic()
        got = [source.read(5.0)]
        fails(Code.FRAME_TIMEOUT, source.read, 0.01)
        got += [source.read(5.0) for _ in range(4)]
        took_s = time.monotonic() - begin
    assert [(g.rgb == kept[k % 3].rgb).all() for k, g in enumerate(got)] == [True] * 5
    assert took_s >= 0.3 - 0.01  # gaps 1-2, 2-3, 4-5; the start of a pass follows at once
    stamps = [g.stamp_s for g in got]
    assert stamps == sorted(stamps) and stamps[-1] > 1e9


def test_bag_that_cannot_be_read_is_refused_at_open(tmp_path: Path) -> None:
    with pytest.raises(RobinError):
        bag_source(tmp_path / "none").open()
    foreign = tmp_path / "foreign.mcap"
    foreign.write_bytes(b"not an mcap file" * 10)
    fails(Code.BAG_INVALID, bag_source(foreign).open)
    frames_bag(tmp_path / "bag", 2)
    topics = {"color": "/other/image_raw"}
    assert "/other/image_raw" in fails(Code.BAG_TOPIC_MISSING, bag_source(tmp_path / "bag", topics=topics).open)
