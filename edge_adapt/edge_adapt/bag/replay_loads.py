"""Lock-step replay of what was judged and done: each load is judged again from what was recorded of it, and the
recovery policy is asked again what to do."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from edge_adapt.bag.compare import MachineTolerances
from edge_adapt.bag.messages import recorded_grasp
from edge_adapt.bag.outcome_messages import recorded_outcome
from edge_adapt.bag.pipeline import PipelineRecord
from robin_grasp.picks.load_features import SEGMENTED_FEATURES, LoadSegmenter
from robin_grasp.picks.outcome import PickOutcome
from robin_grasp.picks.outcome_report import Stage
from robin_grasp.picks.pick_check import PickJudgement, judge_pick
from robin_grasp.recovery.action import Action
from robin_grasp.recovery.course import PickCourse
from robin_grasp.recovery.help_request import DONE
from robin_grasp.recovery.machine import PickTarget, Recovery, Step
from robin_grasp.recovery.second_parcel import cups_on_another
from robin_grasp.recovery.table import Seen, State
from robin_perception.core.errors import Code, RobinError
from robin_perception.core.frame import Frame
from robin_perception.core.scene import Scene

_KEPT_PICKS = 8


@dataclass
class _Pick:
    """A pick under way. course: under the policy, None where there is none. judgement: of the last load."""

    plan: Mapping[str, Any]
    frame: Frame
    scene: Scene
    course: PickCourse | None = None
    judgement: PickJudgement | None = None


@dataclass(frozen=True)
class ReplayedLoad:
    """A report judged again. recorded, replayed: the fields that are compared."""

    name: str
    recorded: Mapping[str, Any]
    replayed: Mapping[str, Any]


class LoadReplay:
    """One station's judgements and actions, message by message in the bag's order. record: what made them. see_load:
    the network, for loads that it looked at."""

    def __init__(self, record: PipelineRecord, see_load: LoadSegmenter | None = None) -> None:
        self._record = record
        self._see_load = see_load
        self._recovery = None if record.recovery is None else Recovery(record.recovery)
        self._picks: OrderedDict[str, _Pick] = OrderedDict()
        self._asked: tuple[Step, str] | None = None

    @property
    def wanted(self) -> bool:
        """Whether anybody judged the loads of this bag."""
        return self._record.pick_check is not None

    def plan(self, plan: Mapping[str, Any], frame: Frame, scene: Scene) -> None:
        """A plan was handed out. plan: ``with_named_terms``; scene: as it was segmented again."""
        plan_id = str(plan["plan_id"])
        self._picks[plan_id] = _Pick(plan, frame, scene)
        while len(self._picks) > _KEPT_PICKS:
            self._picks.popitem(last=False)
        if self._recovery is not None:
            left_over = not plan["grasps"] and len(plan["excluded_instances"]) > 0
            self._note(self._recovery.look(scene.conditions, left_over), plan_id)

    def outcome(self, values: Mapping[str, Any], after: Frame | None) -> ReplayedLoad | None:
        """A report of the cell, judged again; None where there is nothing to compare. after: the frame that it was
        judged with. Raises RobinError for an outcome that cannot be judged now."""
        pick = self._picks.get(str(values["plan_id"]))
        if pick is None or self._record.pick_check is None:
            return None
        recorded, replayed = dict[str, Any](), dict[str, Any]()
        if float(values["probability"]) > 0:
            recorded |= _told(values)
            if pick.judgement is None or values["stage"] == Stage.HELD.value:
                pick.judgement = self._judged(pick, values, after)
            replayed |= _judgement(pick.judgement)
        step = self._step(pick, values)
        if step is not None and (action := str(values["action"])):
            recorded |= {"action": action}
            replayed |= {"action": step.action.value}
        return ReplayedLoad(str(values["plan_id"]), recorded, replayed) if recorded else None

    def help(self, values: Mapping[str, Any]) -> None:
        """A request for help; one that was answered moves the policy on."""
        answer = str(values["answer"])
        if self._recovery is None or not answer:
            return
        self._recovery.answered(answer)
        if self._asked is None:  # it was about the station
            return
        (step, plan_id), self._asked = self._asked, None
        if (pick := self._picks.get(plan_id)) is None:
            return
        if step.state is State.HELD and pick.course is not None:
            pick.course.answered(answer)
        elif step.state is State.LOOK and answer == DONE and step.seen is Seen.LEFT_OVER:
            excluded = tuple(int(i) for i in pick.plan["excluded_instances"])
            self._recovery.memory.forget_parcels(pick.frame, pick.scene, excluded)

    def _judged(self, pick: _Pick, values: Mapping[str, Any], after: Frame | None) -> PickJudgement:
        target = self._target(pick, int(values["grasp"]))
        assert self._record.pick_check is not None
        outcome: PickOutcome = recorded_outcome(values)
        return judge_pick(
            target.grasp,
            pick.scene,
            pick.frame,
            after,
            outcome,
            self._record.cell,
            self._record.pick_check,
            self._see_load if self._looked_closer(values) else None,
        )

    def _looked_closer(self, values: Mapping[str, Any]) -> bool:
        """Whether the network looked at that load; an older bag tells it of all of them."""
        names = [str(name) for name in values["feature_names"]]
        return not SEGMENTED_FEATURES.keys().isdisjoint(names) if names else self._record.load_segmented

    def _target(self, pick: _Pick, index: int) -> PickTarget:
        if pick.course is not None:
            return pick.course.target
        grasp = recorded_grasp(pick.plan, index)
        if grasp is None:
            text = f"outcome of plan '{pick.plan['plan_id']}': it names grasp {index}, which the plan lacks"
            raise RobinError(Code.BAG_INVALID, text)
        return PickTarget(grasp, pick.frame, pick.scene)

    def _step(self, pick: _Pick, values: Mapping[str, Any]) -> Step | None:
        """What the policy says of this report."""
        if self._recovery is None:
            return None
        plan_id, target = str(values["plan_id"]), self._target(pick, int(values["grasp"]))
        course = pick.course = pick.course or PickCourse(self._recovery, target)
        if values["stage"] == Stage.HELD.value:
            apart = cups_on_another(target, recorded_outcome(values), self._record.cell.tool)
            return self._note(course.held(pick.judgement, apart), plan_id)
        return self._note(course.ended(None if pick.judgement is None else pick.judgement.result), plan_id)

    def _note(self, step: Step, plan_id: str) -> Step:
        if step.action is Action.ASK_HELP:
            self._asked = step, plan_id
        return step


def load_differences(load: ReplayedLoad, limits: MachineTolerances) -> dict[str, Any]:
    """Recorded fields without those that agree within ``limits``: a judgement may move in its last digits, and with it
    the words that tell its figures."""
    known = load.recorded
    kept = {}
    odds = _odds(known), _odds(load.replayed)
    apart = max((abs(odds[0].get(k, 0.0) - odds[1].get(k, 0.0)) for k in odds[0] | odds[1]), default=0.0)
    if apart > limits.probability:
        kept["result_probabilities"] = known["result_probabilities"]
    belief = abs(float(known.get("probability", 0.0)) - float(load.replayed.get("probability", 0.0)))
    if belief > limits.probability:
        kept["probability"] = known["probability"]
    if known.get("action") != load.replayed.get("action") and kept == {}:
        kept["action"] = known["action"]
    return kept


def _odds(values: Mapping[str, Any]) -> dict[str, float]:
    names, shares = values.get("result_names", ()), values.get("result_probabilities", ())
    return {str(name): float(share) for name, share in zip(names, shares, strict=False)}


def _told(values: Mapping[str, Any]) -> dict[str, Any]:
    """What a recorded outcome says of the judgement; lines about what came unusable are the door's, not the judge's."""
    return {
        "probability": float(values["probability"]),
        "result_names": [str(name) for name in values["result_names"]],
        "result_probabilities": [float(p) for p in values["result_probabilities"]],
        "reasons": [str(reason) for reason in values["reasons"] if not _is_numbered(str(reason))],
        "target_gone": _number(values["target_gone"]),
        "neighbours_gone": [int(i) for i in values["neighbours_gone"]],
    }


def _judgement(judgement: PickJudgement) -> dict[str, Any]:
    return {
        "probability": judgement.probability,
        "result_names": [result.value for result in judgement.probabilities],
        "result_probabilities": [float(p) for p in judgement.probabilities.values()],
        "reasons": [reason for reason in judgement.reasons if not _is_numbered(reason)],
        "target_gone": _number(judgement.target_gone),
        "neighbours_gone": list(judgement.neighbours_gone),
    }


def _is_numbered(reason: str) -> bool:
    head = reason.split(" ", 1)[0]
    return head[:1] == "E" and head[1:].isdigit()


def _number(value: Any) -> float | None:
    """None for NaN, which equals nothing."""
    value = float(value)
    return None if value != value else value
