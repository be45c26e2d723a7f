"""The simulated arm: moves the tool along straight lines, and reads its sensors on the way."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import mujoco
import numpy as np
from numpy.typing import NDArray

from robin_grasp.tool import MotionConfig
from robin_sim.gripper import Gripper
from robin_sim.motion import Move
from robin_sim.physics import World
from robin_sim.pick_config import PickConfig
from robin_sim.suction import CupSeal
from robin_sim.tool_sensors import ToolSensors

Array = NDArray[np.float64]
UP = np.array([0.0, 0.0, 1.0])


@dataclass
class ArmRun:
    """State of one execution. Indices are into the pile before the pick."""

    world: World
    gripper: Gripper
    config: PickConfig
    motion: MotionConfig
    start: Array
    phase: str = "approach"
    stopped: bool = False
    approach_m: float = 0.0
    descent_m: float = 0.0
    blocked: dict[str, object] = field(default_factory=dict)
    seals: tuple[CupSeal, ...] = ()
    weights: list[float] = field(default_factory=list)
    sensors: ToolSensors = field(init=False)

    def __post_init__(self) -> None:
        self.sensors = ToolSensors(self.gripper, self.config)

    def step(self, position: Array, velocity: Array, acceleration: Array) -> None:
        self.gripper.drive(position, velocity, acceleration)
        mujoco.mj_step(self.world.model, self.world.data)
        self.gripper.monitor(self.phase)
        self.sensors.sample(self.phase)

    def follow(
        self,
        move: Move,
        phase: str,
        step_s: Callable[[float], float] | float,
        guarded: bool = False,
        on_touch: Callable[[float], None] | None = None,
    ) -> None:
        """Run one move.

        step_s: time step, or a function of the path length left. guarded: the way in, which stops at the force limit;
        any other move ends when nothing is held any more, for the tool then leaves on its own. on_touch: called with
        the path length left, every ``touch_steps`` steps while the tool feels something.
        """
        self.phase = phase
        model, origin = self.world.model, self.gripper.pose()[:3, 3].copy()
        time, count = 0.0, 0
        while time < move.duration_s and not self.stopped and (guarded or self.gripper.holds):
            path, speed, accel = move.at(time)
            model.opt.timestep = step_s(move.distance_m - path) if callable(step_s) else step_s
            self.step(origin + path * move.direction, speed * move.direction, accel * move.direction)
            time, count = time + model.opt.timestep, count + 1
            pressed_n = -float(self.gripper.reaction_n() @ move.direction)
            if guarded and pressed_n > self.motion.stop_force_n:
                self.stopped = True
            if on_touch and count % self.config.touch_steps == 0 and (pressed_n > 0 or self.gripper.holds):
                on_touch(move.distance_m - path)
            if count % 50 == 0:
                self.world.check_stable()
        if not self.stopped:
            self.step(origin + move.distance_m * move.direction, np.zeros(3), np.zeros(3))
        self.world.check_stable()

    def hold(self, seconds: float, phase: str, step_s: float) -> None:
        """Stand still."""
        self.phase = phase
        self.world.model.opt.timestep = step_s
        position = self.gripper.pose()[:3, 3].copy()
        for _ in range(round(seconds / step_s)):
            self.step(position, np.zeros(3), np.zeros(3))
            if phase == "weigh":
                self.weights.append(-float(self.gripper.reaction_n()[2]))


def lift_of(motion: MotionConfig) -> Move:
    return Move(UP, motion.lift_m, motion.lift_speed_mps, motion.lift_accel_mps2, motion.accel_ramp_s)


def transfer_of(motion: MotionConfig, direction: Array, weight_n: float) -> Move:
    """weight_n: as measured after the lift; the heavier, the gentler."""
    speed, accel = motion.transfer_speed_mps, motion.transfer_accel_of(weight_n)
    return Move(direction, motion.transfer_m, speed, accel, motion.accel_ramp_s)


def transfer_axis(motion: MotionConfig) -> Array:
    """Direction of the transfer, unit vector in base_link."""
    return np.array([*motion.transfer_axis_xy, 0.0]) / np.linalg.norm(motion.transfer_axis_xy)
