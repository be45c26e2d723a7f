"""Which novelty a person should look at first: how often it came, at how many sites, and what it did to picks."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from pydantic import Field

from robin_perception.core.config import StrictConfig

GUARD_S = 60.0
"""Around a sample in which a fault of the station stood, within which its sightings do not count: a fault begins before
a monitor is sure of it."""


class RankingConfig(StrictConfig):
    """What counts how much."""

    usual_failures: float = Field(0.02, ge=0, lt=1, description="Share of picks of known goods that fail.")
    harmless: float = Field(0.05, gt=0, description="Harm of a novelty of which no pick failed.")
    sure_at: float = Field(
        1.0, gt=0, description="A sighting counts whole when its novelty is so far beyond the station's limit."
    )


@dataclass(frozen=True)
class Seen:
    """One sighting. novelty: 1 is the station's limit. failed: the parcel was picked, and the pick failed."""

    site: str
    station: str
    novelty: float
    failed: bool
    at_s: float = 0.0


@dataclass(frozen=True)
class Standing:
    """score: count x sites x harm. count: sightings, each by how far it lies beyond the limit: known goods that look a
    little odd lie just beyond it. harm: failed picks beyond those that so many known goods may well have had."""

    score: float
    seen: int
    count: float
    sites: tuple[str, ...]
    stations: int
    failed: int
    harm: float
    first_s: float
    last_s: float


def standing(sightings: Iterable[Seen], config: RankingConfig | None = None) -> Standing:
    """Of one novelty."""
    config, rows = config or RankingConfig(), list(sightings)
    sites = tuple(sorted({row.site for row in rows}))
    count = sum(min(max(row.novelty - 1, 0) / config.sure_at, 1.0) for row in rows)
    failed = sum(row.failed for row in rows)
    usual = config.usual_failures * len(rows)
    harm = config.harmless + max(0.0, failed - usual - usual**0.5)
    times = [row.at_s for row in rows] or [0.0]
    stations = len({(row.site, row.station) for row in rows})
    score = count * len(sites) * harm
    return Standing(score, len(rows), count, sites, stations, failed, harm, min(times), max(times))
