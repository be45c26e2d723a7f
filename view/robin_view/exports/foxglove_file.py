"""A run as one MCAP file with Foxglove's own schemas, under the names of the cell's topics: one layout shows a robot at
work, its bags, and this."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from edge_adapt.recording import png_bytes
from robin_perception.bags.frames import BASE_FRAME, DEPTH_UNIT_M, OPTICAL_FRAME
from robin_perception.core.frame import Frame, depth_units
from robin_perception.segmentation.overlay import draw_labels
from robin_perception.topics import DECISION, GRASPS, OVERLAY, camera_topics
from robin_view.exports.picks import (
    CUP_HEIGHT_M,
    ShownPick,
    camera_pose,
    cloud,
    cup_centres,
    missing_library,
    shown_picks,
    written_aside,
)

try:
    import foxglove
    from foxglove import channels
    from foxglove import messages as fox
except ImportError:
    raise missing_library("foxglove-sdk") from None

_CAMERA = camera_topics("/camera")
POINTS, TRACES = "/points", "/traces"
TOPICS = (
    _CAMERA.color, _CAMERA.depth, _CAMERA.info, f"/{OVERLAY}", f"/{GRASPS}", f"/{DECISION}", "/tf", POINTS, TRACES,
)  # fmt: skip
"""What the file holds; /points and /traces are in no robot's topics."""
_DECISION = {
    "title": "Decision",
    "type": "object",
    "properties": {key: {"type": "string"} for key in ("decision_id", "recorded_at", "model_id", "planner", "message")}
    | {key: {"type": "integer"} for key in ("version", "code", "choice")},
}
"""Fields at the top; a panel shows no topic whose schema is empty."""
_TRACE = {
    "title": "Traces",
    "type": "object",
    "properties": {"vacuum_pa": {"type": "array", "items": {"type": "number"}}, "weight_n": {"type": "number"}},
}
_FIELDS = ("x", "y", "z")
_COLOURS = ("red", "green", "blue", "alpha")


def write_foxglove(run: Path, path: Path) -> int:
    """Picks written. Raises RobinError INPUT_MISSING, RECORD_INVALID, DISK_FULL."""
    context, count = foxglove.Context(), 0
    with written_aside(path) as aside, foxglove.open_mcap(aside, context=context):
        topics = _Topics(context)
        for pick in shown_picks(run):
            topics.write(pick)
            count += 1
    return count


class _Topics:
    """The channels of one file."""

    def __init__(self, context: Any) -> None:
        self._color = channels.CompressedImageChannel(_CAMERA.color, context=context)
        self._depth = channels.RawImageChannel(_CAMERA.depth, context=context)
        self._info = channels.CameraCalibrationChannel(_CAMERA.info, context=context)
        self._overlay = channels.RawImageChannel(f"/{OVERLAY}", context=context)
        self._points = channels.PointCloudChannel(POINTS, context=context)
        self._grasps = channels.SceneUpdateChannel(f"/{GRASPS}", context=context)
        self._tf = channels.FrameTransformsChannel("/tf", context=context)
        self._decision = foxglove.Channel(f"/{DECISION}", schema=_DECISION, context=context)
        self._traces = foxglove.Channel(TRACES, schema=_TRACE, context=context)

    def write(self, pick: ShownPick) -> None:
        at_ns = pick.at_ns
        self._decision.log(json.loads(pick.decision.model_dump_json()), log_time=at_ns)
        if pick.frame is not None:
            self._see(pick, pick.frame)
        self._grasps.log(_grasps(pick), log_time=at_ns)
        for sample_ns, vacuum_pa, weight_n in pick.traced():
            self._traces.log({"vacuum_pa": vacuum_pa, "weight_n": weight_n}, log_time=sample_ns)

    def _see(self, pick: ShownPick, frame: Frame) -> None:
        at_ns, stamp = pick.at_ns, _stamp(pick.at_ns)
        told: dict[str, Any] = {"timestamp": stamp, "frame_id": OPTICAL_FRAME}
        size: dict[str, Any] = {"width": frame.width, "height": frame.height}
        k = frame.K.ravel().tolist()
        p = np.column_stack([frame.K, np.zeros(3)]).ravel().tolist()
        units = depth_units(frame.depth, DEPTH_UNIT_M)
        self._tf.log(fox.FrameTransforms(transforms=[_camera(frame, stamp)]), log_time=at_ns)
        self._info.log(fox.CameraCalibration(**told, **size, K=k, P=p), log_time=at_ns)
        self._color.log(fox.CompressedImage(**told, format="png", data=png_bytes(frame.rgb)), log_time=at_ns)
        raw = fox.RawImage(**told, **size, encoding="16UC1", step=2 * frame.width, data=units.tobytes())
        self._depth.log(raw, log_time=at_ns)
        self._points.log(_points(frame, stamp), log_time=at_ns)
        if pick.labels is not None:
            drawn = draw_labels(frame.rgb, pick.labels)
            image = fox.RawImage(**told, **size, encoding="rgb8", step=3 * frame.width, data=drawn.tobytes())
            self._overlay.log(image, log_time=at_ns)


def _stamp(at_ns: int) -> fox.Timestamp:
    return fox.Timestamp(sec=at_ns // 10**9, nsec=at_ns % 10**9)


def _pose(position: Any, xyzw: Any) -> fox.Pose:
    return fox.Pose(position=_vector(position), orientation=_turn(xyzw))


def _turn(xyzw: Any) -> fox.Quaternion:
    x, y, z, w = map(float, xyzw)
    return fox.Quaternion(x=x, y=y, z=z, w=w)


def _vector(xyz: Any) -> fox.Vector3:
    x, y, z = map(float, xyz)
    return fox.Vector3(x=x, y=y, z=z)


def _camera(frame: Frame, stamp: fox.Timestamp) -> fox.FrameTransform:
    position, xyzw = camera_pose(frame)
    names = {"parent_frame_id": BASE_FRAME, "child_frame_id": OPTICAL_FRAME}
    return fox.FrameTransform(timestamp=stamp, **names, translation=_vector(position), rotation=_turn(xyzw))


def _points(frame: Frame, stamp: fox.Timestamp) -> fox.PointCloud:
    points, colours = cloud(frame)
    packed = np.zeros(len(points), dtype=[("xyz", "<f4", 3), ("rgba", "u1", 4)])
    packed["xyz"], packed["rgba"][:, :3], packed["rgba"][:, 3] = points, colours, 255
    kind = fox.PackedElementFieldNumericType
    fields = [fox.PackedElementField(name=name, offset=4 * at, type=kind.Float32) for at, name in enumerate(_FIELDS)]
    fields += [fox.PackedElementField(name=name, offset=12 + at, type=kind.Uint8) for at, name in enumerate(_COLOURS)]
    here = _pose((0, 0, 0), (0, 0, 0, 1))
    return fox.PointCloud(
        timestamp=stamp, frame_id=BASE_FRAME, pose=here, point_stride=16, fields=fields, data=packed.tobytes()
    )


def _grasps(pick: ShownPick) -> fox.SceneUpdate:
    """Cups of the best few grasps, the executed one solid, in place of those before."""
    tool, entities = pick.decision.context.tool, []
    size = fox.Vector3(x=2 * tool.cup_radius_m, y=2 * tool.cup_radius_m, z=CUP_HEIGHT_M)
    for rank, grasp in enumerate(pick.best()):
        cups = [
            fox.CylinderPrimitive(
                pose=_pose(centre, grasp.quaternion_xyzw),
                size=size,
                bottom_scale=1.0,
                top_scale=1.0,
                color=_colour(cup in grasp.cups, 0.9 if rank == 0 else 0.25),
            )
            for cup, centre in enumerate(cup_centres(pick.decision, grasp))
        ]
        stamp = _stamp(pick.at_ns)
        entities.append(fox.SceneEntity(timestamp=stamp, frame_id=BASE_FRAME, id=f"grasp {rank}", cylinders=cups))
    everything = fox.SceneEntityDeletion(timestamp=_stamp(pick.at_ns), type=fox.SceneEntityDeletionType.All)
    return fox.SceneUpdate(deletions=[everything], entities=entities)


def _colour(is_open: bool, opacity: float) -> fox.Color:
    red, green, blue = (0.24, 0.86, 0.35) if is_open else (0.6, 0.6, 0.6)
    return fox.Color(r=red, g=green, b=blue, a=opacity)
