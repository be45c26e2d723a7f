"""Training decks by name and version, what was trained from them, and who signed it."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

import sqlalchemy as sa

from robin_fleet.ledger.core import METADATA, RowNumber

RUNNING, ACCEPTED, REFUSED = ("running", "accepted", "refused")
DECKS = sa.Table(
    "decks",
    METADATA,
    sa.Column("deck", sa.Text, primary_key=True),
    sa.Column("version", sa.Integer, primary_key=True),
    sa.Column("manifest", sa.Text, nullable=False),
    sa.Column("members", sa.Integer, nullable=False),
    sa.Column("held", sa.Integer, nullable=False),
    sa.Column("made_by", sa.Text, nullable=False),
    sa.Column("made_s", sa.Double, nullable=False),
)
TRAININGS = sa.Table(
    "trainings",
    METADATA,
    sa.Column("training", sa.Text, primary_key=True),
    sa.Column("deck", sa.Text, nullable=False),
    sa.Column("version", sa.Integer, nullable=False),
    sa.Column("parent", sa.Text, nullable=False),
    sa.Column("candidate", sa.Text, nullable=False),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("why", sa.Text, nullable=False),
    sa.Column("result", sa.Text, nullable=False),
    sa.Column("page", sa.Text),
    sa.Column("started_s", sa.Double, nullable=False),
    sa.Column("ended_s", sa.Double),
)
SIGNATURES = sa.Table(
    "signatures",
    METADATA,
    sa.Column("id", RowNumber, primary_key=True),
    sa.Column("training", sa.Text, sa.ForeignKey("trainings.training"), nullable=False),
    sa.Column("signed_by", sa.Text, nullable=False),
    sa.Column("decision", sa.Text, nullable=False),
    sa.Column("text", sa.Text, nullable=False),
    sa.Column("page", sa.Text, nullable=False),
    sa.Column("at_s", sa.Double, nullable=False),
)


class DeckRow(NamedTuple):
    """manifest: its blob. members: samples; held: those of them that are kept for judging."""

    deck: str
    version: int
    manifest: str
    members: int
    held: int
    made_by: str
    made_s: float


class TrainingRow(NamedTuple):
    """parent, candidate: model ids. state: RUNNING, ACCEPTED or REFUSED by the gate. why: it was due. result: figures,
    by name. page: blob of the report (HTML)."""

    training: str
    deck: str
    version: int
    parent: str
    candidate: str
    state: str
    why: str
    result: dict[str, Any]
    page: str | None
    started_s: float
    ended_s: float | None


class Signature(NamedTuple):
    """What a person decided, on which report."""

    training: str
    signed_by: str
    decision: str
    text: str
    page: str
    at_s: float


def add_deck(connection: sa.Connection, row: DeckRow) -> None:
    connection.execute(sa.insert(DECKS).values(row._asdict()))


def decks(connection: sa.Connection, deck: str | None = None) -> list[DeckRow]:
    """By name and version."""
    chosen = sa.select(DECKS).order_by(DECKS.c.deck, DECKS.c.version)
    rows = connection.execute(chosen if deck is None else chosen.where(DECKS.c.deck == deck))
    return [DeckRow(*row) for row in rows]


def put_training(connection: sa.Connection, row: TrainingRow) -> None:
    """New, or in place of what was known of it."""
    connection.execute(sa.delete(TRAININGS).where(TRAININGS.c.training == row.training))
    connection.execute(sa.insert(TRAININGS).values({**row._asdict(), "result": json.dumps(row.result)}))


def trainings(connection: sa.Connection) -> list[TrainingRow]:
    """The latest first."""
    rows = connection.execute(sa.select(TRAININGS).order_by(TRAININGS.c.started_s.desc(), TRAININGS.c.training))
    return [TrainingRow(**{**row._mapping, "result": json.loads(row.result)}) for row in rows]


def add_signature(connection: sa.Connection, row: Signature) -> None:
    connection.execute(sa.insert(SIGNATURES).values(row._asdict()))


def signatures(connection: sa.Connection, training: str) -> list[Signature]:
    """In order."""
    chosen = sa.select(SIGNATURES).where(SIGNATURES.c.training == training).order_by(SIGNATURES.c.id)
    return [Signature(*row[1:]) for row in connection.execute(chosen)]
