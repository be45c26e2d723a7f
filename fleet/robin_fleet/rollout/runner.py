"""Roll-outs over the ledger and the repository: what is known is counted, what follows is decided, written, and then
published for the robots.

Each event is one transaction with the state after it. What was written and not published, because the process ended,
is published by the next step.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Literal

import sqlalchemy as sa

from edge_adapt.releases.release import Assignment, Assignments
from robin_fleet.ledger import rollouts as book
from robin_fleet.ledger.core import Ledger
from robin_fleet.ledger.robots import ENROLLED, all_robots
from robin_fleet.ledger.rollouts import PickCount
from robin_fleet.release.repository import ReleaseRepository
from robin_fleet.rollout import state as steps
from robin_fleet.rollout.evidence import Picks
from robin_fleet.rollout.plan import COUNTED_S, TRIALS, RobotFacts, RolloutPlan, Stage
from robin_fleet.rollout.state import Event, Phase, RolloutState, Trial
from robin_perception.core.errors import Code, RobinError

LATE_S = 300.0
"""How long picks of a stretch of time are waited for after its end; what comes later is not counted."""
_BEFORE_S = 7 * 86_400.0  # picks from which the first robot is chosen


class RolloutRunner:
    """clock: seconds UTC. Any number of processes may step: each change is one transaction of the ledger."""

    def __init__(self, ledger: Ledger, repository: ReleaseRepository, clock: Callable[[], float] = time.time) -> None:
        self._ledger, self._repository, self._clock = ledger, repository, clock

    def start(self, release: str, plan: RolloutPlan, first: str | None = None) -> RolloutState:
        """Raises RobinError RELEASE_UNKNOWN, ROLLOUT_STATE where another one is open or this one was, ROLLOUT_NO_ROBOTS
        where nobody can take it."""
        known = {one.name: one for one in self._repository.releases()}
        if release not in known:
            raise RobinError(Code.RELEASE_UNKNOWN, f"release {release}: is not published; robin fleet release list")
        now_s = self._clock()
        begin_s = now_s // COUNTED_S * COUNTED_S
        with self._ledger.write() as connection:
            earlier = book.all_rollouts(connection)
            for one in earlier:
                if one.open:
                    raise RobinError(Code.ROLLOUT_STATE, f"roll-out {one.rollout} of {one.release} is still open")
                if one.release == release:
                    raise RobinError(Code.ROLLOUT_STATE, f"release {release} was rolled out as {one.rollout}")
            baseline = next((one.release for one in reversed(earlier) if one.phase is Phase.DONE), "")
            robots = book.robot_facts(connection, now_s - _BEFORE_S)
            name, model = f"r{len(earlier) + 1:04d}", known[release].model
            made = steps.started(name, release, model, baseline, plan, robots, begin_s, first)
            state = book.put(connection, made, now_s)
        self.publish()
        return state

    def step(self) -> list[tuple[str, Event]]:
        """All that is due now; (roll-out, event) of each thing that happened but counting. Safe to repeat at any
        time."""
        now_s, happened = self._clock(), []
        with self._ledger.read() as connection:
            waiting = [one.rollout for one in book.all_rollouts(connection) if one.open]
        for name in waiting:
            while (event := self._one(name, now_s)) is not None:
                if event.kind != "picks":
                    happened.append((name, event))
        self.publish()
        return happened

    def report(self, rollout: str, stage: Stage, found: Trial) -> RolloutState:
        """What a trial found. Raises RobinError ROLLOUT_UNKNOWN, ROLLOUT_STATE."""
        return self._changed(rollout, lambda state: steps.tried(state, stage, found))

    def pause(self, rollout: str, why: str) -> RolloutState:
        return self._changed(rollout, lambda state: steps.paused(state, why))

    def resume(self, rollout: str, why: str) -> RolloutState:
        return self._changed(rollout, lambda state: steps.resumed(state, why))

    def abort(self, rollout: str, why: str) -> RolloutState:
        """All robots go back. Raises RobinError ROLLOUT_UNKNOWN, ROLLOUT_STATE."""
        state = self._changed(rollout, lambda state: steps.aborted(state, why))
        self.publish()
        return state

    def publish(self) -> None:
        """Sites whose assignments are not what the ledger says get new ones. One without a delegation gets none."""
        with self._ledger.read() as connection:
            states = book.all_rollouts(connection)
            robots = [one for one in all_robots(connection) if one.state == ENROLLED]
            free = {one.robot for one in book.robot_facts(connection, self._clock()) if one.free}
        sites: dict[str, list[str]] = {site: [] for site in self._repository.sites()}
        for one in robots:
            if one.site in sites:
                sites[one.site].append(one.robot)
        for site, names in sites.items():
            told = assigned(states, names, free)
            if told != self._repository.assignments(site):
                self._repository.assign(site, told)

    def _one(self, name: str, now_s: float) -> Event | None:
        """The next thing that is due."""
        with self._ledger.write() as connection:
            state = book.find_rollout(connection, name)
            if not state.open:
                return None
            robots = book.robot_facts(connection, now_s - _BEFORE_S)
            change = _back(connection, state) or _window(connection, state, robots, now_s)
            change = change or steps.decided(state, robots)
            if change is None:
                return None
            after = book.put(connection, change, now_s)
            if change[1].kind in ("picks", "robot_back") and (then := steps.decided(after, robots)) is not None:
                book.put(connection, then, now_s)
                return then[1]
            return change[1]

    def _changed(self, name: str, make: Callable[[RolloutState], steps.Change]) -> RolloutState:
        with self._ledger.write() as connection:
            return book.put(connection, make(book.find_rollout(connection, name)), self._clock())


def assigned(states: Sequence[RolloutState], robots: Sequence[str], free: set[str]) -> Assignments:
    """What these robots are to run. states: all roll-outs, oldest first. free: robots that are not held;
    others stay with what they run."""
    told: dict[str, Assignment] = {}
    for state in states:
        named = set(state.robots)
        for robot in robots:
            if robot in free and (state.phase is Phase.DONE or robot in named):
                told[robot] = Assignment(release=state.release, rollout=state.rollout)
        if state.open and state.stage in TRIALS and state.pilot in robots and state.pilot in free:
            told[state.pilot] = _trial(state)
    back = tuple(state.release for state in states if state.phase in (Phase.STOPPED, Phase.ABORTED))
    return Assignments(robots=told, back=back)


def _trial(state: RolloutState) -> Assignment:
    trial: Literal["", "replay", "shadow"] = ""
    if state.stage is not Stage.ACCEPTANCE:
        trial = "replay" if state.stage is Stage.REPLAY else "shadow"
    return Assignment(release=state.release, use="try", rollout=state.rollout, trial=trial)


def by_line(
    counts: Sequence[PickCount], lines: Mapping[str, str], with_release: set[str], model: str
) -> dict[str, Picks]:
    """Picks by line. A robot that has the release counts with the release's model alone; others with whatever they
    run. lines: of each robot. model: of the release, empty where picks do not tell it."""
    found: dict[str, list[int]] = defaultdict(lambda: [0, 0, 0, 0])
    for one in counts:
        if one.robot not in lines:
            continue
        if one.robot in with_release:
            column = 0 if not model or one.model == model else None
        else:
            column = None if model and one.model == model else 2
        if column is not None:
            found[lines[one.robot]][column] += one.clean
            found[lines[one.robot]][column + 1] += one.picks
    return {
        line: Picks(clean_with=a, with_release=b, clean_without=c, without=d) for line, (a, b, c, d) in found.items()
    }


def _window(
    connection: sa.Connection, state: RolloutState, robots: Sequence[RobotFacts], now_s: float
) -> steps.Change | None:
    """The next stretch of time, once it is over. In trials picks do not matter, and time goes by."""
    end_s = state.seen_s + state.plan.window_s
    if now_s < end_s + LATE_S:
        return None
    if state.stage in TRIALS:
        whole = (now_s - LATE_S - state.seen_s) // state.plan.window_s * state.plan.window_s
        return state.model_copy(update={"seen_s": state.seen_s + whole}), Event("picks", "a trial: none are counted")
    lines = {one.robot: one.line for one in robots}
    counts = book.counted(connection, state.seen_s, end_s)
    return steps.picked(state, end_s, by_line(counts, lines, set(state.robots), state.model))


def _back(connection: sa.Connection, state: RolloutState) -> steps.Change | None:
    """A robot that had the release and picks again with a model that it had before it."""
    if not state.model or not state.robots:
        return None
    found = book.spans(connection, state.robots, state.began_s - _BEFORE_S)
    own = {one.robot: one for one in found if one.model == state.model}
    for one in found:
        release = own.get(one.robot)
        if release is None or one.robot in state.back or one.last_s >= state.seen_s:
            continue
        if one.first_s < release.first_s and one.last_s > release.last_s:
            return steps.went_back(state, one.robot, f"runs {one.model} again")
    return None
