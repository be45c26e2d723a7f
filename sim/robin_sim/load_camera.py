"""Two looks at the load at the place station: an RGB-D camera under it looks up at what hangs on the tool, another one
looks down from beside the arm at what lies on it.

The arm brings every load between the cameras, which therefore stand about the tool here, wherever the transfer ended.

The picture from below is made in a base turned upside down, in which the camera looks down at the load, so that light
and exposure are those of every other picture; the frame that comes out of it is in base_link.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from robin_grasp.picks.traces import LoadView
from robin_grasp.tool import CellConfig, ToolConfig, WorkspaceConfig
from robin_perception.core.config import StrictConfig
from robin_perception.core.frame import Frame
from robin_sim.backgrounds import Background, Surface, box
from robin_sim.cameras import CameraView, hfov_of_aspect, intrinsics, look_at
from robin_sim.lighting import Light, Lighting
from robin_sim.model import Material, Mesh, Pile
from robin_sim.pick import Load
from robin_sim.render import render
from robin_sim.sensor import SensorModelConfig, spoil

Array = NDArray[np.float64]
CAMERA_ID, ABOVE_CAMERA_ID = "load_camera", "load_camera_above"
_UPSIDE_DOWN = np.diag([1.0, -1.0, -1.0, 1.0])
_CUP_SIDES = 16


class LoadCameraConfig(StrictConfig):
    """Where the cameras stand, and how long the cell has for what they show.

    The looks cost no time: the tool does not stand for them. The load is then lowered to its place, and only before it
    is let go must it be known what hangs there.
    """

    width: int = Field(512, ge=160, le=4096)
    height: int = Field(384, ge=120, le=4096)
    below_m: float = Field(0.80, gt=0.3, le=3, description="under the lips of the tool")
    above: bool = Field(True, description="a second camera looks down on the load, from beyond it")
    above_m: float = Field(0.90, gt=0.3, le=3, description="from the middle of the lips to the second camera")
    above_tilt_rad: float = Field(0.61, ge=0, le=1.3, description="of the second camera's axis off the vertical")
    lower_s: float = Field(
        0.30, ge=0, le=5, description="from the looks until the load is let go, and back up with one that is not"
    )


@dataclass(frozen=True)
class LoadSensors:
    """Noise of both cameras, which are of one make. below, above: each with draws of its own, so that the second camera
    changes nothing else."""

    below: np.random.Generator
    above: np.random.Generator
    model: SensorModelConfig


def look_at_load(
    load: Load, cell: CellConfig, sensors: LoadSensors, config: LoadCameraConfig, stamp_s: float = 0.0
) -> tuple[LoadView, LoadView | None]:
    """What the cameras see of a load: from below, and from above, None without a second camera. Mount, lamps and
    sensors are the station's own: faults of the camera over the pile are not theirs."""
    below = load_camera_pose(load.T_base_tool, config)
    # In the turned base the lips of the tool are near z = 0, where belts are.
    turn = _UPSIDE_DOWN.copy()
    turn[:3, 3] = -_UPSIDE_DOWN[:3, :3] @ (below[:3, 3] + np.array([0.0, 0.0, config.below_m]))
    first = _picture(load, cell, below, turn, sensors.below, sensors.model, config, stamp_s, CAMERA_ID)
    if not config.above:
        return first, None
    above = above_camera_pose(load.T_base_tool, config)
    shift = np.eye(4)
    shift[:3, 3] = -load.T_base_tool[:3, 3]
    second = _picture(load, cell, above, shift, sensors.above, sensors.model, config, stamp_s, ABOVE_CAMERA_ID)
    return first, second


def load_camera_pose(T_base_tool: Array, config: LoadCameraConfig) -> Array:
    """T_base_camera, float64 [4, 4]: under the tool, looking straight up, the picture's right along base +x."""
    pose = np.eye(4)
    pose[:3, 3] = T_base_tool[:3, 3] - [0.0, 0.0, config.below_m]
    return pose


def above_camera_pose(T_base_tool: Array, config: LoadCameraConfig) -> Array:
    """T_base_camera, float64 [4, 4], of the second camera: it looks at the middle of the lips, from above and from
    beyond the tool as the arm sees it, the picture's right along base +y."""
    return look_at(T_base_tool[:3, 3], config.above_m, config.above_tilt_rad, 0.0, math.pi / 2)


def _picture(
    load: Load,
    cell: CellConfig,
    T_base_camera: Array,
    turn: Array,
    rng: np.random.Generator,
    sensor: SensorModelConfig,
    config: LoadCameraConfig,
    stamp_s: float,
    camera_id: str,
) -> LoadView:
    """turn: from base_link to the base that the picture is made in."""
    K = intrinsics(config.width, config.height, hfov_of_aspect(config.width, config.height))
    camera = CameraView(config.width, config.height, K, turn @ T_base_camera)
    poses = turn @ load.poses.reshape(-1, 4, 4)
    pile = Pile(load.parcels, poses, WorkspaceConfig(centre_m=(0.0, 0.0)))
    tool = _tool_surfaces(cell.tool, turn @ load.T_base_tool)
    view = render(pile, camera, _lamps(config), Background(tool, "tool"))
    seen = spoil(view, camera, rng, sensor, stamp_s=stamp_s)
    frame = Frame(seen.rgb, seen.depth, seen.K, T_base_camera, stamp_s, camera_id=camera_id)
    return LoadView(frame, load.T_base_tool)


def _lamps(config: LoadCameraConfig) -> Lighting:
    """Two panels beside the camera, and what the hall gives."""
    white = np.ones(3, dtype=np.float32)
    lamps = tuple(Light(np.array([x, 0.1, config.below_m]), 0.10, 0.45 * white) for x in (-0.45, 0.45))
    return Lighting(lamps, sky=0.45 * white, ground=0.12 * white)


def _tool_surfaces(tool: ToolConfig, T: Array) -> tuple[Surface, ...]:
    """Plate, stem and cups at a tool pose T."""
    dark = Material(np.full((8, 8, 3), 70, dtype=np.uint8), roughness=0.6, specular=0.4)
    rubber = Material(np.full((8, 8, 3), 40, dtype=np.uint8), roughness=0.9, specular=0.1)
    boxes = [box((-x, -y, -top), (x, y, -bottom)) for x, y, bottom, top in tool.boxes_m if top > bottom]
    cups = [_cylinder(centre, tool.cup_radius_m, tool.plate_offset_m) for centre in tool.cups_m]
    return (*(Surface(_placed(m, T), dark) for m in boxes), *(Surface(_placed(m, T), rubber) for m in cups))


def _cylinder(centre: Array, radius_m: float, height_m: float) -> Mesh:
    """A closed cylinder from the lip plane up to the plate, in the tool frame."""
    angle = np.arange(_CUP_SIDES) * 2 * math.pi / _CUP_SIDES
    ring = np.stack([radius_m * np.cos(angle), radius_m * np.sin(angle), np.zeros(_CUP_SIDES)], axis=1) + centre
    top = ring - [0.0, 0.0, height_m]
    vertices = np.concatenate([ring, top, [centre], [centre - [0.0, 0.0, height_m]]]).astype(np.float32)
    i, j = np.arange(_CUP_SIDES), (np.arange(_CUP_SIDES) + 1) % _CUP_SIDES
    n, lip, back = _CUP_SIDES, np.full(_CUP_SIDES, 2 * _CUP_SIDES), np.full(_CUP_SIDES, 2 * _CUP_SIDES + 1)
    faces = [(i, i + n, j), (j, i + n, j + n), (lip, i, j), (back, j + n, i + n)]
    triangles = np.concatenate([np.stack(face, axis=1) for face in faces]).astype(np.int32)
    return Mesh(vertices, triangles, np.zeros((len(triangles), 3, 2), dtype=np.float32))


def _placed(mesh: Mesh, T: Array) -> Mesh:
    R, t = T[:3, :3].astype(np.float32), T[:3, 3].astype(np.float32)
    return Mesh(mesh.vertices @ R.T + t, mesh.triangles, mesh.uv)
