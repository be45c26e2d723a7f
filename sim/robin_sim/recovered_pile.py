"""One pile of the simulated cell under the recovery policy: every load is judged at the place station, and what is not
as it should be is put right there, in physics."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from pydantic import Field

from robin_grasp.picks.outcome import PickOutcome, PickResult
from robin_grasp.picks.pick_check import PickJudgement
from robin_grasp.plan import Grasp
from robin_grasp.recovery.action import Action
from robin_grasp.recovery.config import RecoveryConfig
from robin_grasp.recovery.course import PickCourse, question
from robin_grasp.recovery.help_desk import HelpDesk
from robin_grasp.recovery.help_request import (
    DONE,
    SKIP,
    STOP,
    HelpCause,
    HelpRequest,
    failing_cause,
    load_cause,
    parcel_cause,
    station_cause,
)
from robin_grasp.recovery.machine import Fate, PickTarget, Recovery, Step, gravest, slowed
from robin_grasp.recovery.picture import help_picture
from robin_grasp.recovery.second_parcel import cups_on_another
from robin_grasp.recovery.table import Seen, State
from robin_grasp.tool import CellConfig
from robin_perception.core.config import StrictConfig
from robin_perception.core.frame import Frame
from robin_sim.model import Parcel
from robin_sim.open_pile import OpenPile
from robin_sim.physics import UnstableSimulationError
from robin_sim.pick_event import PickEvent, Recovered, TurnStep
from robin_sim.real_person import RealPerson

JudgePick = Callable[[PickTarget, Frame, PickOutcome, CellConfig], PickJudgement]
LOOK_S = 0.1


class PersonConfig(StrictConfig):
    """The person of the simulated cell, who takes away what was asked about, or puts the station right."""

    answers: bool = Field(True, description="else requests wait for their time-out, and those without one end the pile")
    answer_after_s: float = Field(20.0, ge=0, le=3600, description="of the cell's time")
    real_wait_s: float = Field(
        0.0, ge=0, le=86_400, description="a person at the help desk on the disk may answer first; of real time"
    )


@dataclass(frozen=True)
class RecoveryKit:
    """What a cell with recovery has beside a cell without. desk: folder where people are asked too; None: nobody is."""

    judge: JudgePick
    config: RecoveryConfig = field(default_factory=RecoveryConfig)
    person: PersonConfig = field(default_factory=PersonConfig)
    desk: Path | None = None


class RecoveredPile:
    """The loop over one pile. plan: sees and plans on the latest image, with the instances that were given up.
    on_outcome: told of each grasp and what was measured first. on_put_right: a person has put the station right."""

    def __init__(
        self,
        opened: OpenPile,
        kit: RecoveryKit,
        plan: Callable[[int, Recovery], PickEvent],
        on_outcome: Callable[[Grasp, PickOutcome], None] = lambda grasp, outcome: None,
        on_put_right: Callable[[], None] = lambda: None,
    ) -> None:
        self._opened, self._kit, self._plan, self._on_outcome = opened, kit, plan, on_outcome
        self._on_put_right = on_put_right
        self._recovery = Recovery(kit.config)
        self._desk = HelpDesk(
            prefix=f"p{opened.index:05d}-", clock=lambda: opened.stamp_s, steady=lambda: opened.stamp_s
        )
        self._real = None if kit.desk is None else RealPerson(kit.desk, kit.person.real_wait_s, opened.index)

    def run(self, most_attempts: int) -> Iterator[PickEvent]:
        """Turns until the pile is empty, ``most_attempts`` were made, nothing can be picked, or the policy stops."""
        attempts, index, looked_s = 0, 0, 0.0
        while attempts < most_attempts and not self._opened.empty and self._recovery.state is not State.STOPPED:
            event = replace(self._plan(index, self._recovery), extra_s=looked_s)
            left_over = event.plan.best is None and bool(event.excluded)
            step = self._recovery.look(event.scene.conditions, left_over, bool(event.left_for_last))
            if step.action is Action.LOOK_AGAIN:
                self._opened.stamp_s += LOOK_S
                looked_s += LOOK_S
                self._opened.look()
                continue
            looked_s, index = 0.0, index + 1
            if step.action in (Action.ASK_HELP, Action.STOP):
                event, goes_on = self._asked_before(event, step)
                yield event
                if not goes_on:
                    return
            elif event.plan.best is None:
                yield event
                return
            else:
                try:
                    yield self._turn(event, event.plan.best, step)
                except UnstableSimulationError as error:
                    yield replace(event, fault=f"the simulation diverged: {error}")
                    return
                attempts += 1

    # One turn.

    def _turn(self, event: PickEvent, grasp: Grasp, look: Step) -> PickEvent:
        opened, motion, slow = self._opened, self._opened.cell.motion, look.action is Action.GO_SLOWLY
        if slow:
            motion = slowed(motion, self._kit.config.slow_factor)
        parcel = opened.pile.parcels[event.meant[0]] if event.meant else None
        outcome = opened.begin_pick(grasp, event.meant, motion)
        self._on_outcome(grasp, outcome)
        course = PickCourse(self._recovery, PickTarget(grasp, event.frame, event.scene))
        turn = _Turn(course, outcome, opened.look())
        if slow:
            turn.steps.append(TurnStep(look))
        first, bad_load = outcome.result, opened.held.holds_other
        judgement = None
        while course.fate is None and opened.is_holding:
            self._held(turn)
            judgement = course.judgement
        if course.fate is None:  # nothing came to the place station
            judgement = self._judge(turn)
            opened.deliver()
        self._ended(turn, judgement, parcel)
        log = Recovered(tuple(turn.steps), first, bad_load, turn.left_wrong, judgement)
        late_ms = max(0.0, turn.judge_ms - 1e3 * opened.lower_s)
        timings = {**event.timings_ms, "judge": turn.judge_ms, "judge_late": late_ms}
        done = replace(event, outcome=turn.final(), after=opened.frame, recovered=log, timings_ms=timings)
        return replace(done, extra_s=event.extra_s + turn.late_s)

    def _held(self, turn: _Turn) -> None:
        """Judge the load and do what the policy says; it may hang at the place station again."""
        opened, course = self._opened, turn.course
        judgement = self._judge(turn)
        apart = cups_on_another(course.target, turn.outcome, opened.cell.tool)
        step = course.held(judgement, apart)
        if step.action is Action.PUT_BACK:
            again = opened.let_go(step.release_cups)
            turn.took(step, again.duration_s)
            turn.outcome = replace(again, duration_s=turn.outcome.duration_s)
            turn.after = opened.look()
        elif step.action is Action.SET_DOWN:
            turn.took(step, opened.set_down())
            opened.look()
        elif step.action is Action.ASK_HELP:
            self._ask_about_load(turn, step)
        else:
            turn.took(step, 0.0)
            turn.left_wrong = opened.held.holds_other
            opened.deliver()

    def _ask_about_load(self, turn: _Turn, step: Step) -> None:
        opened, course = self._opened, turn.course
        view, pick = turn.outcome.load, course.target
        picture = help_picture(pick.frame, pick.grasp) if view is None else help_picture(view.frame)
        cause = load_cause(question(step, course.judgement), self._kit.config.help)
        request, took_s = self._ask(cause, picture)
        self._recovery.answered(request.answer)
        if course.answered(request.answer) is Fate.BACK:
            took_s += opened.set_down()
        else:
            turn.left_wrong = course.fate is Fate.DELIVERED and opened.held.holds_other
            opened.deliver()
        turn.took(step, took_s, request, picture)
        opened.look()

    def _ended(self, turn: _Turn, judgement: PickJudgement | None, parcel: Parcel | None) -> None:
        step = turn.course.ended(None if judgement is None else judgement.result)
        if step.action is Action.ASK_HELP:
            picture = help_picture(turn.after, turn.course.target.grasp)
            request, waited_s = self._ask(failing_cause(step.reason, self._kit.config.help), picture)
            turn.steps.append(TurnStep(step, None, request, picture, waited_s))
            turn.late_s += waited_s
            self._recovery.answered(request.answer)
            if request.answer == DONE and parcel is not None:
                self._opened.remove([parcel])
                self._opened.look()
        elif step.action is not Action.GO_ON:
            turn.steps.append(TurnStep(step))

    def _judge(self, turn: _Turn) -> PickJudgement:
        begin = time.perf_counter()
        judged = self._kit.judge(turn.course.target, turn.after, turn.outcome, self._opened.cell)
        turn.judge_ms += 1e3 * (time.perf_counter() - begin)
        return judged

    # Help.

    def _asked_before(self, event: PickEvent, step: Step) -> tuple[PickEvent, bool]:
        """A person is asked before anything moves, or the cell stops. Whether the pile goes on."""
        if step.action is Action.STOP:
            return replace(event, recovered=Recovered((TurnStep(step),))), False
        picture = help_picture(event.frame, event.plan.best)
        found = gravest(event.scene.conditions)
        parcels = step.seen in (Seen.LEFT_OVER, Seen.SELDOM_HELD) or found is None
        config = self._kit.config.help
        cause = (
            parcel_cause(step.reason, config, step.code) if parcels or found is None else station_cause(found, config)
        )
        request, waited_s = self._ask(cause, picture)
        self._recovery.answered(request.answer)
        if request.answer == DONE:
            if parcels:
                self._opened.remove(self._opened.parcels_of(event.scene, event.excluded))
                self._recovery.memory.forget_parcels(event.frame, event.scene, event.excluded)
            else:
                self._opened.put_right()
                self._on_put_right()
            self._opened.look()
        log = Recovered((TurnStep(step, None, request, picture, waited_s),))
        goes_on = self._recovery.state is not State.STOPPED and request.answer != SKIP
        return replace(event, recovered=log, extra_s=event.extra_s + waited_s), goes_on

    def _ask(self, cause: HelpCause, picture: bytes) -> tuple[HelpRequest, float]:
        """The closed request, and how long it took of the cell's time."""
        desk, person, begin_s = self._desk, self._kit.person, self._opened.stamp_s
        asked = desk.ask(cause, picture=picture)
        waits_s = cause.timeout_s or float("inf")
        comes = person.answers and person.answer_after_s < waits_s
        if self._real is not None:
            began = time.monotonic()
            otherwise = DONE if comes else cause.timeout_answer if np.isfinite(waits_s) else STOP
            if (told := self._real.ask(cause, picture, otherwise)) is not None:
                self._opened.stamp_s += time.monotonic() - began
                closed = desk.answer(asked.help_id, told.answer, told.answered_by)
                return closed, self._opened.stamp_s - begin_s
        if comes:
            self._opened.stamp_s += person.answer_after_s
            desk.answer(asked.help_id, DONE, "simulated person")
        elif np.isfinite(waits_s):
            self._opened.stamp_s += waits_s
            desk.tick()
        else:
            desk.answer(asked.help_id, STOP, "nobody, ever")
        closed = desk.request(asked.help_id)
        if self._real is not None:
            self._real.tell(closed)
        return closed, self._opened.stamp_s - begin_s


class _Turn:
    """What changes in the course of one pick."""

    def __init__(self, course: PickCourse, outcome: PickOutcome, after: Frame) -> None:
        self.course, self.outcome, self.after = course, outcome, after
        self.steps: list[TurnStep] = []
        self.left_wrong = False
        self.judge_ms = 0.0
        self.late_s = 0.0

    def took(self, step: Step, duration_s: float, help: HelpRequest | None = None, picture: bytes = b"") -> None:
        self.steps.append(TurnStep(step, self.course.judgement, help, picture, duration_s))
        self.late_s += duration_s

    def final(self) -> PickOutcome:
        """A good load that did not leave the cell was lifted and did not arrive."""
        outcome, fate = self.outcome, self.course.fate
        if fate in (None, Fate.DELIVERED) or outcome.result is not PickResult.CLEAN:
            return outcome
        how = "set down again" if fate is Fate.BACK else "taken off by a person"
        return replace(outcome, result=PickResult.DROP, truth={**outcome.truth, "reason": f"a good load was {how}"})
