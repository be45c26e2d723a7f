"""The data that parcels, piles, rendering and suction physics share. No behaviour, no MuJoCo, no Open3D."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

import numpy as np
from numpy.typing import NDArray

from robin_grasp.tool import WorkspaceConfig


class ParcelKind(str, Enum):
    """A parcel's kind is the name of its class: what data sets are labelled with, and a bundle trained for."""

    CARTON = "carton"
    FLAT_MAILER = "flat_mailer"
    PADDED_MAILER = "padded_mailer"
    POLY_BAG = "poly_bag"
    TUBE = "tube"


KINDS = tuple(kind.value for kind in ParcelKind)


@dataclass(frozen=True)
class Mesh:
    """Triangle mesh in the parcel's frame (origin at the box centre, metres).

    vertices float32 [V, 3]; triangles int32 [T, 3], counter-clockwise seen from outside; uv float32 [T, 3, 2] in [0,
    1], v = 0 at the texture's top row.
    """

    vertices: NDArray[np.float32]
    triangles: NDArray[np.int32]
    uv: NDArray[np.float32]


@dataclass(frozen=True)
class Material:
    """albedo: uint8 [h, w, 3] sRGB texture. roughness 0 mirror .. 1 matt. specular: strength of the highlight, 0..1.
    transmission: 0 opaque .. 1 clear film (depth cameras see through or lose it). mirror: share of what stands before
    it that it throws back as an image, for polished floors and walls."""

    albedo: NDArray[np.uint8]
    roughness: float
    specular: float
    transmission: float = 0.0
    mirror: float = 0.0


@dataclass(frozen=True)
class CollisionGeom:
    """One MuJoCo geom in the parcel's frame. type: box (half sizes) | cylinder | capsule (radius, half length, along
    local z)
    | ellipsoid (semi-axes)."""

    type: str
    size_m: tuple[float, float, float]
    position_m: tuple[float, float, float] = (0.0, 0.0, 0.0)
    quaternion_wxyz: tuple[float, float, float, float] = (1.0, 0.0, 0.0, 0.0)


@dataclass(frozen=True)
class Parcel:
    """One parcel: what it looks like, what it weighs, what a cup finds on it.

    size_m: outer x, y, z; z is the thin axis for mailers and bags, x the long axis for tubes.
    com_offset_m: centre of mass in the parcel's frame. porosity: 0 airtight .. 1 no vacuum holds.
    surface_roughness_m: RMS of texture that is finer than the mesh, under a lip. compliance_m: how far the skin yields
    to a lip (a soft mailer follows the lip, a carton does not). friction: sliding, against belt and other parcels.
    variant: e.g. "white", "grey", "black", "clear" for bags, print name for cartons. kind: what its shape and skin are
    like; kind_name: its class in labels, another one for kinds of a scenario's own.
    """

    kind: ParcelKind
    variant: str
    size_m: tuple[float, float, float]
    mass_kg: float
    com_offset_m: tuple[float, float, float]
    friction: float
    porosity: float
    surface_roughness_m: float
    compliance_m: float
    mesh: Mesh
    material: Material
    collision: tuple[CollisionGeom, ...]
    tags: frozenset[str] = frozenset()
    own_kind: str = ""

    @property
    def kind_name(self) -> str:
        return self.own_kind or self.kind.value


@dataclass(frozen=True)
class Pile:
    """Parcels at rest. poses: float64 [N, 4, 4], T_base_parcel. arrangement: how it was made, e.g. "tumbled", "flush",
    "stacked"."""

    parcels: tuple[Parcel, ...]
    poses: NDArray[np.float64]
    workspace: WorkspaceConfig
    arrangement: str = "tumbled"
    tags: frozenset[str] = frozenset()


@dataclass(frozen=True)
class RenderedView:
    """Noise-free view. rgb uint8 [H,W,3]; depth float32 [H,W] m, 0 where no hit; labels uint16 [H,W], 0 background,
    i+1 parcel i; normals float32 [H,W,3] in the camera frame; visible_fraction float32 [N] of each parcel's
    silhouette."""

    rgb: NDArray[np.uint8]
    depth: NDArray[np.float32]
    labels: NDArray[np.uint16]
    normals: NDArray[np.float32]
    visible_fraction: NDArray[np.float32]
    extras: dict[str, NDArray[np.float32]] = field(default_factory=dict)
