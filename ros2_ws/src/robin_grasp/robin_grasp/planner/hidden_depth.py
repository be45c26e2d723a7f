"""Goods whose depth is not as the camera sees it: of clear film it sees now the film, now what lies under it.

Where the network tells the film's face, that is taken. Where goods fail by their depth all the same, they are taken for
level faces: the mask still shows where they are, and a level tool that comes down on them meets them.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from robin_perception.core.frame import Frame
from robin_perception.core.scene import Instance, Scene
from robin_perception.segmentation.film import film_design

UPPER_SHARE = 0.9
"""Of the heights that are seen in a mask, as many lie below the level face: what is highest there is the film."""
LEAST_PIXELS = 30  # with depth


def with_film_faces(frame: Frame, scene: Scene) -> Frame:
    """``frame`` with the film's face in the masks of the instances that have one; the same frame where none has."""
    films = [one for one in scene.instances if one.film_depth]
    if not films:
        return frame
    depth = frame.depth.copy()
    for one in films:
        v, u = _pixels(scene, one)
        face = film_design(u.astype(np.float64), v.astype(np.float64), one.bbox) @ np.array(one.film_depth)
        depth[v, u] = np.where(face > 0, face, depth[v, u])
    return frame.with_depth(depth)


def with_level_faces(frame: Frame, scene: Scene, level: NDArray[np.bool_]) -> Frame:
    """``frame`` with a level face in the masks of the instances where ``level`` [I] is set, at the height of the upper
    depth that is seen there; the same frame where none is. A mask with hardly any depth stays as it is."""
    if not level.any():
        return frame
    depth, axis, camera_z = frame.depth.copy(), frame.T_base_camera[2, :3], frame.T_base_camera[2, 3]
    for row in np.flatnonzero(level):
        v, u = _pixels(scene, scene.instances[row])
        # How far a ray to that pixel goes up or down in base_link for each metre of depth.
        rise = axis[0] * (u - frame.K[0, 2]) / frame.K[0, 0] + axis[1] * (v - frame.K[1, 2]) / frame.K[1, 1] + axis[2]
        seen = depth[v, u]
        heights = camera_z + (rise * seen)[seen > 0]
        if len(heights) >= LEAST_PIXELS:
            found = (np.quantile(heights, UPPER_SHARE) - camera_z) / np.where(rise == 0, -1e-9, rise)
            depth[v, u] = np.where(found > 0, found, seen)
    return frame.with_depth(depth)


def _pixels(scene: Scene, one: Instance) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows and columns of its mask in the frame."""
    v, u = np.nonzero(scene.crop(one))
    return v + one.bbox[1], u + one.bbox[0]
