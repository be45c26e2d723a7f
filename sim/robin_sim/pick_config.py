"""How the simulated arm executes a pick, what its sensors are like, and how the truth of a pick is judged."""

from __future__ import annotations

from pydantic import Field

from robin_perception.core.config import StrictConfig
from robin_sim.gripper_config import GripperConfig
from robin_sim.physics import PhysicsConfig
from robin_sim.suction import SuctionConfig


class PickConfig(StrictConfig):
    """How the simulated arm executes a pick, and how its truth is judged."""

    physics: PhysicsConfig = PhysicsConfig(timestep_s=0.0025, sleep_speed_mps=0.004)
    gripper: GripperConfig = GripperConfig()
    suction: SuctionConfig = SuctionConfig()
    descend_m: float = Field(0.45, ge=0, le=2, description="vertical way in when the full approach is not free")
    short_approaches: tuple[float, ...] = Field((0.6, 0.35, 0.2), description="shares of approach_m tried then")
    blocked_m: float = Field(0.005, gt=0, le=0.1, description="stopped this far before the contact: blocked")
    touch_steps: int = Field(
        4, ge=1, le=100, description="time steps between looks at which cups seal while the tool presses"
    )
    late_seals: int = Field(
        2, ge=0, le=10, description="times in the dwell at which open cups without a seal try again"
    )
    weigh_s: float = Field(0.10, gt=0, le=2, description="hold after the lift while vacuum and weight are read")
    arrive_s: float = Field(0.06, ge=0, le=2)
    coarse_step_s: float = Field(0.004, gt=0, le=0.01, description="time step away from contact")
    resettle_step_s: float = Field(0.005, gt=0, le=0.01)
    resettle_cap_s: float = Field(2.0, gt=0, le=10)
    lifted_m: float = Field(0.05, gt=0, le=1, description="raised by this at the end of the lift counts as lifted")
    moved_m: float = Field(0.02, gt=0, le=1)
    repeatability_m: float = Field(0.0003, ge=0, le=0.01, description="1-sigma error of the arm's position")
    vacuum_noise_pa: float = Field(300.0, ge=0, le=10_000)
    weight_noise_n: float = Field(0.1, ge=0, le=10)
    trace_rate_hz: float = Field(50.0, gt=0, le=1000, description="samples of the tool's sensors per second")
    trace_noise_n: float = Field(
        0.15, ge=0, le=10, description="of one sample of the weight; vacuum_noise_pa of one cup"
    )
    vent_time_s: float = Field(0.02, gt=0, le=1, description="time constant of a cup that lost its seal")
    set_down_speed_mps: float = Field(0.25, gt=0, le=2, description="at which a load goes back down")
    set_down_accel_mps2: float = Field(1.0, gt=0, le=20)
    set_down_force_n: float = Field(10.0, gt=0, le=200, description="the load stands once it pushes back with this")
    vent_s: float = Field(0.15, ge=0, le=2, description="stand after cups were opened")
