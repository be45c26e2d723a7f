"""The index of all decisions: columns in memory, made from the records alone, so that it can be thrown away."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robin_view.archive.columns import Column, Ids, Tags, Texts, Words
from robin_view.archive.facts import Facts

WORDS = ("result", "class", "station", "model", "run")
FIGURES = ("score", "novelty", "detection", "visible", "belief", "parcels", "frame_to_plan_ms", "pick_s")
ORDERS = ("newest", "oldest", *(f"{way} {name}" for name in FIGURES for way in ("least", "most")))


@dataclass(frozen=True)
class Query:
    """words: of each of WORDS those that are wanted, empty: all. tags: one of them. codes: numbered results of the
    plan. ranges: figure -> (least, most), None open; a row without that figure is left out. since_s, until_s: seconds
    since 1970. text: words that must all be there. order: one of ORDERS."""

    words: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    tags: tuple[str, ...] = ()
    codes: tuple[int, ...] = ()
    ranges: Mapping[str, tuple[float | None, float | None]] = field(default_factory=dict)
    since_s: float | None = None
    until_s: float | None = None
    text: str = ""
    order: str = "newest"


@dataclass(frozen=True)
class Found:
    """rows: as ordered, all of them. facets: name -> word -> how many there would be with it."""

    rows: NDArray[np.int64]
    facets: Mapping[str, Mapping[str, int]]
    of: int


@dataclass(frozen=True)
class Place:
    """Where a record lies: source, and for a run's file start and length of its line, else the blob's name."""

    source: int
    start: int = 0
    length: int = 0
    blob: str = ""


class DecisionIndex:
    """One thread appends, any thread asks."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._ids = Ids()
        self._words = {name: Words() for name in WORDS}
        self._figures = {name: Column(np.float32) for name in FIGURES}
        self._at_s, self._code = Column(np.float64), Column(np.int32)
        self._alive, self._pictures = Column(np.bool_), Column(np.bool_)
        self._source, self._start, self._length = Column(np.int16), Column(np.int64), Column(np.int32)
        self._blobs: list[str] = []
        self._tags, self._texts = Tags(), Texts()

    def __len__(self) -> int:
        """Decisions that are known and not forgotten."""
        return int(self._alive.values(len(self._alive)).sum())

    def add(self, facts: Facts, place: Place) -> bool:
        """Whether it is new. A decision that is known already is taken again only where this place has its pictures and
        the other has not."""
        with self._lock:
            known = self._row(facts.decision_id)
            if known is not None:
                if self._pictures.values(known + 1)[known] or not facts.pictures:
                    return False
                self._alive.values(known + 1)[known] = False
            row = len(self._ids)
            self._ids.append(facts.decision_id)
            for name, words in self._words.items():
                words.append(facts.words[name])
            for name, figures in self._figures.items():
                figures.append(facts.figures[name])
            self._at_s.append(facts.at_s)
            self._code.append(facts.code)
            self._pictures.append(facts.pictures)
            self._source.append(place.source)
            self._start.append(len(self._blobs) if place.blob else place.start)
            self._length.append(place.length)
            if place.blob:
                self._blobs.append(place.blob)
            self._tags.append(row, facts.tags)
            self._texts.append(facts.text)
            self._alive.append(True)  # last: readers count by it
            return known is None

    def forget(self, source: int) -> None:
        """What came from that source is gone: a run began anew."""
        with self._lock:
            count = len(self._alive)
            self._alive.values(count)[self._source.values(count) == source] = False

    def row(self, decision_id: str) -> int | None:
        with self._lock:
            return self._row(decision_id)

    def _row(self, decision_id: str) -> int | None:
        rows = self._ids.rows(decision_id)
        return next((row for row in reversed(rows) if self._alive.values(row + 1)[row]), None)

    def place(self, row: int) -> Place:
        source, start = int(self._source.values(row + 1)[row]), int(self._start.values(row + 1)[row])
        length = int(self._length.values(row + 1)[row])
        return Place(source, start, length) if length else Place(source, blob=self._blobs[start])

    def names(self, rows: NDArray[np.int64]) -> list[str]:
        return [self._ids.id(row) for row in rows.tolist()]

    def line(self, row: int) -> dict[str, Any]:
        """What a list shows of one decision."""
        words = {name: column.word(row) for name, column in self._words.items()}
        figures = {name: float(column.values(row + 1)[row]) for name, column in self._figures.items()}
        told = {"id": self._ids.id(row), "at_s": float(self._at_s.values(row + 1)[row]), "pictures": self.pictured(row)}
        return {**told, "code": int(self._code.values(row + 1)[row]), **words, **figures}

    def pictured(self, row: int) -> bool:
        return bool(self._pictures.values(row + 1)[row])

    def neighbours(self, row: int) -> tuple[str, str]:
        """Ids of the decisions before and after it, of the same source; empty at an end."""
        count = len(self._alive)
        same = self._alive.values(count) & (self._source.values(count) == self._source.values(row + 1)[row])
        rows = np.flatnonzero(same)
        at = int(np.searchsorted(rows, row))
        before = self._ids.id(int(rows[at - 1])) if at > 0 else ""
        after = self._ids.id(int(rows[at + 1])) if at + 1 < len(rows) else ""
        return before, after

    @property
    def newest(self) -> int:
        """Row that was added last, -1 for none: when it changes, there is something new."""
        alive = np.flatnonzero(self._alive.values(len(self._alive)))
        return int(alive[-1]) if len(alive) else -1

    def name(self, row: int) -> str:
        return self._ids.id(row)

    def latest(self, count: int) -> NDArray[np.int64]:
        """Rows of those that came last, the newest first."""
        alive = np.flatnonzero(self._alive.values(len(self._alive)))
        return alive[::-1][:count]

    def find(self, query: Query) -> Found:
        """Every facet counts what the other conditions leave."""
        count = len(self._alive)
        alive = self._alive.values(count).copy()
        masks = {name: self._words[name].matching(chosen, count) for name, chosen in query.words.items() if chosen}
        if query.tags:
            masks["tag"] = self._tags.matching(query.tags, count)
        if query.codes:
            masks["code"] = np.isin(self._code.values(count), query.codes)
        rest = alive & self._by_figures(query, count)
        if query.text.strip():
            rest &= self._texts.matching(tuple(query.text.split()[:8]), count)
        chosen = rest.copy()
        for mask in masks.values():
            chosen &= mask
        rows = np.flatnonzero(chosen)
        facets = {name: self._words[name].counts(_others(rest, masks, name)) for name in WORDS}
        facets["tag"] = self._tags.counts(_others(rest, masks, "tag"))
        codes, counts = np.unique(self._code.values(count)[_others(rest, masks, "code")], return_counts=True)
        facets["code"] = {str(code): int(n) for code, n in zip(codes.tolist(), counts.tolist(), strict=True)}
        return Found(self._ordered(rows, query.order, count), facets, int(alive.sum()))

    def _by_figures(self, query: Query, count: int) -> NDArray[np.bool_]:
        chosen = np.ones(count, dtype=bool)
        columns = {name: self._figures[name].values(count) for name in query.ranges}
        ranges = {**query.ranges, "at_s": (query.since_s, query.until_s)}
        columns["at_s"] = self._at_s.values(count)
        for name, (least, most) in ranges.items():
            if least is not None:
                chosen &= columns[name] >= least
            if most is not None:
                chosen &= columns[name] <= most
        return chosen

    def _ordered(self, rows: NDArray[np.int64], order: str, count: int) -> NDArray[np.int64]:
        if order in ("newest", "oldest"):
            by = self._at_s.values(count)[rows]
            found = rows[np.lexsort((rows, by))]
            return found if order == "oldest" else found[::-1]
        way, _, name = order.partition(" ")
        by = self._figures[name].values(count)[rows]
        by = np.where(np.isnan(by), np.inf, by if way == "least" else -by)
        return rows[np.lexsort((-rows, by))]


def _others(rest: NDArray[np.bool_], masks: Mapping[str, NDArray[np.bool_]], name: str) -> NDArray[np.bool_]:
    chosen = rest
    for other, mask in masks.items():
        if other != name:
            chosen = chosen & mask
    return chosen
