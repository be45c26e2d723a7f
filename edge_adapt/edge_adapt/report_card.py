"""Everything of one decision as a template shows it: what the report and the page have in common."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass

from markupsafe import Markup

from edge_adapt.decision import CandidateRecord, Decision
from edge_adapt.evidence import Evidence
from edge_adapt.report_figures import candidate_marks, cup_diagram, mask_paths, tool_footprint
from edge_adapt.report_told import ToldCard, told_card
from edge_adapt.told import NOVELTY_LIMIT
from edge_adapt.trace import REASON_TEXT, outcome_text, why_chosen

RUNNERS_UP = 4
LONGEST_OUTCOME = 300
Address = Callable[[str], str]
"""From a picture's name (``report_pictures``) to what an image element loads; empty where there is none."""


@dataclass(frozen=True)
class Figure:
    """A term of one candidate. share: of the largest of its row, 0 to 100, for a bar."""

    text: str
    share: int


@dataclass(frozen=True)
class PickCard:
    """What the template shows of one decision in full; Markup fields are SVG made here."""

    decision: Decision
    why: tuple[str, ...]
    color: str
    depth: str
    after: str
    masks: Markup
    tool: Markup
    marks: Markup
    cups: Markup
    columns: tuple[CandidateRecord, ...]
    terms: tuple[tuple[str, tuple[Figure, ...]], ...]
    rejected: tuple[tuple[str, str, int, tuple[CandidateRecord, ...]], ...]
    truth: tuple[tuple[str, str], ...]
    told: ToldCard


@dataclass(frozen=True)
class PickRow:
    """What a list needs of every decision; of a long run the decisions themselves are not kept in memory."""

    number: int
    decision_id: str
    result: str
    attempted: bool
    outcome: str
    pile: int
    pick: int
    parcels: int
    frame_to_plan_ms: float | None
    class_name: str
    arrangement: str
    removed: str
    conditions: tuple[str, ...] = ()
    unfamiliar: int = 0
    actions: tuple[str, ...] = ()
    card: PickCard | None = None


def pick_card(evidence: Evidence, address: Address) -> PickCard:
    decision, labels = evidence.decision, evidence.labels()
    columns = _columns(decision)
    chosen = decision.chosen
    return PickCard(
        decision=decision,
        why=why_chosen(decision),
        color=address("color"),
        depth=address("depth"),
        after=address("after"),
        masks=Markup("" if labels is None else mask_paths(labels, decision)),
        tool=Markup(tool_footprint(chosen, decision) if chosen is not None else ""),
        marks=Markup(candidate_marks(decision)),
        cups=Markup(cup_diagram(decision)),
        columns=columns,
        terms=_terms(columns),
        rejected=_rejected(decision),
        truth=_truth(decision),
        told=told_card(evidence, address),
    )


def pick_row(number: int, decision: Decision, removed: str) -> PickRow:
    """removed: by which rule its pictures went; empty while they are there."""
    return PickRow(
        number=number,
        decision_id=decision.decision_id,
        result=decision.result,
        attempted=decision.outcome is not None,
        outcome=outcome_text(decision)[:LONGEST_OUTCOME],
        pile=decision.context.pile,
        pick=decision.context.pick,
        parcels=len(decision.instances),
        frame_to_plan_ms=decision.timings_ms.get("frame_to_plan"),
        class_name=class_of(decision),
        arrangement=_flag(decision, "arrangement_"),
        removed=removed,
        conditions=tuple(condition.name for condition in decision.conditions),
        unfamiliar=sum((seen.novelty or 0.0) > NOVELTY_LIMIT for seen in decision.instances),
        actions=tuple(step.action.replace("_", " ") for step in decision.steps),
    )


def class_of(decision: Decision) -> str:
    """Of the chosen parcel, as seen; empty where nothing was chosen."""
    chosen = decision.chosen
    return next((i.class_name for i in decision.instances if chosen and i.id == chosen.instance), "")


def _flag(decision: Decision, prefix: str) -> str:
    return next((flag[len(prefix) :] for flag in decision.flags if flag.startswith(prefix)), "")


def _columns(decision: Decision) -> tuple[CandidateRecord, ...]:
    """The chosen grasp and the best of each next parcel."""
    columns = [] if decision.chosen is None else [decision.chosen]
    for candidate in decision.candidates:
        if len(columns) > RUNNERS_UP:
            break
        if all(candidate.instance != other.instance for other in columns):
            columns.append(candidate)
    return tuple(columns)


def _terms(columns: tuple[CandidateRecord, ...]) -> tuple[tuple[str, tuple[Figure, ...]], ...]:
    names = dict.fromkeys(name for candidate in columns for name in candidate.terms)
    return tuple((name, _row(tuple(candidate.terms.get(name) for candidate in columns))) for name in names)


def _row(values: tuple[float | None, ...]) -> tuple[Figure, ...]:
    most = max((abs(value) for value in values if value is not None), default=0.0)
    return tuple(
        Figure("–", 0) if value is None else Figure(f"{value:.4g}", round(100 * (abs(value) / most)) if most else 0)
        for value in values
    )


def _rejected(decision: Decision) -> tuple[tuple[str, str, int, tuple[CandidateRecord, ...]], ...]:
    """(reason, its text, how many in all, those kept), most frequent first."""
    groups = []
    for reason, count in sorted(decision.rejected_counts.items(), key=lambda item: -item[1]):
        kept = tuple(c for c in decision.rejected if c.reason == reason)
        groups.append((reason, REASON_TEXT.get(reason, reason.lower()), count, kept))
    return tuple(groups)


def _truth(decision: Decision) -> tuple[tuple[str, str], ...]:
    if decision.outcome is None:
        return ()
    return tuple((k, json.dumps(v)) for k, v in decision.outcome.truth.items() if v not in (None, "", [], {}))
