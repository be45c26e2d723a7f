"""Policy and help desk of a running station: what a cell's reports lead to. No ROS in here."""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass, replace

from robin_grasp.picks.outcome import PickResult
from robin_grasp.picks.pick_check import PickJudgement
from robin_grasp.plan import Grasp
from robin_grasp.recovery.action import Action
from robin_grasp.recovery.config import RecoveryConfig
from robin_grasp.recovery.course import PickCourse, question
from robin_grasp.recovery.help_desk import HelpDesk
from robin_grasp.recovery.help_request import (
    DONE,
    HelpCause,
    HelpRequest,
    failing_cause,
    load_cause,
    parcel_cause,
    station_cause,
)
from robin_grasp.recovery.machine import PickTarget, Recovery, Step, gravest
from robin_grasp.recovery.picture import help_picture
from robin_grasp.recovery.table import Seen, State
from robin_perception.core.condition import PickingEffect
from robin_perception.core.errors import Code
from robin_perception.core.frame import Frame
from robin_perception.core.scene import Scene

KEPT_PICKS = 4
_ABOUT_PICKS = frozenset({Code.PARCEL_NOT_HELD, Code.GOODS_SELDOM_HELD, Code.LOAD_DOUBTFUL, Code.PICKS_FAILING})


@dataclass(frozen=True)
class Told:
    """What a cell is answered. help_id: of the request that it waits for; empty for none."""

    step: Step
    help_id: str = ""


@dataclass(frozen=True)
class _Asked:
    """What an open request is about."""

    step: Step
    plan_id: str = ""
    parcels: tuple[Frame, Scene, tuple[int, ...]] | None = None


class StationRecovery:
    """Thread-safe. Picks are named by their plan's id; nothing is remembered of a pick once it has ended."""

    def __init__(self, config: RecoveryConfig, desk: HelpDesk) -> None:
        self._config, self._desk = config, desk
        self._lock = threading.RLock()
        self._recovery = Recovery(config)
        self._picks: OrderedDict[str, PickCourse] = OrderedDict()
        self._asked: dict[str, _Asked] = {}

    @property
    def desk(self) -> HelpDesk:
        return self._desk

    @property
    def stopped(self) -> bool:
        return self._recovery.state is State.STOPPED

    def scene(self, frame: Frame, scene: Scene) -> None:
        """A segmented frame: a station that is not in order is told to a person as long as it is not."""
        with self._lock:
            found = gravest(scene.conditions)
            code = Code.OK if found is None or found.effect is not PickingEffect.STOP else found.code
            asked = [request for request in self._desk.requests() if request.code not in _ABOUT_PICKS]
            for request in asked:
                if request.code is not code:
                    self._desk.withdraw(request.help_id, "the condition is over")
                    self._take(self._desk.request(request.help_id))
            if found is None or code is Code.OK or self.stopped or any(request.code is code for request in asked):
                return
            step = self._recovery.look(scene.conditions)
            if step.action is Action.ASK_HELP:
                self._ask(station_cause(found, self._config.help), _Asked(step), help_picture(frame))

    def planned(
        self,
        plan_id: str,
        frame: Frame,
        scene: Scene,
        excluded: tuple[int, ...],
        grasps: bool,
        seldom_held: tuple[int, ...] = (),
    ) -> str:
        """A plan was handed out. excluded: what it left out. seldom_held: goods that mostly fail. Returns the id of
        the request for help where only such goods and parcels that were given up are left."""
        with self._lock:
            late = set(excluded) & set(seldom_held)
            left = tuple(sorted(late | (set(excluded) & set(self._recovery.memory.given_up(frame, scene)))))
            if self.stopped:
                return ""
            step = self._recovery.look(scene.conditions, not grasps and bool(left), bool(late))
            if step.seen not in (Seen.LEFT_OVER, Seen.SELDOM_HELD) or step.action is not Action.ASK_HELP:
                return ""
            cause = parcel_cause(step.reason, self._config.help, step.code)
            return self._ask(cause, _Asked(step, plan_id, (frame, scene, left)), help_picture(frame)).help_id

    def held(self, plan_id: str, target: PickTarget, judgement: PickJudgement | None, apart: int = 0) -> Told:
        """A load hangs on the tool. judgement: None where nobody could judge it; apart: as of ``Recovery.held``."""
        with self._lock:
            pick = self._picks.setdefault(plan_id, PickCourse(self._recovery, target))
            while len(self._picks) > KEPT_PICKS:
                self._picks.popitem(last=False)
            step = pick.held(judgement, apart)
            if step.action is not Action.ASK_HELP:
                return Told(step)
            why = question(step, judgement)
            picture = help_picture(target.frame, target.grasp)
            asked = self._ask(load_cause(why, self._config.help), _Asked(step, plan_id), picture)
            return Told(replace(step, reason=why), asked.help_id)

    def judged(self, plan_id: str) -> PickJudgement | None:
        """The judgement of the load that was held last in that pick: what is known of it does not change any more."""
        with self._lock:
            return self._picks[plan_id].judgement if plan_id in self._picks else None

    def holding(self, plan_id: str, grasp: Grasp) -> Grasp:
        """The grasp with the cups that may still hold something."""
        with self._lock:
            return self._picks[plan_id].target.grasp if plan_id in self._picks else grasp

    def ended(self, plan_id: str, target: PickTarget, result: PickResult | None) -> Told:
        """The pick is over."""
        with self._lock:
            pick = self._picks.pop(plan_id, None) or PickCourse(self._recovery, target)
            step = pick.ended(result)
            if step.action is not Action.ASK_HELP:
                return Told(step)
            picture = help_picture(target.frame, target.grasp)
            asked = self._ask(failing_cause(step.reason, self._config.help), _Asked(step, plan_id), picture)
            return Told(step, asked.help_id)

    def answer(self, help_id: str, answer: str, by: str) -> HelpRequest:
        """A person answers. Raises RobinError HELP_NOT_OPEN, HELP_ANSWER_INVALID."""
        with self._lock:
            closed = self._desk.answer(help_id, answer, by)
            self._take(closed)
            return closed

    def tick(self) -> tuple[HelpRequest, ...]:
        """Requests that a time-out or another process has closed since the last call."""
        with self._lock:
            closed = self._desk.tick()
            for request in closed:
                self._take(request)
            return closed

    def _ask(self, cause: HelpCause, asked: _Asked, picture: bytes) -> HelpRequest:
        request = self._desk.ask(cause, asked.plan_id, picture)
        self._asked[request.help_id] = asked
        return request

    def _take(self, request: HelpRequest) -> None:
        """An answer. One that was asked before a restart is the cell's alone: nobody here knows what it was about."""
        asked, answer = self._asked.pop(request.help_id, None), request.answer
        if asked is None:
            return
        self._recovery.answered(answer)
        pick = self._picks.get(asked.plan_id)
        if asked.step.state is State.HELD and pick is not None:
            pick.answered(answer)
        if asked.parcels is not None and answer == DONE:
            self._recovery.memory.forget_parcels(*asked.parcels)
