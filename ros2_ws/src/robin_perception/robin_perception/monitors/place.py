"""A camera that was moved."""

from __future__ import annotations

import math

import numpy as np

from robin_perception.core.errors import Code
from robin_perception.monitors.cause import Cause, Surroundings, Usual
from robin_perception.monitors.config import MonitorsConfig
from robin_perception.monitors.look import Look
from robin_perception.monitors.motion import Motion

_SURE = 1.0  # standard deviations that are taken off: it is moved by that much at least
_WORST_M = 0.02  # a motion that is known no better is not told
_LEVER_M = 0.4  # from the middle of the workspace to its corners: what a tilt moves them by
_CORNERS = ((0.5, 0.5), (0.25, 0.25), (0.75, 0.25), (0.25, 0.75), (0.75, 0.75))  # of the picture


class CameraMoved(Cause):
    """How far a grasp is off at worst, millimetres: fixed marks and level surfaces against commissioning. Without a
    baseline, or where too little of these is seen: the surface under the goods against the pose."""

    name, code, unit = "camera_moved", Code.CAMERA_MOVED, "mm"
    spoiled_by = frozenset({"frozen", "depth_unit", "over_exposed"})
    default = Usual(2.0, 1.5), 15.0

    def __init__(self, config: MonitorsConfig) -> None:
        self._told = ""
        super().__init__(config)

    def measure(self, look: Look, around: Surroundings) -> float | None:
        motion = None if around.meter is None else around.meter.measure(look)
        if motion is not None:
            found = self._by_marks(motion, look, around.belt_z_m)
            if found is not None:
                return found
        return self._by_support(around)

    def _by_marks(self, motion: Motion, look: Look, belt_z_m: float) -> float | None:
        frame = look.frame
        plane = frame.belt_plane(belt_z_m)
        u, v = np.array(_CORNERS).T * [[frame.width], [frame.height]]
        rays = np.stack([(u - frame.K[0, 2]) / frame.K[0, 0], (v - frame.K[1, 2]) / frame.K[1, 1], np.ones(len(u))], 1)
        falls = -(rays @ plane[:3])
        if (falls < 0.1).any():
            return None
        shifts, spreads = motion.shift_of(rays * (plane[3] / falls)[:, None])
        if spreads.max() > _WORST_M:
            return None
        x, y, z = 1e3 * (frame.T_base_camera[:3, :3] @ shifts[0])
        turned = math.degrees(motion.turned_rad)
        self._told = (
            f"{x:+.0f}, {y:+.0f}, {z:+.0f} mm in the middle (x, y, z of base_link), turned by {turned:.1f} degrees"
        )
        return 1e3 * float((np.linalg.norm(shifts, axis=1) - _SURE * spreads).clip(0).max())

    def _by_support(self, around: Surroundings) -> float | None:
        support = around.support
        if support is None:
            return None
        tilt = support.tilt_rad or 0.0
        self._told = f"{1e3 * support.height_m:+.0f} mm in height, tilted by {math.degrees(tilt):.1f} degrees"
        return 1e3 * max(abs(support.height_m), _LEVER_M * tilt)

    def text(self, deviation: float) -> str:
        return f"the camera stands elsewhere than it should: {self._told}; fix its mount, calibrate anew"
