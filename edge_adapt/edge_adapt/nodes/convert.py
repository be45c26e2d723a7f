"""Decision records as ROS messages, and parts of them from messages."""

from __future__ import annotations

from pathlib import Path

from pydantic import ValidationError
from robin_msgs.msg import CupHealth, HelpRequest, LearnedState
from robin_msgs.msg import Decision as DecisionMsg

from edge_adapt.decision import Decision
from edge_adapt.record_parts import CupRecord, HelpRecord, LearnedRecord
from robin_grasp.nodes.convert import base_header
from robin_grasp.tool import cups_to_mask
from robin_perception.core.config import first_fault
from robin_perception.core.errors import Code, RobinError
from robin_perception.core.scene import version_text


def decision_to_msg(decision: Decision, plan_id: str = "", record_path: Path | None = None) -> DecisionMsg:
    """The record with its summary. plan_id: of the plan it was made with. record_path: the file that holds it."""
    chosen = decision.chosen
    return DecisionMsg(
        header=base_header(decision.stamp_s),
        decision_id=decision.decision_id,
        plan_id=plan_id,
        record_path="" if record_path is None else str(record_path),
        model_id=decision.model_id,
        model_version=version_text(decision.versions.see),
        holding=_learned_to_msg(decision.versions.hold),
        tool=_learned_to_msg(decision.versions.tool),
        planner=decision.planner,
        code=decision.code,
        text=decision.message,
        result=decision.result,
        instance_id=0 if chosen is None else chosen.instance,
        cups=0 if chosen is None else cups_to_mask(chosen.cups),
        score=0.0 if chosen is None or chosen.score is None else chosen.score,
        record_json=decision.model_dump_json(),
    )


def decision_from_msg(message: DecisionMsg) -> Decision:
    """The whole record. Raises pydantic.ValidationError for one of another version."""
    return Decision.model_validate_json(message.record_json)


def _learned_to_msg(learned: LearnedRecord | None) -> LearnedState:
    return LearnedState() if learned is None else LearnedState(**learned.model_dump())


def cup_from_msg(message: CupHealth) -> CupRecord:
    """Raises RobinError RECORD_INVALID for figures that cannot be."""
    try:
        return CupRecord(
            cup=message.cup,
            state=message.state,
            share=message.share,
            probabilities={"good": message.good, "weak": message.weak, "blocked": message.blocked},
            picks=message.picks,
            held=message.held,
            text=message.text,
        )
    except ValidationError as exc:
        raise RobinError(Code.RECORD_INVALID, f"cup {message.cup}: {first_fault(exc)}") from None


def help_from_msg(message: HelpRequest) -> HelpRecord:
    """Raises RobinError RECORD_INVALID for an id that is no plain one."""
    try:
        return HelpRecord(
            help_id=message.help_id,
            code=message.code,
            text=message.text,
            answer=message.answer,
            answered_by=message.answered_by,
        )
    except ValidationError as exc:
        raise RobinError(Code.RECORD_INVALID, f"request for help: {first_fault(exc)}") from None
