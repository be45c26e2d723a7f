"""When the next training is due. A pure decision: what it rests on is given."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from pydantic import Field

from robin_fleet.ledger.novelties import CONFIRMED
from robin_fleet.novelties.review import Ranked
from robin_perception.core.config import StrictConfig


class ScheduleConfig(StrictConfig):
    """When a novelty is worth a training of its own."""

    sightings: int = Field(30, ge=1, description="So often it must have been seen.")
    failed: int = Field(3, ge=0, description="So many picks of it must have failed.")
    confirmed: bool = Field(True, description="A person must have confirmed it.")


def due(
    now_s: float,
    last_s: float | None,
    every_s: float | None,
    novelties: Sequence[Ranked],
    taught: Collection[str],
    config: ScheduleConfig | None = None,
) -> str | None:
    """Why a training is due now, in words; None where none is.

    last_s: when the last one began. every_s: from one to the next; None: only for novelties. taught: ids of those that
    were past the bar at an earlier training. A clock that was set back makes nothing due.
    """
    fresh = [one.title for one in past_bar(novelties, config) if one.row.novelty not in taught]
    if fresh:
        return f"past the bar: {', '.join(fresh)}"
    if every_s is None:
        return None
    if last_s is None:
        return "the first one"
    if now_s - last_s >= every_s:
        return f"{(now_s - last_s) / 3600:.0f} h since the last one"
    return None


def past_bar(novelties: Sequence[Ranked], config: ScheduleConfig | None = None) -> list[Ranked]:
    """Those that are worth a training."""
    config = config or ScheduleConfig()
    return [
        one
        for one in novelties
        if one.standing.seen >= config.sightings
        and one.standing.failed >= config.failed
        and (one.row.state == CONFIRMED or not config.confirmed)
    ]
