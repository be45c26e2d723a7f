"""One self-contained HTML report of recorded decisions: no external file, no framework; made to be read at 3 a.m."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape
from markupsafe import Markup

from edge_adapt.decision import Decision
from edge_adapt.decision_store import DecisionLog, read_decisions
from edge_adapt.evidence import FolderEvidence
from edge_adapt.picture_keeper import removed_pictures
from edge_adapt.report_card import PickCard, PickRow, pick_card, pick_row
from edge_adapt.report_figures import BADGES, RESULT_COLOURS, TEMPLATES, histogram, image_uri, rate_bars, result_strip
from edge_adapt.report_pictures import picture
from edge_adapt.trace import RESULT_TEXT
from robin_perception.core.disk import write_atomic
from robin_perception.core.stats import percentiles, rate

MAX_FULL_PICKS = 60  # about 150 kB each: the file stays small enough to mail
RESULTS = tuple(RESULT_COLOURS)
LABELS = {"clean": "clean", "miss": "missed", "drop": "dropped", "multi": "multi-pick", "wrong": "wrong parcel"}


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
    rows = [pick_row(number, d, gone.get(d.decision_id, "")) for number, d in enumerate(log.decisions, start=1)]
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
        badges=BADGES,
        results_json=Markup(_script_json(results)) if results else "",
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


def _card(folder: Path, decision: Decision) -> PickCard:
    """With its pictures inside the page."""
    evidence = FolderEvidence(folder, decision)

    def address(name: str) -> str:
        rgb = picture(evidence, name)
        return "" if rgb is None else image_uri(rgb)

    return pick_card(evidence, address)
