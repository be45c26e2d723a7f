"""ROS messages of images, frames and scenes to the core's types and back. Images are moved as whole blocks."""

from __future__ import annotations

import sys
from array import array
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from builtin_interfaces.msg import Time
from geometry_msgs.msg import Point, Pose, Quaternion
from numpy.typing import NDArray
from robin_msgs.msg import Condition as ConditionMsg
from robin_msgs.msg import Instance as InstanceMsg
from robin_msgs.msg import SegmentedScene, StageTime
from scipy.spatial.transform import Rotation
from sensor_msgs.msg import CameraInfo, Image, RegionOfInterest
from std_msgs.msg import Header

from robin_perception.bags.frames import DEPTH_UNIT_M, OPTICAL_FRAME, nanoseconds
from robin_perception.core.condition import Condition, Family, PickingEffect
from robin_perception.core.errors import Code, RobinError
from robin_perception.core.frame import Frame, RawDepth, depth_units
from robin_perception.core.gate import CameraModel, GateConfig, make_frame
from robin_perception.core.pose import pose_matrix
from robin_perception.core.scene import CLASSES, FILM_TERMS, Instance, Scene, parsed_version, version_text
from robin_perception.nodes.pairing import COLOR_ENCODINGS, DEPTH_ENCODINGS

# encoding -> (type of a channel, channels)
ENCODINGS: dict[str, tuple[type[np.generic], int]] = {
    "rgb8": (np.uint8, 3),
    "bgr8": (np.uint8, 3),
    "rgba8": (np.uint8, 4),
    "bgra8": (np.uint8, 4),
    "mono8": (np.uint8, 1),
    "16UC1": (np.uint16, 1),
    "mono16": (np.uint16, 1),
    "32FC1": (np.float32, 1),
}
_TO_RGB = {"bgr8": cv2.COLOR_BGR2RGB, "rgba8": cv2.COLOR_RGBA2RGB, "bgra8": cv2.COLOR_BGRA2RGB}
BOUNDARY_MISSING = "boundary_missing"


def stamp_from_ns(ns: int) -> Time:
    """Message stamp of nanoseconds since the epoch."""
    return Time(sec=ns // 10**9, nanosec=ns % 10**9)


def stamp_to_ns(stamp: Any) -> int:
    """Nanoseconds since the epoch of a message stamp."""
    return int(stamp.sec) * 10**9 + int(stamp.nanosec)


def stamp_from_s(stamp_s: float) -> Time:
    """Message stamp of float seconds: ``stamp_to_s`` of it is the same float."""
    return stamp_from_ns(nanoseconds(stamp_s))


def stamp_to_s(stamp: Any) -> float:
    """Float seconds nearest to a message stamp; today's floats are 0.24 us apart."""
    return stamp_to_ns(stamp) / 10**9


def frame_header(frame: Frame, frame_id: str = OPTICAL_FRAME) -> Header:
    """Header of messages about ``frame``: its stamp, and the camera's optical frame."""
    return Header(stamp=stamp_from_s(frame.stamp_s), frame_id=frame_id)


def bytes_of(values: NDArray[Any]) -> array[int]:
    """What a ``uint8[]`` field takes over as it is. Only by assignment to a message made with ``check_fields=True``:
    a message's constructor, and an unchecked setter, copy it element by element (25 ms for a 1280x720 image)."""
    block = array("B")
    block.frombytes(np.ascontiguousarray(values).data.cast("B") if values.size else b"")
    return block


def pose_to_msg(T: NDArray[np.float64]) -> Pose:
    """Pose of a rigid transform, float64 [4, 4], metres."""
    return poses_to_msgs([T])[0]


def poses_to_msgs(transforms: Sequence[NDArray[np.float64]]) -> list[Pose]:
    """Poses of rigid transforms, float64 [4, 4] each, metres. All at once: one by one, the rotations of a plan take
    longer than all the rest of its message."""
    if not transforms:
        return []
    stacked = np.asarray(transforms, dtype=np.float64)
    quaternions = Rotation.from_matrix(stacked[:, :3, :3]).as_quat().tolist()
    return [
        Pose(position=Point(x=px, y=py, z=pz), orientation=Quaternion(x=x, y=y, z=z, w=w))
        for (px, py, pz), (x, y, z, w) in zip(stacked[:, :3, 3].tolist(), quaternions, strict=True)
    ]


def pose_from_msg(pose: Pose) -> NDArray[np.float64]:
    """float64 [4, 4], metres. Raises RobinError POSE_INVALID."""
    p, q = pose.position, pose.orientation
    return pose_matrix((p.x, p.y, p.z), (q.x, q.y, q.z, q.w))


def image_to_msg(image: NDArray[Any], encoding: str, header: Header) -> Image:
    """Image message of an array [H, W] or [H, W, channels] whose type fits ``encoding``.

    Raises RobinError INPUT_ENCODING_MISMATCH.
    """
    dtype, channels = _encoding(encoding, "image")
    if image.dtype != dtype or (image.ndim, image.shape[2:]) != ((2, ()) if channels == 1 else (3, (channels,))):
        text = f"{encoding} cannot hold {image.dtype} {image.shape}"
        raise RobinError(Code.INPUT_ENCODING_MISMATCH, text)
    height, width = image.shape[:2]
    message = Image(check_fields=True)
    message.header = header
    message.height, message.width, message.step = height, width, width * channels * image.itemsize
    message.encoding = encoding
    message.is_bigendian = int(sys.byteorder == "big")
    message.data = bytes_of(image)
    return message


def image_from_msg(message: Image, name: str = "image") -> NDArray[Any]:
    """Array [H, W] or [H, W, channels] of an image message: uint8, uint16 or float32 in this machine's byte order.

    The array shares the message's memory where rows have no padding. ``bgr8`` stays BGR. name: for the error's text.
    Raises RobinError INPUT_ENCODING_MISMATCH for an encoding not in ``ENCODINGS``, INPUT_UNREADABLE where width,
    height, step and the number of bytes contradict each other.
    """
    dtype, channels = _encoding(message.encoding, name)
    height, width, step = int(message.height), int(message.width), int(message.step)
    itemsize = np.dtype(dtype).itemsize
    row = width * channels * itemsize
    size = len(message.data)
    if height < 1 or width < 1 or step < row or size != height * step:
        text = f"{name}: {message.encoding} of {width}x{height} with step {step} cannot have {size} bytes"
        raise RobinError(Code.INPUT_UNREADABLE, text)
    rows = np.frombuffer(message.data, dtype=np.uint8).reshape(height, step)
    image: NDArray[Any] = np.ascontiguousarray(rows[:, :row]).view(dtype)
    if itemsize > 1 and bool(message.is_bigendian) != (sys.byteorder == "big"):
        image = image.byteswap()
    return image if channels == 1 else image.reshape(height, width, channels)


def rgb_from_msg(message: Image) -> NDArray[np.uint8]:
    """uint8 [H, W, 3] in RGB order of a message in one of COLOR_ENCODINGS. Raises as ``image_from_msg``."""
    if message.encoding not in COLOR_ENCODINGS:
        raise _wrong_encoding("colour", message.encoding, COLOR_ENCODINGS)
    image = image_from_msg(message, "colour")
    change = _TO_RGB.get(message.encoding)
    return image if change is None else np.asarray(cv2.cvtColor(image, change))


def depth_from_msg(message: Image) -> NDArray[np.float32] | RawDepth:
    """Depth [H, W] as it came: whole millimetres of 16UC1 or mono16, float32 metres of 32FC1. Raises as
    ``image_from_msg``."""
    if message.encoding not in DEPTH_ENCODINGS:
        raise _wrong_encoding("depth", message.encoding, DEPTH_ENCODINGS)
    image = image_from_msg(message, "depth")
    return RawDepth(image, DEPTH_UNIT_M) if image.dtype == np.uint16 else image


def camera_info_to_msg(K: NDArray[np.float64], width: int, height: int, header: Header) -> CameraInfo:
    """CameraInfo of an undistorted pinhole camera. K: float64 [3, 3], pixels."""
    K = np.asarray(K, dtype=np.float64)
    return CameraInfo(
        header=header,
        width=width,
        height=height,
        distortion_model="plumb_bob",
        d=[0.0] * 5,
        k=K.reshape(9),
        r=np.eye(3).reshape(9),
        p=np.concatenate([K, np.zeros((3, 1))], axis=1).reshape(12),
    )


def camera_from_msg(info: CameraInfo) -> CameraModel:
    """What a camera_info says of the camera."""
    return CameraModel(
        K=np.array(info.k, dtype=np.float64).reshape(3, 3),
        width=int(info.width),
        height=int(info.height),
        distortion_model=info.distortion_model,
        distortion=tuple(info.d),
        binning=(int(info.binning_x), int(info.binning_y)),
        roi=(int(info.roi.width), int(info.roi.height)),
    )


def frame_to_msgs(frame: Frame, frame_id: str = OPTICAL_FRAME) -> tuple[Image, Image, CameraInfo]:
    """Colour (rgb8), depth (16UC1, whole millimetres) and CameraInfo, all with the frame's stamp."""
    header, raw = frame_header(frame, frame_id), frame.raw_depth
    units = raw.units if raw is not None and raw.unit_m == DEPTH_UNIT_M else depth_units(frame.depth, DEPTH_UNIT_M)
    return (
        image_to_msg(frame.rgb, "rgb8", header),
        image_to_msg(units, "16UC1", header),
        camera_info_to_msg(frame.K, frame.width, frame.height, header),
    )


def frame_from_msgs(
    color: Image, depth: Image, info: CameraInfo, T_base_camera: NDArray[np.float64], gate: GateConfig | None = None
) -> Frame:
    """Frame of one moment; the stamp and ``camera_id`` (the optical frame's name) are the colour image's.

    T_base_camera: float64 [4, 4]. Raises RobinError: what the parts and ``make_frame`` raise.
    """
    return make_frame(
        rgb_from_msg(color),
        depth_from_msg(depth),
        camera_from_msg(info),
        T_base_camera,
        stamp_s=stamp_to_s(color.header.stamp),
        camera_id=color.header.frame_id,
        frame_ids=tuple(message.header.frame_id for message in (color, depth, info)),
        keep_units=True,
        config=gate,
    )


def timings_to_msg(timings_ms: dict[str, float]) -> list[StageTime]:
    """Stages in their order."""
    return [StageTime(stage=stage, ms=float(ms)) for stage, ms in timings_ms.items()]


def timings_from_msg(timings: list[StageTime]) -> dict[str, float]:
    """stage -> milliseconds."""
    return {item.stage: item.ms for item in timings}


def condition_to_msg(condition: Condition) -> ConditionMsg:
    """``since`` is right to the nanosecond."""
    return ConditionMsg(
        code=int(condition.code),
        name=condition.name,
        family=condition.family.value,
        value=float(condition.value),
        limit=float(condition.limit),
        unit=condition.unit,
        since=stamp_from_s(condition.since_s),
        action=condition.effect.value,
        instances=[int(i) for i in condition.instances],
        text=condition.text,
    )


def condition_from_msg(message: ConditionMsg) -> Condition:
    """Raises RobinError INPUT_UNREADABLE for a code, family or effect of another version."""
    try:
        code, family, effect = Code(message.code), Family(message.family), PickingEffect(message.action)
    except ValueError as exc:
        text = f"condition '{message.name}': {exc}: is the sender of another version?"
        raise RobinError(Code.INPUT_UNREADABLE, text) from None
    return Condition(
        code=code,
        name=message.name,
        family=family,
        value=message.value,
        limit=message.limit,
        unit=message.unit,
        since_s=stamp_to_s(message.since),
        effect=effect,
        text=message.text,
        instances=tuple(int(i) for i in message.instances),
    )


def scene_to_msg(scene: Scene, header: Header, with_boundary: bool = True) -> SegmentedScene:
    """header: that of the colour image the scene was seen in. with_boundary: without it, a planner behind the topic
    sees merged parcels less well."""
    message = SegmentedScene(
        header=header,
        model_id=scene.model_id,
        model_version=version_text(scene.model_version),
        engine=scene.engine,
        class_names=list(scene.class_names),
        instances=[_instance_to_msg(instance, scene) for instance in scene.instances],
        label_image=image_to_msg(scene.labels, "16UC1", header),
        flags=list(scene.flags),
        conditions=[condition_to_msg(condition) for condition in scene.conditions],
        timings=timings_to_msg(scene.timings_ms),
        segment_ms=float(scene.timings_ms.get("segment", sum(scene.timings_ms.values()))),
    )
    if with_boundary and scene.boundary.size:
        message.boundary = image_to_msg(scene.boundary, "32FC1", header)
    return message


def scene_from_msg(message: SegmentedScene) -> Scene:
    """The scene. Where the boundary was not sent it is 0 everywhere, float32 [1, 1], with the flag BOUNDARY_MISSING.

    Raises RobinError INPUT_ENCODING_MISMATCH, INPUT_UNREADABLE where label image and instances contradict each other.
    """
    if message.label_image.encoding != "16UC1":
        raise _wrong_encoding("label image", message.label_image.encoding, ("16UC1",))
    labels = image_from_msg(message.label_image, "label image")
    class_names = tuple(message.class_names)
    instances = tuple(_instance_from_msg(instance, labels.shape, class_names) for instance in message.instances)
    if len({instance.id for instance in instances}) < len(instances):
        raise RobinError(Code.INPUT_UNREADABLE, "scene: two instances have the same id")
    boundary, flags = np.zeros((1, 1), dtype=np.float32), tuple(message.flags)
    if message.boundary.height:
        if message.boundary.encoding != "32FC1":
            raise _wrong_encoding("boundary", message.boundary.encoding, ("32FC1",))
        boundary = image_from_msg(message.boundary, "boundary")
    elif BOUNDARY_MISSING not in flags:
        flags = (*flags, BOUNDARY_MISSING)
    return Scene(
        stamp_s=stamp_to_s(message.header.stamp),
        model_id=message.model_id,
        labels=labels,
        instances=instances,
        boundary=boundary,
        flags=flags,
        timings_ms=timings_from_msg(message.timings),
        class_names=class_names or CLASSES,
        engine=message.engine,
        conditions=tuple(condition_from_msg(condition) for condition in message.conditions),
        model_version=parsed_version(message.model_version),
    )


def _instance_to_msg(instance: Instance, scene: Scene) -> InstanceMsg:
    x0, y0, x1, y1 = instance.bbox
    class_id = int(np.argmax(instance.class_probabilities))
    return InstanceMsg(
        id=int(instance.id),
        roi=RegionOfInterest(x_offset=int(x0), y_offset=int(y0), width=int(x1 - x0), height=int(y1 - y0)),
        area_px=int(instance.area_px),
        class_id=class_id,
        class_name=scene.class_name(instance),
        class_probabilities=floats_of(instance.class_probabilities),
        class_score=float(instance.class_probabilities[class_id]),
        detection_score=float(instance.detection),
        mask_quality=float(instance.mask_quality),
        visible_fraction=float(instance.visible_fraction),
        boundary_uncertainty_px=float(instance.boundary_uncertainty_px),
        embedding=floats_of(instance.embedding),
        novelty=float(instance.novelty),
        film_depth=floats_of(np.array(instance.film_depth)),
    )


def _instance_from_msg(message: InstanceMsg, shape: tuple[int, ...], class_names: tuple[str, ...]) -> Instance:
    x0, y0 = int(message.roi.x_offset), int(message.roi.y_offset)
    x1, y1 = x0 + int(message.roi.width), y0 + int(message.roi.height)
    if message.id < 1 or x1 > shape[1] or y1 > shape[0]:
        text = f"scene: instance {message.id} does not fit a {shape[1]}x{shape[0]} label image"
        raise RobinError(Code.INPUT_UNREADABLE, text)
    if not class_names or len(message.class_probabilities) != len(class_names):
        count = len(message.class_probabilities)
        text = f"scene: instance {message.id} has {count} class probabilities for {len(class_names)} class names"
        raise RobinError(Code.INPUT_UNREADABLE, text)
    if len(message.film_depth) not in (0, FILM_TERMS):
        text = f"scene: instance {message.id} has {len(message.film_depth)} terms of film_depth, not {FILM_TERMS}"
        raise RobinError(Code.INPUT_UNREADABLE, text)
    return Instance(
        id=int(message.id),
        bbox=(x0, y0, x1, y1),
        area_px=int(message.area_px),
        class_probabilities=np.array(message.class_probabilities, dtype=np.float32),
        detection=message.detection_score,
        mask_quality=message.mask_quality,
        visible_fraction=message.visible_fraction,
        boundary_uncertainty_px=message.boundary_uncertainty_px,
        embedding=np.array(message.embedding, dtype=np.float32),
        novelty=message.novelty,
        film_depth=tuple(message.film_depth),
    )


def floats_of(values: NDArray[Any]) -> array[float]:
    """What a ``float32[]`` field takes without looking at each element."""
    return array("f", np.ascontiguousarray(values, dtype=np.float32).tobytes())


def _encoding(encoding: str, name: str) -> tuple[type[np.generic], int]:
    found = ENCODINGS.get(encoding)
    if found is None:
        raise _wrong_encoding(name, encoding, tuple(ENCODINGS))
    return found


def _wrong_encoding(name: str, encoding: str, known: tuple[str, ...]) -> RobinError:
    return RobinError(Code.INPUT_ENCODING_MISMATCH, f"{name}: encoding '{encoding}', known are {', '.join(known)}")
