"""A camera that was moved."""

from __future__ import annotations

import math
from collections import deque

import numpy as np
from numpy.typing import NDArray

from robin_perception.core.errors import Code
from robin_perception.core.frame import Frame
from robin_perception.core.support_check import SupportSeen, measure_support
from robin_perception.monitors.cause import Cause, Surroundings, Usual
from robin_perception.monitors.config import MonitorsConfig
from robin_perception.monitors.look import Look
from robin_perception.monitors.motion import Motion, together

_SURE = 1.0  # standard deviations that are taken off: it is moved by that much at least
_TOGETHER = 5  # frames
_WORST_M = 0.008  # a motion along a direction in which it is known no better is not told
_LOST_MM = 100.0  # about as far as a motion can be measured
_SURELY_MM = 17.0  # what the surface alone must differ by
_LEVER_M = 0.4  # from the middle of the workspace to its corners: what a tilt moves them by
_OLDEST = 12  # frames
_CORNERS = ((0.5, 0.5), (0.25, 0.25), (0.75, 0.25), (0.25, 0.75), (0.75, 0.75))  # of the picture


class CameraMoved(Cause):
    """How far a grasp is off at worst, millimetres: fixed marks and level surfaces against commissioning. Without a
    baseline, or where too little of these is seen: the surface under the goods against the pose."""

    name, code, unit = "camera_moved", Code.CAMERA_MOVED, "mm"
    spoiled_by = frozenset({"frozen", "depth_unit", "over_exposed"})
    suspect, from_zero = 0.6, True
    default = Usual(2.0, 1.5), _SURELY_MM - 2.0

    def __init__(self, config: MonitorsConfig) -> None:
        self._told = ""
        super().__init__(config)

    def reset(self) -> None:
        self._bare = BareSupport()
        self._motions: deque[Motion] = deque(maxlen=_TOGETHER)

    def measure(self, look: Look, around: Surroundings) -> float | None:
        motion = None if around.meter is None else self._together(around.meter.measure(look))
        if motion is not None and motion.lost:
            self._told = "its fixed marks are nowhere near where they were, or something hides them"
            return None if "dark" in around.suspects else _LOST_MM
        if motion is not None:
            found = self._by_marks(motion, look, around.belt_z_m)
            if found is not None:
                return found
        support = self._bare.measure(look, around.belt_z_m) or around.support
        found = None if "dark" in around.suspects else self._by_support(support)  # masks are missing in the dark
        surely = around.reference is None or (found is not None and found > _SURELY_MM)
        return found if surely else None

    def _together(self, motion: Motion | None) -> Motion | None:
        """What this frame says and the ones before that say the same: their errors are their own."""
        if motion is None:
            return None
        if motion.lost or (self._motions and motion.contradicts(together(self._motions))):
            self._motions.clear()
        if motion.lost:
            return motion
        self._motions.append(motion)
        return together(self._motions)

    def _by_marks(self, motion: Motion, look: Look, belt_z_m: float) -> float | None:
        frame = look.frame
        plane = frame.belt_plane(belt_z_m)
        u, v = np.array(_CORNERS).T * [[frame.width], [frame.height]]
        rays = np.stack([(u - frame.K[0, 2]) / frame.K[0, 0], (v - frame.K[1, 2]) / frame.K[1, 1], np.ones(len(u))], 1)
        falls = -(rays @ plane[:3])
        if (falls < 0.1).any():
            return None
        shifts, covariances = motion.shift_of(rays * (plane[3] / falls)[:, None])
        variances, axes = np.linalg.eigh(covariances)
        spreads = np.sqrt(variances.clip(0))
        off = (np.abs((shifts[:, None] @ axes)[:, 0]) - _SURE * spreads).clip(0)
        surely = np.linalg.norm(np.where(spreads < _WORST_M, off, 0.0), axis=1).max()
        if surely == 0 and spreads.max() > _WORST_M:
            return None
        x, y, z = 1e3 * (frame.T_base_camera[:3, :3] @ shifts[0])
        turned = math.degrees(motion.turned_rad)
        self._told = (
            f"{x:+.0f}, {y:+.0f}, {z:+.0f} mm in the middle (x, y, z of base_link), turned by {turned:.1f} degrees"
        )
        return 1e3 * float(surely)

    def _by_support(self, support: SupportSeen | None) -> float | None:
        if support is None:
            return None
        tilt = support.tilt_rad or 0.0
        self._told = f"{1e3 * support.height_m:+.0f} mm in height, tilted by {math.degrees(tilt):.1f} degrees"
        return 1e3 * max(abs(support.height_m), _LEVER_M * tilt)

    def text(self, deviation: float) -> str:
        return f"the camera stands elsewhere than it should: {self._told}; fix its mount, calibrate anew"


class BareSupport:
    """The surface under the goods as the last frames show it together: where some lie now, another frame saw the belt.

    A patch that is too narrow in each of them to tell a tilt grows until it does.
    """

    def __init__(self) -> None:
        self._last: deque[tuple[NDArray[np.float32], NDArray[np.bool_]]] = deque(maxlen=_OLDEST)

    def measure(self, look: Look, belt_z_m: float) -> SupportSeen | None:
        """With this frame added; None where the frames show too little of it."""
        self._last.append((np.where(look.free, look.depth, np.float32(0)), look.free))
        depth = np.zeros_like(look.depth)
        area = np.zeros(depth.shape, dtype=np.uint16)
        for bare, free in self._last:  # the newest last, so that it counts
            depth = np.where(bare > 0, bare, depth)
            area |= ~free
        rows, columns = depth.shape
        frame = look.frame
        K = np.diag((columns / frame.width, rows / frame.height, 1.0)) @ frame.K
        black = np.zeros((rows, columns, 3), dtype=np.uint8)
        bare_frame = Frame(black, depth, K, frame.T_base_camera)
        return measure_support(bare_frame, np.zeros_like(area), belt_z_m, area)
