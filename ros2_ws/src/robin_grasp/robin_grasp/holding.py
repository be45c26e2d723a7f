"""What picks have shown of holding certain goods, as the planner takes it: beside what it expects of their class.

Whoever learns it implements ``Holding``; without one the planner knows no more than its fit file.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from robin_grasp.learned import NOT_LEARNED, LearnedState
from robin_perception.core.frame import Frame
from robin_perception.core.scene import Scene

Floats = NDArray[np.float64]
PLACES = ("rim", "middle", "inner")
PLACE_EDGES = (1.3, 2.2)
"""Places of a cup on a parcel by the distance of its centre from the mask's edge, in lip radii."""
STEEP_RAD = 0.3
"""A tool that leans farther from straight down is steep. Where depth is wrong, as through clear film, the slope is
nearly always wrong too, while a level tool still meets the goods."""
HOLD_FIELDS = ("seal_logit", "vacuum_log", "mass_log", "clean_logit", "steep_logit", "tries", "level_face", "last")
"""Of ``HoldTerms``, those with a row of each instance."""


def place_of(edge_m: Floats, cup_radius_m: float) -> NDArray[np.int64]:
    """Row of ``PLACES`` for distances of any shape."""
    return np.asarray(np.searchsorted(PLACE_EDGES, edge_m / cup_radius_m, side="right"), dtype=np.int64)


@dataclass(frozen=True)
class HoldTerms:
    """Of the I instances of a scene, in their order. All zero: as the factory expects.

    seal_logit [I, places]: added to the logit of P(seal) of a cup there. vacuum_log [I], mass_log [I]: natural log of
    the factor on the expected vacuum and mass. clean_logit [I], steep_logit [I]: added to the logit of P(clean), of
    grasps with a level tool and with a steep one. tries [I]: picks that this rests on, fading. level_face [I]: bool,
    depth misleads on such goods, and they are taken for level faces. last [I]: bool, such goods were seldom held: they
    are picked after all others. state: of what was learned, for the record.
    """

    seal_logit: Floats
    vacuum_log: Floats
    mass_log: Floats
    clean_logit: Floats
    steep_logit: Floats
    tries: Floats
    level_face: NDArray[np.bool_]
    last: NDArray[np.bool_]
    state: LearnedState = NOT_LEARNED

    @classmethod
    def factory(cls, count: int) -> HoldTerms:
        """Nothing was learned of any of ``count`` instances."""
        seal = np.zeros((count, len(PLACES)))
        vacuum, mass, clean, steep, tries = np.zeros((5, count))
        level, last = np.zeros((2, count), dtype=bool)
        return cls(seal, vacuum, mass, clean, steep, tries, level, last)

    def take(self, rows: NDArray[np.int64]) -> HoldTerms:
        """Of some of the instances, by row."""
        return replace(self, **{name: getattr(self, name)[rows] for name in HOLD_FIELDS})


class Holding(Protocol):
    """What was learned. The answer for a frame stays the same until something more is learned; None: nothing is known
    to have been learned, and the plan is as the fit has it."""

    def expected(self, frame: Frame, scene: Scene) -> HoldTerms | None: ...
