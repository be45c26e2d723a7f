"""A release on its way to all robots of the demo, or back: the real roll-out, over hours that are not waited for."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from edge_adapt.releases.trial import try_release
from edge_adapt.uplink.reports import Outbox
from robin_cli.fleet_demo.cells import ENGINE, STORE
from robin_cli.fleet_demo.robots import Measured, Robot, draw_picks
from robin_cli.fleet_demo.uplink import send
from robin_fleet.folder import Fleet
from robin_fleet.ledger import rollouts as book
from robin_fleet.release.repository import ReleaseRepository
from robin_fleet.rollout.plan import COUNTED_S, RolloutPlan, Stage, StageRule, TrialRule
from robin_fleet.rollout.runner import LATE_S, RolloutRunner
from robin_fleet.rollout.state import RolloutState
from robin_perception.core.errors import Code, RobinError

_NONE = TrialRule(picks=0, loss=0.5)
PLAN = RolloutPlan(
    replay=TrialRule(picks=8, loss=0.4),
    shadow=_NONE,
    acceptance=_NONE,
    robot=StageRule(picks=300, hours=1, margin=0.10),
    line=StageRule(picks=900, hours=1, margin=0.07),
    tenth=StageRule(picks=1500, hours=1, margin=0.06),
    all=StageRule(picks=1500, hours=1),
    tenth_share=0.6,
)
"""Stages of a fleet of twelve robots: margins are wider, and trials smaller than by default."""
UNTRIED = PLAN.model_copy(update={"replay": _NONE})
"""As somebody would have it who leaves out the trial."""
_MOST_HOURS = 72
_REPORTS_MB = 64.0

Tell = Callable[[str], None]


class Clock:
    """Seconds UTC: the machine's, and the hours that the demo skips."""

    def __init__(self) -> None:
        self._skipped_s = 0.0

    def __call__(self) -> float:
        return time.time() + self._skipped_s

    def skip(self, seconds: float) -> None:
        self._skipped_s += seconds


@dataclass(frozen=True)
class Point:
    """After one stretch of time. robots: that are to run the release. worse: what the test for a loss has gathered, 1
    stops it. failed, picks: with the release, without it."""

    hours: float
    stage: str
    robots: int
    worse: float
    failed: tuple[int, int]
    picks: tuple[int, int]


@dataclass
class Told:
    """One roll-out as the page tells it. followed: what robots did, in words."""

    state: RolloutState
    points: list[Point] = field(default_factory=list)
    events: list[book.Told] = field(default_factory=list)
    followed: list[str] = field(default_factory=list)
    ran_it: int = 0

    @property
    def went_back(self) -> list[str]:
        return [line for line in self.followed if "went back" in line]

    def to_json(self) -> dict[str, Any]:
        evidence, state = self.state.evidence, self.state
        return {
            "rollout": state.rollout,
            "release": state.release,
            "phase": state.phase.value,
            "stage": state.stage.value,
            "code": state.code,
            "reason": state.reason,
            "hours": self.points[-1].hours if self.points else 0.0,
            "robots_that_ran_it": self.ran_it,
            "picks_with": evidence.picks,
            "lost_with": evidence.lost,
            "picks_without": evidence.picks_without,
            "lost_without": evidence.lost_without,
            "robots_that_went_back": len(self.went_back),
            "events": [{"kind": event.kind, "text": event.text} for event in self.events],
        }


@dataclass
class Lines:
    """All robots of the fleet, and what they need. url, root: of the repository. hours go by on ``clock``."""

    fleet: Fleet
    robots: Sequence[Robot]
    url: str
    root: bytes
    measured: Measured
    clock: Clock
    rng: np.random.Generator
    _models: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._models = {one.name: one.model for one in self.robots}

    @property
    def repository(self) -> ReleaseRepository:
        return ReleaseRepository(self.fleet.folder, self.clock)

    def roll_out(self, release: str, plan: RolloutPlan, first: Robot, tell: Tell) -> Told:
        """From the first robot to the end, whatever it is."""
        runner = RolloutRunner(self.fleet.ledger, self.repository, self.clock)
        told = Told(runner.start(release, plan, first.name))
        self._all_follow(told)
        if told.state.stage is Stage.REPLAY:
            self._try(release, first, tell)
            runner.step()
            self._all_follow(told)
            told.state = self._state(told.state.rollout)
        began_s = self.clock()
        while told.state.open and self.clock() - began_s < _MOST_HOURS * 3600:
            self._pick()
            if runner.step():
                self._all_follow(told)
            told.state = self._state(told.state.rollout)
            told.points.append(_point(told.state, (self.clock() - began_s) / 3600))
            tell(f"{release}: {told.state.stage.value}, {told.points[-1].robots} robots run it")
        told.events = [one for one in self._events(told.state.rollout) if one.kind != "picks"]
        return told

    def before(self) -> None:
        """An hour of picks before anything is rolled out: robots have a history."""
        for _ in range(6):
            self._pick()

    def _try(self, release: str, first: Robot, tell: Tell) -> None:
        """On the robot's own record; the report goes up with the rest."""
        found = try_release(first.folder / STORE, first.registry, release, "replay", engine=ENGINE)
        tell(f"{release}: trial on {first.name}: {found.text}")
        Outbox(first.folder, int(_REPORTS_MB * 1e6)).put(found.report(self.clock()))
        send(first.folder, first.folder / STORE, None, lambda text: None)

    def _all_follow(self, told: Told) -> None:
        for one in self.robots:
            try:
                done = one.follow(self.url, self.root)
            except RobinError as exc:
                if exc.code is not Code.MODEL_PICKS_WORSE:
                    raise
                continue
            if done is not None and (done.active or done.back):
                told.followed.append(f"{one.name} {'went back from' if done.back else 'runs'} {done.release}")
                told.ran_it += done.active
                self._models[one.name] = one.model

    def _pick(self) -> None:
        begin_s = self.clock() // COUNTED_S * COUNTED_S
        draw_picks(self.fleet.ledger, self.robots, self._models, self.measured, begin_s, self.rng)
        self.clock.skip(begin_s + COUNTED_S + LATE_S + 1 - self.clock())

    def _state(self, rollout: str) -> RolloutState:
        with self.fleet.ledger.read() as connection:
            return book.find_rollout(connection, rollout)

    def _events(self, rollout: str) -> list[book.Told]:
        with self.fleet.ledger.read() as connection:
            return book.events_of(connection, rollout)


def _point(state: RolloutState, hours: float) -> Point:
    known = state.evidence
    worse = known.wealth_worse * state.plan.false_stops
    counts = (known.lost, known.lost_without), (known.picks, known.picks_without)
    return Point(hours, state.stage.value, len(state.robots), worse, *counts)
