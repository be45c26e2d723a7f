"""One self-contained HTML report of recorded decisions: no external file, no framework; made to be read at 3 a.m."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape
from markupsafe import Markup

from edge_adapt.decision import CandidateRecord, Decision
from edge_adapt.decision_store import DecisionLog, read_decisions
from edge_adapt.picture_keeper import removed_pictures
from edge_adapt.report_figures import (
    RESULT_COLOURS,
    TEMPLATES,
    candidate_marks,
    cup_diagram,
    histogram,
    image_uri,
    mask_paths,
    rate_bars,
    read_coloured_depth,
    read_labels,
    read_rgb,
    result_strip,
    tool_footprint,
)
from edge_adapt.report_told import ToldCard, told_card
from edge_adapt.told import NOVELTY_LIMIT
from edge_adapt.trace import REASON_TEXT, RESULT_TEXT, outcome_text, why_chosen
from robin_perception.core.disk import write_atomic
from robin_perception.core.stats import percentiles, rate

MAX_FULL_PICKS = 60  # about 150 kB each: the file stays small enough to mail
RUNNERS_UP = 4
LONGEST_OUTCOME = 300
RESULTS = tuple(RESULT_COLOURS)
LABELS = {"clean": "clean", "miss": "missed", "drop": "dropped", "multi": "multi-pick", "wrong": "wrong parcel"}


@dataclass(frozen=True)
class PickCard:
    """What the template shows of one decision in full; Markup fields are SVG or data URIs made here."""

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
    terms: tuple[tuple[str, tuple[str, ...]], ...]
    rejected: tuple[tuple[str, str, int, tuple[CandidateRecord, ...]], ...]
    truth: tuple[tuple[str, str], ...]
    told: ToldCard


@dataclass(frozen=True)
class PickRow:
    """What the report needs of every decision; of a long run the decisions themselves are not kept in memory."""

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


def write_report(folder: Path, path: Path, results: Mapping[str, Any] | None = None, title: str = "") -> Path:
    """Write the report of the records in ``folder`` to ``path``, whole or not at all. Returns ``path``.

    results: a run's ``to_json()``, for picks per hour and what else the records do not hold. Of more than
    MAX_FULL_PICKS picks, failures first, only so many are shown in full; the others are one line each.
    Raises RobinError: INPUT_MISSING, RECORD_INVALID, DISK_FULL.
    """
    log = read_decisions(folder)
    write_atomic(path, render_report(log, results, title).encode())
    return path


def render_report(log: DecisionLog, results: Mapping[str, Any] | None = None, title: str = "") -> str:
    """The report's HTML text."""
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=select_autoescape(default=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    gone = removed_pictures(log.folder)
    rows = [_row(number, d, gone.get(d.decision_id, "")) for number, d in enumerate(log.decisions, start=1)]
    for index in _shown_in_full(rows):
        rows[index] = replace(rows[index], card=_card(log.folder, log.decisions[index]))
    first = log.decisions[0] if rows else None
    return environment.get_template("report.html.j2").render(
        title=title or (f"Picks: {first.context.source}" if first else "No picks"),
        made_at=datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        first=first,
        rows=rows,
        truncated=log.truncated,
        summary=_summary(rows),
        facts=_facts(rows, first, results),
        strip=Markup(result_strip([(row.decision_id, row.result) for row in rows])),
        by_class=_bars(rows, lambda row: row.class_name),
        by_arrangement=_bars(rows, lambda row: row.arrangement),
        latency=Markup(histogram(_latencies(rows), "ms")),
        counts=Counter(row.result for row in rows),
        results=RESULTS,
        colours=RESULT_COLOURS,
        results_json=Markup(_script_json(results)) if results else "",
    )


def _row(number: int, decision: Decision, removed: str) -> PickRow:
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
        class_name=_class_of(decision),
        arrangement=_flag(decision, "arrangement_"),
        removed=removed,
        conditions=tuple(condition.name for condition in decision.conditions),
        unfamiliar=sum((seen.novelty or 0.0) > NOVELTY_LIMIT for seen in decision.instances),
        actions=tuple(step.action.replace("_", " ") for step in decision.steps),
    )


def _script_json(values: Mapping[str, Any]) -> str:
    """JSON that may stand inside a script element."""
    return json.dumps(values).replace("<", "\\u003c")


def _shown_in_full(rows: Sequence[PickRow]) -> list[int]:
    """Indices: failures before clean picks, early before late."""
    return sorted(range(len(rows)), key=lambda i: (rows[i].result == "clean", i))[:MAX_FULL_PICKS]


def _summary(rows: Sequence[PickRow]) -> list[dict[str, Any]]:
    attempts = sum(row.attempted for row in rows)
    lines = []
    for result in RESULTS:
        count = sum(row.result == result for row in rows)
        if result in ("waited", "unfinished") and count == 0:
            continue
        found = rate(count, len(rows) if result in ("infeasible", "waited", "unfinished") else attempts)
        lines.append({"result": result, "label": LABELS.get(result, result), "text": RESULT_TEXT[result], **found})
    return lines


def _facts(rows: Sequence[PickRow], first: Decision | None, results: Mapping[str, Any] | None) -> list[tuple[str, str]]:
    """Label and value pairs under the table."""
    facts: list[tuple[str, str]] = []
    if results is not None:
        facts.append(("picks per hour", f"{results['picks_per_hour']:.0f}"))
    times = percentiles(_latencies(rows))
    facts.append(("frame to plan", f"p50 {times['p50']:.0f} ms, p95 {times['p95']:.0f} ms"))
    raised = Counter(name for row in rows for name in row.conditions)
    if raised:
        facts.append(("conditions", ", ".join(f"{name} {count}×" for name, count in raised.most_common())))
    if unfamiliar := sum(row.unfamiliar for row in rows):
        facts.append(("unfamiliar parcels", str(unfamiliar)))
    if asked := sum(action == "ask help" for row in rows for action in row.actions):
        facts.append(("people asked", f"{asked}×"))
    facts.append(("piles", str(len({row.pile for row in rows}))))
    if first is not None:
        facts += [("model", first.model_id), ("engine", first.context.engine or "–"), ("planner", first.planner)]
        facts.append(("seed", "–" if first.context.seed is None else str(first.context.seed)))
        facts.append(("configuration", first.context.config_digest[:12] or "–"))
    return facts


def _latencies(rows: Sequence[PickRow]) -> list[float]:
    return [row.frame_to_plan_ms for row in rows if row.frame_to_plan_ms is not None]


def _bars(rows: Sequence[PickRow], group_of: Callable[[PickRow], str]) -> Markup:
    """Clean rate per group, of attempts."""
    groups: dict[str, list[bool]] = {}
    for row in rows:
        if row.attempted and (group := group_of(row)):
            groups.setdefault(group, []).append(row.result == "clean")
    return Markup(rate_bars({name: rate(sum(hits), len(hits)) for name, hits in sorted(groups.items())}))


def _class_of(decision: Decision) -> str:
    chosen = decision.chosen
    return next((i.class_name for i in decision.instances if chosen and i.id == chosen.instance), "")


def _flag(decision: Decision, prefix: str) -> str:
    return next((flag[len(prefix) :] for flag in decision.flags if flag.startswith(prefix)), "")


def _card(folder: Path, decision: Decision) -> PickCard:
    images = _images(folder, decision)
    columns = _columns(decision)
    chosen = decision.chosen
    return PickCard(
        decision=decision,
        why=why_chosen(decision),
        color=images.get("color", ""),
        depth=images.get("depth", ""),
        after=images.get("after", ""),
        masks=Markup(images.get("masks", "")),
        tool=Markup(tool_footprint(chosen, decision) if chosen is not None else ""),
        marks=Markup(candidate_marks(decision)),
        cups=Markup(cup_diagram(decision)),
        columns=columns,
        terms=_terms(columns),
        rejected=_rejected(decision),
        truth=_truth(decision),
        told=told_card(folder, decision),
    )


def _images(folder: Path, decision: Decision) -> dict[str, str]:
    """Data URIs and mask outlines of the images that are there; a missing file leaves its place empty."""
    from edge_adapt.recording import DEPTH_SCALE_M

    found: dict[str, str] = {}
    for name in ("color", "after"):
        if name in decision.images and (rgb := read_rgb(folder, decision.images[name])) is not None:
            found[name] = image_uri(rgb)
    if "depth" in decision.images:
        depth = read_coloured_depth(folder, decision.images["depth"], DEPTH_SCALE_M)
        if depth is not None:
            found["depth"] = image_uri(depth)
    if "labels" in decision.images and (labels := read_labels(folder, decision.images["labels"])) is not None:
        found["masks"] = mask_paths(labels, decision)
    return found


def _columns(decision: Decision) -> tuple[CandidateRecord, ...]:
    """The chosen grasp and the best of each next parcel."""
    columns = [] if decision.chosen is None else [decision.chosen]
    for candidate in decision.candidates:
        if len(columns) > RUNNERS_UP:
            break
        if all(candidate.instance != other.instance for other in columns):
            columns.append(candidate)
    return tuple(columns)


def _terms(columns: tuple[CandidateRecord, ...]) -> tuple[tuple[str, tuple[str, ...]], ...]:
    names = dict.fromkeys(name for candidate in columns for name in candidate.terms)
    return tuple((name, tuple(_figure(candidate.terms.get(name)) for candidate in columns)) for name in names)


def _figure(value: float | None) -> str:
    return "–" if value is None else f"{value:.4g}"


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
