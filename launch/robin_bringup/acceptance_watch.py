"""Acceptance of what watches a station: judged picks, what nobody noticed, people asked, conditions, cups."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pydantic import Field

from edge_adapt.decision import Decision
from edge_adapt.told import NOVELTY_LIMIT, cups_in_doubt
from robin_perception.core.config import StrictConfig
from robin_perception.core.stats import rate

BAD = ("multi", "wrong")
ASK_HELP = "ask_help"
PUT_RIGHT = frozenset({"set_down", "mark_destination"})


class WatchThresholds(StrictConfig):
    """For a station that is in order: light, lens, camera, cups and goods are as they should be. Each: null = not
    judged."""

    min_judged_share: float | None = Field(
        None, ge=0, le=1, description="At least this share of the picks judged by the pick check."
    )
    max_uncaught_rate: float | None = Field(
        None,
        ge=0,
        le=1,
        description="At most this share of the picks bad (two parcels, a wrong one) and unnoticed (simulated cell).",
    )
    max_help_rate: float | None = Field(None, ge=0, description="At most so many requests for help a pick.")
    max_conditions: int | None = Field(
        None, ge=0, description="At most so many conditions of the environment, each counted once from raise to end."
    )
    max_unfamiliar_share: float | None = Field(
        None, ge=0, le=1, description="At most this share of the parcels seen beyond the limit of novelty."
    )
    max_cups_found: int | None = Field(None, ge=0, description="At most so many cups that are not trusted at the end.")


def watch_figures(decisions: Sequence[Decision]) -> dict[str, Any]:
    """What ``WatchThresholds`` limit. None: not measured. conditions: name -> how often it was raised."""
    picks = [d for d in decisions if d.outcome is not None]
    judged = [d for d in picks if d.outcome is not None and d.outcome.probability is not None]
    known = [d for d in picks if d.outcome is not None and "result" in d.outcome.truth]
    novelty = [seen.novelty for d in decisions for seen in d.instances if seen.novelty is not None]
    cups = next((d.cup_health for d in reversed(decisions) if d.cup_health), None)
    asked = sum(step.action == ASK_HELP for d in decisions for step in d.steps)
    return {
        "judged_share": rate(len(judged), len(picks)) if picks else None,
        "uncaught_rate": rate(sum(map(_uncaught, known)), len(known)) if known else None,
        "helps": asked,
        "help_rate": asked / len(picks) if picks else None,
        "conditions": _raised(decisions),
        "unfamiliar_share": rate(sum(n > NOVELTY_LIMIT for n in novelty), len(novelty)) if novelty else None,
        "cups_found": None if cups is None else [cup.cup for cup in cups_in_doubt(cups)],
    }


def _uncaught(decision: Decision) -> bool:
    """Not the chosen parcel alone left the cell, and neither judge nor policy said so."""
    assert decision.outcome is not None
    outcome = decision.outcome
    noticed = (outcome.judged or outcome.result) in BAD or any(step.action in PUT_RIGHT for step in decision.steps)
    return outcome.truth["result"] in BAD and not noticed


def _raised(decisions: Sequence[Decision]) -> dict[str, int]:
    """A condition that holds over many frames was raised once."""
    seen = {(c.name, round(c.since_s, 3)) for d in decisions for c in d.conditions if c.family == "environment"}
    counts: dict[str, int] = {}
    for name, _ in sorted(seen):
        counts[name] = counts.get(name, 0) + 1
    return counts
