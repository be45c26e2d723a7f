"""What a cell reports of a pick, and what the pick check adds to it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import Enum

from robin_grasp.picks.outcome import PickOutcome, PickResult
from robin_grasp.picks.pick_check import PickJudgement
from robin_grasp.picks.traces import LoadView, PickTraces
from robin_grasp.tool import MAX_CUPS
from robin_perception.core.errors import Code, RobinError

_LARGEST = 1e9  # Pa, N, s
_SUM_TOLERANCE = 1e-3


class Stage(str, Enum):
    """held: the load hangs on the tool at the place station, and the cell asks what to do with it. ended: the pick is
    over."""

    HELD = "held"
    ENDED = "ended"


@dataclass(frozen=True)
class OutcomeReport:
    """What is known of one pick while its load is held, or when it has ended.

    plan_id, grasp: the plan and the index of its executed grasp. ended_s: frames before it do not show its effect.
    result: None as long as nobody knows it. The rest as in ``PickOutcome`` and ``PickJudgement``; probability is None
    while it is not judged; check_digest: sha256 of the pick check's settings. code, text: why it could not be judged.
    probabilities: of all results. features: the known figures that it was judged by; after_s: stamp of the frame after
    that it was judged with, None without one. action, action_reason, help_id: what the recovery policy asks for, why,
    and the help request that it waits for. lacking: what came with the report and could not be used, each with its
    number.
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
    stage: Stage = Stage.ENDED
    traces: PickTraces | None = field(default=None, compare=False)
    load: LoadView | None = field(default=None, compare=False)
    probabilities: Mapping[PickResult, float] = field(default_factory=dict)
    features: Mapping[str, float] = field(default_factory=dict)
    after_s: float | None = None
    action: str = ""
    action_reason: str = ""
    help_id: str = ""
    lacking: tuple[RobinError, ...] = field(default=(), compare=False)

    @classmethod
    def of(cls, plan_id: str, ended_s: float, outcome: PickOutcome, grasp: int = 0) -> OutcomeReport:
        """What a cell reports that measured ``outcome`` with the plan's grasp of that index."""
        return cls(
            plan_id,
            grasp,
            ended_s,
            outcome.result,
            outcome.vacuum_pa,
            outcome.lifted_weight_n,
            outcome.duration_s,
            outcome.truth,
            traces=outcome.traces,
            load=outcome.load,
        )

    def validated(self) -> OutcomeReport:
        """Return self, or raise RobinError OUTCOME_INVALID for figures that no cell can have measured, TRACES_INVALID
        for traces that do not fit them."""
        figures = (*self.vacuum_pa, self.lifted_weight_n, self.duration_s)
        possible = all(abs(v) <= _LARGEST for v in figures) and math.isfinite(self.ended_s)  # False for NaN
        if not possible or self.duration_s < 0:
            text = f"outcome of '{self.plan_id}': a figure is not finite or impossible"
            raise RobinError(Code.OUTCOME_INVALID, text)
        if not 1 <= len(self.vacuum_pa) <= MAX_CUPS:
            text = f"vacuum_pa needs a figure for each cup of the tool, got {len(self.vacuum_pa)}"
            raise RobinError(Code.OUTCOME_INVALID, f"outcome of '{self.plan_id}': {text}")
        beliefs = tuple(self.probabilities.values())
        if beliefs and not (all(0 <= p <= 1 for p in beliefs) and abs(sum(beliefs) - 1) <= _SUM_TOLERANCE):
            text = f"probabilities {', '.join(f'{p:g}' for p in beliefs)} do not sum to 1"
            raise RobinError(Code.OUTCOME_INVALID, f"outcome of '{self.plan_id}': {text}")
        if self.traces is not None:
            self.traces.validated(len(self.vacuum_pa))
        return self

    def measured(self) -> PickOutcome:
        """As the core knows it. A result nobody knows is taken for a miss here; ``judged`` replaces it."""
        return PickOutcome(
            self.result or PickResult.MISS,
            self.vacuum_pa,
            self.lifted_weight_n,
            self.duration_s,
            self.truth,
            self.traces,
            self.load,
        )

    def judged(self, judgement: PickJudgement, check_digest: str = "") -> OutcomeReport:
        """With the pick check's judgement; a result that the cell itself gave stands."""
        return replace(
            self,
            result=self.result or judgement.result,
            probability=judgement.probability,
            probabilities=judgement.probabilities,
            features=judgement.features,
            after_s=judgement.after_s,
            reasons=(*judgement.reasons, *map(str, self.lacking)),
            check_digest=check_digest,
            target_gone=judgement.target_gone,
            neighbours_gone=judgement.neighbours_gone,
        )

    def not_judged(self, code: Code, text: str) -> OutcomeReport:
        return replace(self, code=code, text=text)
