"""Mechanics of the simulated tool's cups."""

from __future__ import annotations

from pydantic import Field

from robin_perception.core.config import StrictConfig


class GripperConfig(StrictConfig):
    """Mechanics of the cups that ToolConfig leaves open."""

    cup_mass_kg: float = Field(0.05, gt=0, le=1)
    stand_back_m: float = Field(0.006, ge=0, le=0.05, description="a closed cup's lip above an open one's upper stop")
    stretch_m: float = Field(0.002, ge=0, le=0.05, description="how far a cup's bellows draws out under load")
    bellows_damping_npsm: float = Field(12.0, ge=0, le=20, description="of a vented cup; cup mass / time step at most")
    draw_time_s: float = Field(0.12, gt=0, le=1, description="vacuum draws the bellows together within this")
    draw_force: float = Field(0.8, ge=0, lt=1, description="pull over V at which a bellows stops closing")
    open_time_s: float = Field(0.2, gt=0, le=5, description="a bellows at V opens within this if others carry less")
    side_stiffness_npm: float = Field(20_000.0, gt=0, le=1e6, description="of a lip on its parcel, every direction")
    stop_stiffness_npm: float = Field(40_000.0, gt=0, le=1e6, description="of a bellows that is drawn together")
    swing_damping_ps: float = Field(6.0, ge=0, le=50, description="loss of angular speed of a held parcel per second")
    max_bending_npm_per_rad: float = Field(60.0, gt=0, description="bending stiffness of a cup that cannot tilt")
    hold_damping_s: float = Field(0.02, ge=0, le=0.1, description="damping over stiffness of a held parcel")
    vacuum_time_s: float = Field(0.03, gt=0, le=1, description="time constant of evacuating a cup")
    stability: float = Field(0.8, gt=0, le=1.5, description="largest damping of a hold times the time step")
    slide_limit_m: float = Field(0.010, ge=0, le=0.1, description="a lip that has slid this far is off its seat")
    settle_share: float = Field(
        0.1, ge=0, le=1, description="of its bending and shear a lip sheds per step while drawn up"
    )
    force_filter_s: float = Field(0.006, ge=0, le=0.1, description="a peak must last about this long to break a seal")
