"""What a user of the planner turns, with units. Fitted figures stand in the fit file (``robin_grasp.planner.fit``)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, ValidationInfo, field_validator

from robin_grasp.plan import CupTrust, PlanBasis
from robin_grasp.planner.fit import PlannerFit, load_fit, shipped_fit
from robin_grasp.tool import MAX_CUPS, CellConfig
from robin_perception.core.config import StrictConfig, config_digest
from robin_perception.core.errors import Code, RobinError


class SamplingConfig(StrictConfig):
    """How far the tool may tilt, and how much of a plan is told."""

    max_tilt_rad: float = Field(1.25, gt=0, le=1.4, description="tool axis against straight down")
    grasps_per_instance: int = Field(2, ge=1, le=10, description="ranked grasps told of each parcel, at most")
    rejects_per_instance: int = Field(4, ge=1, le=50, description="examples of what was ruled out, per parcel")


class SealConfig(StrictConfig):
    """When a cup is opened."""

    least_probability: float = Field(0.35, ge=0, le=1, description="below: the cup stays closed")


class WrenchConfig(StrictConfig):
    """What the cups may be asked to hold."""

    enabled: bool = Field(True, description="off: whatever seals holds, for comparisons")
    most_mass_kg: float = Field(4.0, gt=0, le=50, description="heaviest parcel that is expected here")
    safety_factor: float = Field(1.5, ge=1, le=5, description="on the load, in the margin")
    least_margin: float = Field(
        0.4, ge=0, le=10, description="limit over load times safety factor, at the expected mass; below: not held"
    )


class MultiPickConfig(StrictConfig):
    """An open cup stays inside the target: lip plus ``veto_sigmas`` of the edge's position."""

    veto_sigmas: float = Field(2.0, ge=0, le=6, description="of the edge's position, between a lip and a neighbour")
    calibration_sigma_m: float = Field(0.0018, ge=0, le=0.05, description="1-sigma of tool against camera")


class OrderConfig(StrictConfig):
    """Who rests on whom."""

    enabled: bool = Field(True, description="off: every parcel counts as free, for comparisons")
    ban_visible_fraction: float = Field(0.45, ge=0, le=1, description="covered and seen less than this: not picked")


class ClearanceConfig(StrictConfig):
    """Room between the tool and what is around it."""

    margin_m: float = Field(0.006, ge=0, le=0.05, description="plate and stem to neighbours")
    wall_margin_m: float = Field(0.008, ge=0, le=0.1, description="lips, plate and stem to a tote's walls")
    carry_margin_m: float = Field(0.02, ge=0, le=0.3, description="free height below a lifted parcel on its way")


class RankConfig(StrictConfig):
    """utility = P(clean) - multi_cost * P(multi) - fail_cost * P(nothing delivered), all for one try."""

    multi_cost: float = Field(2.0, ge=0, le=20, description="two parcels lifted, in clean picks")
    fail_cost: float = Field(0.5, ge=0, le=20, description="nothing delivered, in clean picks")
    least_detection: float = Field(0.25, ge=0, le=1, description="parcels detected with less are left")
    most_other: float = Field(0.5, ge=0, le=1, description="P(no parcel) above: it is left, where the bundle tells")
    least_depth_share: float = Field(0.35, ge=0, le=1, description="valid depth in the mask; with less it is left")
    least_clean: float = Field(0.76, ge=0, le=1, description="P(clean) below: not worth a try")
    failed_radius_m: float = Field(0.025, ge=0, le=0.5, description="tool positions this near are the same try")
    failed_most: int = Field(2, ge=1, le=20, description="failures of one try before it is ruled out")


class EvidenceConfig(StrictConfig):
    """What a mask's outline must show to be taken for that of a thing."""

    least_edge_share: float = Field(0.72, ge=0, le=1, description="share of a mask's outline that is an edge")
    depth_step_m: float = Field(0.006, ge=0, le=0.1, description="step of depth that is an edge")
    colour_step: float = Field(12.0, ge=0, le=255, description="step of red, green or blue (of 255) that is an edge")


class ExploreConfig(StrictConfig):
    """For gathering outcomes: now and then a grasp other than the best is put first, drawn by its utility."""

    probability: float = Field(0.0, ge=0, le=1, description="how often")
    temperature: float = Field(0.02, gt=0, le=10, description="of the softmax over utilities")
    candidates: int = Field(20, ge=2, le=200, description="best grasps to draw from")


class PlannerConfig(StrictConfig):
    """All settings of the planner.

    fit: in YAML the path of a fit file, from the folder of the file that names it; records hold the figures themselves.
    """

    sampling: SamplingConfig = SamplingConfig()
    seal: SealConfig = SealConfig()
    wrench: WrenchConfig = WrenchConfig()
    multi: MultiPickConfig = MultiPickConfig()
    order: OrderConfig = OrderConfig()
    clearance: ClearanceConfig = ClearanceConfig()
    rank: RankConfig = RankConfig()
    evidence: EvidenceConfig = EvidenceConfig()
    explore: ExploreConfig = ExploreConfig()
    cup_health: tuple[float, ...] = Field(
        (),
        max_length=MAX_CUPS,
        description="share of the vacuum that each cup reaches: 1 sound, 0 not used; empty: all sound",
    )
    fit: PlannerFit = Field(default_factory=shipped_fit, description="fitted figures; default: those that are shipped")

    @field_validator("cup_health")
    @classmethod
    def _check_health(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        if not all(0.0 <= health <= 1.0 for health in value):
            raise ValueError("each must lie in 0..1")
        return value

    def shares(self, cups: CupTrust, cup_count: int) -> NDArray[np.float64]:
        """Share of the vacuum to expect of each of the tool's cups, float64 [cup_count]. Raises RobinError
        CUPS_MISMATCH where ``cups`` is of another tool."""
        if cups.shares and len(cups.shares) != cup_count:
            text = f"cup health knows {len(cups.shares)} cups, the tool has {cup_count}"
            raise RobinError(Code.CUPS_MISMATCH, text)
        return np.array(self.cup_health or (1.0,) * cup_count) * np.array(cups.shares or (1.0,) * cup_count)

    @field_validator("fit", mode="before")
    @classmethod
    def _read_fit(cls, value: Any, info: ValidationInfo) -> Any:
        if not isinstance(value, str):
            return value
        folder = Path((info.context or {}).get("source", "")).parent
        return load_fit(folder / Path(value).expanduser())


def plan_basis(planner: str, cell: CellConfig, config: PlannerConfig) -> PlanBasis:
    """What the plans of the planner of that name are made with."""
    thresholds = {
        "seal_least_probability": config.seal.least_probability,
        "wrench_least_margin": config.wrench.least_margin,
        "multi_veto_sigmas": config.multi.veto_sigmas,
        "max_tilt_rad": config.sampling.max_tilt_rad,
        "least_detection": config.rank.least_detection,
        "least_clean": config.rank.least_clean,
    }
    return PlanBasis(config_digest(cell, config, {"planner": planner}), thresholds)
