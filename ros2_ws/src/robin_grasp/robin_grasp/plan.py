"""What the planner answers: ranked grasps, how many candidates were ruled out for which numbered reason, with examples,
and never a bare empty list."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import IntEnum
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from robin_grasp.holding import HoldTerms
from robin_grasp.learned import NOT_LEARNED, LearnedState
from robin_perception.core.errors import Code
from robin_perception.core.frame import Frame
from robin_perception.core.scene import Scene


class Reject(IntEnum):
    """Why a candidate was not taken."""

    OUT_OF_REACH = 1
    OUTSIDE_WORKSPACE = 2
    LOW_DETECTION = 3
    TOO_LITTLE_DEPTH = 4
    NO_CUP_SEALS = 5
    WRENCH_TOO_LARGE = 6
    MULTI_PICK_RISK = 7
    TOOL_HITS_NEIGHBOUR = 8
    TOOL_HITS_WALL = 9
    COVERED_BY_OTHER = 10
    TILT_TOO_LARGE = 11
    OUTRANKED_ON_INSTANCE = 12
    FAILED_BEFORE = 13
    LIKELY_MERGED = 14
    EXCLUDED_BY_CALLER = 15
    NO_DEPTH_AROUND = 16
    NO_EDGE = 17
    NO_PARCEL = 18


@dataclass(frozen=True)
class Grasp:
    """One candidate that may be executed.

    T_base_tool: float64 [4, 4] pose of the tool frame at contact. cups: 8-bit mask. instance_id: Scene id.
    score: the ranker's value, higher is better. terms: every number that entered it, SI units in the names.
    cup_seal: P(seal) of each of the tool's cups as it would be if the cup were sound, NaN where its valve stays closed;
    empty: the planner does not tell.
    """

    T_base_tool: NDArray[np.float64]
    cups: int
    instance_id: int
    score: float
    terms: dict[str, float] = field(default_factory=dict)
    cup_seal: tuple[float, ...] = ()


@dataclass(frozen=True)
class Rejected:
    """A candidate that was ruled out: where, with which cups (0 if not chosen yet), why, and the terms known by
    then."""

    instance_id: int
    T_base_tool: NDArray[np.float64]
    cups: int
    reason: Reject
    terms: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class CupTrust:
    """What a planner may expect of the tool's cups.

    shares: of the vacuum that each cup reaches, 1 sound, 0 not relied on; empty: all sound. probe: 8-bit mask of cups
    in doubt, which are opened beside the chosen ones where that costs nothing: the pick then shows what they are worth.
    state: of what was learned of them, for the record.
    """

    shares: tuple[float, ...] = ()
    probe: int = 0
    state: LearnedState = field(default=NOT_LEARNED, compare=False)


ALL_SOUND = CupTrust()
_SHARE_OF_CUP = "cup_{}_share"
_PROBED = "cups_probed"


@dataclass(frozen=True)
class PlanBasis:
    """What a plan was made with, for its record. digest: sha256 of the settings of cell and planner, empty where nobody
    knows them. thresholds: figures that rule candidates out, by name, SI units in the names; what was expected of the
    cups is among them, unless all were sound. tool: which state of what was learned of the cups that was."""

    digest: str = ""
    thresholds: Mapping[str, float] = field(default_factory=dict)
    tool: LearnedState = NOT_LEARNED

    def with_cups(self, cups: CupTrust) -> PlanBasis:
        """That basis, and what was expected of the cups."""
        if cups == ALL_SOUND:
            return replace(self, tool=cups.state)
        told = {_SHARE_OF_CUP.format(cup): share for cup, share in enumerate(cups.shares)}
        return PlanBasis(self.digest, {**self.thresholds, **told, _PROBED: float(cups.probe)}, cups.state)

    @property
    def cups(self) -> CupTrust:
        """What was expected of the cups: with it and the same input the plan can be made again."""
        names = itertools.takewhile(self.thresholds.__contains__, map(_SHARE_OF_CUP.format, itertools.count()))
        shares = tuple(self.thresholds[name] for name in names)
        return CupTrust(shares, int(self.thresholds.get(_PROBED, 0.0)), self.tool)


@dataclass(frozen=True)
class Plan:
    """Ranked grasps, best first (at most one or a few per instance). ``code`` is OK, NO_INSTANCE, NO_GRASP or
    POSE_CONTRADICTED, with its text.

    rejected: a few examples per parcel. rejected_counts: every candidate that was ruled out, once, by its reason; a
    parcel ruled out before poses were sampled is one. Where a planner gives none, its examples are all there were.
    holding: what was learned of holding the scene's instances, as the plan used it; None: nobody learns.
    """

    code: Code
    message: str
    grasps: tuple[Grasp, ...]
    rejected: tuple[Rejected, ...]
    planner: str
    timings_ms: dict[str, float] = field(default_factory=dict)
    rejected_counts: Mapping[Reject, int] = field(default_factory=dict)
    basis: PlanBasis = PlanBasis()
    holding: HoldTerms | None = None

    def __post_init__(self) -> None:
        if not self.rejected_counts:
            object.__setattr__(self, "rejected_counts", dict(Counter(example.reason for example in self.rejected)))

    @property
    def best(self) -> Grasp | None:
        return self.grasps[0] if self.grasps else None


@dataclass(frozen=True)
class FailedPick:
    """A pick that did not work, so that it is not repeated unchanged: contact point in base_link, yaw, cups."""

    position_m: tuple[float, float, float]
    cups: int
    times: int = 1


class Planner(Protocol):
    """Anything that turns a segmented frame into a plan. ``failed``: recent failures in this pile. ``cups``: what may
    be expected of them now."""

    name: str

    def plan(
        self, frame: Frame, scene: Scene, failed: tuple[FailedPick, ...] = (), cups: CupTrust = ALL_SOUND
    ) -> Plan: ...
