"""One pick under the recovery policy, from the load on the tool to its end."""

from __future__ import annotations

from dataclasses import replace

from robin_grasp.picks.outcome import PickResult
from robin_grasp.picks.pick_check import PickJudgement
from robin_grasp.recovery.action import Action
from robin_grasp.recovery.help_request import DELIVER, SET_DOWN, STOP
from robin_grasp.recovery.machine import Fate, PickTarget, Recovery, Step

_FATES = {Action.DELIVER: Fate.DELIVERED, Action.SET_DOWN: Fate.BACK}


class PickCourse:
    """What becomes of the load, step by step. Not thread-safe.

    target: the grasp, with the cups that may still hold something. judgement: of the load that was held last. fate:
    None as long as the load hangs on the tool, or a person is asked about it.
    """

    def __init__(self, recovery: Recovery, target: PickTarget) -> None:
        self.target = target
        self.judgement: PickJudgement | None = None
        self.fate: Fate | None = None
        self._recovery = recovery
        self._by_person = False

    def held(self, judgement: PickJudgement | None, apart: int = 0) -> Step:
        """A load hangs on the tool. judgement: None where nobody could judge it; apart: as of ``Recovery.held``."""
        self.judgement = judgement
        step = self._recovery.held(self.target, {} if judgement is None else judgement.probabilities, apart)
        self.fate = _FATES.get(step.action)
        if step.release_cups:
            grasp = self.target.grasp
            self.target = replace(self.target, grasp=replace(grasp, cups=grasp.cups & ~step.release_cups))
        return step

    def answered(self, answer: str) -> Fate:
        """A person has said what becomes of the load; the policy is told by whoever asked."""
        back = answer in (SET_DOWN, STOP)
        self.fate = Fate.BACK if back else Fate.DELIVERED if answer == DELIVER else Fate.TAKEN
        self._by_person = answer == DELIVER
        return self.fate

    def ended(self, result: PickResult | None) -> Step:
        """The pick is over. result: None where nobody judged; what a person let through is clean."""
        known = PickResult.CLEAN if self._by_person else result
        return self._recovery.ended(self.target, known, self.fate or Fate.DELIVERED)


def question(step: Step, judgement: PickJudgement | None) -> str:
    """What a person is asked about a load."""
    if judgement is None:
        return step.reason
    return f"judged {judgement.result.value} ({', '.join(judgement.reasons)}): {step.reason}"
