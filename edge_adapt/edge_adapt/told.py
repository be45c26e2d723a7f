"""Conditions, judgement, actions and cups of a record in words: the sentences that trace and report share."""

from __future__ import annotations

from collections.abc import Iterable

from edge_adapt.record_parts import (
    ConditionRecord,
    CupRecord,
    HelpRecord,
    JudgementRecord,
    RecoveryStepRecord,
    VersionsRecord,
)
from robin_perception.core.errors import Code

NOVELTY_LIMIT = 1.0
EFFECT_TEXT = {"go_on": "picking goes on", "look_again": "look again", "slow_down": "slow motion", "stop": "no picking"}
STATE_TEXT = {"look": "before the pick", "held": "load on the tool", "ended": "after the pick"}


def code_text(code: int) -> str:
    """``E125 PICTURE_FROZEN``; the number alone where this version does not know it."""
    try:
        return f"E{code} {Code(code).name}"
    except ValueError:
        return f"E{code}"


def condition_text(condition: ConditionRecord, now_s: float) -> str:
    """One line. now_s: the frame's stamp."""
    of = f" (parcels {', '.join(map(str, condition.instances))})" if condition.instances else ""
    told = f": {condition.text}" if condition.text else ""
    return (
        f"{condition.name}{of}, {measured_text(condition)}, {since_text(condition, now_s)}; "
        f"{EFFECT_TEXT[condition.effect]}{told}"
    )


def measured_text(condition: ConditionRecord) -> str:
    """``11.5 frames, limit 10 frames``."""
    unit = f" {condition.unit}" if condition.unit else ""
    value, limit = ("-" if v is None else f"{v:.3g}{unit}" for v in (condition.value, condition.limit))
    return f"{value}, limit {limit}"


def since_text(condition: ConditionRecord, now_s: float) -> str:
    age_s = now_s - condition.since_s
    if age_s < 0.05:
        return "since this frame" if age_s > -0.05 else "since later than this frame: was the clock set?"
    for unit, size in (("days", 86_400.0), ("hours", 3_600.0), ("minutes", 60.0)):
        if age_s >= 2 * size:
            return f"for {age_s / size:.1f} {unit}"
    return f"for {age_s:.1f} s"


def odds_text(judgement: JudgementRecord) -> str:
    """``multi 70 % (clean 10 %, wrong 10 %)``: what it is called, then what else it may be."""
    if judgement.judged is None:
        return ""
    belief = "" if judgement.probability is None else f" {_belief(judgement.probability)}"
    others = sorted(
        ((p, name) for name, p in judgement.probabilities.items() if name != judgement.judged), reverse=True
    )
    rest = ", ".join(f"{name} {p:.0%}" for p, name in others if p >= 0.005)
    return f"{judgement.judged}{belief}" + (f" ({rest})" if rest else "")


def _belief(share: float) -> str:
    """Sure and nearly sure differ."""
    return f"{share:.2%}" if 0.995 < share < 1 else f"{share:.0%}"


def help_text(asked: HelpRecord) -> str:
    about = f", {code_text(asked.code)}" if asked.code else ""
    answer = f"answered '{asked.answer}'" if asked.answer else "not answered"
    by = f" by {asked.answered_by}" if asked.answered_by else ""
    waited = "" if asked.waited_s is None else f" after {asked.waited_s:.0f} s"
    said = f": {asked.text}" if asked.text else ""
    return f"asked a person ({asked.help_id}{about}){said}; {answer}{by}{waited}"


def step_text(step: RecoveryStepRecord) -> str:
    """One line: state, judgement, action and reason, what came of it."""
    judged = f"judged {odds_text(step)}; " if step.judged else ""
    cups = f" cups {', '.join(map(str, step.release_cups))}" if step.release_cups else ""
    reason = f": {step.reason}" if step.reason else ""
    came = f" -> {step.came_of}" if step.came_of else ""
    took = f" ({step.took_s:.1f} s)" if step.took_s else ""
    code = f" {code_text(step.code)}" if step.code else ""
    action = f"{step.action.replace('_', ' ')}{cups}{code}{reason}"
    return f"{STATE_TEXT.get(step.state, step.state)}: {judged}{action}{came}{took}"


def versions_text(versions: VersionsRecord) -> str:
    """Versions of what is learned, in words; empty where there are none."""
    told = [] if versions.see is None else [f"version {versions.see} of the model"]
    for what, learned in (("holding", versions.hold), ("cups", versions.tool)):
        if learned is not None:
            told.append(f"{what} learned from {learned.picks} picks ({learned.digest[:12]})")
    return ", ".join(told)


def cup_text(cup: CupRecord) -> str:
    odds = ", ".join(f"{name} {p:.0%}" for name, p in cup.probabilities.items())
    advice = f": {cup.text}" if cup.text else ""
    return f"cup {cup.cup} {cup.state} ({odds}), share {cup.share:.0%}, held in {cup.held} of {cup.picks} picks{advice}"


def cups_in_doubt(cups: Iterable[CupRecord]) -> list[CupRecord]:
    """Those that the planner does not fully trust."""
    return [cup for cup in cups if cup.state != "good" or cup.share < 1]
