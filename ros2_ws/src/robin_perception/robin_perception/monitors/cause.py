"""What every cause is: one statistic of a frame, larger the worse it is, and what it means in words."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import ClassVar

from robin_perception.core.errors import Code
from robin_perception.core.support_check import SupportSeen
from robin_perception.monitors.config import MonitorsConfig
from robin_perception.monitors.look import Look
from robin_perception.monitors.motion import MotionMeter
from robin_perception.monitors.reference import Reference


@dataclass(frozen=True)
class Usual:
    """Where a statistic lies at a healthy station, and its standard deviation there."""

    location: float
    spread: float


@dataclass
class Surroundings:
    """What a cause may look at besides the frame.

    reference, meter: from commissioning; None where there is no baseline. support: what the frame's scene says of the
    surface under the goods. found: cause -> deviation from the usual, of the causes that were asked before.
    suspects: those of them that are far enough on the way to their limit.
    """

    reference: Reference | None = None
    meter: MotionMeter | None = None
    support: SupportSeen | None = None
    belt_z_m: float = 0.0
    found: dict[str, float] = field(default_factory=dict)
    suspects: set[str] = field(default_factory=set)


class Cause(ABC):
    """One per stream; a subclass that remembers frames overrides ``reset``.

    name: as in the configuration. code: its number. unit: of the statistic. spoiled_by: causes, asked before, under
    which the statistic says nothing. suspect: of the way to its limit, from which on it may be what spoils another's.
    from_zero: 0 is as it should be, whatever is usual. default: what is usual, and what is tolerated, where there is no
    baseline; None: nothing can be said without one.
    """

    name: ClassVar[str]
    code: ClassVar[Code]
    unit: ClassVar[str]
    spoiled_by: ClassVar[frozenset[str]] = frozenset()
    suspect: ClassVar[float] = 0.5
    from_zero: ClassVar[bool] = False
    default: ClassVar[tuple[Usual, float] | None] = None

    def __init__(self, config: MonitorsConfig) -> None:
        self.reset()

    def reset(self) -> None:  # noqa: B027
        """Forget what was seen; most remember nothing."""

    @abstractmethod
    def measure(self, look: Look, around: Surroundings) -> float | None:
        """The statistic; None where this frame does not show it."""

    @abstractmethod
    def text(self, deviation: float) -> str:
        """One line for a technician."""
