"""Room is made: old samples go, and objects that a crash left behind.

The ledger lets go first, then the object store: a crash between leaves objects that nobody knows, which the next look
finds. An object is an orphan when two looks that are ``ORPHAN_S`` apart find it unknown: ingest keeps objects before it
books them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from robin_fleet.decks.make import read_deck
from robin_fleet.folder import Fleet, PruneConfig
from robin_fleet.ingest.ingest import AREA
from robin_fleet.ledger import prune as booked
from robin_fleet.ledger.decks import decks
from robin_fleet.ledger.events import add_event
from robin_fleet.ledger.prune import Old
from robin_fleet.objects.interface import is_blob
from robin_perception.core.bounded import read_plain_bytes
from robin_perception.core.disk import write_atomic
from robin_perception.core.errors import RobinError

ORPHAN_S = 86_400.0
MOST_REFUSED = 10_000
"""Rows of the quarantine that stay."""
_ORPHANS_FILE = "orphans.json"
_FILE_BYTES = 200_000_000
_BATCH = 200
_SEEN = TypeAdapter(dict[str, float])


@dataclass(frozen=True)
class PruneRule:
    """older_s: samples that came in so long ago go; most_bytes: the oldest go until all have so many. None: no such
    limit."""

    older_s: float | None = None
    most_bytes: int | None = None

    @classmethod
    def of(cls, config: PruneConfig) -> PruneRule:
        older_s = None if config.older_days is None else config.older_days * 86_400
        return cls(older_s, None if config.most_gb is None else int(config.most_gb * 1e9))


@dataclass
class Pruned:
    """kept: samples that the rule asks for, and on which a deck, a person's label or a novelty rests. orphans: objects
    that went; waiting: unknown ones that the next look may remove. refused: of the quarantine."""

    samples: int = 0
    bytes: int = 0
    kept: int = 0
    orphans: int = 0
    waiting: int = 0
    refused: int = 0

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def last_pruned_s(folder: Path) -> float:
    """When an aggregator was pruned last; 0: never."""
    try:
        return (folder / _ORPHANS_FILE).stat().st_mtime
    except OSError:
        return 0.0


def prune(
    fleet: Fleet, rule: PruneRule, now_s: float, *, dry: bool = False, stop: Callable[[], bool] = lambda: False
) -> Pruned:
    """dry: only tell what would go. stop: asked before each batch; the rest goes the next time. Raises RobinError
    LEDGER_*, OBJECTS_UNREACHABLE, DECK_DAMAGED where it cannot be told what a deck rests on."""
    with fleet.ledger.read() as connection:
        rows, resting = booked.samples_by_age(connection), booked.rested_on(connection)
        made = decks(connection)
    for deck in made:
        resting |= {member.sample for member in read_deck(fleet.objects, deck).members}
    wanted = _wanted(rows, rule, now_s)
    going = [row for row in wanted if row.sample not in resting]
    done = Pruned(kept=len(wanted) - len(going))
    for at in range(0, len(going), _BATCH):
        batch = going[at : at + _BATCH]
        if stop():
            return done
        if not dry:
            _remove(fleet, batch, now_s)
        done.samples, done.bytes = done.samples + len(batch), done.bytes + sum(row.bytes for row in batch)
    if not dry:
        done.refused = _forget_refused(fleet)
    _orphans(fleet, done, now_s, dry)
    return done


def _wanted(rows: Sequence[Old], rule: PruneRule, now_s: float) -> list[Old]:
    """What the rule asks for, oldest first. A sample from the future of this clock is not old."""
    total, found = sum(row.bytes for row in rows), []
    for row in rows:
        old = rule.older_s is not None and now_s - row.received_s > rule.older_s
        if old or (rule.most_bytes is not None and total > rule.most_bytes):
            found.append(row)
            total -= row.bytes
    return found


def _remove(fleet: Fleet, going: Sequence[Old], now_s: float) -> None:
    with fleet.ledger.write() as connection:
        gone = booked.remove_samples(connection, [row.sample for row in going])
        size = sum(row.bytes for row in going)
        add_event(connection, now_s, "pruned", f"{len(going)} samples, {size:,} bytes", data={"samples": len(going)})
    with fleet.ledger.read() as connection:
        gone = booked.unknown(connection, gone)  # a robot may have sent one again meanwhile
    for name in gone:
        fleet.objects.remove(name)


def _forget_refused(fleet: Fleet) -> int:
    with fleet.ledger.write() as connection:
        blobs = booked.forget_refused(connection, MOST_REFUSED)
    for blob in blobs:
        fleet.objects.remove(f"{AREA}/{blob}")
    return len(blobs)


def _orphans(fleet: Fleet, done: Pruned, now_s: float, dry: bool) -> None:
    """Those that an earlier look found too go; the others are remembered."""
    names = {name for name in fleet.objects.names() if is_blob(name)}
    with fleet.ledger.read() as connection:
        found = booked.unknown(connection, names)
    path = fleet.folder / _ORPHANS_FILE
    seen = _read(path)
    ripe = {name for name in found if now_s - seen.get(name, now_s) >= ORPHAN_S}
    done.orphans, done.waiting = len(ripe), len(found - ripe)
    if dry:
        return
    for name in ripe:
        fleet.objects.remove(name)
    left = {name: min(seen.get(name, now_s), now_s) for name in sorted(found - ripe)}
    write_atomic(path, json.dumps(left).encode())


def _read(path: Path) -> dict[str, float]:
    """Of the last look; a file that is missing or damaged begins anew."""
    try:
        return _SEEN.validate_json(read_plain_bytes(path, _FILE_BYTES))
    except (RobinError, ValidationError):
        return {}
