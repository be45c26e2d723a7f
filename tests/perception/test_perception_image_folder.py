"""Image folders: what is written is read back, and every fault has its own number and names the file."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from helpers.perception_graphs import blocks, colour_frame
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from robin_perception.core.errors import Code, RobinError
from robin_perception.core.image_folder import (
    load_camera,
    load_frame,
    load_frame_files,
    load_labels,
    load_scene_info,
    save_frame,
    scene_folders,
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    labels = blocks(60, 80, 2, 2, 4)
    save_frame(tmp_path / "scene", colour_frame(labels), labels)
    return tmp_path / "scene"


def edit_camera(folder: Path, **changes: Any) -> None:
    path = folder / "camera.json"
    values = json.loads(path.read_text())
    for key, value in changes.items():
        if value is None:
            values.pop(key)
        else:
            values[key] = value
    path.write_text(json.dumps(values))


def write_depth(folder: Path, depth: np.ndarray) -> None:
    cv2.imwrite(str(folder / "depth.png"), depth)


def truncate(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])


BENT = [[1.0, 0.1, 0, 0], [0, 1, 0, 0], [0, 0, 1, 1], [0, 0, 0, 1]]
MIRROR = [[-1.0, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 1], [0, 0, 0, 1]]
FAULTS: dict[str, tuple[Callable[[Path], object], Code, str]] = {
    "no colour": (lambda f: (f / "color.png").unlink(), Code.INPUT_MISSING, "color.png"),
    "no depth": (lambda f: (f / "depth.png").unlink(), Code.INPUT_MISSING, "depth.png"),
    "no camera": (lambda f: (f / "camera.json").unlink(), Code.INPUT_MISSING, "camera.json"),
    "colour is text": (lambda f: (f / "color.png").write_text("hello"), Code.INPUT_UNREADABLE, "color.png"),
    "colour is empty": (lambda f: (f / "color.png").write_bytes(b""), Code.INPUT_UNREADABLE, "color.png"),
    "colour is cut short": (lambda f: truncate(f / "color.png"), Code.INPUT_UNREADABLE, "color.png"),
    "depth is cut short": (lambda f: truncate(f / "depth.png"), Code.INPUT_UNREADABLE, "depth.png"),
    "depth is 8 bit": (lambda f: write_depth(f, np.ones((60, 80), np.uint8)), Code.INPUT_UNREADABLE, "depth.png"),
    "depth is smaller": (
        lambda f: write_depth(f, np.ones((30, 40), np.uint16)),
        Code.INPUT_SIZE_MISMATCH,
        "depth.png is 40x30",
    ),
    "depth is zero": (lambda f: write_depth(f, np.zeros((60, 80), np.uint16)), Code.DEPTH_EMPTY, "depth.png"),
    "camera is no json": (lambda f: (f / "camera.json").write_text("{"), Code.CONFIG_UNREADABLE, "camera.json"),
    "camera is a list": (lambda f: (f / "camera.json").write_text("[]"), Code.CONFIG_UNREADABLE, "camera.json"),
    "unknown key": (lambda f: edit_camera(f, fz=1.0), Code.CONFIG_UNKNOWN_KEY, "'fz'"),
    "missing key": (lambda f: edit_camera(f, fx=None), Code.CONFIG_OUT_OF_RANGE, "'fx'"),
    "scale too large": (lambda f: edit_camera(f, depth_scale=2.0), Code.CONFIG_OUT_OF_RANGE, "'depth_scale'"),
    "scale is zero": (lambda f: edit_camera(f, depth_scale=0), Code.CONFIG_OUT_OF_RANGE, "'depth_scale'"),
    "fx is NaN": (lambda f: edit_camera(f, fx=float("nan")), Code.CONFIG_OUT_OF_RANGE, "'fx'"),
    "fx is negative": (lambda f: edit_camera(f, fx=-500.0), Code.INTRINSICS_INVALID, "camera.json"),
    "fx in millimetres": (lambda f: edit_camera(f, fx=1.93, fy=1.93), Code.INTRINSICS_INVALID, "in pixels"),
    "fx of a telescope": (lambda f: edit_camera(f, fx=9e6, fy=9e6), Code.INTRINSICS_INVALID, "in pixels"),
    "fy of another image": (lambda f: edit_camera(f, fy=30.0), Code.INTRINSICS_INVALID, "camera.json: fx=72 fy=30"),
    "centre is outside": (lambda f: edit_camera(f, cx=900.0), Code.INTRINSICS_INVALID, "camera.json"),
    "other image size": (lambda f: edit_camera(f, width=100, height=70), Code.INPUT_SIZE_MISMATCH, "camera.json is"),
    "other profile": (lambda f: edit_camera(f, cx=79.5, cy=44.5), Code.INTRINSICS_INVALID, "inner half"),
    "pose is bent": (lambda f: edit_camera(f, T_base_camera=BENT), Code.POSE_INVALID, "camera.json"),
    "pose is a mirror": (lambda f: edit_camera(f, T_base_camera=MIRROR), Code.POSE_INVALID, "camera.json"),
    "pose has three rows": (
        lambda f: edit_camera(f, T_base_camera=[[1, 0, 0, 0]] * 3),
        Code.CONFIG_OUT_OF_RANGE,
        "T_base_camera",
    ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_each_fault_has_its_number_and_names_the_file(folder: Path, name: str) -> None:
    spoil, code, text = FAULTS[name]
    spoil(folder)
    with pytest.raises(RobinError) as caught:
        load_frame(folder)
    assert caught.value.code == code
    assert text in caught.value.text and "\n" not in str(caught.value)


def test_pickled_depth_is_not_unpickled(folder: Path) -> None:
    np.save(folder / "depth.npy", np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(RobinError) as caught:
        load_frame_files(folder / "color.png", folder / "depth.npy", folder / "camera.json")
    assert caught.value.code == Code.INPUT_UNREADABLE


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(RobinError, match="nowhere") as caught:
        load_frame(tmp_path / "nowhere")
    assert caught.value.code == Code.INPUT_MISSING


def test_written_frames_are_read_back(tmp_path: Path) -> None:
    labels = blocks(60, 80, 2, 3, 3)
    frame = colour_frame(labels)
    depth = np.random.default_rng(0).uniform(0.4, 2.0, (60, 80)).astype(np.float32)
    frame = frame.with_depth(depth)
    save_frame(tmp_path / "a", frame, labels, depth_scale=0.0001)
    again = load_frame(tmp_path / "a")
    assert np.array_equal(again.rgb, frame.rgb) and np.array_equal(load_labels(tmp_path / "a"), labels)
    assert np.abs(again.depth - depth).max() < 0.00006
    assert np.allclose(again.T_base_camera, frame.T_base_camera) and np.allclose(again.K, frame.K)
    assert again.camera_id == "a" and load_scene_info(tmp_path / "a") == {}
    assert scene_folders(tmp_path) == [tmp_path / "a"]


@given(
    angles=st.tuples(*[st.floats(-3.1, 3.1)] * 3),
    shift=st.tuples(*[st.floats(-2, 2)] * 3),
    point=st.just((0.1, 0.2, 1)),
)
def test_a_pose_survives_the_file_and_its_belt_plane_measures_height(
    tmp_path_factory: pytest.TempPathFactory,
    angles: tuple[float, float, float],
    shift: tuple[float, float, float],
    point: tuple[float, float, float],
) -> None:
    pose = np.eye(4)
    pose[:3, :3] = Rotation.from_euler("xyz", angles).as_matrix()
    pose[:3, 3] = shift
    folder = tmp_path_factory.mktemp("pose")
    frame = colour_frame(blocks(48, 64, 1, 1, 2))
    frame = type(frame)(frame.rgb, frame.depth, frame.K, pose)
    save_frame(folder, frame)
    again = load_frame(folder)
    assert np.allclose(again.T_base_camera, pose, atol=1e-12)
    plane = again.belt_plane(0.1)
    assert np.isclose(plane[:3] @ point + plane[3], (pose @ (*point, 1.0))[2] - 0.1, atol=1e-5)


def test_a_data_set_without_labels_is_named(tmp_path: Path) -> None:
    with pytest.raises(RobinError, match=r"labels\.png"):
        scene_folders(tmp_path)


def test_camera_defaults_to_millimetres(folder: Path) -> None:
    edit_camera(folder, depth_scale=None)
    assert load_camera(folder / "camera.json").depth_scale == 0.001
