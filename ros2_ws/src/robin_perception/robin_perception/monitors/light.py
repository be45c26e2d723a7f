"""Too little light, too much light: places that are always free of goods, against how bright they are usually.

A camera that exposes by the picture shows the belt brighter when bright goods leave, and darker when they come. Then
the picture as a whole changes the other way, and what that explains is taken off.
"""

from __future__ import annotations

import math

import numpy as np

from robin_perception.core.errors import Code
from robin_perception.monitors.cause import Cause, Surroundings, Usual
from robin_perception.monitors.look import Look
from robin_perception.monitors.reference import Reference

_LEAST_CELLS = 40
_LEAST_LIGHT = 1e-4
_NOISIER = 1.3  # times the usual noise: less exposure has no more of it, less light has
_EXPOSED_BY = 1.5  # stops of exposure per stop of what is left of the change: two thirds of it are made up for
_CLIPPED = 0.9  # linear light of a cell that is white


def stops_from_usual(look: Look, reference: Reference, darker_half: bool) -> float | None:
    """log2 of the light on free places over the usual one, their median; None where too few are free.

    darker_half: of those that are darker than most, without what is white: how much light falls on that, nobody sees.
    Else of those that are brighter: noise cannot make black any blacker, so a black belt seems to keep its light.
    """
    known = reference.known(look)
    if known.any():
        seen = known & (look.light < _CLIPPED) if darker_half else known
        known = seen if np.count_nonzero(seen) >= 2 * _LEAST_CELLS else known
        middle = np.median(reference.light[known])
        known &= reference.light <= middle if darker_half else reference.light >= middle
    if np.count_nonzero(known) < _LEAST_CELLS:
        return None
    ratio = np.maximum(look.light[known], _LEAST_LIGHT) / np.maximum(reference.light[known], _LEAST_LIGHT)
    return float(np.median(np.log2(ratio)))


def explained_stops(look: Look, reference: Reference) -> float:
    """By how many stops automatic exposure may have changed free places at most: brighter where the picture as a whole
    is darker than usual, and the reverse."""
    whole = max(look.brightness, _LEAST_LIGHT) / max(float(reference.brightness[0, 0]), _LEAST_LIGHT)
    return -_EXPOSED_BY * math.log2(whole)


class Dark(Cause):
    """Without a baseline: how dark the brightest things are, and how noisy the picture is. Dark goods are not noisy."""

    name, code, unit = "dark", Code.LIGHT_LOW, "stops"
    default = Usual(0.8, 0.5), 3.2

    def measure(self, look: Look, around: Surroundings) -> float | None:
        if around.reference is None:
            brightest = max(float(np.quantile(look.light, 0.98)), _LEAST_LIGHT)
            return max(0.0, math.log2(max(look.noise, 0.5))) - math.log2(brightest)
        stops = stops_from_usual(look, around.reference, darker_half=False)
        if stops is None:
            return None
        noisy = look.noise > _NOISIER * around.reference.noise[0, 0]
        return -stops if noisy else -stops + min(0.0, explained_stops(look, around.reference))

    def text(self, deviation: float) -> str:
        return f"{100 * 2.0**-deviation:.0f} % of the usual light is left: look at the lamps"


class OverExposed(Cause):
    """Without a baseline: how much of what is free of goods is white."""

    name, code, unit = "over_exposed", Code.LIGHT_EXCESSIVE, "stops"
    default = Usual(0.0, 0.3), 2.0

    def measure(self, look: Look, around: Surroundings) -> float | None:
        if around.reference is not None:
            stops = stops_from_usual(look, around.reference, darker_half=True)
            if stops is None:
                return None  # no brighter is 0: what exposure might explain does not make a spread
            return max(0.0, stops - max(0.0, explained_stops(look, around.reference)))
        if np.count_nonzero(look.cell_free) < _LEAST_CELLS:
            return None
        return 10.0 * float((look.light[look.cell_free] > _CLIPPED).mean())

    def text(self, deviation: float) -> str:
        return f"the picture is {2.0**deviation:.1f} times as bright as usual: look at exposure and stray light"
