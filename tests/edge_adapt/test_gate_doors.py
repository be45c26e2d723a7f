"""The same bad input at every door of a frame, and the same number everywhere."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from helpers.training_scenes import write_toy_scene
from numpy.typing import NDArray

from edge_adapt.training.data import read_scene
from robin_perception.bags.frames import FrameAssembler, FrameTopics, ImageCoding, frame_messages, image_message
from robin_perception.core.errors import Code, RobinError
from robin_perception.core.frame import Frame
from robin_perception.core.image_folder import load_frame, load_frame_files

WIDTH, HEIGHT, FOCAL = 64, 48, 60.0
Depth = NDArray[np.float32]


def ramp() -> Depth:
    """Tilted belt, metres: 0.9 m at the top, 1.3 m at the bottom, with noise."""
    rows = np.linspace(0.9, 1.3, HEIGHT)[:, None] + np.random.default_rng(0).normal(0, 0.002, (HEIGHT, WIDTH))
    return (np.rint(rows * 1000) * 0.001).astype(np.float32)


@dataclass(frozen=True)
class Shot:
    """What a camera hands over. size: of the camera's own information. ids: frame of colour, depth, information."""

    depth: Depth
    size: tuple[int, int] = (WIDTH, HEIGHT)
    cx: float = (WIDTH - 1) / 2
    d: tuple[float, ...] = (0.0,) * 5
    lens: str = "plumb_bob"
    binning: int = 0
    ids: tuple[str, str, str] = ("optical",) * 3

    @property
    def rgb(self) -> NDArray[np.uint8]:
        return np.random.default_rng(1).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)

    @property
    def units(self) -> NDArray[np.uint16]:
        return np.rint(self.depth * 1000).astype(np.uint16)

    @property
    def K(self) -> NDArray[np.float64]:
        return np.array([[FOCAL, 0, self.cx], [0, FOCAL, (HEIGHT - 1) / 2], [0, 0, 1]])


def write_folder(folder: Path, shot: Shot) -> Path:
    write_toy_scene(folder, np.random.default_rng(0), scale=WIDTH / 512)
    cv2.imwrite(str(folder / "color.png"), shot.rgb)
    cv2.imwrite(str(folder / "depth.png"), shot.units)
    np.save(folder / "depth.npy", shot.depth)
    camera = json.loads((folder / "camera.json").read_text())
    width, height = shot.size
    camera |= {"fx": FOCAL, "fy": FOCAL, "cx": shot.cx, "cy": (HEIGHT - 1) / 2, "width": width, "height": height}
    (folder / "camera.json").write_text(json.dumps(camera))
    return folder


def by_folder(tmp: Path, shot: Shot) -> object:
    return load_frame(write_folder(tmp / "scene", shot))


def by_npy(tmp: Path, shot: Shot) -> object:
    folder = write_folder(tmp / "scene", shot)
    return load_frame_files(folder / "color.png", folder / "depth.npy", folder / "camera.json")


def by_training(tmp: Path, shot: Shot) -> object:
    return read_scene(write_folder(tmp / "scene", shot))


def by_bag(encoding: str) -> Callable[[Path, Shot], object]:
    def door(_: Path, shot: Shot) -> object:
        topics = FrameTopics()
        made = frame_messages(Frame(shot.rgb, shot.depth, shot.K, np.eye(4)), topics, ImageCoding())
        messages = {topic: dict(values) for topic, (_, values) in made.items()}
        image = shot.units if encoding == "16UC1" else shot.depth
        messages[topics.depth] = dict(image_message(image, encoding, messages[topics.depth]["header"]))
        info = messages[topics.info]
        info |= {"width": shot.size[0], "height": shot.size[1], "d": np.array(shot.d), "distortion_model": shot.lens}
        info |= {"binning_x": shot.binning, "binning_y": shot.binning}
        for topic, frame_id in zip((topics.color, topics.depth, topics.info), shot.ids, strict=True):
            messages[topic]["header"] = {**messages[topic]["header"], "frame_id": frame_id}
        assembler = FrameAssembler(topics)
        return [assembler.add_values(topic, values) for topic, values in messages.items()]

    return door


def by_topics(encoding: str) -> Callable[[Path, Shot], object]:
    def door(_: Path, shot: Shot) -> object:
        pytest.importorskip("sensor_msgs.msg", reason="ROS 2 is not installed")
        pytest.importorskip("robin_msgs.msg", reason="robin_msgs is not built")
        from std_msgs.msg import Header

        from robin_perception.nodes.convert import camera_info_to_msg, frame_from_msgs, image_to_msg

        color, depth, about = (Header(frame_id=frame_id) for frame_id in shot.ids)
        info = camera_info_to_msg(shot.K, *shot.size, about)
        info.d, info.distortion_model, info.binning_x, info.binning_y = shot.d, shot.lens, shot.binning, shot.binning
        image = shot.units if encoding == "16UC1" else shot.depth
        messages = image_to_msg(shot.rgb, "rgb8", color), image_to_msg(image, encoding, depth)
        return frame_from_msgs(*messages, info, np.eye(4))

    return door


def by_realsense(_: Path, shot: Shot) -> object:
    rs = pytest.importorskip("pyrealsense2", reason="pyrealsense2 is not installed")
    from helpers.realsense_software import COLOR_F, COLOR_SIZE, DEPTH_SIZE, SoftwareCamera, intrinsics, synced

    from robin_perception.cameras.realsense_config import ProcessingConfig
    from robin_perception.cameras.realsense_processing import FrameProcessor

    lens = intrinsics(COLOR_SIZE, COLOR_F, rs.distortion.brown_conrady, [50 * value for value in shot.d])
    lens.ppx = (shot.cx + 0.5) / WIDTH * COLOR_SIZE[0] - 0.5
    rgb = cv2.resize(shot.rgb, COLOR_SIZE, interpolation=cv2.INTER_NEAREST)
    depth = cv2.resize(shot.units, DEPTH_SIZE, interpolation=cv2.INTER_NEAREST)
    return FrameProcessor(ProcessingConfig(), "cam").process(synced(SoftwareCamera(color_lens=lens), rgb, depth))


FILES = {"folder": by_folder, "npy": by_npy, "training": by_training}
MESSAGES = {
    f"{name} {kind}": door(kind)
    for name, door in (("bag", by_bag), ("topics", by_topics))
    for kind in ("16UC1", "32FC1")
}
ALL = {**FILES, **MESSAGES, "realsense": by_realsense}
GOOD = Shot(ramp())
FAULTS: dict[str, tuple[Shot, Code, dict[str, Any]]] = {
    "no depth": (Shot(np.zeros_like(ramp())), Code.DEPTH_EMPTY, ALL),
    "depth too near": (Shot(ramp() * np.float32(0.005)), Code.DEPTH_EMPTY, ALL),
    "one value": (Shot(np.full_like(ramp(), 1.3)), Code.DEPTH_CONSTANT, ALL),
    "ten times too far": (Shot(ramp() * np.float32(10)), Code.DEPTH_UNIT_SUSPECT, ALL),
    "principal point at the rim": (Shot(ramp(), cx=WIDTH - 0.5), Code.INTRINSICS_INVALID, ALL),
    "camera of another size": (Shot(ramp(), size=(80, 60)), Code.INPUT_SIZE_MISMATCH, FILES | MESSAGES),
    "distorted": (
        Shot(ramp(), d=(-0.3, 0.12, 0, 0, 0)),
        Code.INTRINSICS_INVALID,
        MESSAGES | {"realsense": by_realsense},
    ),
    "fisheye": (Shot(ramp(), d=(0.1, 0.02, 0, 0), lens="equidistant"), Code.INTRINSICS_INVALID, MESSAGES),
    "binned": (Shot(ramp(), binning=2), Code.INTRINSICS_INVALID, MESSAGES),
    "not aligned": (Shot(ramp(), ids=("color", "depth", "color")), Code.FRAME_ID_MISMATCH, MESSAGES),
    "no frame id": (Shot(ramp(), ids=("", "", "")), Code.FRAME_ID_MISMATCH, MESSAGES),
}
CASES = [(fault, door) for fault, (_, _, doors) in FAULTS.items() for door in doors]


@pytest.mark.parametrize("door", ALL)
def test_a_good_shot_passes_every_door(tmp_path: Path, door: str) -> None:
    ALL[door](tmp_path, GOOD)


@pytest.mark.parametrize(("fault", "door"), CASES)
def test_a_fault_has_one_number_at_every_door(tmp_path: Path, fault: str, door: str) -> None:
    shot, code, doors = FAULTS[fault]
    with pytest.raises(RobinError) as caught:
        doors[door](tmp_path, shot)
    assert caught.value.code == code, caught.value
    assert "\n" not in caught.value.text
    if door in FILES:
        assert "scene" in caught.value.text  # a data set has thousands


@pytest.mark.parametrize("door", [name for name in ALL if name != "training"])
def test_holes_marked_with_the_largest_number_are_no_depth_at_every_door(tmp_path: Path, door: str) -> None:
    depth = ramp()
    depth[:8] = 65.535
    made = ALL[door](tmp_path, replace(GOOD, depth=depth))
    frame = next(found.frame for found in made if found) if isinstance(made, list) else made
    assert isinstance(frame, Frame)
    assert set(frame.gate.depth_removed) == {"saturated"} and frame.depth.max() < 1.4
