"""Which faults the environment monitors are asked about, and how bad they are."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from robin_sim.faults import CameraShift, Faults

_SINGLE: Mapping[str, tuple[float, ...]] = {
    "dark": (0.4, 0.6, 0.8),
    "over_exposed": (0.6, 1.0),
    "blur": (0.3, 0.5, 0.7),
    "dirty_lens": (0.5, 0.7),
    "depth_holes": (0.3, 0.6),
    "dead_projector": (0.4, 1.0),
    "colour_depth_apart": (0.2, 0.4),
    "depth_unit": (0.25, 10.0),
}
_MOVES = ((12.0, 0.0), (18.0, 1.0), (0.0, 3.0))  # mm and degrees, in a direction of the station's own
_MILDER: Mapping[str, tuple[float, ...]] = {
    "dark": (0.25,),
    "over_exposed": (0.4,),
    "blur": (0.15,),
    "dirty_lens": (0.3,),
    "depth_holes": (0.15,),
    "dead_projector": (0.2,),
    "colour_depth_apart": (0.1,),
}
"""Below the mildest that must be named: what these cost shows whether more must be."""
_MILDER_MOVES = ((6.0, 0.0), (0.0, 0.7))
_NAME_OF = {"dead_projector": "depth_holes", "camera_shift": "camera_moved"}  # fault -> the monitors' word, if another
_TOGETHER = (
    {"dark": 0.6, "depth_holes": 0.5},
    {"dark": 0.6, "dead_projector": 1.0},
    {"blur": 0.5, "depth_holes": 0.5},
    {"dirty_lens": 0.7, "depth_holes": 0.5},
    {"blur": 0.5, "colour_depth_apart": 0.4},
)


@dataclass(frozen=True)
class FaultCase:
    """name: of the fault; key: with its severity; expected: what the monitors must say."""

    name: str
    key: str
    faults: Faults
    expected: frozenset[str]


def fault_cases(rng: np.random.Generator) -> tuple[FaultCase, ...]:
    """Every single fault at every severity, then two at once. rng: draws the directions of camera moves."""
    pairs = tuple(_case("+".join(pair), "+".join(pair), Faults(**pair)) for pair in _TOGETHER)
    return (*_single(rng, _SINGLE, _MOVES), _case("frozen", "frozen", Faults(frozen=True)), *pairs)


def cost_cases(rng: np.random.Generator) -> tuple[FaultCase, ...]:
    """Every single fault at every severity that must be named, and at a milder one. rng: as of ``fault_cases``."""
    named = [case for case in fault_cases(rng) if case.name not in {"+".join(pair) for pair in _TOGETHER}]
    return (*named, *_single(rng, _MILDER, _MILDER_MOVES))


def _single(
    rng: np.random.Generator, severities: Mapping[str, tuple[float, ...]], moves: tuple[tuple[float, float], ...]
) -> Iterator[FaultCase]:
    for name, values in severities.items():
        for value in values:
            yield _case(name, f"{name} {value:g}", Faults(**{name: value}))
    for mm, degrees in moves:
        along, about = rng.normal(size=(2, 3))
        shift = CameraShift(
            translation_m=tuple(1e-3 * mm * along / np.linalg.norm(along)),
            rotation_rad=tuple(np.radians(degrees) * about / np.linalg.norm(about)),
        )
        yield _case("camera_moved", f"camera_moved {mm:g} mm {degrees:g} deg", Faults(camera_shift=shift))


def _case(name: str, key: str, faults: Faults) -> FaultCase:
    return FaultCase(name, key, faults, frozenset(_NAME_OF.get(fault, fault) for fault in faults.active))
