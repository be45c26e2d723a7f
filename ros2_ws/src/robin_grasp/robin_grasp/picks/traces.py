"""What the tool's sensors told in the course of one pick, and a look at what hangs on it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from robin_perception.core.errors import Code, RobinError
from robin_perception.core.frame import Frame

PHASES = ("vacuum", "lift", "weigh", "transfer", "arrive")
"""In order: open valves and press, straight up, standing while it weighs, level, standing at the place station."""

MOST_SAMPLES = 20_000
"""Of one pick: more than a minute and a half at two hundred a second."""
_FASTEST_HZ = 10_000.0
_LARGEST = 1e9  # Pa, N


@dataclass(frozen=True)
class PickTraces:
    """Evenly sampled, from open valves until the tool stands at the place station (or has lost everything).

    vacuum_pa: float32 [T, cups], pressure difference of each cup, Pa. weight_n: float32 [T], force on the tool, down
    positive, newtons. marks: phase of PHASES -> the sample at which it begins; a phase that never came is left out.
    """

    rate_hz: float
    vacuum_pa: NDArray[np.float32]
    weight_n: NDArray[np.float32]
    marks: Mapping[str, int] = field(default_factory=dict)

    @property
    def samples(self) -> int:
        return len(self.weight_n)

    def validated(self, cups: int) -> PickTraces:
        """Return self, or raise RobinError TRACES_INVALID. cups: of the tool."""
        if fault := self._fault(cups):
            raise RobinError(Code.TRACES_INVALID, fault)
        return self

    def _fault(self, cups: int) -> str:
        if not 0 < self.rate_hz <= _FASTEST_HZ:
            return f"rate_hz is {self.rate_hz:g}, more than 0 and at most {_FASTEST_HZ:g} can be"
        if self.weight_n.ndim != 1 or not 1 <= self.samples <= MOST_SAMPLES:
            return f"weight_n of shape {self.weight_n.shape}, 1 to {MOST_SAMPLES:,} samples are allowed"
        if self.vacuum_pa.shape != (self.samples, cups):
            return f"vacuum_pa of shape {self.vacuum_pa.shape} for {self.samples} samples of {cups} cups"
        if not all(bool((np.abs(values) <= _LARGEST).all()) for values in (self.vacuum_pa, self.weight_n)):
            return "a figure is not finite or impossible"
        return self._fault_of_marks()

    def _fault_of_marks(self) -> str:
        if unknown := [name for name in self.marks if name not in PHASES]:
            return f"mark '{unknown[0]}', known are {', '.join(PHASES)}"
        begins = [self.marks[name] for name in PHASES if name in self.marks]
        if begins != sorted(begins) or not all(0 <= begin < self.samples for begin in begins):
            return f"marks {dict(self.marks)} are not in order, or beyond the {self.samples} samples"
        return ""


def traces_from_flat(
    rate_hz: float,
    cups: int,
    vacuum_pa: NDArray[np.float32],
    weight_n: NDArray[np.float32],
    mark_names: Sequence[str],
    mark_samples: Sequence[int],
) -> PickTraces:
    """Traces of a message. vacuum_pa: float32 [T * cups], sample by sample. Raises RobinError TRACES_INVALID."""
    if not cups or vacuum_pa.size != cups * weight_n.size:
        text = f"{vacuum_pa.size} pressures for {weight_n.size} samples of {cups} cups"
        raise RobinError(Code.TRACES_INVALID, text)
    if len(mark_names) != len(mark_samples) or len(set(mark_names)) != len(mark_names):
        text = f"{len(mark_names)} names of marks for {len(mark_samples)} samples, each name once"
        raise RobinError(Code.TRACES_INVALID, text)
    marks = {str(name): int(sample) for name, sample in zip(mark_names, mark_samples, strict=True)}
    vacuum = np.asarray(vacuum_pa, dtype=np.float32).reshape(weight_n.size, cups)
    return PickTraces(float(rate_hz), vacuum, np.asarray(weight_n, dtype=np.float32), marks).validated(cups)


@dataclass(frozen=True)
class LoadView:
    """An RGB-D view of the load. frame: of the load camera, with its own pose. T_base_tool: float64 [4, 4], the tool at
    that moment."""

    frame: Frame
    T_base_tool: NDArray[np.float64]
