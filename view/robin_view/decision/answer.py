"""What the planner can be asked again, and what it answers: plain values that travel between processes."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Question:
    """parcel: instance id. at_m: a spot on it in base_link; None: anywhere on it. cups: only these may be opened;
    None: as then."""

    parcel: int
    at_m: tuple[float, float, float] | None = None
    cups: tuple[int, ...] | None = None


@dataclass(frozen=True)
class Reason:
    """Why candidates of the parcel were ruled out. number, name: of ``robin_grasp.plan.Reject``. away_m: of the one
    nearest to the spot, NaN without a spot."""

    number: int
    name: str
    text: str
    examples: int
    cups: tuple[int, ...]
    away_m: float


@dataclass(frozen=True)
class Difference:
    """A term of the best grasp there beside that of the best of all."""

    name: str
    here: float
    best: float


@dataclass(frozen=True)
class Answer:
    """rank: how many other parcels have a better grasp, None where this one has none; the grasp is its best, or with a
    spot the one nearest to it. parcels: that have a grasp. reasons: the decisive one first.
    notes: what is not as it was then."""

    parcel: int
    class_name: str
    rank: int | None
    parcels: int
    score: float | None
    best_score: float | None
    cups: tuple[int, ...]
    away_m: float
    reasons: tuple[Reason, ...]
    differences: tuple[Difference, ...]
    notes: tuple[str, ...]
    milliseconds: float
