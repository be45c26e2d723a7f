"""One pick made by hand: two boxes, the frames before and after, sensor traces, and a look at the load."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from helpers.grasp_scenes import Box, box_scene
from robin_grasp.picks.outcome import PickOutcome, PickResult
from robin_grasp.picks.traces import LoadView, PickTraces
from robin_grasp.plan import Grasp
from robin_perception.core.frame import Frame
from robin_perception.core.scene import Scene

TARGET, OTHER = Box(0.75, 0.0, 0.20, 0.16, 0.10), Box(0.75, 0.164, 0.20, 0.16, 0.10)
RATE_HZ = 50.0
VACUUM_PA, WEIGHT_N = 40_000.0, 9.8
PHASES_S = {"vacuum": 0.0, "lift": 0.2, "weigh": 0.9, "transfer": 1.0, "arrive": 1.9}
END_S = 2.0


def scene_of(boxes: Sequence[Box] = (TARGET, OTHER)) -> tuple[Frame, Scene]:
    return box_scene(list(boxes))


def grasp(cups: int = 0b1111_1111, **terms: float) -> Grasp:
    """On the target's middle, the tool's x axis along base x."""
    pose = np.diag([1.0, -1.0, -1.0, 1.0])
    pose[:3, 3] = (TARGET.x, TARGET.y, TARGET.top)
    return Grasp(pose, cups, 1, 0.5, {"mass_kg": 1.0, "thickness_m": 0.1, **terms})


def traces(
    lost_s: dict[int, float] | None = None, weight_n: Sequence[tuple[float, float]] = ((0.0, WEIGHT_N),)
) -> PickTraces:
    """All eight cups hold from 0.1 s on, a cup of ``lost_s`` until then; the weight is that of the last (from s, N)."""
    count = round(END_S * RATE_HZ)
    time_s = np.arange(count) / RATE_HZ
    vacuum = np.where(time_s[:, None] >= 0.1, VACUUM_PA, 0.0) * np.ones(8)
    for cup, at_s in (lost_s or {}).items():
        vacuum[time_s >= at_s, cup] = 0.0
    weight = np.zeros(count)
    for from_s, value in weight_n:
        weight[time_s >= from_s] = value
    weight[time_s < PHASES_S["lift"]] = 0.0
    marks = {phase: round(at_s * RATE_HZ) for phase, at_s in PHASES_S.items()}
    return PickTraces(RATE_HZ, vacuum.astype(np.float32), weight.astype(np.float32), marks)


def outcome(
    weight_n: float = WEIGHT_N,
    cups: Sequence[int] = range(8),
    traces: PickTraces | None = None,
    load: LoadView | None = None,
) -> PickOutcome:
    """Result and truth say what must not be read: a miss."""
    vacuum = tuple(VACUUM_PA if cup in cups else 0.0 for cup in range(8))
    return PickOutcome(PickResult.MISS, vacuum, weight_n, 3.0, traces=traces, load=load)


def load_view(boxes: Sequence[tuple[float, float, float, float, float]], below_m: float = 1.2) -> LoadView:
    """A camera straight below the tool looks up at boxes that hang on it: each (x, y, size x, size y, depth below the
    lips) in the tool frame, m."""
    width, height = 512, 384
    K = np.array([[370.0, 0, width / 2], [0, 370.0, height / 2], [0, 0, 1]])
    T_base_tool = np.diag([1.0, -1.0, -1.0, 1.0])
    T_base_tool[:3, 3] = (0.75, 0.9, 0.6)
    in_tool = np.diag([1.0, -1.0, -1.0, 1.0])  # looks along the tool's -z
    in_tool[2, 3] = below_m
    v, u = np.mgrid[0:height, 0:width].astype(np.float64)
    depth = np.zeros((height, width), np.float32)
    rgb = np.zeros((height, width, 3), np.uint8)
    for k, (x, y, size_x, size_y, hang) in enumerate(boxes):
        z = below_m - hang
        px, py = (u - K[0, 2]) / K[0, 0] * z, -(v - K[1, 2]) / K[1, 1] * z
        inside = (np.abs(px - x) <= size_x / 2) & (np.abs(py - y) <= size_y / 2)
        nearer = inside & ((depth == 0) | (z < depth))
        depth[nearer], rgb[nearer] = z, (200, 60 + 100 * k, 40)
    return LoadView(Frame(rgb, depth, K, T_base_tool @ in_tool, camera_id="load_camera"), T_base_tool)
