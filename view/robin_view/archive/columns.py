"""Columns that only grow: readers take what was there when they asked, while one thread appends."""

from __future__ import annotations

import bisect
from array import array
from typing import Any

import numpy as np
from numpy.typing import NDArray

_FIRST = 1024


class Column:
    """Values of one type. A view that was handed out stays as it is."""

    def __init__(self, dtype: Any) -> None:
        self._values = np.zeros(_FIRST, dtype=dtype)
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def append(self, value: Any) -> None:
        if self._count == len(self._values):
            wider = np.zeros(2 * self._count, dtype=self._values.dtype)
            wider[: self._count] = self._values
            self._values = wider
        self._values[self._count] = value
        self._count += 1

    def values(self, count: int) -> NDArray[Any]:
        """The first ``count``."""
        return self._values[:count]


class Words:
    """A column of words out of a few: each word is kept once."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self._codes: dict[str, int] = {}
        self._column = Column(np.int32)

    def append(self, word: str) -> None:
        code = self._codes.setdefault(word, len(self.names))
        if code == len(self.names):
            self.names.append(word)
        self._column.append(code)

    def matching(self, words: tuple[str, ...], count: int) -> NDArray[np.bool_]:
        codes = [self._codes[word] for word in words if word in self._codes]
        return np.isin(self._column.values(count), codes)

    def counts(self, chosen: NDArray[np.bool_]) -> dict[str, int]:
        """How many of the chosen rows have which word."""
        found = np.bincount(self._column.values(len(chosen))[chosen], minlength=len(self.names))
        return {self.names[i]: int(found[i]) for i in np.flatnonzero(found)}

    def word(self, row: int) -> str:
        return self.names[int(self._column.values(row + 1)[row])]


class Tags:
    """Words of which a row may have several."""

    def __init__(self) -> None:
        self._rows: dict[str, Column] = {}

    def append(self, row: int, tags: tuple[str, ...]) -> None:
        for tag in tags:
            self._rows.setdefault(tag, Column(np.int32)).append(row)

    def matching(self, tags: tuple[str, ...], count: int) -> NDArray[np.bool_]:
        """Rows that have one of them."""
        found = np.zeros(count, dtype=bool)
        for tag in tags:
            found[self._of(tag, count)] = True
        return found

    def counts(self, chosen: NDArray[np.bool_]) -> dict[str, int]:
        found = {tag: int(chosen[self._of(tag, len(chosen))].sum()) for tag in list(self._rows)}
        return {tag: count for tag, count in found.items() if count}

    def _of(self, tag: str, count: int) -> NDArray[Any]:
        if (column := self._rows.get(tag)) is None:
            return np.zeros(0, dtype=np.int32)
        rows = column.values(len(column))
        return rows[: np.searchsorted(rows, count)]


class Ids:
    """A name for each row, found by its hash: a tenth of what a dictionary of strings takes."""

    def __init__(self) -> None:
        self._bytes = bytearray()
        self._starts = array("q", [0])
        self._hashes = Column(np.int64)

    def __len__(self) -> int:
        return len(self._hashes)

    def append(self, name: str) -> None:
        self._bytes += name.encode()
        self._starts.append(len(self._bytes))
        self._hashes.append(hash(name))

    def id(self, row: int) -> str:
        return self._bytes[self._starts[row] : self._starts[row + 1]].decode()

    def rows(self, name: str) -> list[int]:
        """Ascending."""
        same = np.flatnonzero(self._hashes.values(len(self._hashes)) == hash(name))
        return [row for row in same.tolist() if self.id(row) == name]


class Texts:
    """Text of each row in one run of bytes, looked through as it stands."""

    def __init__(self) -> None:
        self._bytes = bytearray()
        self._starts = array("q")

    def append(self, text: str) -> None:
        self._starts.append(len(self._bytes))
        self._bytes += text.encode() + b"\n"

    def matching(self, words: tuple[str, ...], count: int) -> NDArray[np.bool_]:
        """Rows that hold every word somewhere."""
        found = np.ones(count, dtype=bool)
        for word in words:
            one = np.zeros(count, dtype=bool)
            one[self._rows_with(word.lower().encode(), count)] = True
            found &= one
        return found

    def _rows_with(self, word: bytes, count: int) -> list[int]:
        rows, starts, text = list[int](), self._starts, self._bytes
        at = text.find(word)
        while at >= 0:
            row = bisect.bisect_right(starts, at) - 1
            if row >= count:
                break
            rows.append(row)
            if row + 1 >= len(starts):
                break
            at = text.find(word, starts[row + 1])
        return rows
