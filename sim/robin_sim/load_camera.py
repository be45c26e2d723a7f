"""A look at the load: an RGB-D camera under the place station that looks up at what hangs on the tool.

The arm brings every load over the camera, which therefore stands under the tool here, wherever the transfer ended.

The picture is made in a base turned upside down, in which the camera looks down at the load, so that light and exposure
are those of every other picture; the frame that comes out of it is in base_link.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from robin_grasp.picks.traces import LoadView
from robin_grasp.tool import CellConfig, ToolConfig, WorkspaceConfig
from robin_perception.core.config import StrictConfig
from robin_perception.core.frame import Frame
from robin_sim.backgrounds import Background, Surface, box
from robin_sim.cameras import CameraView, hfov_of_aspect, intrinsics
from robin_sim.lighting import Light, Lighting
from robin_sim.model import Material, Mesh, Pile
from robin_sim.pick import Load
from robin_sim.render import render
from robin_sim.sensor import SensorModelConfig, spoil

Array = NDArray[np.float64]
CAMERA_ID = "load_camera"
_UPSIDE_DOWN = np.diag([1.0, -1.0, -1.0, 1.0])
_CUP_SIDES = 16


class LoadCameraConfig(StrictConfig):
    """Where the camera stands, and how long the cell has for what it shows.

    The look costs no time: the tool does not stand for it. The load is then lowered to its place, and only before it
    is let go must it be known what hangs there.
    """

    width: int = Field(512, ge=160, le=4096)
    height: int = Field(384, ge=120, le=4096)
    below_m: float = Field(0.80, gt=0.3, le=3, description="under the lips of the tool")
    lower_s: float = Field(
        0.30, ge=0, le=5, description="from the look until the load is let go, and back up with one that is not"
    )


def look_at_load(
    load: Load,
    cell: CellConfig,
    rng: np.random.Generator,
    sensor: SensorModelConfig,
    config: LoadCameraConfig,
    stamp_s: float = 0.0,
) -> LoadView:
    """What the load camera sees of a load. Its mount, lamps and sensor are the station's own: faults of the camera over
    the pile are not its faults."""
    T_base_camera = load_camera_pose(load.T_base_tool, config)
    # In the turned base the lips of the tool are near z = 0, where belts are.
    turn = _UPSIDE_DOWN.copy()
    turn[:3, 3] = -_UPSIDE_DOWN[:3, :3] @ (T_base_camera[:3, 3] + np.array([0.0, 0.0, config.below_m]))
    K = intrinsics(config.width, config.height, hfov_of_aspect(config.width, config.height))
    camera = CameraView(config.width, config.height, K, turn @ T_base_camera)
    poses = turn @ load.poses.reshape(-1, 4, 4)
    pile = Pile(load.parcels, poses, WorkspaceConfig(centre_m=(0.0, 0.0)))
    tool = _tool_surfaces(cell.tool, turn @ load.T_base_tool)
    view = render(pile, camera, _lamps(config), Background(tool, "tool"))
    seen = spoil(view, camera, rng, sensor, stamp_s=stamp_s)
    frame = Frame(seen.rgb, seen.depth, seen.K, T_base_camera, stamp_s, camera_id=CAMERA_ID)
    return LoadView(frame, load.T_base_tool)


def load_camera_pose(T_base_tool: Array, config: LoadCameraConfig) -> Array:
    """T_base_camera, float64 [4, 4]: under the tool, looking straight up, the picture's right along base +x."""
    pose = np.eye(4)
    pose[:3, 3] = T_base_tool[:3, 3] - [0.0, 0.0, config.below_m]
    return pose


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
