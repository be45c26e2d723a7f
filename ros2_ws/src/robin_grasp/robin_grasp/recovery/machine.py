"""The recovery policy as a state machine: it is told what is seen, and says what to do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum

from robin_grasp.picks.outcome import OTHER_LOAD, PickResult, other_load
from robin_grasp.plan import Grasp
from robin_grasp.recovery.action import Action
from robin_grasp.recovery.config import RecoveryConfig
from robin_grasp.recovery.failure_memory import FailureMemory, point_on
from robin_grasp.recovery.table import Doubt, Rule, Seen, State, recovery_table, rule_for
from robin_grasp.tool import MotionConfig
from robin_perception.core.condition import Condition, Family, PickingEffect
from robin_perception.core.errors import Code, RobinError
from robin_perception.core.frame import Frame
from robin_perception.core.scene import Scene

_GRAVEST_FIRST = (PickingEffect.STOP, PickingEffect.LOOK_AGAIN, PickingEffect.SLOW_DOWN)
_SEEN_OF = {
    PickingEffect.STOP: Seen.STOP,
    PickingEffect.LOOK_AGAIN: Seen.LOOK_AGAIN,
    PickingEffect.SLOW_DOWN: Seen.SLOW_DOWN,
}


class Fate(str, Enum):
    """What became of the load: delivered (or never held), back in the pile, or taken off by a person."""

    DELIVERED = "delivered"
    BACK = "back"
    TAKEN = "taken"


@dataclass(frozen=True)
class PickTarget:
    """A grasp with the frame and the scene that it was planned on."""

    grasp: Grasp
    frame: Frame
    scene: Scene


@dataclass(frozen=True)
class Step:
    """One decision of the policy: the situation as the table has it, and what to do. code: numbered cause of a request
    for help or of a mark. release_cups: of ``put_back``, cup mask of what is let go."""

    state: State
    seen: Seen
    doubt: Doubt
    tries: int
    action: Action
    reason: str
    next_state: State
    code: Code = Code.OK
    release_cups: int = 0


class Recovery:
    """The policy of one pile. Not thread-safe. memory: of the failures; the planner is told of the same."""

    def __init__(self, config: RecoveryConfig | None = None, memory: FailureMemory | None = None) -> None:
        self.config = config or RecoveryConfig()
        self.memory = memory or FailureMemory()
        self.state = State.LOOK
        self._table = recovery_table(self.config)
        self._looks = 0
        self._helps = 0
        self._put_backs = 0

    def look(self, conditions: Sequence[Condition] = (), left_over: bool = False, seldom_held: bool = False) -> Step:
        """Before a pick. left_over: parcels are there, but the only ones that could be picked were given up.
        seldom_held: some of them since such goods were seldom held."""
        found = gravest(conditions)
        seen = Seen.CLEAR if found is None else _SEEN_OF[found.effect]
        if seen is Seen.LOOK_AGAIN:
            self._looks += 1
            seen = Seen.UNCLEAR if self._looks > self.config.looks else seen
        else:
            self._looks = 0
        if left_over and seen is not Seen.STOP:
            seen, found = (Seen.SELDOM_HELD if seldom_held else Seen.LEFT_OVER), None
        self._put_backs = 0
        step = self._step(State.LOOK, seen, Doubt.SURE, self._helps)
        if found is None or step.action is Action.GO_ON:
            return step
        return replace(step, code=found.code, reason=f"{found.text or found.name}: {step.reason}")

    def held(self, pick: PickTarget, odds: Mapping[PickResult, float], apart: int = 0) -> Step:
        """A load hangs on the tool. odds: probability of each result, empty where nobody judged; apart: cup mask that
        holds a second parcel, 0 where that is not known."""
        seen, doubt = load_seen(odds, self.config)
        if seen is Seen.MULTI and apart and self._put_backs < self.config.put_backs:
            seen = Seen.APART
        tries = self.memory.set_downs_of(pick.frame, pick.scene, pick.grasp.instance_id)
        step = self._step(State.HELD, seen, doubt, tries)
        if step.action is Action.PUT_BACK:
            self._put_backs += 1
            return replace(step, release_cups=apart)
        return step

    def ended(self, pick: PickTarget, result: PickResult | None, fate: Fate = Fate.DELIVERED) -> Step:
        """The pick is over; what failed is remembered. result: None where nobody judged. Who stopped meanwhile stays
        stopped."""
        seen, memory, stopped = _ended_seen(result, fate), self.memory, self.state is State.STOPPED
        failed = seen in (Seen.NOTHING, Seen.BACK)
        tries = memory.tries_of(pick.frame, pick.scene, pick.grasp.instance_id) + failed
        if failed and memory.in_a_row + 1 >= self.config.failures_in_a_row:
            seen = Seen.FAILING
        step = self._step(State.ENDED, seen, Doubt.SURE, tries)
        noted = PickResult.CLEAN if seen is Seen.TAKEN else result
        if noted is not None:
            # A parcel that goes on failing is given up, whatever else is wrong.
            given_up = failed and tries >= 1 + self.config.cups_tries + self.config.pose_tries
            action = Action.OTHER_PARCEL if given_up else step.action
            parcel = point_on(pick.frame, pick.scene, pick.grasp.instance_id)
            memory.note(pick.grasp, noted, action, fate is Fate.BACK, parcel)
        if seen is Seen.CLEAN:
            self._helps = 0
        if stopped:
            self.state = State.STOPPED
            return replace(step, action=Action.STOP, next_state=State.STOPPED)
        return step

    def answered(self, answer: str) -> State:
        """A person, or the time-out, has answered the request for help. ``stop`` stops; anything else goes on."""
        self.state = State.STOPPED if answer == "stop" else State.LOOK
        self._looks = 0
        self.memory.begin_row()
        return self.state

    def _step(self, state: State, seen: Seen, doubt: Doubt, tries: int) -> Step:
        rule: Rule = rule_for(self._table, state, seen, doubt, tries)
        self._helps += rule.action is Action.ASK_HELP
        self.state = rule.next_state
        return Step(state, seen, doubt, tries, rule.action, rule.why, rule.next_state, rule.code)


def gravest(conditions: Sequence[Condition]) -> Condition | None:
    """The environment's condition that does most to picking; None where all let it go on."""
    own = [c for c in conditions if c.family is Family.ENVIRONMENT and c.effect is not PickingEffect.GO_ON]
    return min(own, key=lambda c: _GRAVEST_FIRST.index(c.effect), default=None)


def refuse_to_pick(conditions: Sequence[Condition]) -> None:
    """Raises RobinError with the number of the condition that asks to stop, or to look again first."""
    found = gravest(conditions)
    if found is not None and found.effect in (PickingEffect.STOP, PickingEffect.LOOK_AGAIN):
        what = "nothing is picked" if found.effect is PickingEffect.STOP else "look again first"
        raise RobinError(found.code, f"{found.text or found.name}: {what}")


def load_seen(odds: Mapping[PickResult, float], config: RecoveryConfig) -> tuple[Seen, Doubt]:
    """What hangs on the tool, by the odds of the five results."""
    if not odds:
        return Seen.UNKNOWN, Doubt.DOUBTFUL
    multi, wrong = (odds.get(kind, 0.0) for kind in OTHER_LOAD)
    nothing = odds.get(PickResult.MISS, 0.0) + odds.get(PickResult.DROP, 0.0)
    bad = other_load(odds)
    if bad <= config.deliver_below:
        return (Seen.NOTHING if nothing > odds.get(PickResult.CLEAN, 0.0) else Seen.CLEAN), Doubt.SURE
    doubt = Doubt.SURE if bad >= config.sure_from else Doubt.DOUBTFUL
    return (Seen.MULTI if multi >= wrong else Seen.WRONG), doubt


def _ended_seen(result: PickResult | None, fate: Fate) -> Seen:
    if fate is Fate.BACK:
        return Seen.BACK
    if fate is Fate.TAKEN:
        return Seen.TAKEN
    if result is None:
        return Seen.UNKNOWN
    if result in (PickResult.MULTI, PickResult.WRONG):
        return Seen.GONE
    return Seen.CLEAN if result is PickResult.CLEAN else Seen.NOTHING


def slowed(motion: MotionConfig, factor: float) -> MotionConfig:
    """The same path in 1 / ``factor`` of the time: speeds times ``factor``, accelerations times its square."""
    speeds = {name: getattr(motion, name) * factor for name in MotionConfig.model_fields if name.endswith("_mps")}
    rises = {name: getattr(motion, name) * factor**2 for name in MotionConfig.model_fields if name.endswith("_mps2")}
    return motion.model_copy(update={**speeds, **rises})
