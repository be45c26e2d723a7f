"""All causes, in the order in which they explain each other away: what spoils another's statistic is asked first."""

from __future__ import annotations

from robin_perception.monitors.cause import Cause
from robin_perception.monitors.config import MonitorsConfig
from robin_perception.monitors.depth import DepthHoles, DepthUnit
from robin_perception.monitors.frozen import Frozen
from robin_perception.monitors.light import Dark, OverExposed
from robin_perception.monitors.optics import Blur, DirtyLens
from robin_perception.monitors.place import CameraMoved
from robin_perception.monitors.registration import ColourDepthApart

CAUSES: tuple[type[Cause], ...] = (
    Frozen,
    DepthUnit,
    Dark,
    OverExposed,
    CameraMoved,
    Blur,
    DirtyLens,
    ColourDepthApart,
    DepthHoles,
)


def make_causes(config: MonitorsConfig) -> tuple[Cause, ...]:
    """One of each."""
    return tuple(cause(config) for cause in CAUSES)
