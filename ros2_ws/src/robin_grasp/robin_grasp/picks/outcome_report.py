"""What a cell reports of a pick, and what the pick check adds to it."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

from robin_grasp.picks.outcome import PickOutcome, PickResult
from robin_grasp.picks.pick_check import PickJudgement
from robin_grasp.tool import MAX_CUPS
from robin_perception.core.errors import Code, RobinError

_LARGEST = 1e9  # Pa, N, s


@dataclass(frozen=True)
class OutcomeReport:
    """The end of one pick.

    plan_id, grasp: the plan and the index of its executed grasp. ended_s: frames before it do not show its effect.
    result: None as long as nobody knows it. The rest as in ``PickOutcome`` and ``PickJudgement``; probability is None
    while it is not judged; check_digest: sha256 of the pick check's settings. code, text: why it could not be judged.
    """

    plan_id: str
    grasp: int
    ended_s: float
    result: PickResult | None
    vacuum_pa: tuple[float, ...]
    lifted_weight_n: float
    duration_s: float
    truth: dict[str, object] = field(default_factory=dict)
    probability: float | None = None
    reasons: tuple[str, ...] = ()
    check_digest: str = ""
    target_gone: float = math.nan
    neighbours_gone: tuple[int, ...] = ()
    code: Code = Code.OK
    text: str = ""

    def validated(self) -> OutcomeReport:
        """Return self, or raise RobinError OUTCOME_INVALID for figures that no cell can have measured."""
        figures = (*self.vacuum_pa, self.lifted_weight_n, self.duration_s)
        possible = all(abs(v) <= _LARGEST for v in figures) and math.isfinite(self.ended_s)  # False for NaN
        if not possible or self.duration_s < 0:
            text = f"outcome of '{self.plan_id}': a figure is not finite or impossible"
            raise RobinError(Code.OUTCOME_INVALID, text)
        if not 1 <= len(self.vacuum_pa) <= MAX_CUPS:
            text = f"vacuum_pa needs a figure for each cup of the tool, got {len(self.vacuum_pa)}"
            raise RobinError(Code.OUTCOME_INVALID, f"outcome of '{self.plan_id}': {text}")
        return self

    def measured(self) -> PickOutcome:
        """As the core knows it. A result nobody knows is taken for a miss here; ``judged`` replaces it."""
        return PickOutcome(
            self.result or PickResult.MISS, self.vacuum_pa, self.lifted_weight_n, self.duration_s, self.truth
        )

    def judged(self, judgement: PickJudgement, check_digest: str = "") -> OutcomeReport:
        """With the pick check's judgement; a result that the cell itself gave stands."""
        return replace(
            self,
            result=self.result or judgement.result,
            probability=judgement.probability,
            reasons=judgement.reasons,
            check_digest=check_digest,
            target_gone=judgement.target_gone,
            neighbours_gone=judgement.neighbours_gone,
        )

    def not_judged(self, code: Code, text: str) -> OutcomeReport:
        return replace(self, code=code, text=text)
