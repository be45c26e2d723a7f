"""Labels of samples as they stand: who made each, and how sure it is."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray

from edge_adapt.store.runs import decode_labels
from robin_fleet.ledger.core import METADATA

PICK, EARLIER, PSEUDO, PERSON = ORIGINS = ("pick", "earlier", "pseudo", "person")
"""A pick took the parcel; a later pick took it, and it had not moved; the model proposes it; a person drew it."""
LABELS = sa.Table(
    "labels",
    METADATA,
    sa.Column("sample", sa.Text, sa.ForeignKey("samples.sample"), primary_key=True),
    sa.Column("number", sa.Integer, primary_key=True),
    sa.Column("class_name", sa.Text, nullable=False),
    sa.Column("origin", sa.Text, nullable=False),
    sa.Column("confidence", sa.Double, nullable=False),
    sa.Column("width", sa.Integer, nullable=False),
    sa.Column("height", sa.Integer, nullable=False),
    sa.Column("counts", sa.Text, nullable=False),
    sa.Column("checked_by", sa.Text, nullable=False),
    sa.Column("at_s", sa.Double, nullable=False),
)


class Label(NamedTuple):
    """One mask of a sample. class_name: empty where it is not told, "ignore" for pixels that say nothing. counts: run
    lengths, as COCO writes them. checked_by: the person who has seen it, empty: nobody has."""

    sample: str
    number: int
    class_name: str
    origin: str
    confidence: float
    width: int
    height: int
    counts: str
    checked_by: str = ""
    at_s: float = 0.0

    def mask(self) -> NDArray[np.bool_]:
        """bool [H, W]. Raises RobinError RECORD_INVALID."""
        return decode_labels(self.height, self.width, {1: self.counts}) > 0


def labels_of(connection: sa.Connection, sample: str) -> tuple[Label, ...]:
    chosen = sa.select(LABELS).where(LABELS.c.sample == sample).order_by(LABELS.c.number)
    return tuple(Label(*row) for row in connection.execute(chosen))


def labelled_samples(connection: sa.Connection) -> list[str]:
    return list(connection.execute(sa.select(LABELS.c.sample).distinct().order_by(LABELS.c.sample)).scalars())


def replace_labels(connection: sa.Connection, sample: str, labels: Iterable[Label]) -> None:
    """All labels of a sample are these."""
    connection.execute(sa.delete(LABELS).where(LABELS.c.sample == sample))
    rows = [label._asdict() for label in labels]
    if rows:
        connection.execute(sa.insert(LABELS), rows)


def counts_by_origin(labels: Sequence[Label]) -> dict[str, int]:
    counts = dict.fromkeys(ORIGINS, 0)
    for label in labels:
        counts[label.origin] += 1
    return counts
