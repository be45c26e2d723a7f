"""Loads of the recorded cell: judged on what the bag will hold of them, and handed to the bag as reports."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from edge_adapt.bag.messages import grasp_as_recorded
from edge_adapt.bag.outcome_messages import outcome_as_recorded
from edge_adapt.bag.pick_writer import RecordedLoad
from robin_grasp.picks.outcome import PickOutcome
from robin_grasp.picks.outcome_report import OutcomeReport, Stage
from robin_grasp.picks.pick_check import PickJudgement
from robin_grasp.recovery.action import Action
from robin_grasp.recovery.help_request import HelpRequest
from robin_grasp.recovery.machine import PickTarget
from robin_grasp.recovery.table import State
from robin_grasp.tool import CellConfig
from robin_perception.bags.frames import EncodedFrame, stamp_ns
from robin_perception.core.frame import Frame
from robin_sim.pick_event import PickEvent, TurnStep
from robin_sim.recovered_pile import JudgePick


@dataclass(frozen=True)
class _Judged:
    outcome: PickOutcome
    after: EncodedFrame
    judgement: PickJudgement


class RecordedLoads:
    """encoded: the messages of a frame, and what a reader makes of them."""

    def __init__(self, encoded: Callable[[Frame], EncodedFrame]) -> None:
        self._encoded = encoded
        self._judged: list[_Judged] = []

    def judging(self, judge: JudgePick) -> JudgePick:
        """``judge``, shown what a reader of the bag gets."""

        def judged(pick: PickTarget, after: Frame, outcome: PickOutcome, cell: CellConfig) -> PickJudgement:
            frame, seen = self._encoded(after), outcome_as_recorded(outcome)
            target = PickTarget(grasp_as_recorded(pick.grasp), self._encoded(pick.frame).frame, pick.scene)
            found = judge(target, frame.frame, seen, cell)
            self._judged.append(_Judged(seen, frame, found))
            return found

        return judged

    def of(self, event: PickEvent, plan_id: str, truth: Mapping[str, object]) -> tuple[RecordedLoad, ...]:
        """Reports of the turn that has just ended: of each load that was held, then of the end. truth: plain values."""
        judged, self._judged = self._judged, []
        if event.outcome is None or event.after is None:
            return ()
        steps = () if event.recovered is None else event.recovered.steps
        held = [taken for taken in steps if taken.step.state is State.HELD]
        loads = [_held(load, taken, plan_id) for load, taken in zip(judged, held, strict=False)]
        after = self._encoded(event.after)
        report = OutcomeReport.of(plan_id, after.frame.stamp_s, replace(event.outcome, truth=dict(truth)))
        if held:
            report = replace(report, traces=None, load=None)
        elif judged:
            after, report = judged[-1].after, report.judged(judged[-1].judgement)
        ended = next((taken for taken in steps if taken.step.state is State.ENDED), None)
        if event.recovered is not None:
            action = Action.GO_ON if ended is None else ended.step.action
            report = replace(report, action=action.value, action_reason="" if ended is None else ended.step.reason)
        helps = () if ended is None or ended.help is None else (ended.help,)
        return (*loads, RecordedLoad(report, stamp_ns(after.frame), after, helps))


def helps_before(event: PickEvent) -> tuple[HelpRequest, ...]:
    """Requests for help before anything moved."""
    steps = () if event.recovered is None else event.recovered.steps
    return tuple(taken.help for taken in steps if taken.help is not None and taken.step.state is State.LOOK)


def _held(load: _Judged, taken: TurnStep, plan_id: str) -> RecordedLoad:
    report = OutcomeReport.of(plan_id, load.after.frame.stamp_s, replace(load.outcome, truth={}))
    asked = "" if taken.help is None else taken.help.help_id
    report = replace(report, result=None, stage=Stage.HELD).judged(load.judgement)
    step = taken.step
    report = replace(report, help_id=asked, action=step.action.value, action_reason=step.reason)
    return RecordedLoad(report, stamp_ns(load.after.frame), load.after, () if taken.help is None else (taken.help,))
