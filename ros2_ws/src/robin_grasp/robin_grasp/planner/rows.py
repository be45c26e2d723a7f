"""Tables of arrays: one row per pose, contact or sample, the same in every field."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

RowsT = TypeVar("RowsT", bound="Rows")
Choice = NDArray[np.int64] | NDArray[np.bool_]


@dataclass(frozen=True)
class Rows:
    """Base of dataclasses whose fields are arrays, or such tables themselves, of one length."""

    def take(self: RowsT, rows: Choice) -> RowsT:
        """Some of the rows, by number or by a mask."""

        def part(value: Any) -> Any:
            return value.take(rows) if isinstance(value, Rows) else value[rows]

        return type(self)(**{field.name: part(getattr(self, field.name)) for field in fields(self)})

    def then(self: RowsT, other: RowsT) -> RowsT:
        """These rows, and those of ``other`` behind them. Of arrays only."""
        pairs = {field.name: (getattr(self, field.name), getattr(other, field.name)) for field in fields(self)}
        return type(self)(**{name: np.concatenate(pair) for name, pair in pairs.items()})
