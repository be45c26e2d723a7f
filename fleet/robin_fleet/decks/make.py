"""Decks made of what the ledger holds, and read again. A version that was made never changes."""

from __future__ import annotations

import hashlib
import re
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from edge_adapt.learn.lessons import pile_of
from edge_adapt.store.blobs import blob_name
from robin_fleet.annotation.exchange import ensure_labels
from robin_fleet.decks.manifest import (
    HELD,
    TRAIN,
    DeckConfig,
    Manifest,
    Member,
    Stratum,
    label_image,
    labels_bytes,
)
from robin_fleet.ledger import decks as booked
from robin_fleet.ledger.core import Ledger
from robin_fleet.ledger.decks import DeckRow
from robin_fleet.ledger.labels import Label, counts_by_origin
from robin_fleet.ledger.samples import SampleRow, add_blobs
from robin_fleet.objects.interface import Objects
from robin_perception.core.errors import Code, RobinError

_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,39}")
_STATIONS_TO_HOLD = 3  # of fewer none is held out whole
_SUFFIX = ".json"


@dataclass(frozen=True)
class _Candidate:
    row: SampleRow
    labels: tuple[Label, ...]

    @property
    def station(self) -> str:
        return f"{self.row.site}/{self.row.station}"

    @property
    def block(self) -> str:
        return f"{self.row.robot}/{pile_of(self.row.decision_id) or self.row.decision_id}"


def make_deck(
    ledger: Ledger,
    objects: Objects,
    name: str,
    rows: Sequence[SampleRow],
    by: str,
    licence: str,
    config: DeckConfig | None = None,
) -> DeckRow:
    """A new version of deck ``name``; the newest one where it would say the same. Labels that samples lack are filled
    in. Raises RobinError OPTION_INVALID, DECK_EMPTY, LEDGER_*, OBJECTS_*, DISK_FULL."""
    if not _NAME.fullmatch(name):
        raise RobinError(Code.OPTION_INVALID, f"deck '{name}': 1 to 40 of a-z 0-9 _ - are needed")
    config = config or DeckConfig()
    labels = ensure_labels(ledger, objects, rows)
    candidates, left_out = _fit(rows, labels, config)
    members, stations, after_s = _split(candidates, config)
    if not any(one.part == TRAIN for one in members) or not any(one.part == HELD for one in members):
        told = ", ".join(f"{count} {why}" for why, count in sorted(left_out.items())) or "none"
        text = f"{len(rows)} samples, {len(members)} fit (left out: {told}); both parts need some, of several piles"
        raise RobinError(Code.DECK_EMPTY, f"deck '{name}': {text}")
    with ledger.read() as connection:
        earlier = booked.decks(connection, name)
    newest = earlier[-1] if earlier else None
    manifest = Manifest(
        deck=name,
        version=1 if newest is None else newest.version + 1,
        licence=licence,
        origin=_origin(members),
        config=config,
        held_stations=stations,
        held_after_s=after_s,
        strata=_strata(members),
        left_out=left_out,
        members=members,
    )
    if newest is not None:
        same = manifest.model_copy(update={"version": newest.version})
        if blob_name(same.to_bytes(), _SUFFIX) == newest.manifest:
            return newest
    return _kept(ledger, objects, manifest, candidates, by)


def find_deck(ledger: Ledger, name: str) -> DeckRow:
    """name: NAME for the newest version, or NAME:VERSION. Raises RobinError DECK_UNKNOWN."""
    deck, _, version = name.partition(":")
    with ledger.read() as connection:
        found = booked.decks(connection, deck)
    chosen = [row for row in found if not version or str(row.version) == version]
    if not chosen:
        known = f"; it has {', '.join(str(row.version) for row in found)}" if found else ""
        raise RobinError(Code.DECK_UNKNOWN, f"'{name}': no such deck or version{known}")
    return chosen[-1]


def read_deck(objects: Objects, row: DeckRow) -> Manifest:
    """Raises RobinError DECK_DAMAGED."""
    try:
        data = objects.get(row.manifest)
    except RobinError as exc:
        if exc.code not in (Code.OBJECT_MISSING, Code.OBJECT_DAMAGED):
            raise
        raise RobinError(Code.DECK_DAMAGED, f"{row.deck}:{row.version}: {exc.text}") from None
    return Manifest.parse(data, f"{row.deck}:{row.version}")


def _fit(
    rows: Sequence[SampleRow], labels: dict[str, tuple[Label, ...]], config: DeckConfig
) -> tuple[list[_Candidate], dict[str, int]]:
    """Those that can teach, in order of hash; how many others there are, by reason."""
    candidates, left_out = [], Counter[str]()
    for row in sorted(rows):
        mine = labels.get(row.sample, ())
        if row.environment:
            left_out["taken in a fault of the station"] += 1
        elif row.near_of is not None and not config.near_duplicates:
            left_out["nearly as an earlier one"] += 1
        elif not mine or not label_image(mine, config)[1]:
            left_out["without a label that can be trusted"] += 1
        else:
            candidates.append(_Candidate(row, mine))
    return candidates, dict(left_out)


def _split(
    candidates: Sequence[_Candidate], config: DeckConfig
) -> tuple[tuple[Member, ...], tuple[str, ...], dict[str, float]]:
    """Whole piles are held out, by station and by time; stations that are, and from when the others' samples are."""
    stations = config.held_stations or _station_to_hold({one.station for one in candidates})
    last_s: dict[tuple[str, str], float] = {}
    for one in candidates:
        key = one.station, one.block
        last_s[key] = max(last_s.get(key, one.row.at_s), one.row.at_s)
    after_s = {}
    for station in sorted({one.station for one in candidates} - set(stations)):
        times = sorted(at_s for (where, _), at_s in last_s.items() if where == station)
        held = round(config.held_share * len(times))
        if held:
            after_s[station] = times[-held]
    members = []
    for one in candidates:
        late = last_s[one.station, one.block] >= after_s.get(one.station, float("inf"))
        held_by = "station" if one.station in stations else "time" if late else ""
        members.append(_member(one, held_by))
    return tuple(members), tuple(stations), after_s


def _station_to_hold(stations: set[str]) -> tuple[str, ...]:
    """By chance, and always the same."""
    if len(stations) < _STATIONS_TO_HOLD:
        return ()
    return (min(stations, key=lambda name: hashlib.sha256(name.encode()).digest()),)


def _member(one: _Candidate, held_by: str) -> Member:
    row = one.row
    return Member.model_validate(
        {
            "sample": row.sample,
            "labels": blob_name(labels_bytes(one.labels), _SUFFIX),
            "robot": row.robot,
            "site": row.site,
            "station": row.station,
            "block": one.block,
            "at_s": row.at_s,
            "stratum": f"{row.result}/{row.name}",
            "part": HELD if held_by else TRAIN,
            "held_by": held_by,
            "origins": counts_by_origin(one.labels),
        }
    )


def _strata(members: Sequence[Member]) -> dict[str, Stratum]:
    train, held = (Counter(one.stratum for one in members if one.part == part) for part in (TRAIN, HELD))
    total = max(train.total(), 1)
    names = sorted(train.keys() | held.keys())
    return {n: Stratum(train=train[n], held=held[n], share=round(train[n] / total, 6)) for n in names}


def _origin(members: Sequence[Member]) -> str:
    sites, robots = {one.site for one in members}, {one.robot for one in members}
    return f"picks of {len(robots)} robots at {', '.join(sorted(sites))}"


def _kept(ledger: Ledger, objects: Objects, manifest: Manifest, candidates: Sequence[_Candidate], by: str) -> DeckRow:
    """Objects first, then the ledger's word."""
    labels = [labels_bytes(one.labels) for one in candidates]
    data = manifest.to_bytes()
    blobs = {blob_name(each, _SUFFIX): each for each in (*labels, data)}
    objects.put_all(blobs)
    name, held = blob_name(data, _SUFFIX), len(manifest.part(HELD))
    row = DeckRow(manifest.deck, manifest.version, name, len(manifest.members), held, by, time.time())
    with ledger.write() as connection:
        add_blobs(connection, {blob: len(each) for blob, each in blobs.items()}, row.made_s)
        booked.add_deck(connection, row)
    return row
