"""Goods whose depth is not to be trusted, as level faces: what a depth camera sees of clear film is now the film, now
what lies under it. The mask still shows where the goods are, and a level tool that comes down on them meets them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from robin_perception.core.frame import Frame
from robin_perception.core.scene import Scene

UPPER_SHARE = 0.9
"""Of the heights that are seen in a mask, as many lie below the face: what is highest there is the film."""
LEAST_PIXELS = 30  # with depth


def level_faces(frame: Frame, scene: Scene, level: NDArray[np.bool_]) -> Frame:
    """``frame`` with a level face in the masks of the instances where ``level`` [I] is set, at the height of the upper
    depth that is seen there; the same frame where none is. A mask with hardly any depth stays as it is."""
    if not level.any():
        return frame
    depth, axis, camera_z = frame.depth.copy(), frame.T_base_camera[2, :3], frame.T_base_camera[2, 3]
    for row in np.flatnonzero(level):
        instance = scene.instances[row]
        x0, y0 = instance.bbox[:2]
        v, u = np.nonzero(scene.crop(instance))
        v, u = v + y0, u + x0
        # How far a ray to that pixel goes up or down in base_link for each metre of depth.
        rise = axis[0] * (u - frame.K[0, 2]) / frame.K[0, 0] + axis[1] * (v - frame.K[1, 2]) / frame.K[1, 1] + axis[2]
        seen = depth[v, u]
        heights = camera_z + (rise * seen)[seen > 0]
        if len(heights) >= LEAST_PIXELS:
            found = (np.quantile(heights, UPPER_SHARE) - camera_z) / np.where(rise == 0, -1e-9, rise)
            depth[v, u] = np.where(found > 0, found, seen)
    return frame.with_depth(depth)
