"""A camera that sends one picture for ever."""

from __future__ import annotations

from robin_perception.core.errors import Code, RobinError
from robin_perception.core.gate import FrozenWatch, GateConfig
from robin_perception.monitors.cause import Cause, Surroundings, Usual
from robin_perception.monitors.config import MonitorsConfig
from robin_perception.monitors.look import Look


class Frozen(Cause):
    """1 where the picture has been the very same, to the bit, too often; a sensor has noise."""

    name, code, unit = "frozen", Code.PICTURE_FROZEN, "pictures"
    default = Usual(0.0, 0.05), 0.5

    def __init__(self, config: MonitorsConfig) -> None:
        self._gate = GateConfig(frozen_after=config.frozen_after)
        super().__init__(config)

    def reset(self) -> None:
        self._watch = FrozenWatch(self._gate)

    def measure(self, look: Look, around: Surroundings) -> float | None:
        try:
            self._watch.check(look.frame)
        except RobinError:
            return 1.0
        return 0.0

    def text(self, deviation: float) -> str:
        return "the camera sends the very same picture again and again: start it anew"
