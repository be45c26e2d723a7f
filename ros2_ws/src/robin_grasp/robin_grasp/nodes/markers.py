"""Grasps as markers for RViz and Foxglove: the tool's plate, its cups, the way in."""

from __future__ import annotations

from typing import Any

import numpy as np
from geometry_msgs.msg import Point, Pose, Quaternion
from scipy.spatial.transform import Rotation
from std_msgs.msg import ColorRGBA
from visualization_msgs.msg import Marker, MarkerArray

from robin_grasp.plan import Grasp, Plan
from robin_grasp.tool import CellConfig

OPEN_CUP = (0.24, 0.86, 0.35)
CLOSED_CUP = (0.6, 0.6, 0.6)
PLATE = (1.0, 0.82, 0.24)
CUP_HEIGHT_M = 0.01


def plan_markers(plan: Plan, cell: CellConfig, header: Any, shown: int) -> MarkerArray:
    """The best ``shown`` grasps; the best one solid, the others faint. header: stamp, and base_link as frame_id. The
    first marker removes those of the plan before, so an empty plan clears the view."""
    markers = [Marker(header=header, action=Marker.DELETEALL)]
    for rank, grasp in enumerate(plan.grasps[:shown]):
        markers += _grasp(grasp, cell, header, rank)
    return MarkerArray(markers=markers)


def _grasp(grasp: Grasp, cell: CellConfig, header: Any, rank: int) -> list[Marker]:
    tool, opacity = cell.tool, 0.9 if rank == 0 else 0.25
    plate = _marker("plate", rank, header, Marker.CUBE, grasp.T_base_tool, (0, 0, -tool.plate_offset_m), PLATE, opacity)
    plate.scale.x, plate.scale.y = (2 * half for half in tool.plate_half_size_m)
    plate.scale.z = 0.004
    way = _marker("approach", rank, header, Marker.ARROW, np.eye(4), (0, 0, 0), PLATE, opacity)
    tip = grasp.T_base_tool[:3, 3]
    start = tip - cell.motion.approach_m * grasp.T_base_tool[:3, 2]
    way.points = [_point(start), _point(tip)]
    way.scale.x, way.scale.y = 0.006, 0.014  # shaft and head, diameters in metres
    cups = []
    for index, centre in enumerate(tool.cups_m):
        colour = OPEN_CUP if grasp.cups >> index & 1 else CLOSED_CUP
        number = rank * tool.cup_count + index
        cup = _marker("cups", number, header, Marker.CYLINDER, grasp.T_base_tool, tuple(centre), colour, opacity)
        cup.scale.x = cup.scale.y = 2 * tool.cup_radius_m
        cup.scale.z = CUP_HEIGHT_M
        cups.append(cup)
    return [plate, way, *cups]


def _marker(
    namespace: str,
    number: int,
    header: Any,
    kind: int,
    T: np.ndarray,
    offset_m: tuple[float, ...],
    colour: tuple[float, float, float],
    opacity: float,
) -> Marker:
    """A marker at ``offset_m`` in the tool frame ``T``, both metres."""
    position = T[:3, 3] + T[:3, :3] @ np.asarray(offset_m)
    x, y, z, w = (float(v) for v in Rotation.from_matrix(T[:3, :3]).as_quat())
    pose = Pose(position=_point(position), orientation=Quaternion(x=x, y=y, z=z, w=w))
    red, green, blue = colour
    rgba = ColorRGBA(r=red, g=green, b=blue, a=opacity)
    return Marker(header=header, ns=namespace, id=number, type=kind, action=Marker.ADD, pose=pose, color=rgba)


def _point(xyz: np.ndarray) -> Point:
    x, y, z = (float(v) for v in xyz)
    return Point(x=x, y=y, z=z)
