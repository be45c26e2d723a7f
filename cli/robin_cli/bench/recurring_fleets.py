"""Simulated fleets with planted novelties: how soon each of them is among the first five that a person is shown."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from robin_cli.bench.looks import FAULTS, LookPool, Looks
from robin_fleet.novelties.clusters import Clustering
from robin_fleet.novelties.ranking import GUARD_S, Seen, standing
from robin_perception.core.stats import rate

SITES, STATIONS = 6, 2
PICK_S = 6.0
SHARES = (0.05, 0.03, 0.006)
"""Of the parcels at its sites, that each planted novelty has: the last one is rare."""
FAILING = (0.15, 0.45)
"""Share of picks of a planted novelty that fail, drawn from this range; of known goods: USUAL."""
USUAL = 0.02
FIRST = 5
SEEN_TIMES = 10
FAULT_EVERY, FAULT_PICKS, TOLD_AFTER = 400, 40, 3.0
"""Picks of a station from fault to fault, of a fault, and from its beginning until a monitor tells (mean)."""
MOST_PICKS = 100_000
LEAST_PART = 1 / 3
"""A novelty shows a kind when no packaging has more of its sightings, and the kind has more than this share."""


@dataclass
class _Station:
    """What stands at a station. fault: empty in good light. told: picks until the monitors tell of it."""

    site: str
    name: str
    fault: str = ""
    left: int = 0
    told: int = 0
    told_s: float = -np.inf
    odd: list[tuple[float, int]] = field(default_factory=list)


class FleetRun:
    """One simulated fleet, pick by pick. What is known of a sighting's truth never reaches the code under test."""

    def __init__(self, pool: LookPool, seed: int) -> None:
        self._pool, self._rng = pool, np.random.default_rng(seed)
        kinds = self._rng.permutation(sorted(pool.planted))[: len(SHARES)]
        self.kinds = [str(kind) for kind in kinds]
        self._views = [list(pool.views(kind, 400)) for kind in self.kinds]
        self._at = [self._rng.permutation(SITES)[: int(self._rng.integers(2, 5))].tolist() for _ in kinds]
        self._fails = self._rng.uniform(*FAILING, len(kinds))
        self._stations = [_Station(f"site-{n // STATIONS}", f"cell-{n % STATIONS}") for n in range(SITES * STATIONS)]
        self._clusters = Clustering()
        self._seen: dict[int, tuple[Seen, str, Looks]] = {}
        self.counts = dict.fromkeys(self.kinds, 0)
        self.ranks: dict[str, int] = {}
        self.fault_in_front = self.fault_sightings = self._number = 0

    @property
    def fault_kept(self) -> int:
        """Sightings of a fault that count, since no monitor had told in time."""
        return sum(what == "fault" for _, what, _ in self._seen.values())

    def run(self) -> None:
        """Until each planted novelty was seen SEEN_TIMES times."""
        for pick in range(MOST_PICKS):
            self._pick(pick)
            if len(self.ranks) == len(self.kinds):
                return

    def _pick(self, pick: int) -> None:
        rng, number = self._rng, int(self._rng.integers(len(self._stations)))
        station, now_s = self._stations[number], pick * PICK_S / len(self._stations)
        self._weather(station, now_s)
        if station.fault:
            if rng.random() < self._pool.odd_share[station.fault]:
                self.fault_sightings += 1
                _, look, novelty = self._pool.known(station.fault)
                self._sight(station, "fault", look, novelty, USUAL, now_s)
            return
        for at, kind in enumerate(self.kinds):
            if number // STATIONS in self._at[at] and rng.random() < SHARES[at]:
                look, novelty = self._views[at][self.counts[kind] % len(self._views[at])]
                self._sight(station, kind, look, novelty, self._fails[at], now_s)
                return
        if rng.random() < self._pool.odd_share[""]:
            self._sight(station, *self._pool.known(), USUAL, now_s)

    def _weather(self, station: _Station, now_s: float) -> None:
        """Faults come and go; monitors tell a little later, and what came in before they told is taken back."""
        if station.fault:
            station.left -= 1
            station.told -= 1
            if station.told <= 0:
                station.told_s = now_s
                self._take_back(station, now_s)
            if station.left <= 0:
                station.fault = ""
        elif self._rng.random() < 1 / FAULT_EVERY:
            station.fault = str(self._rng.choice(FAULTS))
            station.left, station.told = FAULT_PICKS, int(self._rng.geometric(1 / TOLD_AFTER))

    def _take_back(self, station: _Station, now_s: float) -> None:
        for at_s, number in station.odd:
            if now_s - at_s <= GUARD_S and number in self._seen:
                _, what, look = self._seen.pop(number)
                self._clusters.forget(number, look)
                if what in self.counts:
                    self.counts[what] -= 1
        station.odd.clear()

    def _sight(self, station: _Station, what: str, look: Looks, novelty: float, fails: float, now_s: float) -> None:
        if now_s - station.told_s <= GUARD_S:
            return
        failed = bool(self._rng.random() < fails)
        self._number += 1
        number = self._number
        self._seen[number] = (Seen(station.site, station.name, novelty, failed, now_s), what, look)
        station.odd.append((now_s, number))
        self._clusters.add({number: look})
        self._clusters.settle()
        if what in self.counts:
            self.counts[what] += 1
            if self.counts[what] == SEEN_TIMES and what not in self.ranks:
                self._look(what)

    def _look(self, kind: str) -> None:
        """What a person is shown at this moment: the rank of ``kind``, and whether a fault is in front."""
        held: dict[str, list[tuple[Seen, str]]] = {}
        for number, key in self._clusters.home.items():
            seen, what, _ = self._seen[number]
            held.setdefault(self._clusters.where(key), []).append((seen, what))
        order = sorted(held.values(), key=lambda rows: -standing(seen for seen, _ in rows).score)
        mostly = [Counter(what for _, what in rows).most_common(1)[0] for rows in order]
        mine = [
            rank
            for rank, ((what, count), rows) in enumerate(zip(mostly, order, strict=True), 1)
            if what == kind and count > len(rows) * LEAST_PART
        ]
        self.ranks[kind] = mine[0] if mine else len(order) + 1
        self.fault_in_front += any(what == "fault" for what, _ in mostly[:FIRST])


def measure(pool: LookPool, fleets: int, seed: int, progress: Callable[[int, int], None]) -> dict[str, Any]:
    """Keys: fleets, all_in_first, by_share (in front when seen SEEN_TIMES times), ranks, fault_in_front, faults."""
    runs = []
    for number in range(fleets):
        run = FleetRun(pool, seed + number)
        run.run()
        runs.append(run)
        progress(number + 1, fleets)
    ranks = np.array([[run.ranks.get(kind, MOST_PICKS) for kind in run.kinds] for run in runs])
    front = ranks <= FIRST
    looked = sum(len(run.ranks) for run in runs)
    return {
        "fleets": fleets,
        "seed": seed,
        "sites": SITES,
        "stations": SITES * STATIONS,
        "seen_times": SEEN_TIMES,
        "first": FIRST,
        "all_in_first": rate(int(front.all(axis=1).sum()), fleets),
        "by_share": {f"{share:g}": rate(int(front[:, at].sum()), fleets) for at, share in enumerate(SHARES)},
        "ranks": {f"{share:g}": Counter(ranks[:, at].tolist()) for at, share in enumerate(SHARES)},
        "fault_in_first": rate(sum(run.fault_in_front for run in runs), looked),
        "fault_sightings": sum(run.fault_sightings for run in runs),
        "fault_sightings_kept_out": sum(run.fault_sightings - run.fault_kept for run in runs),
        "looks": pool.facts(),
    }
