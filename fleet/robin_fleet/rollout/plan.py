"""What a roll-out asks at each stage, and which robots a stage reaches."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from itertools import zip_longest

from pydantic import Field

from robin_perception.core.config import StrictConfig
from robin_perception.core.errors import Code, RobinError


class Stage(str, Enum):
    """In the order in which a release goes through them. The first three are trials: no pick depends on the release."""

    REPLAY = "replay"
    SHADOW = "shadow"
    ACCEPTANCE = "acceptance"
    ROBOT = "robot"
    LINE = "line"
    TENTH = "tenth"
    ALL = "all"


STAGES = tuple(Stage)
COUNTED_S = 600
"""Picks are counted by stretches of so many seconds."""
TRIALS = (Stage.REPLAY, Stage.SHADOW, Stage.ACCEPTANCE)


class TrialRule(StrictConfig):
    """Of a trial. Replay and shadow compare with the model that runs, pick by pick; acceptance is judged by itself."""

    picks: int = Field(ge=0, description="At least; 0 leaves the trial out.")
    loss: float = Field(gt=0, lt=1, description="Share of picks lost that the 95 % interval must exclude.")


class StageRule(StrictConfig):
    """Of a stage in which robots pick with the release."""

    picks: int = Field(ge=1, description="With the release, by the robots of this stage, at least.")
    hours: float = Field(ge=0, description="In this stage, at least.")
    margin: float | None = Field(
        None, gt=0, lt=1, description="A loss as large as this is disproved before the next stage; null asks no proof."
    )


class RolloutPlan(StrictConfig):
    """Stages, and the rates of the two errors that they may make. All losses are shares of picks: .02 is 2 points."""

    replay: TrialRule = TrialRule(picks=200, loss=0.03)
    shadow: TrialRule = TrialRule(picks=50, loss=0.15)
    acceptance: TrialRule = TrialRule(picks=100, loss=0.08)
    robot: StageRule = StageRule(picks=600, hours=2, margin=0.04)
    line: StageRule = StageRule(picks=3000, hours=4, margin=0.015)
    tenth: StageRule = StageRule(picks=10_000, hours=12, margin=0.01)
    all: StageRule = StageRule(picks=10_000, hours=2)
    tolerated: float = Field(0.005, ge=0, lt=0.5, description="Loss that is no reason to stop: robots differ by it.")
    false_stops: float = Field(0.02, gt=0, lt=0.5, description="Share of releases no worse that are stopped, at most.")
    false_proofs: float = Field(0.02, gt=0, lt=0.5, description="Share of proofs that hold wrongly, at most.")
    false_backs: float = Field(0.01, gt=0, lt=0.5, description="Robots that go back by themselves for no reason.")
    tenth_share: float = Field(0.1, gt=0, le=1, description="Robots that the stage `tenth` reaches.")
    held_back: float = Field(0.2, ge=0, lt=1, description="Robots of the line that stay without it until `tenth`.")
    window_s: int = Field(
        COUNTED_S, ge=COUNTED_S, le=7200, multiple_of=COUNTED_S, description="Picks of so long are one block, seconds."
    )

    def trial(self, stage: Stage) -> TrialRule:
        rule = getattr(self, stage.value)
        assert isinstance(rule, TrialRule)
        return rule

    def rule(self, stage: Stage) -> StageRule:
        rule = getattr(self, stage.value)
        assert isinstance(rule, StageRule)
        return rule

    @property
    def margins(self) -> tuple[float, ...]:
        rules = (self.rule(stage) for stage in STAGES if stage not in TRIALS)
        return tuple(sorted({rule.margin for rule in rules if rule.margin is not None}))

    @property
    def first(self) -> Stage:
        return next(s for s in STAGES if s not in TRIALS or self.trial(s).picks)

    def after(self, stage: Stage) -> Stage | None:
        """The stage that follows; None after the last."""
        later = STAGES[STAGES.index(stage) + 1 :]
        return next((s for s in later if s not in TRIALS or self.trial(s).picks), None)


@dataclass(frozen=True)
class RobotFacts:
    """Of one robot. line: "site/station"; its robots handle the same goods, and are compared with each other. free: it
    is not held. rate: of its clean picks before the roll-out; None: not known."""

    robot: str
    line: str
    free: bool = True
    rate: float | None = None


def pilot(robots: Sequence[RobotFacts]) -> str:
    """The robot to begin with: one whose rate is nearest to that of its line, on a line with others to compare with.

    Raises RobinError ROLLOUT_NO_ROBOTS where every robot is alone or held.
    """
    best: list[tuple[int, float, str]] = []
    for line, members in _lines(robots).items():
        known = [r.rate for r in members if r.rate is not None]
        middle = sum(known) / len(known) if known else 0.0
        for one in members:
            if one.free and len(members) > 1:
                off = abs(one.rate - middle) if one.rate is not None else math.inf
                best.append((-min(len(members), 4), off, f"{line}\n{one.robot}"))
    if not best:
        raise RobinError(Code.ROLLOUT_NO_ROBOTS, "no robot is free that has others on its line to compare with")
    return min(best)[2].split("\n")[1]


def chosen(stage: Stage, robots: Sequence[RobotFacts], first: str, plan: RolloutPlan) -> tuple[str, ...]:
    """Robots that run the release in ``stage``, those of the stage before among them. Held ones never do.

    first: the pilot. Raises RobinError ROLLOUT_NO_ROBOTS where it is not among the robots or not free.
    """
    own = next((r for r in robots if r.robot == first and r.free), None)
    if own is None:
        raise RobinError(Code.ROLLOUT_NO_ROBOTS, f"robot {first}: is not enrolled, or is held")
    if stage in TRIALS:
        return ()
    if stage is Stage.ROBOT:
        return (first,)
    members = _lines(robots)[own.line]
    line = _part(members, first, plan.held_back)
    if stage is Stage.LINE:
        return line
    if stage is Stage.ALL:
        return tuple(r.robot for r in robots if r.free)
    return _spread(robots, line, own.line, max(len(line), math.ceil(plan.tenth_share * len(robots))))


def _part(members: Sequence[RobotFacts], first: str, held_back: float) -> tuple[str, ...]:
    """The pilot and others of its line; at least one stays without, to compare with."""
    most = max(1, len(members) - max(1, round(held_back * len(members))))
    others = [r.robot for r in members if r.free and r.robot != first]
    return (first, *others[: most - 1])


def _spread(robots: Sequence[RobotFacts], line: tuple[str, ...], own: str, count: int) -> tuple[str, ...]:
    """``line``, and one robot of each other line in turn; of each line at least one stays without."""
    others = {name: members for name, members in _lines(robots).items() if name != own}
    queues = [[r.robot for r in members if r.free][: len(members) - 1] for members in others.values()]
    turns = [robot for turn in zip_longest(*queues) for robot in turn if robot is not None]
    return (*line, *turns[: count - len(line)])


def _lines(robots: Sequence[RobotFacts]) -> dict[str, list[RobotFacts]]:
    lines: dict[str, list[RobotFacts]] = {}
    for one in sorted(robots, key=lambda r: r.robot):
        lines.setdefault(one.line, []).append(one)
    return lines
