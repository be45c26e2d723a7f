"""The planner's fitted and internal figures: read from a versioned file with its provenance, never from code.

What a user turns is ``PlannerConfig``. These figures were fitted to outcomes of the simulated cell, or set by its
geometry; changing one means judging the planner anew. Classes of parcels are known by their names in ``classes``; a
class that the file does not know gets ``unknown_class``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from robin_perception.core.config import StrictConfig, load_config

SHIPPED_FIT = Path(__file__).parent / "data" / "planner_fit.yaml"
FIT_VERSION = 1

Floats = NDArray[np.float64]


class Provenance(StrictConfig):
    """Where some of the figures are from. figures: sections or ``section.key``."""

    figures: tuple[str, ...] = Field(min_length=1)
    data: str = Field(min_length=1, description="what they were fitted to or taken from")
    method: str = Field(min_length=1)
    made: str = Field(pattern=r"^\d{4}-\d{2}-\d{2}$", description="day, year first")


class ClassFit(StrictConfig):
    """What is expected of a class of parcels.

    shape: a box is as thick as it stands above what lies below and shows planar faces; what is flat stands on an edge
    where it looks narrow; what is round is as thick as it looks wide; of any shape: only its height is believed.
    """

    shape: Literal["box", "flat", "round", "any"]
    seal_logit: float = Field(ge=-20, le=20, description="logit of P(seal) under ideal conditions")
    vacuum_share: float = Field(gt=0, le=1, description="expected pressure difference over the pump's: card leaks")
    density_kgpm3: float = Field(gt=0, le=20000)
    thickness_m: float = Field(gt=0, le=2, description="expected if flat, else the most that is believed")
    mass_log_sigma: float = Field(gt=0, le=3, description="1-sigma of ln(mass)")


class SurfaceFit(StrictConfig):
    """How the depth image becomes surfaces. Noise is Gaussian in inverse depth (stereo: Z RMS = Z^2 * s / (f B))."""

    working_width_px: int = Field(ge=160, le=2048, description="the frame is thinned to about this width")
    least_inverse_depth_noise_per_m: float = Field(gt=0, le=0.1, description="floor of the estimate, 1/m")
    most_inverse_depth_noise_per_m: float = Field(gt=0, le=1.0, description="ceiling of the estimate, 1/m")
    slope_noise: float = Field(ge=0, le=10, description="error of a window's slope, in depth sigmas over its half side")
    offset_noise: float = Field(ge=0, le=10, description="error of a wide window's height, in depth sigmas")
    wide_window_m: float = Field(gt=0.005, le=0.1, description="half side of the window for a cup's local slope")
    contact_window_m: float = Field(gt=0.005, le=0.2, description="half side of the window for a contact's plane")
    level_prior: float = Field(
        ge=0,
        le=10,
        description="parcels lie level unless seen otherwise: tilts are shrunk by this many of their sigmas",
    )
    plane_samples: int = Field(ge=32, le=4096, description="pixels per parcel for its robust plane")
    same_plane_offset_m: float = Field(gt=0, le=0.05)
    same_plane_angle_rad: float = Field(gt=0, le=0.8)


class FacetFit(StrictConfig):
    """When a mask is split into several planar faces. Only what may be a box has faces."""

    least_box_probability: float = Field(ge=0, le=1)
    window_m: float = Field(gt=0.005, le=0.2, description="half side of the windows that hypotheses come from")
    inlier_sigmas: float = Field(gt=0, le=10)
    least_angle_rad: float = Field(gt=0, le=1.6, description="between two faces")
    least_share: float = Field(gt=0, le=1, description="of the mask's samples, for a second face")
    least_samples: int = Field(ge=6, le=1000)
    smooth_px: int = Field(ge=3, le=5, description="median filter over the assignment, odd")
    trim_sigmas: float = Field(ge=0, le=20, description="a pixel this far below its face is none of it ...")
    trim_m: float = Field(ge=0, le=0.1, description="... if it is this far below, too")
    trim_hole_px: int = Field(ge=1, description="missing depth at the mask's edge, this large, is a side")
    trim_most: float = Field(ge=0, le=1, description="share of the mask; beyond, the plane is wrong, not the rim")


class SamplingFit(StrictConfig):
    """Which tool poses are tried. Poses are cut twice, by cheap terms, before the full evaluation."""

    contacts_per_instance: int = Field(ge=1, le=64)
    contact_spacing_m: float = Field(gt=0.005, le=0.2)
    poses_per_contact: int = Field(ge=1, le=200)
    poses_per_instance: int = Field(ge=1, le=400, description="poses whose seals and clearance are computed")
    full_poses_per_instance: int = Field(ge=1, le=64, description="poses for which every cup subset is weighed")
    upright_from_rad: float = Field(ge=0, le=1.6, description="beside walls, faces steeper are also tried with ...")
    steep_from_rad: float = Field(ge=0, le=1.6, description="... and everywhere those steeper than this, with ...")
    upright_rad: float = Field(ge=0, le=0.8, description="... a tool that stands this much more upright")


class SealFit(StrictConfig):
    """P(seal) of a cup is logistic: the class's ``seal_logit`` minus penalties, each a slope times an excess.

    edge: how far the lip's outside comes within ``edge_margin_m`` of the mask's edge. rms: surface roughness beyond the
    depth noise under the lip. tilt: local slope against the tool beyond ``tilt_free`` of the bellows' range. gap:
    height of the surface against the lip plane beyond ``gap_free_m``. holes: share of missing depth beyond
    ``holes_free``."""

    edge_margin_m: float = Field(ge=0, le=0.05)
    edge_logit_per_m: float = Field(ge=0)
    rms_free: float = Field(
        ge=0, le=10, description="residual that costs nothing, in sigmas of the frame's depth noise"
    )
    rms_logit_per_m: float = Field(ge=0)
    tilt_free: float = Field(ge=0, le=1, description="share of the bellows' tilt range that costs nothing")
    tilt_logit_per_rad: float = Field(ge=0)
    gap_free_m: float = Field(ge=0, le=0.05)
    gap_logit_per_m: float = Field(ge=0)
    most_holes: float = Field(ge=0, le=1, description="more missing depth than this: nothing is known there")
    bridge_box_probability: float = Field(
        ge=0, le=1, description="what is a box this surely goes on as a plane where depth is missing"
    )
    bridge_depth_share: float = Field(ge=0, le=1, description="... if this much of its depth is there")
    holes_free: float = Field(ge=0, le=1)
    holes_logit: float = Field(ge=0)


class WrenchFit(StrictConfig):
    """Load cases and limits (``robin_grasp.planner.wrench``), with V = dp * A per cup."""

    peel_moment_share: float = Field(
        gt=0, le=1, description="of the moment r (V - t) at which a rigid lip lifts at its edge"
    )
    support_weight: float = Field(ge=0, le=1, description="belief that a parcel rests on the neighbour it hides")
    least_mass_kg: float = Field(gt=0, le=5)
    com_sigma_share: float = Field(ge=0, le=0.5, description="1-sigma of the COM, share of the parcel's sides")
    hold_log_sigma: float = Field(gt=0, le=2, description="1-sigma of ln(model error), beside the mass")


class MultiPickFit(StrictConfig):
    """Cups that touch a neighbour, and masks that may hold two parcels."""

    capture_probability: float = Field(ge=0, le=1, description="P(the neighbour comes along | the lip touches it)")
    merge_boundary: float = Field(gt=0, le=1, description="boundary probability of a ridge inside a mask")
    merge_edge_band_m: float = Field(ge=0, le=0.2, description="the mask's rim, where boundary is expected")
    merge_least_part: float = Field(gt=0, le=0.5, description="share of the mask that each part must have")
    merge_step_m: float = Field(gt=0, le=0.2, description="height step between the parts that proves two parcels")
    background_merged: float = Field(
        ge=0, le=50, description="P(the mask holds two parcels) per background in its rectangle; 0.4 at most"
    )
    boundary_weight: float = Field(ge=0, le=1, description="P(multi) per unit of interior boundary under the cups")


class OrderFit(StrictConfig):
    """i rests on j when i is higher across their shared boundary by more than max(sigmas * sigma_z, step_m)."""

    step_m: float = Field(gt=0, le=0.1)
    sigmas: float = Field(ge=0, le=10)
    reach_m: float = Field(gt=0, le=0.1, description="pixels this far on either side of a boundary are compared")
    least_boundary_m: float = Field(ge=0, le=0.5)
    lone_touch: float = Field(
        ge=0, le=1, description="share of the outline with neighbours below which a parcel lies alone"
    )
    lone_free: float = Field(ge=0, le=1, description="least P(free) of a parcel that lies alone")
    background_free: float = Field(
        ge=0, le=1, description="share of a mask's rectangle that background shows in around one parcel"
    )
    whole_fill: float = Field(gt=0, le=1, description="a mask that fills its rectangle so far is whole")
    overlap_free: float = Field(
        ge=0, le=1, description="share of a mask's rectangle that others may show in for other reasons"
    )
    free_visible_fraction: float = Field(gt=0, le=1, description="seen as a whole: nothing can lie on it")
    free_logit: float = Field(description="logit of P(free) of a parcel just below free_visible_fraction")
    hidden_logit: float = Field(ge=0, description="logits lost per square root of the hidden fraction")
    overlap_logit: float = Field(ge=0, description="logits lost per unit of overlap (share of the rectangle)")
    cover_length_logit: float = Field(ge=0, description="logits lost per unit of cover (share of the outline)")


class ClearanceFit(StrictConfig):
    """The tool against what the depth image shows and against the tote's walls."""

    sample_spacing_m: float = Field(gt=0.002, le=0.05)
    wall_noise_m: float = Field(ge=0, le=0.2, description="surface seen this near a wall is taken for the wall")
    thicken_px: int = Field(
        ge=1, le=31, description="what is near the tool is thickened by this, odd: samples are that far apart"
    )
    hit_share: float = Field(ge=0, le=1, description="share of samples above the plate that makes a collision")
    carry_cost_per_m: float = Field(ge=0, description="-ln product per metre that the pile is too high for that")
    press_logit_per_m: float = Field(ge=0, description="cost of neighbours pushed by cups beyond the bellows")


class RankFit(StrictConfig):
    """Costs that say "-ln product" act on the product of the geometric odds (``ranker.GeometricRanker``)."""

    cup_cost: float = Field(ge=-0.1, le=1, description="per open cup; below 0 more cups are wanted")
    least_area_px: int = Field(ge=1, description="pixels of the thinned frame")
    odds_power: float = Field(
        gt=0, le=1, description="geometric P(clean) is its product to this power, fitted to outcomes"
    )
    tilt_free_rad: float = Field(ge=0, le=1.5, description="tool tilt that costs nothing")
    tilt_cost_per_rad: float = Field(ge=0, le=20, description="-ln product per tilt beyond: slopes shift when pushed")
    edge_on_aspect: float = Field(
        ge=0, le=1, description="flat goods that look narrower than this (short over long side) stand on an edge"
    )
    edge_on_cost: float = Field(ge=0, le=100, description="-ln product per aspect that they look narrower")
    lever_free_m: float = Field(ge=0, le=0.2, description="cups' middle to the centre of mass: no parcel tips yet")
    lever_cost_per_m: float = Field(
        ge=0, le=500, description="-ln product per lever beyond: drawn up askew, it tips and jams ..."
    )
    lever_cost_most: float = Field(ge=0, le=10, description="... up to this")
    narrow_m: float = Field(ge=0, le=1, description="a parcel narrower than this hangs from one row of cups ...")
    narrow_cost_per_m: float = Field(ge=0, le=500, description="... -ln product per metre that it is narrower")
    film_cost: float = Field(
        ge=0, le=100, description="-ln product where film's face was told, over the cups to the power 1.5, two at least"
    )
    cover_cost: float = Field(ge=0, le=50, description="-ln product where higher neighbours touch it, per share ...")
    cover_most: float = Field(ge=0, le=1, description="... of its outline, up to this")
    mask_quality_sure: float = Field(ge=0, le=1, description="masks of less quality are doubted")
    mask_doubt_cost: float = Field(ge=0, le=100, description="-ln product per quality that a mask lacks")
    failed_elsewhere: float = Field(
        ge=0, le=1, description="on the first estimate of poses near a failure: try another"
    )
    failed_discount: float = Field(ge=0, le=1, description="on the product of the parcel, per failure on it")
    failed_reach_m: float = Field(ge=0, le=0.5, description="a failure this near counts against the parcel")


class PlannerFit(StrictConfig):
    """All fitted figures of the planner. Every key must be given: a fit is a whole."""

    version: int = Field(ge=FIT_VERSION, le=FIT_VERSION, description="of the file's keys")
    name: str = Field(min_length=1, description="names this set of figures in records")
    provenance: tuple[Provenance, ...] = Field(min_length=1)
    classes: dict[str, ClassFit] = Field(min_length=1)
    unknown_class: ClassFit
    surface: SurfaceFit
    facets: FacetFit
    sampling: SamplingFit
    seal: SealFit
    wrench: WrenchFit
    multi: MultiPickFit
    order: OrderFit
    clearance: ClearanceFit
    rank: RankFit

    @property
    def digest(self) -> str:
        """Of all figures, the provenance included: twelve hexadecimal digits."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()[:12]

    def of_classes(self, names: Sequence[str]) -> ClassTable:
        """The figures of a scene's classes, in their order."""
        rows = [self.classes.get(name, self.unknown_class) for name in names]
        shape = np.array([row.shape for row in rows])
        return ClassTable(
            box=shape == "box",
            flat=shape == "flat",
            round=shape == "round",
            seal_logit=np.array([row.seal_logit for row in rows]),
            vacuum_share=np.array([row.vacuum_share for row in rows]),
            density_kgpm3=np.array([row.density_kgpm3 for row in rows]),
            thickness_m=np.array([row.thickness_m for row in rows]),
            mass_log_sigma=np.array([row.mass_log_sigma for row in rows]),
        )


@dataclass(frozen=True)
class ClassTable:
    """``ClassFit`` of C classes as arrays, each [C]; box, flat, round: bool, which shape each has."""

    box: NDArray[np.bool_]
    flat: NDArray[np.bool_]
    round: NDArray[np.bool_]
    seal_logit: Floats
    vacuum_share: Floats
    density_kgpm3: Floats
    thickness_m: Floats
    mass_log_sigma: Floats


def load_fit(path: Path) -> PlannerFit:
    """Raises RobinError INPUT_MISSING, CONFIG_UNREADABLE, CONFIG_UNKNOWN_KEY or CONFIG_OUT_OF_RANGE naming file and
    key."""
    return load_config(PlannerFit, path)


@cache
def shipped_fit() -> PlannerFit:
    return load_fit(SHIPPED_FIT)
