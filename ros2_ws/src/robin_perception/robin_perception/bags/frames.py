"""Frames as ROS 2 messages and back, and frames out of a bag.

What a message holds is coarser than a ``Frame`` can be (depth in whole millimetres, a pose as a quaternion, perhaps a
JPEG). Whoever records therefore decides on ``encode_frame(frame).frame``: exactly what a reader of the bag will get.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from scipy.spatial.transform import Rotation

from robin_perception.bags.cdr import Message
from robin_perception.bags.reader import BagMessage, BagReader
from robin_perception.core.bounded_arrays import MOST_PIXELS, decode_image
from robin_perception.core.config import StrictConfig
from robin_perception.core.errors import Code, RobinError
from robin_perception.core.frame import Frame, RawDepth, depth_units
from robin_perception.core.gate import CameraModel, GateConfig, make_frame
from robin_perception.core.pose import pose_matrix

BASE_FRAME = "base_link"
OPTICAL_FRAME = "camera_color_optical_frame"
DEPTH_UNIT_M = 0.001  # of 16UC1, by REP 118
PAIR_TOLERANCE_S = 0.02
_WAITING = 8  # images that wait for their partner; older ones are given up


class FrameTopics(StrictConfig):
    """Where a bag's frames are."""

    color: str = Field(
        "/camera/color/image_raw",
        description="Topic of colour, raw or compressed (then the image_transport name is tried too).",
    )
    depth: str = Field("/camera/aligned_depth_to_color/image_raw", description="Topic of depth, aligned to colour.")
    info: str = Field("/camera/color/camera_info", description="Topic of the colour camera's intrinsics.")
    tf_static: str = Field(
        "/tf_static", description="Topic of the fixed transforms, where the camera's pose is looked for."
    )

    @property
    def color_compressed(self) -> str:
        return f"{self.color}/compressed"

    @property
    def all(self) -> dict[str, tuple[str, ...]]:
        """topic -> types of message that it may hold."""
        return {
            self.color: ("sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage"),
            self.color_compressed: ("sensor_msgs/msg/CompressedImage",),
            self.depth: ("sensor_msgs/msg/Image",),
            self.info: ("sensor_msgs/msg/CameraInfo",),
            self.tf_static: ("tf2_msgs/msg/TFMessage",),
        }


class ImageCoding(StrictConfig):
    """jpeg_quality: 0 keeps colour raw (rgb8); else it is a JPEG of that quality."""

    jpeg_quality: int = Field(0, ge=0, le=100)


@dataclass(frozen=True)
class RecordedFrame:
    """A frame out of a bag. pose_known: T_base_camera is the bag's, else the identity."""

    frame: Frame
    stamp_ns: int
    pose_known: bool


def nanoseconds(stamp_s: float) -> int:
    """Right to the nanosecond: divided by 1e9 it is the same float (from 2**23 s on, which every clock that counts from
    1970 has passed)."""
    whole = math.floor(stamp_s)
    return whole * 10**9 + round((stamp_s - whole) * 1e9)


def stamp_ns(frame: Frame) -> int:
    return nanoseconds(frame.stamp_s)


def stamp_of(ns: int) -> Message:
    return {"sec": ns // 10**9, "nanosec": ns % 10**9}


def header(ns: int, frame_id: str) -> Message:
    return {"stamp": stamp_of(ns), "frame_id": frame_id}


def ns_of(stamp: Mapping[str, Any]) -> int:
    """A message's stamp, nanoseconds."""
    return int(stamp["sec"]) * 10**9 + int(stamp["nanosec"])


def header_ns(values: Mapping[str, Any]) -> int:
    """Stamp of a message with a header, nanoseconds."""
    return ns_of(values["header"]["stamp"])


def depth_metres(units: NDArray[np.uint16]) -> NDArray[np.float32]:
    return RawDepth(units, DEPTH_UNIT_M).metres()


def as_from_camera(frame: Frame) -> Frame:
    """``frame`` with its depth in whole millimetres, as 16UC1 carries it, and these numbers beside it."""
    units = depth_units(frame.depth, DEPTH_UNIT_M)
    return replace(frame, depth=depth_metres(units), raw_depth=RawDepth(units, DEPTH_UNIT_M))


def image_message(image: NDArray[Any], encoding: str, head: Message) -> Message:
    """sensor_msgs/Image of uint8 [H,W,3], uint16 [H,W] or float32 [H,W]."""
    image = np.ascontiguousarray(image)
    return {
        "header": head,
        "height": image.shape[0],
        "width": image.shape[1],
        "encoding": encoding,
        "is_bigendian": 0,
        "step": image.strides[0],
        "data": image.view(np.uint8).reshape(-1),
    }


def frame_messages(frame: Frame, topics: FrameTopics, coding: ImageCoding) -> dict[str, tuple[str, Message]]:
    """topic -> (type, message) of one frame, without its pose."""
    raw, depth, info = picture_messages(frame, OPTICAL_FRAME)
    head = raw["header"]
    if coding.jpeg_quality:
        data = _jpeg(frame.rgb, coding.jpeg_quality)
        compressed = {"header": head, "format": "rgb8; jpeg compressed bgr8", "data": data}
        color = {topics.color_compressed: ("sensor_msgs/msg/CompressedImage", compressed)}
    else:
        color = {topics.color: ("sensor_msgs/msg/Image", raw)}
    return {
        **color,
        topics.depth: ("sensor_msgs/msg/Image", depth),
        topics.info: ("sensor_msgs/msg/CameraInfo", info),
    }


def picture_messages(frame: Frame, frame_id: str) -> tuple[Message, Message, Message]:
    """Colour (rgb8), depth (16UC1, whole millimetres) and camera_info of one frame. frame_id: the optical frame's."""
    head = header(stamp_ns(frame), frame_id)
    depth = image_message(depth_units(frame.depth, DEPTH_UNIT_M), "16UC1", head)
    return image_message(frame.rgb, "rgb8", head), depth, _camera_info(frame, head)


def frame_of_messages(
    color: Message,
    depth: Message,
    info: Message,
    T_base_camera: NDArray[np.float64] | None,
    camera_id: str = "camera",
    gate: GateConfig | None = None,
) -> Frame:
    """The frame of three messages of one moment; its stamp is the colour's. Raises what ``make_frame`` raises."""
    return make_frame(
        _color_image(color),
        _depth_image(depth),
        _camera_model(info),
        T_base_camera,
        stamp_s=header_ns(color) / 10**9,
        camera_id=camera_id,
        frame_ids=tuple(str(message["header"]["frame_id"]) for message in (color, depth, info)),
        config=gate,
    )


def frame_pose_message(frame: Frame) -> Message:
    """``pose_message`` of a frame's T_base_camera."""
    xyzw = Rotation.from_matrix(frame.T_base_camera[:3, :3]).as_quat()
    return pose_message(frame.T_base_camera[:3, 3].tolist(), xyzw.tolist(), stamp_ns(frame))


def pose_message(xyz_m: Sequence[float], xyzw: Sequence[float], ns: int) -> Message:
    """tf2_msgs/TFMessage: the camera's optical frame in base_link."""
    x, y, z = xyz_m
    qx, qy, qz, qw = xyzw
    transform = {
        "header": header(ns, BASE_FRAME),
        "child_frame_id": OPTICAL_FRAME,
        "transform": {
            "translation": {"x": x, "y": y, "z": z},
            "rotation": {"x": qx, "y": qy, "z": qz, "w": qw},
        },
    }
    return {"transforms": [transform]}


@dataclass(frozen=True)
class EncodedFrame:
    """A frame as messages, and what a reader makes of them. Messages: topic -> (type, values), without the pose.

    Encoding a decoded frame again may change its last bits (a quaternion) or more (a JPEG): write these messages.
    """

    frame: Frame
    pose: Message
    messages: dict[str, tuple[str, Message]]


def encode_frame(frame: Frame, topics: FrameTopics, coding: ImageCoding) -> EncodedFrame:
    """The messages that hold ``frame``, and the frame that they hold."""
    pose, messages = frame_pose_message(frame), frame_messages(frame, topics, coding)
    assembler = FrameAssembler(topics)
    assembler.add_values(topics.tf_static, pose)
    found: RecordedFrame | None = None
    for topic, (_, values) in messages.items():
        found = assembler.add_values(topic, values) or found
    assert found is not None, "colour, depth and camera_info of one stamp make a frame"
    return EncodedFrame(found.frame, pose, messages)


@dataclass
class FrameAssembler:
    """Pairs colour, depth and camera_info by stamp, and adds the newest pose. Feed messages in the bag's order."""

    topics: FrameTopics
    tolerance_s: float = PAIR_TOLERANCE_S
    gate: GateConfig = field(default_factory=GateConfig)
    _color: dict[int, Message] = field(default_factory=dict)
    _depth: dict[int, Message] = field(default_factory=dict)
    _info: Message | None = None
    _poses: dict[str, NDArray[np.float64]] = field(default_factory=dict)

    def add(self, message: BagMessage) -> RecordedFrame | None:
        """A frame when this message completes one. Raises RobinError BAG_INVALID, and what ``make_frame`` raises."""
        return self.add_values(message.topic, message.values())

    def add_values(self, topic: str, values: Message) -> RecordedFrame | None:
        if topic == self.topics.tf_static:
            self._note_poses(values)
        elif topic == self.topics.info:
            self._info = values
        elif topic in (self.topics.color, self.topics.color_compressed):
            _keep(self._color, header_ns(values), values)
        elif topic == self.topics.depth:
            _keep(self._depth, header_ns(values), values)
        return self._pair()

    def _pair(self) -> RecordedFrame | None:
        if self._info is None:
            return None
        for ns in sorted(self._color):
            nearest = min(self._depth, key=lambda other: abs(other - ns), default=None)
            if nearest is None or abs(nearest - ns) > self.tolerance_s * 1e9:
                continue
            color, depth = self._color.pop(ns), self._depth.pop(nearest)
            for images in (self._color, self._depth):
                for older in [stamp for stamp in images if stamp < ns]:
                    del images[older]
            return self._frame(ns, color, depth, self._info)
        return None

    def _frame(self, ns: int, color: Message, depth: Message, info: Message) -> RecordedFrame:
        pose = self._poses.get(str(color["header"]["frame_id"]))
        frame = frame_of_messages(color, depth, info, pose, gate=self.gate)
        return RecordedFrame(frame, ns, pose is not None)

    def _note_poses(self, values: Message) -> None:
        for item in values["transforms"]:
            if item["header"]["frame_id"].lstrip("/") != BASE_FRAME:
                continue
            moved, turned = item["transform"]["translation"], item["transform"]["rotation"]
            pose = pose_matrix([moved[axis] for axis in "xyz"], [turned[axis] for axis in "xyzw"])
            self._poses[item["child_frame_id"].lstrip("/")] = pose


class BagFrames(Iterator[RecordedFrame]):
    """The frames of a bag in order. A frame that is refused costs that one ``next``: the following goes on behind it.

    Raises RobinError: what ``BagReader`` and ``FrameAssembler`` raise, and BAG_TOPIC_MISSING when the bag has none.
    """

    def __init__(
        self,
        path: Path,
        topics: FrameTopics | None = None,
        tolerance_s: float = PAIR_TOLERANCE_S,
        gate: GateConfig | None = None,
    ) -> None:
        self._reader, self._topics = BagReader(path), topics or FrameTopics()
        self._assembler = FrameAssembler(self._topics, tolerance_s, gate or GateConfig())
        self._messages = self._reader.messages(self._topics.all)
        self._found_any = False

    def __next__(self) -> RecordedFrame:
        for message in self._messages:
            try:
                found = self._assembler.add(message)
            except RobinError:
                self._found_any = True
                raise
            if found is not None:
                self._found_any = True
                return found
        if not self._found_any:
            topics = self._topics
            missing = f"no frame: it needs {topics.color}, {topics.depth} and {topics.info} with stamps that fit"
            raise RobinError(Code.BAG_TOPIC_MISSING, f"{self._reader.path}: {missing}{self._reader.left_out}")
        raise StopIteration


def _keep(images: dict[int, Message], ns: int, values: Message) -> None:
    images[ns] = values
    while len(images) > _WAITING:
        del images[next(iter(images))]


def _camera_info(frame: Frame, head: Message) -> Message:
    K = np.asarray(frame.K, dtype=np.float64)
    projection = np.concatenate([K, np.zeros((3, 1))], axis=1)
    return {
        "header": head,
        "height": frame.height,
        "width": frame.width,
        "distortion_model": "plumb_bob",
        "d": np.zeros(5),
        "k": K.reshape(-1),
        "r": np.eye(3).reshape(-1),
        "p": projection.reshape(-1),
        "binning_x": 0,
        "binning_y": 0,
        "roi": {"x_offset": 0, "y_offset": 0, "height": 0, "width": 0, "do_rectify": False},
    }


def _camera_model(info: Message) -> CameraModel:
    return CameraModel(
        K=np.asarray(info["k"], dtype=np.float64).reshape(3, 3),
        width=int(info["width"]),
        height=int(info["height"]),
        distortion_model=str(info["distortion_model"]),
        distortion=tuple(float(value) for value in info["d"]),
        binning=(int(info["binning_x"]), int(info["binning_y"])),
        roi=(int(info["roi"]["width"]), int(info["roi"]["height"])),
    )


def _jpeg(rgb: NDArray[np.uint8], quality: int) -> NDArray[np.uint8]:
    ok, data = cv2.imencode(".jpg", rgb[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
    if not ok:
        raise RobinError(Code.INPUT_UNREADABLE, f"cannot encode an image of {rgb.dtype} {rgb.shape}")
    return np.asarray(data, dtype=np.uint8).reshape(-1)


def _color_image(values: Message) -> NDArray[np.uint8]:
    if "format" in values:
        data = np.asarray(values["data"], dtype=np.uint8)
        image = decode_image(data.tobytes(), f"colour ('{values['format']}')", cv2.IMREAD_COLOR)
        return np.ascontiguousarray(image[:, :, ::-1])
    encoding = values["encoding"]
    if encoding not in ("rgb8", "bgr8"):
        raise RobinError(Code.INPUT_ENCODING_MISMATCH, f"colour: encoding '{encoding}', rgb8 or bgr8 is needed")
    image = _pixels(values, np.dtype(np.uint8), 3)
    return np.ascontiguousarray(image if encoding == "rgb8" else image[:, :, ::-1])


def _depth_image(values: Message) -> NDArray[np.float32] | RawDepth:
    encoding = values["encoding"]
    if encoding in ("16UC1", "mono16"):
        return RawDepth(_pixels(values, np.dtype(np.uint16), 1), DEPTH_UNIT_M)
    if encoding == "32FC1":
        return _pixels(values, np.dtype(np.float32), 1)
    raise RobinError(Code.INPUT_ENCODING_MISMATCH, f"depth: encoding '{encoding}', 16UC1 or 32FC1 is needed")


def _pixels(values: Message, dtype: np.dtype[Any], channels: int) -> NDArray[Any]:
    """[H, W] or [H, W, C], rows without their padding."""
    height, width, step = int(values["height"]), int(values["width"]), int(values["step"])
    data = np.asarray(values["data"], dtype=np.uint8)
    if width * height > MOST_PIXELS:
        raise RobinError(Code.INPUT_TOO_LARGE, f"image of {width}x{height}, {MOST_PIXELS:,} pixels are allowed")
    row = width * channels * dtype.itemsize
    if height < 1 or width < 1 or step < row or data.size < (height - 1) * step + row:
        text = f"{values['encoding']} image of {width}x{height}, step {step}, holds {data.size} bytes"
        raise RobinError(Code.INPUT_UNREADABLE, text)
    if data.size < height * step:
        data = np.concatenate([data, np.zeros(height * step - data.size, np.uint8)])
    rows = np.ascontiguousarray(data[: height * step].reshape(height, step)[:, :row])
    order = dtype.newbyteorder(">" if values["is_bigendian"] else "<")
    pixels = rows.view(order).astype(dtype, copy=False)
    return pixels.reshape(height, width, channels) if channels > 1 else pixels
