"""One turn of the simulated cell's loop, as it is handed to whoever counts and records."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from robin_grasp.cup_health import CupReport
from robin_grasp.picks.outcome import PickOutcome, PickResult
from robin_grasp.picks.pick_check import PickJudgement
from robin_grasp.plan import FailedPick, Plan
from robin_grasp.recovery.action import Action
from robin_grasp.recovery.help_request import HelpRequest
from robin_grasp.recovery.machine import Step
from robin_grasp.recovery.table import Seen, State
from robin_perception.core.frame import Frame
from robin_perception.core.scene import Scene

_WRONG = (PickResult.MULTI, PickResult.WRONG)
_RECOGNISED = frozenset({Seen.APART, Seen.MULTI, Seen.WRONG})


@dataclass(frozen=True)
class TurnStep:
    """One decision of the recovery policy in a turn. judgement: of the pick check, None where it was not asked. help:
    the closed request, with its picture (JPEG). duration_s: what the action took of the cell's time."""

    step: Step
    judgement: PickJudgement | None = None
    help: HelpRequest | None = None
    picture: bytes = b""
    duration_s: float = 0.0


@dataclass(frozen=True)
class Recovered:
    """What the recovery policy did in a turn, with the truth beside it.

    first: result that delivering the first load at once would have had; None where nothing was picked. bad_load: what
    hung on the tool then was not the target alone. left_wrong: what left the cell in the end was not the target alone.
    judgement: of the pick check, of the last load of the turn.
    """

    steps: tuple[TurnStep, ...] = ()
    first: PickResult | None = None
    bad_load: bool = False
    left_wrong: bool = False
    judgement: PickJudgement | None = None

    @property
    def judged(self) -> PickResult | None:
        """What the pick check called the pick in the end."""
        return None if self.judgement is None else self.judgement.result

    @property
    def _seen_wrong(self) -> bool:
        held = any(s.step.state is State.HELD and s.step.seen in _RECOGNISED for s in self.steps)
        dropped = self.first is PickResult.DROP and self.judged not in (None, PickResult.CLEAN)
        return held or dropped

    @property
    def caught(self) -> bool:
        """A double, wrong or dropped pick that was recognised before anything left the cell."""
        return self.first in (*_WRONG, PickResult.DROP) and self._seen_wrong

    @property
    def uncaught(self) -> bool:
        """Two parcels or a wrong one left the cell, and nobody noticed: neither on the tool nor afterwards."""
        marked = any(s.step.action is Action.MARK_DESTINATION for s in self.steps)
        return self.left_wrong and not (self._seen_wrong or marked)

    @property
    def corrected(self) -> bool:
        """A load of two parcels or a wrong one that was recognised, and nothing wrong left the cell."""
        return self.bad_load and self.caught and not self.left_wrong

    @property
    def false_stop(self) -> bool:
        """The target alone hung on the tool, and it was not delivered at once."""
        held = [s.step for s in self.steps if s.step.state is State.HELD]
        return self.first is PickResult.CLEAN and bool(held) and held[0].action is not Action.DELIVER

    @property
    def helps(self) -> tuple[HelpRequest, ...]:
        return tuple(s.help for s in self.steps if s.help is not None)


@dataclass(frozen=True)
class PickEvent:
    """One turn of the loop. ``outcome`` and ``after`` are None when the plan held no grasp, when nothing was picked
    before a person had answered, or when the simulation of the pick diverged (``fault`` says so), which ends the pile.

    meant: index of the parcel that most of the chosen mask truly shows, and of others that it shows as one with it;
    target_kind: kind of the first. shown: what the frame truly shows, 1 + index of the parcel, 0 for none; [H, W].
    planner_flags: what the planner says of itself. parcels_left:
    before the pick. after: the frame that follows, taken with the same camera and light. excluded: instances that the
    recovery policy has given up, and ``left_for_last``, those of goods that seldom held and nothing else is left.
    cups: as they stood when it was planned, empty where nobody watches them.
    recovered: what the policy did; None without one. extra_s: cell time of the turn that
    is not in the outcome's duration. timings_ms: as measured; "judge_late" is what judging took beyond the time in
    which the load is lowered.
    """

    pile_index: int
    pick_index: int
    arrangement: str
    container: str
    parcels_left: int
    frame: Frame
    scene: Scene
    plan: Plan
    failed: tuple[FailedPick, ...]
    outcome: PickOutcome | None
    after: Frame | None
    meant: tuple[int, ...] = ()
    target_kind: str = ""
    shown: NDArray[np.uint16] | None = None
    planner_flags: tuple[str, ...] = ()
    timings_ms: dict[str, float] = field(default_factory=dict)
    fault: str = ""
    excluded: tuple[int, ...] = ()
    left_for_last: tuple[int, ...] = ()
    cups: tuple[CupReport, ...] = ()
    recovered: Recovered | None = None
    extra_s: float = 0.0

    @property
    def result(self) -> str:
        """A PickResult value, "infeasible" without a grasp, "unstable" where the physics diverged, "waited" where
        nothing was picked before a person had answered."""
        if self.outcome is not None:
            return self.outcome.result.value
        if self.fault:
            return "unstable"
        return "infeasible" if self.plan.best is None else "waited"

    @property
    def latency_ms(self) -> float:
        """Frame to ranked plan, milliseconds."""
        return self.timings_ms["segment"] + self.timings_ms["plan"]
