"""Releases, trainings and roll-outs of an aggregator, as they stand."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from robin_perception.core.errors import RobinError
from robin_view.search.pages import shown_time

if TYPE_CHECKING:
    from robin_fleet.folder import Fleet
    from robin_fleet.rollout.state import RolloutState

_EVENTS = 12


def releases_told(fleet: Fleet) -> dict[str, Any]:
    """releases, problem (why there are none to show), trainings, rollouts, holds; the newest first."""
    from robin_fleet.ledger.decks import signatures, trainings
    from robin_fleet.ledger.rollouts import all_holds, all_rollouts, events_of

    releases, problem = _releases(fleet)
    with fleet.ledger.read() as connection:
        rollouts = [
            {**_rollout(one), "events": [e for e in events_of(connection, one.rollout) if e.kind != "picks"][-_EVENTS:]}
            for one in reversed(all_rollouts(connection))
        ]
        taught = [(row, signatures(connection, row.training)) for row in reversed(trainings(connection))]
        holds = all_holds(connection)
    for one in rollouts:
        one["events"] = [{"at": shown_time(e.at_s), "kind": e.kind, "text": e.text} for e in one["events"]]
    shown = [
        {**row._asdict(), "at": shown_time(row.started_s), "signed": [f"{s.decision} by {s.signed_by}" for s in signed]}
        for row, signed in taught
    ]
    return {"releases": releases, "problem": problem, "trainings": shown, "rollouts": rollouts, "holds": holds}


def _releases(fleet: Fleet) -> tuple[list[Any], str]:
    from robin_fleet.release.repository import ReleaseRepository

    try:
        return ReleaseRepository(fleet.folder).releases(), ""
    except RobinError as exc:
        return [], exc.text


def _rollout(state: RolloutState) -> dict[str, Any]:
    shown, lost = state.evidence.picks, state.evidence.lost
    without, lost_without = state.evidence.picks_without, state.evidence.lost_without
    rule = getattr(state.plan, state.stage.value, None)
    return {
        "id": state.rollout,
        "release": state.release,
        "phase": state.phase.value,
        "open": state.open,
        "stage": state.stage.value,
        "since": shown_time(state.began_s),
        "robots": len(state.robots),
        "back": ", ".join(state.back),
        "stage_picks": state.stage_picks,
        "wanted": getattr(rule, "picks", 0),
        "with": _share(shown, lost),
        "without": _share(without, lost_without),
        "worse": state.evidence.wealth_worse,
        "stops_at": 1.0 / state.plan.false_stops,
        "reason": state.reason,
    }


def _share(picks: int, lost: int) -> str:
    return "–" if not picks else f"{lost} of {picks:,} failed ({100 * lost / picks:.1f} %)"
