"""The ledger's figures for Prometheus: what robots told last, picks, roll-outs, how long releases are still signed for.

https://prometheus.io/docs/instrumenting/exposition_formats/. Every scrape reads the ledger anew.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from robin_fleet.ledger import rollouts as book
from robin_fleet.ledger.core import Ledger
from robin_fleet.ledger.events import refused_by_code
from robin_fleet.ledger.metrics import latest_values
from robin_fleet.ledger.robots import ENROLLED, Robot, all_robots
from robin_fleet.release.repository import ReleaseRepository
from robin_fleet.rollout.plan import STAGES
from robin_fleet.rollout.state import Phase
from robin_fleet.server.figures import read_figures
from robin_perception.core.errors import RobinError

FRESH_S = 86_400.0
"""Figures that are older are not shown: a robot that is silent has none."""
_ROBOT = ("robot", "site", "station")
FLEET = {
    "robin_fleet_server": "Counts of the server: messages, blobs, refusals by reason and by code (E830).",
    "robin_fleet_server_written_seconds": "When the server wrote these, seconds since 1970.",
    "robin_fleet_ledger_code": "Number of the code why the ledger cannot be read; 0: it can.",
    "robin_fleet_robot_seen_seconds": "When a robot was last heard of, seconds since 1970.",
    "robin_fleet_picks": "Picks that were tried.",
    "robin_fleet_picks_failed": "Picks that were tried and were not clean.",
    "robin_fleet_quarantined": "Blobs that did not verify, by code.",
    "robin_fleet_rollout_phase": "1 for the phase in which a roll-out is.",
    "robin_fleet_rollout_stage": "Stage of an open roll-out: 0 replay to 6 all.",
    "robin_fleet_rollout_robots": "Robots that are to run the release of a roll-out.",
    "robin_fleet_rollout_picks_lost": "Picks lost with the release of a roll-out.",
    "robin_fleet_release_expires_seconds": "When what a role has signed expires, seconds since 1970.",
}
"""Figures of the aggregator itself; counters get ``_total`` behind their names."""
_COUNTERS = frozenset({"robin_fleet_picks", "robin_fleet_picks_failed", "robin_fleet_rollout_picks_lost"})


@dataclass(frozen=True, eq=False)  # a registry holds it by what it is
class FleetCollector(Collector):
    """Reads the ledger each time it is asked. repository: None where the fleet has no releases. folder: of the
    aggregator, where its server writes its counts. A ledger that is away is a figure, too."""

    ledger: Ledger
    repository: ReleaseRepository | None = None
    clock: Callable[[], float] = time.time
    folder: Path | None = None

    def collect(self) -> Iterator[Metric]:
        if self.folder is not None:
            yield from _of_server(self.folder)
        ledger, failure = _family("robin_fleet_ledger_code", ()), 0
        try:
            yield from list(self._booked())
        except RobinError as exc:
            failure = int(exc.code)
        ledger.add_metric((), failure)
        yield ledger
        if self.repository is not None:
            yield _of_releases(self.repository)

    def _booked(self) -> Iterator[Metric]:
        with self.ledger.read() as connection:
            robots = {one.robot: one for one in all_robots(connection) if one.state == ENROLLED}
            yield from _of_robots(connection, robots, self.clock() - FRESH_S)
            yield from _of_picks(connection, robots)
            yield from _of_rollouts(connection)
            refused = _family("robin_fleet_quarantined", ("code",))
            for code, count in refused_by_code(connection).items():
                refused.add_metric((str(code),), count)
            yield refused

    def describe(self) -> Iterable[Metric]:
        return ()  # or the registry would read the ledger to learn names


def registry_of(collector: FleetCollector) -> CollectorRegistry:
    registry = CollectorRegistry()
    registry.register(collector)
    return registry


def exposed(collector: FleetCollector) -> bytes:
    """Text as Prometheus reads it."""
    return generate_latest(registry_of(collector))


def _family(name: str, labels: tuple[str, ...]) -> GaugeMetricFamily | CounterMetricFamily:
    kind = CounterMetricFamily if name in _COUNTERS else GaugeMetricFamily
    return kind(name, FLEET[name], labels=labels)


def _of_server(folder: Path) -> Iterator[Metric]:
    counts, written = _family("robin_fleet_server", ("figure",)), _family("robin_fleet_server_written_seconds", ())
    if (found := read_figures(folder)) is not None:
        written.add_metric((), found.at_s)
        for figure, value in found.values.items():
            counts.add_metric((figure,), value)
    yield from (counts, written)


def _of_robots(connection: sa.Connection, robots: dict[str, Robot], since_s: float) -> Iterator[Metric]:
    seen = _family("robin_fleet_robot_seen_seconds", _ROBOT)
    for one in robots.values():
        seen.add_metric(_labels(one), one.seen_s or 0.0)
    yield seen
    families: dict[str, GaugeMetricFamily] = {}
    for value in latest_values(connection, since_s):
        if (owner := robots.get(value.robot)) is not None:
            if value.name not in families:
                families[value.name] = GaugeMetricFamily(value.name, "As robots told it last.", labels=_ROBOT)
            families[value.name].add_metric(_labels(owner), value.value)
    yield from families.values()


def _of_picks(connection: sa.Connection, robots: dict[str, Robot]) -> Iterator[Metric]:
    picks, failed = _family("robin_fleet_picks", _ROBOT), _family("robin_fleet_picks_failed", _ROBOT)
    for robot, (count, clean) in book.totals(connection).items():
        if (owner := robots.get(robot)) is not None:
            picks.add_metric(_labels(owner), count)
            failed.add_metric(_labels(owner), count - clean)
    yield from (picks, failed)


def _of_rollouts(connection: sa.Connection) -> Iterator[Metric]:
    labels = ("rollout", "release")
    phase = _family("robin_fleet_rollout_phase", (*labels, "phase"))
    stage, robots, lost = (_family(f"robin_fleet_rollout_{n}", labels) for n in ("stage", "robots", "picks_lost"))
    for one in book.all_rollouts(connection):
        own = (one.rollout, one.release)
        for name in Phase:
            phase.add_metric((*own, name.value), float(one.phase is name))
        if one.open:
            stage.add_metric(own, STAGES.index(one.stage))
        robots.add_metric(own, len(one.robots))
        lost.add_metric(own, one.evidence.lost)
    yield from (phase, stage, robots, lost)


def _of_releases(repository: ReleaseRepository) -> Metric:
    family = _family("robin_fleet_release_expires_seconds", ("role",))
    try:
        found = repository.expiries()
    except RobinError:
        found = {}  # no repository yet
    for role, at_s in found.items():
        family.add_metric((role,), at_s)
    return family


def _labels(robot: Robot) -> tuple[str, str, str]:
    return robot.robot, robot.site, robot.station
