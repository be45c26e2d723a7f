"""The suction tool of one to eight cups and the cell around it, as configuration with units.

Tool frame: origin in the middle of the cup lips' plane, +z out of the cups towards the parcel (the direction of
approach), +x along the plate's longer side. A tool pose is T_base_tool.
"""

from __future__ import annotations

import math
from itertools import combinations

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from robin_perception.core.config import StrictConfig

GRAVITY_MPS2 = 9.81
MAX_CUPS = 8  # a cup mask has eight bits


def _two_by_four() -> tuple[tuple[float, float], ...]:
    return tuple((x, y) for y in (-0.030, 0.030) for x in (-0.072, -0.024, 0.024, 0.072))


class ToolConfig(StrictConfig):
    """Geometry and pneumatics. Cup i, in the order of ``cup_centres_m``, is bit i of a cup mask."""

    cup_centres_m: tuple[tuple[float, float], ...] = Field(
        default_factory=_two_by_four,
        min_length=1,
        max_length=MAX_CUPS,
        description="x, y of each cup in the tool frame; the default is two rows of four, x ascending, row y < 0 first",
    )
    cup_radius_m: float = Field(0.015, gt=0.003, le=0.06, description="lip radius")
    bellows_travel_m: float = Field(0.012, ge=0.0, le=0.05, description="how far a cup yields along z")
    bellows_stiffness_npm: float = Field(600.0, gt=0, le=20000)
    bellows_tilt_rad: float = Field(0.26, ge=0, le=0.8, description="how far a lip can follow a tilted face")
    vacuum_pa: float = Field(60_000.0, gt=0, le=101_325, description="pressure difference at a perfect seal")
    friction: float = Field(0.5, gt=0, le=2.0)
    plate_half_size_m: tuple[float, float] = (0.098, 0.056)
    plate_offset_m: float = Field(0.045, gt=0, le=0.3, description="plate's face above the lip plane, along -z")
    plate_thickness_m: float = Field(0.050, gt=0, le=0.5, description="plate with manifold; the stem rises from it")
    stem_half_size_m: tuple[float, float] = (0.045, 0.045)
    body_height_m: float = Field(0.25, gt=0, le=1.0, description="plate and stem together, up to the arm's flange")

    @model_validator(mode="after")
    def _check(self) -> ToolConfig:
        for (i, a), (j, b) in combinations(enumerate(self.cup_centres_m), 2):
            if math.dist(a, b) < 2 * self.cup_radius_m:
                raise ValueError(
                    f"cup_centres_m: the lips of cups {i} and {j} overlap, cup_radius_m {self.cup_radius_m}"
                )
        if self.plate_thickness_m > self.body_height_m:
            raise ValueError(f"plate_thickness_m {self.plate_thickness_m} is above body_height_m {self.body_height_m}")
        if any(stem > plate for stem, plate in zip(self.stem_half_size_m, self.plate_half_size_m, strict=True)):
            raise ValueError("stem_half_size_m must not be above plate_half_size_m")
        return self

    @property
    def boxes_m(self) -> tuple[tuple[float, float, float, float], ...]:
        """Plate and stem, each (half x, half y, bottom, top): heights above the lip plane, along -z, metres."""
        bottom, top = self.plate_offset_m, self.plate_offset_m + self.body_height_m
        middle = bottom + self.plate_thickness_m
        return (*self.plate_half_size_m, bottom, middle), (*self.stem_half_size_m, middle, top)

    @property
    def cup_count(self) -> int:
        return len(self.cup_centres_m)

    @property
    def cups_m(self) -> NDArray[np.float64]:
        """Cup centres in the tool frame, float64 [cup_count, 3], metres."""
        xy = np.asarray(self.cup_centres_m, dtype=np.float64)
        return np.concatenate([xy, np.zeros((self.cup_count, 1))], axis=1)

    @property
    def cup_area_m2(self) -> float:
        return math.pi * self.cup_radius_m**2

    @property
    def cup_force_n(self) -> float:
        """Holding force V of one perfectly sealed cup, newtons (V = dp * A)."""
        return self.vacuum_pa * self.cup_area_m2


class MotionConfig(StrictConfig):
    """What the cell does with a grasp, in the order in which it happens. The planner's odds hold for this motion; its
    accelerations are the planner's load cases. The simulated arm moves by it, and every ``GraspPlan`` message tells it.
    """

    approach_m: float = Field(0.10, gt=0, le=0.5, description="straight way in along the tool's +z, up to the contact")
    approach_speed_mps: float = Field(0.4, gt=0, le=2)
    approach_accel_mps2: float = Field(4.0, gt=0, le=30)
    vacuum_lead_m: float = Field(
        0.10, ge=0, le=0.5, description="the grasp's valves open this far before the contact, so that first lips hold"
    )
    press_m: float = Field(0.006, ge=0, le=0.03, description="overtravel into the bellows at contact")
    stop_force_n: float = Field(120.0, gt=0, le=2000, description="the arm stops approaching at this contact force")
    dwell_s: float = Field(
        0.14, ge=0, le=2, description="stand with open valves before the lift; cups that found no face yet may seal"
    )
    follow_m: float = Field(
        0.012, ge=0, le=0.1, description="where no cup holds after that, how far the tool follows the parcel along +z"
    )
    follow_step_m: float = Field(0.003, gt=0, le=0.05, description="by steps of this, each with a share of the dwell")
    lift_m: float = Field(0.50, gt=0, le=1.5)
    lift_speed_mps: float = Field(0.8, gt=0, le=3)
    lift_accel_mps2: float = Field(3.0, gt=0, le=20)
    transfer_m: float = Field(0.9, gt=0, le=3)
    transfer_speed_mps: float = Field(1.5, gt=0, le=5)
    transfer_accel_mps2: float = Field(5.0, gt=0, le=30)
    full_accel_weight_n: float = Field(
        20.0, gt=0, le=1000, description="weighed after the lift; a heavier load is carried with less acceleration"
    )
    accel_ramp_s: float = Field(
        0.2, ge=0, le=1, description="build-up of the acceleration of lift and transfer; 5 m/s² in 0.2 s is 25 m/s³"
    )
    transfer_axis_xy: tuple[float, float] = Field(
        (0.0, 1.0), description="direction in base_link, of any length, from the pile to the place station"
    )
    cycle_overhead_s: float = Field(1.2, ge=0, le=30, description="approach, vacuum, place, return; for picks per hour")

    def transfer_accel_of(self, weight_n: float) -> float:
        """Acceleration of the transfer, m/s²: in full up to ``full_accel_weight_n``, then with the same force."""
        return self.transfer_accel_mps2 * min(1.0, self.full_accel_weight_n / max(weight_n, 1e-9))


class WorkspaceConfig(StrictConfig):
    """Where parcels lie, in base_link (z up, metres). The belt's surface is z = belt_z_m."""

    container: str = Field("belt", pattern="^(belt|tote)$")
    centre_m: tuple[float, float] = (0.75, 0.0)
    size_m: tuple[float, float] = (0.90, 0.70)
    belt_z_m: float = 0.0
    wall_height_m: float = Field(0.0, ge=0, le=0.6, description="0 for a belt")
    wall_thickness_m: float = Field(0.006, gt=0, le=0.05)
    reach_min_m: float = Field(0.25, ge=0, le=2, description="horizontal distance of the tool from base_link's z axis")
    reach_max_m: float = Field(1.40, gt=0, le=3)


class CellConfig(StrictConfig):
    """The whole cell's geometry: what `--cell FILE` reads."""

    tool: ToolConfig = ToolConfig()
    motion: MotionConfig = MotionConfig()
    workspace: WorkspaceConfig = WorkspaceConfig()


def tote_workspace() -> WorkspaceConfig:
    """An 80 x 60 cm Euro container, 22 cm high, on the belt: the smallest that a tool 20 cm wide can clear out."""
    return WorkspaceConfig(container="tote", size_m=(0.80, 0.60), wall_height_m=0.22)


def mask_to_cups(mask: int) -> tuple[int, ...]:
    """Cup indices of an 8-bit cup mask, ascending."""
    return tuple(i for i in range(MAX_CUPS) if mask >> i & 1)


def cups_to_mask(cups: tuple[int, ...]) -> int:
    return sum(1 << i for i in cups)
