"""What a person is shown of novelties, and what a person says of them."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from robin_fleet.ledger import novelties as booked
from robin_fleet.ledger.core import Ledger
from robin_fleet.ledger.novelties import CONFIRMED, DISMISSED, MERGED, OPEN, NoveltyRow, SightingRow
from robin_fleet.novelties.ranking import RankingConfig, Seen, Standing, standing
from robin_fleet.objects.interface import Objects
from robin_perception.core.bounded_arrays import decode_image
from robin_perception.core.errors import Code, RobinError

TILE_PX, COLUMNS, MOST_TILES = 160, 4, 12
_LONGEST_NAME = 80
_MARGIN_PX = 4


@dataclass(frozen=True)
class Ranked:
    """A novelty with where it stands among the others, 1 first."""

    rank: int
    row: NoveltyRow
    standing: Standing

    @property
    def title(self) -> str:
        return self.row.name or self.row.novelty


def ranked(ledger: Ledger, config: RankingConfig | None = None) -> list[Ranked]:
    """Those that are open or confirmed and have a sighting that counts, the most urgent first. Raises LEDGER_*."""
    with ledger.read() as connection:
        known, rows = booked.novelties(connection), booked.sightings(connection)
    seen: dict[str, list[Seen]] = {}
    for row in rows:
        if row.novelty is not None and known[row.novelty].state in (OPEN, CONFIRMED):
            seen.setdefault(row.novelty, []).append(Seen(row.site, row.station, row.level, row.failed, row.at_s))
    found = sorted(
        ((key, standing(mine, config)) for key, mine in seen.items()), key=lambda one: (-one[1].score, one[0])
    )
    return [Ranked(rank, known[key], where) for rank, (key, where) in enumerate(found, 1)]


def of_novelty(ledger: Ledger, novelty: str) -> tuple[NoveltyRow, list[SightingRow]]:
    """By id or name, with its sightings. A merged one leads to what it became. Raises RobinError NOVELTY_UNKNOWN."""
    with ledger.read() as connection:
        row = _found(booked.novelties(connection), novelty)
        return row, booked.sightings(connection, row.novelty)


def confirm(ledger: Ledger, novelty: str, by: str) -> NoveltyRow:
    """It is goods that are to be taught. Raises RobinError NOVELTY_UNKNOWN, OPTION_INVALID."""
    return _decided(ledger, novelty, by, state=CONFIRMED)


def dismiss(ledger: Ledger, novelty: str, by: str) -> NoveltyRow:
    """It is nothing to teach; what comes again of it is not shown. Raises as ``confirm``."""
    return _decided(ledger, novelty, by, state=DISMISSED)


def name(ledger: Ledger, novelty: str, called: str, by: str) -> NoveltyRow:
    """Raises as ``confirm``, OPTION_INVALID for a name that another has or that is none."""
    called = called.strip()
    if not called or len(called) > _LONGEST_NAME or not called.isprintable():
        raise RobinError(Code.OPTION_INVALID, f"name '{called}': 1 to {_LONGEST_NAME} printable letters are needed")
    with ledger.read() as connection:
        known = booked.novelties(connection)
    taken = next((row for row in known.values() if row.name == called and row.state != MERGED), None)
    if called in known or (taken is not None and taken.novelty != _found(known, novelty).novelty):
        raise RobinError(Code.OPTION_INVALID, f"name '{called}': another novelty has it; merge the two")
    return _decided(ledger, novelty, by, name=called, state=CONFIRMED)


def merge(ledger: Ledger, kept: str, gone: str, by: str) -> NoveltyRow:
    """Both are one: ``kept``. Raises as ``confirm``, OPTION_INVALID where they are one already."""
    _require_person(by)
    with ledger.write() as connection:
        known = booked.novelties(connection)
        one, other = _found(known, kept), _found(known, gone)
        if one.novelty == other.novelty:
            raise RobinError(Code.OPTION_INVALID, f"{kept} and {gone} are one already")
        booked.record_merge(connection, other.novelty, one.novelty, by, time.time())
        return one


def _decided(ledger: Ledger, novelty: str, by: str, **values: str) -> NoveltyRow:
    _require_person(by)
    with ledger.write() as connection:
        row = _found(booked.novelties(connection), novelty)
        booked.decide(connection, row.novelty, by, time.time(), **values)
        return booked.novelties(connection)[row.novelty]


def _require_person(by: str) -> None:
    if not by.strip():
        raise RobinError(Code.OPTION_INVALID, "--by: the name of the person who decides is needed")


def _found(known: dict[str, NoveltyRow], novelty: str) -> NoveltyRow:
    row = known.get(novelty) or next((r for r in known.values() if r.name == novelty and r.state != MERGED), None)
    if row is None:
        raise RobinError(Code.NOVELTY_UNKNOWN, f"'{novelty}': no such novelty; robin fleet novelties list tells them")
    while row.merged_into is not None:
        row = known[row.merged_into]
    return row


def contact_sheet(objects: Objects, rows: Iterable[SightingRow]) -> NDArray[np.uint8]:
    """Pictures of the latest sightings, of every station before a second one of any, BGR uint8 [H, W, 3]. Those that
    cannot be read are left out."""
    tiles = []
    for row in _spread(list(rows))[:MOST_TILES]:
        try:
            tiles.append(_tile(decode_image(objects.get(row.picture), row.picture), f"{row.site}/{row.station}"))
        except RobinError:
            continue
    side = TILE_PX + _MARGIN_PX
    lines = max(1, -(-len(tiles) // COLUMNS))
    sheet = np.full((lines * side + _MARGIN_PX, COLUMNS * side + _MARGIN_PX, 3), 255, dtype=np.uint8)
    for at, tile in enumerate(tiles):
        y, x = (_MARGIN_PX + side * (at // COLUMNS), _MARGIN_PX + side * (at % COLUMNS))
        sheet[y : y + TILE_PX, x : x + TILE_PX] = tile
    return sheet


def _spread(rows: list[SightingRow]) -> list[SightingRow]:
    turns: dict[tuple[str, str], int] = {}
    order = []
    for row in reversed(rows):
        place = row.site, row.station
        turns[place] = turns.get(place, 0) + 1
        order.append((turns[place], -row.at_s, row))
    return [row for _, _, row in sorted(order, key=lambda one: one[:2])]


def _tile(picture: NDArray[np.uint8], text: str) -> NDArray[np.uint8]:
    tile = np.full((TILE_PX, TILE_PX, 3), 235, dtype=np.uint8)
    scale = TILE_PX / max(picture.shape[:2])
    width, height = (max(1, round(scale * size)) for size in picture.shape[1::-1])
    y, x = (TILE_PX - height) // 2, (TILE_PX - width) // 2
    tile[y : y + height, x : x + width] = cv2.resize(picture[:, :, :3], (width, height), interpolation=cv2.INTER_AREA)
    cv2.rectangle(tile, (0, TILE_PX - 16), (TILE_PX, TILE_PX), (255, 255, 255), -1)
    cv2.putText(tile, text[:24], (3, TILE_PX - 4), cv2.FONT_HERSHEY_SIMPLEX, 0.4, (0, 0, 0), 1, cv2.LINE_AA)
    return tile
