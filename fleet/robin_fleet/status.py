"""What an aggregator holds, in figures: for the terminal, and for programs."""

from __future__ import annotations

from typing import Any

from robin_fleet.ledger.core import Ledger
from robin_fleet.ledger.events import latest_events, refused_by_code
from robin_fleet.ledger.robots import ENROLLED, REVOKED, all_robots
from robin_fleet.ledger.samples import blob_counts, counts_by_station


def fleet_status(ledger: Ledger, events: int) -> dict[str, Any]:
    """events: the latest so many. Raises RobinError LEDGER_*."""
    with ledger.read() as connection:
        robots = [robot.state for robot in all_robots(connection)]
        stations = counts_by_station(connection)
        blobs, size = blob_counts(connection)
        refused = refused_by_code(connection)
        latest = latest_events(connection, events)
    return {
        "ledger": ledger.name,
        "robots": {state: robots.count(state) for state in (ENROLLED, REVOKED)},
        "samples": sum(station["samples"] for station in stations),
        "blobs": blobs,
        "bytes": size,
        "stations": stations,
        "quarantined": sum(refused.values()),
        "quarantined_by_code": refused,
        "events": [event._asdict() for event in latest],
    }
