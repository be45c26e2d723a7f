"""What the index needs of a record. Records are foreign: every field is checked, what is not needed is not read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from edge_adapt.decision import BEFORE_A_PICK
from robin_perception.core.config import first_fault
from robin_perception.core.errors import Code, RobinError
from robin_perception.core.ids import PlainId

LONGEST_TEXT = 1500
_Word = Annotated[str, Field(max_length=4000)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="ignore", allow_inf_nan=True)


class _Context(_Part):
    run_id: _Word = ""
    source: _Word = ""


class _Seen(_Part):
    id: int
    class_name: _Word
    detection: float
    visible_fraction: float
    novelty: float | None = None


class _Candidate(_Part):
    instance: int
    score: float | None = None


class _Condition(_Part):
    name: _Word
    text: _Word = ""
    instances: tuple[int, ...] = ()


class _Help(_Part):
    text: _Word = ""
    answer: _Word = ""
    answered_by: _Word = ""


class _Step(_Part):
    state: _Word = ""
    action: _Word = ""
    reason: _Word = ""
    help: _Help | None = None


class _Outcome(_Part):
    result: _Word
    probability: float | None = None
    reasons: tuple[_Word, ...] = ()
    duration_s: float | None = None


class _Record(_Part):
    decision_id: PlainId
    context: _Context
    stamp_s: float
    recorded_at: _Word
    model_id: _Word = ""
    code: int = Field(ge=0, le=65_535)
    message: _Word = ""
    instances: tuple[_Seen, ...] = ()
    candidates: tuple[_Candidate, ...] = ()
    choice: int | None = None
    conditions: tuple[_Condition, ...] = ()
    steps: tuple[_Step, ...] = ()
    outcome: _Outcome | None = None
    timings_ms: dict[str, float] = Field(default_factory=dict)
    scene_flags: tuple[_Word, ...] = ()
    flags: tuple[_Word, ...] = ()
    images: dict[str, _Word] = Field(default_factory=dict)


@dataclass(frozen=True)
class Facts:
    """One decision, as it is looked for. figures: score, novelty (of the most unfamiliar parcel), detection and visible
    of the chosen one, belief of the pick check, parcels, frame_to_plan_ms, pick_s (of the cell's own time); NaN where
    there is none. tags: flags,
    conditions, actions. pictures: whether its frame is kept beside it."""

    decision_id: str
    at_s: float
    code: int
    words: Mapping[str, str]
    figures: Mapping[str, float]
    tags: tuple[str, ...]
    text: str
    pictures: bool


def facts_of(data: bytes | Mapping[str, Any], source: str, station: str = "", pictures: bool | None = None) -> Facts:
    """data: the record as JSON, or parsed. station: where the source knows it. pictures: None: as the record says.
    Raises RobinError RECORD_INVALID."""
    try:
        record = _Record.model_validate_json(data) if isinstance(data, bytes) else _Record.model_validate(data)
    except ValidationError as exc:
        raise RobinError(Code.RECORD_INVALID, f"{source}: {first_fault(exc)}") from None
    chosen = _chosen(record)
    seen = next((s for s in record.instances if chosen and s.id == chosen.instance), None)
    nan = float("nan")
    novelty = [s.novelty for s in record.instances if s.novelty is not None]
    belief = record.outcome.probability if record.outcome else None
    return Facts(
        decision_id=record.decision_id,
        at_s=_moment(record),
        code=record.code,
        words={
            "result": _result(record),
            "class": seen.class_name if seen else "none",
            "station": station or record.context.source,
            "model": record.model_id,
            "run": record.context.run_id,
        },
        figures={
            "score": nan if chosen is None or chosen.score is None else chosen.score,
            "novelty": max(novelty, default=nan),
            "detection": seen.detection if seen else nan,
            "visible": seen.visible_fraction if seen else nan,
            "belief": nan if belief is None else belief,
            "parcels": float(len(record.instances)),
            "frame_to_plan_ms": record.timings_ms.get("frame_to_plan", nan),
            "pick_s": nan if record.outcome is None or record.outcome.duration_s is None else record.outcome.duration_s,
        },
        tags=_tags(record),
        text=_text(record),
        pictures="color" in record.images if pictures is None else pictures,
    )


def _chosen(record: _Record) -> _Candidate | None:
    known = record.choice is not None and 0 <= record.choice < len(record.candidates)
    return record.candidates[record.choice] if known and record.choice is not None else None


def _result(record: _Record) -> str:
    """As ``Decision.result`` has it."""
    if record.outcome is not None:
        return record.outcome.result
    if record.steps and all(step.state == BEFORE_A_PICK for step in record.steps):
        return "waited"
    return "infeasible" if record.choice is None else "unfinished"


def _moment(record: _Record) -> float:
    """Wall clock of the record, seconds since 1970; the frame's stamp where that is no time."""
    try:
        at = datetime.fromisoformat(record.recorded_at)
        return (at if at.tzinfo else at.replace(tzinfo=timezone.utc)).timestamp()
    except (ValueError, OverflowError):
        return record.stamp_s


def _tags(record: _Record) -> tuple[str, ...]:
    actions = (step.action.replace("_", " ") for step in record.steps if step.action)
    found = (*record.flags, *record.scene_flags, *(c.name for c in record.conditions), *actions)
    return tuple(dict.fromkeys(tag[:80] for tag in found if tag))


def _text(record: _Record) -> str:
    parts = [record.decision_id, record.message]
    parts += [f"{c.name} {c.text}" for c in record.conditions]
    parts += [step.reason for step in record.steps]
    parts += [f"{s.help.text} {s.help.answer} {s.help.answered_by}" for s in record.steps if s.help]
    parts += record.outcome.reasons if record.outcome else ()
    return " ".join(" ".join(part.split()) for part in parts if part).lower()[:LONGEST_TEXT]
