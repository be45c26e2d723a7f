"""What a report's card shows beside plan and outcome: conditions, judgement, traces, the load, actions and cups."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from markupsafe import Markup

from edge_adapt.decision import Decision
from edge_adapt.evidence import Evidence
from edge_adapt.report_pictures import PARCEL
from edge_adapt.report_plots import probability_bars, traces_plot
from edge_adapt.told import (
    EFFECT_TEXT,
    NOVELTY_LIMIT,
    STATE_TEXT,
    code_text,
    cups_in_doubt,
    help_text,
    measured_text,
    odds_text,
    since_text,
)
from robin_grasp.tool import GRAVITY_MPS2

MOST_CROPS = 6


@dataclass(frozen=True)
class ConditionLine:
    """One condition. pictures: addresses of what it concerns; empty where that is the whole frame, or none is kept."""

    code: str
    name: str
    family: str
    measured: str
    since: str
    effect: str
    stops: bool
    text: str
    parcels: tuple[int, ...]
    pictures: tuple[str, ...]


@dataclass(frozen=True)
class ActionLine:
    """One decision of the recovery policy. picture: that a person was shown."""

    state: str
    judged: str
    action: str
    reason: str
    came_of: str
    took: str
    help: str
    picture: str


@dataclass(frozen=True)
class ToldCard:
    """Empty parts are left out of the card. unfamiliar: ids of parcels beyond the station's limit."""

    conditions: tuple[ConditionLine, ...]
    unfamiliar: tuple[int, ...]
    judged: str
    bars: Markup
    reasons: tuple[str, ...]
    features: tuple[tuple[str, str], ...]
    traces: Markup
    load: str
    load_depth: str
    actions: tuple[ActionLine, ...]
    cups: bool
    doubted: tuple[int, ...]


def told_card(evidence: Evidence, address: Callable[[str], str]) -> ToldCard:
    """address: of a picture by its name, empty where there is none; its place is left empty then."""
    decision = evidence.decision
    outcome = decision.outcome
    unfamiliar = tuple(seen.id for seen in decision.instances if (seen.novelty or 0.0) > NOVELTY_LIMIT)
    return ToldCard(
        conditions=_conditions(decision, address),
        unfamiliar=unfamiliar,
        judged="" if outcome is None else odds_text(outcome),
        bars=Markup(
            probability_bars(outcome.probabilities, outcome.judged) if outcome and outcome.probabilities else ""
        ),
        reasons=() if outcome is None else outcome.reasons,
        features=() if outcome is None else tuple((k, _figure(v)) for k, v in outcome.features.items()),
        traces=Markup(_traces(evidence)),
        load=address("load"),
        load_depth=address("load_depth"),
        actions=_actions(decision, address),
        cups=bool(decision.cup_health),
        doubted=tuple(cup.cup for cup in cups_in_doubt(decision.cup_health)),
    )


def _conditions(decision: Decision, address: Callable[[str], str]) -> tuple[ConditionLine, ...]:
    return tuple(
        ConditionLine(
            code=code_text(c.code),
            name=c.name,
            family=c.family,
            measured=measured_text(c),
            since=since_text(c, decision.stamp_s),
            effect=EFFECT_TEXT[c.effect],
            stops=c.effect == "stop",
            text=c.text,
            parcels=c.instances,
            pictures=tuple(filter(None, (address(PARCEL.format(i)) for i in c.instances[:MOST_CROPS]))),
        )
        for c in decision.conditions
    )


def _traces(evidence: Evidence) -> str:
    """The plot; empty where there are no traces, or none that can be read."""
    decision = evidence.decision
    tool, chosen = decision.context.tool, decision.chosen
    if (traces := evidence.traces()) is None:
        return ""
    mass_kg = chosen.terms.get("mass_kg", 0.0) if chosen is not None else 0.0
    expected_n = mass_kg * GRAVITY_MPS2 if 0 < mass_kg < 1e3 else None
    return traces_plot(traces, chosen.cups if chosen is not None else (), tool.vacuum_pa, expected_n)


def _actions(decision: Decision, address: Callable[[str], str]) -> tuple[ActionLine, ...]:
    lines = []
    for step in decision.steps:
        cups = f" (cups {' '.join(map(str, step.release_cups))})" if step.release_cups else ""
        picture = step.help.picture if step.help is not None else ""
        lines.append(
            ActionLine(
                state=STATE_TEXT.get(step.state, step.state),
                judged=odds_text(step),
                action=step.action.replace("_", " ") + cups,
                reason=step.reason,
                came_of=step.came_of,
                took=f"{step.took_s:.1f} s" if step.took_s else "",
                help="" if step.help is None else help_text(step.help),
                picture=address(picture) if picture else "",
            )
        )
    return tuple(lines)


def _figure(value: float | None) -> str:
    return "–" if value is None else f"{value:.4g}"
