"""What the tool of the simulated cell measures in the course of a pick: vacuum of each cup, and weight."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from robin_grasp.picks.traces import PHASES, PickTraces
from robin_sim.gripper import Gripper
from robin_sim.pick_config import PickConfig


class ToolSensors:
    """A pressure sensor in each cup's line and a force sensor above the tool, read ``trace_rate_hz`` times a second.

    A line's pressure follows the seal's steady one as a first-order lag, and falls to nothing once the lip is off.
    """

    def __init__(self, gripper: Gripper, config: PickConfig) -> None:
        self._gripper, self._config = gripper, config
        self._pressure = np.zeros(gripper.tool.cup_count)
        self._last_s = gripper.world.data.time
        self._next_s = self._last_s
        self._vacuum: list[NDArray[np.float64]] = []
        self._weight: list[float] = []
        self._marks: dict[str, int] = {}

    def sample(self, phase: str) -> None:
        """After a step of the physics."""
        now_s = self._gripper.world.data.time
        target = self._gripper.pressures_pa()
        config, step_s = self._config, now_s - self._last_s
        time_s = np.where(target > 0, config.gripper.vacuum_time_s, config.vent_time_s)
        self._pressure += (target - self._pressure) * (1.0 - np.exp(-step_s / time_s))
        self._last_s = now_s
        if now_s < self._next_s:
            return
        self._next_s += 1.0 / config.trace_rate_hz
        self._marks.setdefault(phase if phase in PHASES else PHASES[0], len(self._weight))
        self._vacuum.append(self._pressure.copy())
        self._weight.append(-float(self._gripper.reaction_n()[2]))

    def traces(self, rng: np.random.Generator | None) -> PickTraces:
        """All that was read so far. rng: of the sensors' noise; None for none."""
        shape = (len(self._weight), len(self._pressure))
        vacuum, weight = np.array(self._vacuum).reshape(shape), np.array(self._weight)
        if rng is not None:
            vacuum = vacuum + self._config.vacuum_noise_pa * rng.normal(size=vacuum.shape)
            weight = weight + self._config.weight_noise_n * rng.normal()
            weight = weight + self._config.trace_noise_n * rng.normal(size=weight.shape)
        return PickTraces(
            self._config.trace_rate_hz, vacuum.astype(np.float32), weight.astype(np.float32), dict(self._marks)
        )
