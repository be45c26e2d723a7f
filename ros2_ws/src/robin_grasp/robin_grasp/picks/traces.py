"""What the tool's sensors told in the course of one pick, and a look at what hangs on it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from robin_perception.core.frame import Frame

PHASES = ("vacuum", "lift", "weigh", "transfer", "arrive")
"""In order: open valves and press, straight up, standing while it weighs, level, standing at the place station."""


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


@dataclass(frozen=True)
class LoadView:
    """An RGB-D view of the load. frame: of the load camera, with its own pose. T_base_tool: float64 [4, 4], the tool at
    that moment."""

    frame: Frame
    T_base_tool: NDArray[np.float64]
