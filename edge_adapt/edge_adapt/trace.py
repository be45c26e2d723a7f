"""One decision as text: why this parcel and these cups, what else was weighed or ruled out, what became of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any

from edge_adapt.decision import CandidateRecord, Decision, ToolRecord
from edge_adapt.told import (
    NOVELTY_LIMIT,
    code_text,
    condition_text,
    cup_text,
    cups_in_doubt,
    help_text,
    odds_text,
    step_text,
    versions_text,
)
from robin_perception.core.errors import printable

RUNNERS_UP = 3
REJECTED_SHOWN = 12

REASON_TEXT = {
    "OUT_OF_REACH": "the arm does not reach it",
    "OUTSIDE_WORKSPACE": "it lies outside the workspace",
    "LOW_DETECTION": "too unsure that this is one parcel",
    "TOO_LITTLE_DEPTH": "too few valid depth pixels",
    "NO_CUP_SEALS": "no cup would seal there",
    "WRENCH_TOO_LARGE": "the cups that seal cannot carry it",
    "MULTI_PICK_RISK": "a cup might also hold a neighbour",
    "TOOL_HITS_NEIGHBOUR": "the tool would hit a neighbour",
    "TOOL_HITS_WALL": "the tool would hit the tote's wall",
    "COVERED_BY_OTHER": "another parcel lies on it",
    "TILT_TOO_LARGE": "the face is too steep for the tool",
    "OUTRANKED_ON_INSTANCE": "another pose of the same parcel promised more",
    "FAILED_BEFORE": "it failed here before",
    "LIKELY_MERGED": "the mask probably covers two parcels",
    "EXCLUDED_BY_CALLER": "the request excluded it",
    "NO_DEPTH_AROUND": "little depth in the mask, and none around it",
    "NO_EDGE": "neither depth nor colour shows an edge where the mask ends",
    "NO_PARCEL": "a thing that is no parcel",
}

RESULT_TEXT = {
    "clean": "clean pick: the chosen parcel alone arrived",
    "miss": "miss: nothing was lifted",
    "drop": "drop: lifted, but it did not arrive",
    "multi": "multi-pick: more than one parcel was lifted",
    "wrong": "wrong parcel: one arrived, not the chosen one",
    "infeasible": "no grasp found",
    "waited": "nothing was picked before a person had answered",
    "unfinished": "nobody told what became of the pick",
}


def cups_text(cups: Iterable[int], tool: ToolRecord) -> str:
    """The tool seen from above, a row of cups at a time (x right, y down): filled is open, ``○●●○ / ○●●○``."""
    on, rows = set(cups), list[list[int]]()
    for cup in sorted(range(len(tool.cup_centres_m)), key=lambda i: tool.cup_centres_m[i][1]):
        y_m = tool.cup_centres_m[cup][1]
        if not rows or y_m - tool.cup_centres_m[rows[-1][0]][1] > tool.cup_radius_m:
            rows.append([])
        rows[-1].append(cup)
    for row in rows:
        row.sort(key=lambda i: tool.cup_centres_m[i][0])
    return " / ".join("".join("●" if i in on else "○" for i in row) for row in rows)


def why_chosen(decision: Decision) -> tuple[str, ...]:
    """Short sentences that a person reads first. They state what the record holds, nothing is inferred."""
    if decision.chosen is None:
        return (decision.message or RESULT_TEXT["infeasible"], *_ruled_out(decision), *_made_with(decision))
    chosen = decision.chosen
    seen = next((i for i in decision.instances if i.id == chosen.instance), None)
    lines = []
    if seen is not None:
        lines.append(
            f"Parcel {seen.id}, {seen.class_name.replace('_', ' ')} ({seen.class_probability:.0%}), "
            f"{seen.visible_fraction:.0%} visible, detection {seen.detection:.0%}, mask {seen.mask_quality:.0%}."
        )
    if seen is not None and seen.film_depth:
        lines.append("Clear film: planned on the face that the film network told, not on the depth that was seen.")
    parcels = len({c.instance for c in decision.candidates})
    score = f" with score {chosen.score:.4g}" if chosen.score is not None else ""
    lines.append(f"Best of {len(decision.candidates)} ranked grasps on {parcels} parcels{score}.")
    second = next((c for c in decision.candidates if c.instance != chosen.instance), None)
    if second is not None and second.score is not None:
        lines.append(f"Next best parcel: {second.instance} with score {second.score:.4g}.")
    cups = ", ".join(str(c) for c in chosen.cups)
    lines.append(f"{len(chosen.cups)} of {len(decision.context.tool.cup_centres_m)} cups: {cups}.")
    return (*lines, *_ruled_out(decision), *_made_with(decision))


def _ruled_out(decision: Decision) -> tuple[str, ...]:
    if not decision.rejected_counts:
        return ()
    counts = sorted(decision.rejected_counts.items(), key=lambda item: -item[1])
    return ("Ruled out: " + "; ".join(f"{n} × {REASON_TEXT.get(name, name.lower())}" for name, n in counts) + ".",)


def _made_with(decision: Decision) -> tuple[str, ...]:
    versions = versions_text(decision.versions)
    return (f"Made with {versions}.",) if versions else ()


def outcome_text(decision: Decision) -> str:
    """One line: the result and, where the cell knows it, why."""
    text = RESULT_TEXT.get(decision.result, decision.result)
    if decision.outcome is None:
        return text
    reason = str(decision.outcome.truth.get("reason", "") or "")
    return f"{text} ({reason})" if reason and decision.result != "clean" else text


def trace_text(decision: Decision) -> str:
    """The whole story of one decision as plain text, at most a few screens."""
    parts = [
        _head(decision),
        _conditions(decision),
        "Why\n" + "\n".join(f"  {line}" for line in why_chosen(decision)),
        _candidates(decision),
        _rejected(decision),
        _cups(decision),
        _outcome(decision),
        _steps(decision),
        _times(decision),
    ]
    text = "\n\n".join(part for part in parts if part)
    return "\n".join(printable(line) for line in text.split("\n")) + "\n"


def _head(decision: Decision) -> str:
    context = decision.context
    frame = decision.frame
    lines = [
        f"Decision {decision.decision_id}  {decision.result.upper()}",
        f"  recorded {decision.recorded_at}, source {context.source}, pile {context.pile}, pick {context.pick}",
        f"  frame {frame.width}x{frame.height} sha256 {frame.digest[:16]}…, {frame.valid_depth_share:.0%} valid depth",
        f"  model {decision.model_id}, engine {context.engine or '-'}, planner {decision.planner}, "
        f"configuration {context.config_digest[:12] or '-'}",
        f"  {len(decision.instances)} parcels seen; plan: {decision.message or 'ok'}",
    ]
    if flags := (*decision.scene_flags, *decision.flags):
        lines.append(f"  flags: {', '.join(flags)}")
    for failure in decision.failed_before:
        x, y, z = failure.position_m
        cups = cups_text(failure.cups, context.tool)
        lines.append(f"  failed before at ({x:.3f}, {y:.3f}, {z:.3f}) m, {cups}, {failure.times} time(s)")
    return "\n".join(lines)


def _conditions(decision: Decision) -> str:
    """What was not as it should be with station and goods."""
    lines = [f"  {code_text(c.code)} {c.family}: {condition_text(c, decision.stamp_s)}" for c in decision.conditions]
    unfamiliar = [seen for seen in decision.instances if (seen.novelty or 0.0) > NOVELTY_LIMIT]
    if unfamiliar:
        shown = ", ".join(f"{seen.id} ({seen.novelty:.2g})" for seen in unfamiliar)
        lines.append(f"  {len(unfamiliar)} of {len(decision.instances)} parcels look unfamiliar (limit 1): {shown}")
    return "\n".join(["Conditions", *lines]) if lines else ""


def _cups(decision: Decision) -> str:
    """Cups that the planner did not fully trust, and what it expected of those that were opened."""
    lines = [f"  {cup_text(cup)}" for cup in cups_in_doubt(decision.cup_health)]
    chosen = decision.chosen
    if chosen is not None and chosen.cup_seal:
        expected = ", ".join(f"{cup}: {seal:.0%}" for cup, seal in enumerate(chosen.cup_seal) if seal is not None)
        lines.append(f"  expected to seal: {expected}")
    return "\n".join(["Cups", *lines]) if lines else ""


def _steps(decision: Decision) -> str:
    """What was judged, done and asked, in order."""
    lines = []
    for number, step in enumerate(decision.steps, start=1):
        lines.append(f"  {number}. {step_text(step)}")
        if step.reasons and step.judged is not None:
            lines.append(f"     judged by: {'; '.join(step.reasons)}")
        if step.help is not None:
            lines.append(f"     {help_text(step.help)}")
    return "\n".join(["What was done", *lines]) if lines else ""


def _place(candidate: CandidateRecord) -> str:
    x, y, z = candidate.position_m
    return f"({x:.3f}, {y:.3f}, {z:.3f}) m"


def _candidates(decision: Decision) -> str:
    """Chosen and runners-up side by side: one row per term of the score."""
    shown = _best_per_parcel(decision)
    if not shown:
        return ""
    tool_text = partial(cups_text, tool=decision.context.tool)
    names = list(dict.fromkeys(name for candidate in shown for name in candidate.terms))
    width = max([len(name) for name in names] + [12])
    lines = ["Chosen and the best grasp of each next parcel"]
    lines.append("  " + " " * width + "".join(f"{'#' + str(c.rank) + ' parcel ' + str(c.instance):>18}" for c in shown))
    lines.append("  " + "cups".ljust(width) + "".join(f"{tool_text(c.cups).replace(' / ', '/'):>18}" for c in shown))
    lines.append("  " + "score".ljust(width) + "".join(f"{_figure(c.score):>18}" for c in shown))
    for name in names:
        lines.append("  " + name.ljust(width) + "".join(f"{_figure(c.terms.get(name)):>18}" for c in shown))
    lines.append("  " + "position".ljust(width) + "  " + "; ".join(_place(c) for c in shown))
    return "\n".join(lines)


def _best_per_parcel(decision: Decision) -> list[CandidateRecord]:
    shown: list[CandidateRecord] = [] if decision.chosen is None else [decision.chosen]
    for candidate in decision.candidates:
        if len(shown) > RUNNERS_UP:
            break
        if all(candidate.instance != other.instance for other in shown):
            shown.append(candidate)
    return shown


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"


def _rejected(decision: Decision) -> str:
    if not decision.rejected_counts:
        return ""
    shown = decision.rejected[:REJECTED_SHOWN]
    count = sum(decision.rejected_counts.values())
    lines = [f"Rejected candidates ({count} in all)"]
    for candidate in shown:
        reason = REASON_TEXT.get(candidate.reason, candidate.reason.lower())
        cups = cups_text(candidate.cups, decision.context.tool)
        lines.append(
            f"  parcel {candidate.instance:3d} {_place(candidate)}  {cups}  "
            f"R{candidate.reason_code} {candidate.reason}: {reason}"
        )
    if count > len(shown):
        lines.append(f"  … and {count - len(shown)} more")
    return "\n".join(lines)


def _outcome(decision: Decision) -> str:
    lines = [f"Outcome\n  {outcome_text(decision)}"]
    if decision.outcome is not None:
        outcome = decision.outcome
        held = ", ".join(f"{i}: {p / 1000:.0f}" for i, p in enumerate(outcome.vacuum_pa) if p > 0) or "none"
        lines.append(
            f"  vacuum after the lift, kPa by cup: {held}; weight on the tool {outcome.lifted_weight_n:.1f} N; "
            f"motion {outcome.duration_s:.1f} s"
        )
        if outcome.judged is not None:
            lines.append(
                f"  the pick check calls it {odds_text(outcome)}: {'; '.join(outcome.reasons) or 'no reasons'}"
            )
        if outcome.traces is not None:
            traces = outcome.traces
            marks = ", ".join(f"{name} {sample / traces.rate_hz:.2f} s" for name, sample in traces.marks.items())
            lines.append(f"  traces of {traces.samples / traces.rate_hz:.1f} s at {traces.rate_hz:g} Hz: {marks}")
        lines += _truth(outcome.truth)
    return "\n".join(lines)


def _truth(truth: Mapping[str, Any]) -> list[str]:
    """What the simulated cell alone knows: who was lifted and moved, and how each open cup fared."""
    told_apart = ("reason", "seals", "releases")
    plain = {k: v for k, v in truth.items() if k not in told_apart and v not in ([], {}, None, "")}
    lines = ["  simulation's truth: " + ", ".join(f"{k} {v}" for k, v in plain.items())] if plain else []
    let_go = {release["cup"]: release for release in truth.get("releases", ())}
    for seal in truth.get("seals", ()):
        held = ", ".join(f"parcel {parcel} ({share:.0%})" for parcel, share in seal["held"]) or "nothing"
        line = f"    cup {seal['cup']}: on {held}, {seal['pressure_pa'] / 1000:.0f} kPa, leak {_leak(seal['leak_mm2'])}"
        if (release := let_go.get(seal["cup"])) is not None:
            line += f"; let go in {release['phase']}: {release['reason']} at {release['pull_n']:.1f} N pull"
            line += f", {release['shear_n']:.1f} N shear (holds {release['limit_n']:.1f} N)"
        lines.append(line)
    return lines


def _leak(area_mm2: float) -> str:
    return "open" if area_mm2 > 1e6 else f"{area_mm2:.1f} mm²"


def _times(decision: Decision) -> str:
    times = ", ".join(f"{name} {value:.1f}" for name, value in decision.timings_ms.items())
    return f"Times, ms\n  {times}" if times else ""
