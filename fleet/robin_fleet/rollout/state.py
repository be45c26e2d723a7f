"""The state of one roll-out, and what may happen to it. Everything here is pure: an event goes in, a state comes out.

The ledger keeps each event and the state after it in one transaction (``robin_fleet.ledger.rollouts``), so that a
roll-out goes on where it was, whenever the process ends.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from pydantic import Field
from scipy.stats import binom

from robin_fleet.rollout.evidence import Evidence, Picks, added
from robin_fleet.rollout.plan import TRIALS, RobotFacts, RolloutPlan, Stage, TrialRule, chosen, pilot
from robin_perception.core.config import StrictConfig
from robin_perception.core.errors import Code, RobinError
from robin_perception.core.stats import paired_difference, wilson_interval


class Phase(str, Enum):
    """paused: no stage follows, but a loss still stops it. stopped: by the test, by a trial or by robots that went back
    themselves. aborted: by a person. In both all robots are to go back."""

    RUNNING = "running"
    PAUSED = "paused"
    STOPPED = "stopped"
    ABORTED = "aborted"
    DONE = "done"


class Trial(StrictConfig):
    """What a trial found so far. picks: that were compared, or tried. lost: that the release loses; won: that it alone
    wins. fault: why it cannot run at all; empty for none."""

    picks: int = Field(0, ge=0)
    lost: int = Field(0, ge=0)
    won: int = Field(0, ge=0)
    fault: str = Field("", max_length=500)


class RolloutState(StrictConfig):
    """model: id that picks with the release name; empty where it brings no model of its own. baseline: release that ran
    before, empty for none. began_s, seen_s: seconds UTC; picks before ``seen_s`` are counted. stage_picks, stage_hours:
    with the release by the robots of this stage, and of the windows that it lasted. robots: run the release; back: went
    back themselves. code, reason: of a roll-out that was stopped or aborted."""

    rollout: str
    release: str
    model: str = ""
    baseline: str = ""
    plan: RolloutPlan = RolloutPlan()
    phase: Phase = Phase.RUNNING
    stage: Stage
    pilot: str
    began_s: float
    seen_s: float
    stage_picks: int = 0
    stage_hours: float = 0.0
    robots: tuple[str, ...] = ()
    back: tuple[str, ...] = ()
    trials: dict[str, Trial] = Field(default_factory=dict)
    evidence: Evidence = Evidence()
    code: int = 0
    reason: str = ""

    @property
    def open(self) -> bool:
        """Whether it can still go on."""
        return self.phase in (Phase.RUNNING, Phase.PAUSED)


@dataclass(frozen=True)
class Event:
    """Append-only. kind: started, trial, picks, advanced, robot_back, paused, resumed, stopped, aborted, done."""

    kind: str
    text: str
    data: dict[str, Any] = field(default_factory=dict)


Change = tuple[RolloutState, Event]


def started(
    rollout: str,
    release: str,
    model: str,
    baseline: str,
    plan: RolloutPlan,
    robots: Sequence[RobotFacts],
    now_s: float,
    first: str | None = None,
) -> Change:
    """A new roll-out in its first stage. first: the robot to begin with. Raises RobinError ROLLOUT_NO_ROBOTS."""
    begin = first or pilot(robots)
    state = RolloutState(
        rollout=rollout,
        release=release,
        model=model,
        baseline=baseline,
        plan=plan,
        stage=plan.first,
        pilot=begin,
        began_s=now_s,
        seen_s=now_s,
        robots=chosen(plan.first, robots, begin, plan),
    )
    return state, Event("started", f"{release} in place of {baseline or 'what runs'}, first on {begin}", _told(state))


def tried(state: RolloutState, stage: Stage, found: Trial) -> Change:
    """With what a robot or a test station found in a trial; counts add up. Raises RobinError ROLLOUT_STATE for a trial
    whose turn it is not."""
    if not state.open or state.stage is not stage or stage not in TRIALS:
        raise _wrong(state, f"no report of {stage.value} is waited for")
    known = state.trials.get(stage.value, Trial())
    total = Trial(
        picks=known.picks + found.picks,
        lost=known.lost + found.lost,
        won=known.won + found.won,
        fault=known.fault or found.fault,
    )
    after = state.model_copy(update={"trials": {**state.trials, stage.value: total}})
    return after, Event("trial", f"{stage.value}: {total.picks} picks, {total.lost} lost", found.model_dump())


def picked(state: RolloutState, end_s: float, picks: Mapping[str, Picks]) -> Change:
    """With the picks of one window, by line."""
    plan = state.plan
    of_release = sum(p.with_release for p in picks.values())
    after = state.model_copy(
        update={
            "evidence": added(state.evidence, picks, plan.tolerated, plan.margins),
            "seen_s": end_s,
            "stage_picks": state.stage_picks + of_release,
            "stage_hours": state.stage_hours + plan.window_s / 3600,
        }
    )
    told = {line: found.model_dump() for line, found in picks.items()}
    return after, Event("picks", f"{of_release} picks with {state.release}", {"until_s": end_s, "lines": told})


def went_back(state: RolloutState, robot: str, why: str) -> Change:
    """With a robot that rolled back by itself; it stays with what it runs now."""
    after = state.model_copy(update={"back": (*state.back, robot)})
    return after, Event("robot_back", f"{robot}: {why}", {"robot": robot})


def decided(state: RolloutState, robots: Sequence[RobotFacts]) -> Change | None:
    """What follows from all that is known: stop, the next stage, the end; None: go on as it is."""
    if not state.open:
        return None
    code, why = _stop(state)
    if code is not Code.OK:
        return _ended(state, Phase.STOPPED, "stopped", f"E{int(code)} {why}", int(code))
    if state.phase is Phase.PAUSED or not ready(state):
        return None
    following = state.plan.after(state.stage)
    if following is None:
        return state.model_copy(update={"phase": Phase.DONE}), Event("done", f"{len(state.robots)} robots run it")
    reached = tuple(dict.fromkeys((*state.robots, *chosen(following, robots, state.pilot, state.plan))))
    after = state.model_copy(update={"stage": following, "robots": reached, "stage_picks": 0, "stage_hours": 0.0})
    return after, Event("advanced", f"{following.value}: {len(reached)} robots", _told(after))


def ready(state: RolloutState) -> bool:
    """Whether the stage has shown all that it must."""
    if state.stage in TRIALS:
        return state.trials.get(state.stage.value, Trial()).picks >= state.plan.trial(state.stage).picks
    rule = state.plan.rule(state.stage)
    enough = state.stage_picks >= rule.picks and state.stage_hours >= rule.hours
    return enough and (rule.margin is None or proven(state, rule.margin))


def proven(state: RolloutState, margin: float) -> bool:
    """Whether a loss as large as ``margin`` is disproved."""
    return state.evidence.wealth_kept(margin) >= 1.0 / state.plan.false_proofs


def paused(state: RolloutState, why: str) -> Change:
    """Raises RobinError ROLLOUT_STATE."""
    if state.phase is not Phase.RUNNING:
        raise _wrong(state, "only one that runs can be paused")
    return state.model_copy(update={"phase": Phase.PAUSED}), Event("paused", why)


def resumed(state: RolloutState, why: str) -> Change:
    """Raises RobinError ROLLOUT_STATE."""
    if state.phase is not Phase.PAUSED:
        raise _wrong(state, "only one that is paused can be resumed")
    return state.model_copy(update={"phase": Phase.RUNNING}), Event("resumed", why)


def aborted(state: RolloutState, why: str) -> Change:
    """Raises RobinError ROLLOUT_STATE."""
    if not state.open:
        raise _wrong(state, "it is over")
    return _ended(state, Phase.ABORTED, "aborted", why)


def _stop(state: RolloutState) -> tuple[Code, str]:
    """(why it must be stopped, in words); OK: it must not."""
    if state.stage in TRIALS:
        return _refused(state.stage, state.trials.get(state.stage.value, Trial()), state.plan.trial(state.stage))
    plan, evidence = state.plan, state.evidence
    if evidence.wealth_worse >= 1.0 / plan.false_stops:
        text = f"{evidence.lost} of {evidence.picks} picks lost with {state.release}"
        return Code.ROLLOUT_WORSE, f"{text}, {evidence.lost_without} of {evidence.picks_without} without"
    count = len(state.back)
    if count and binom.sf(count - 1, max(len(state.robots), count), plan.false_backs) <= plan.false_backs:
        return Code.ROLLOUT_WENT_BACK, f"{count} of {len(state.robots)} robots went back by themselves"
    return Code.OK, ""


def _refused(stage: Stage, found: Trial, rule: TrialRule) -> tuple[Code, str]:
    if found.fault:
        return Code.ROLLOUT_TRIAL, f"{stage.value}: {found.fault}"
    if found.picks < rule.picks:
        return Code.OK, ""
    if stage is Stage.ACCEPTANCE:
        high = wilson_interval(found.lost, found.picks)[1]
    else:
        high = paired_difference(found.lost, found.won, found.picks)["high"]
    if high <= rule.loss:
        return Code.OK, ""
    text = f"{stage.value}: {found.lost} lost, {found.won} won of {found.picks}; up to {high:.3f} may be lost"
    return Code.ROLLOUT_TRIAL, f"{text}, {rule.loss:g} is allowed"


def _ended(state: RolloutState, phase: Phase, kind: str, why: str, code: int = 0) -> Change:
    """All robots go back to what ran before."""
    told = {"reached": list(state.robots), "picks": state.evidence.picks, "lost": state.evidence.lost}
    after = state.model_copy(update={"phase": phase, "robots": (), "reason": why, "code": code})
    return after, Event(kind, why, told)


def _told(state: RolloutState) -> dict[str, Any]:
    return {"stage": state.stage.value, "robots": list(state.robots)}


def _wrong(state: RolloutState, why: str) -> RobinError:
    text = f"roll-out {state.rollout} is {state.phase.value}, in stage {state.stage.value}: {why}"
    return RobinError(Code.ROLLOUT_STATE, text)
