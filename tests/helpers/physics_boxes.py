"""Plain boxes with known mass, centre of mass and skin, for physics with known answers."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from robin_grasp.tool import WorkspaceConfig
from robin_sim.model import CollisionGeom, Material, Mesh, Parcel, ParcelKind, Pile

CENTRE = 0.75
_SIDES = [
    [0, 1, 3], [0, 3, 2], [4, 6, 7], [4, 7, 5], [0, 4, 5], [0, 5, 1],
    [2, 3, 7], [2, 7, 6], [0, 2, 6], [0, 6, 4], [1, 5, 7], [1, 7, 3],
]  # fmt: skip


def box(
    size_m: tuple[float, float, float] = (0.3, 0.3, 0.1),
    mass_kg: float = 1.0,
    porosity: float = 0.0,
    friction: float = 0.5,
) -> Parcel:
    half = np.asarray(size_m) / 2
    corners = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)]) * half
    mesh = Mesh(corners.astype(np.float32), np.array(_SIDES, np.int32), np.zeros((12, 3, 2), np.float32))
    return Parcel(
        kind=ParcelKind.CARTON,
        variant="plain",
        size_m=size_m,
        mass_kg=mass_kg,
        com_offset_m=(0.0, 0.0, 0.0),
        friction=friction,
        porosity=porosity,
        surface_roughness_m=0.0,
        compliance_m=0.0,
        mesh=mesh,
        material=Material(np.zeros((2, 2, 3), np.uint8), 1.0, 0.0),
        collision=(CollisionGeom("box", (float(half[0]), float(half[1]), float(half[2]))),),
    )


def pile_of(*items: tuple[Parcel, tuple[float, float, float]]) -> Pile:
    """Boxes with the given bottom-centre positions (x, y relative to the workspace's centre; z of the underside)."""
    poses = np.tile(np.eye(4), (len(items), 1, 1))
    for pose, (parcel, (x, y, z)) in zip(poses, items, strict=True):
        pose[:3, 3] = (CENTRE + x, y, z + parcel.size_m[2] / 2)
    return Pile(tuple(parcel for parcel, _ in items), poses, WorkspaceConfig(size_m=(1.6, 1.6)))


def tool_down(x: float, y: float, z: float) -> NDArray[np.float64]:
    """Tool pointing straight down with its origin at (x, y, z) relative to the workspace's centre; tool x = base x."""
    pose = np.diag([1.0, -1.0, -1.0, 1.0])
    pose[:3, 3] = (CENTRE + x, y, z)
    return pose
