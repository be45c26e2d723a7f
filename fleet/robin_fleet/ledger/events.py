"""What happened that was unusual, and what is in quarantine. Events are only ever added."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, NamedTuple

import sqlalchemy as sa

from robin_fleet.ledger.core import METADATA, RowNumber, insert_new
from robin_perception.core.errors import Code

QUARANTINE = sa.Table(
    "quarantine",
    METADATA,
    sa.Column("id", RowNumber, primary_key=True),
    sa.Column("blob", sa.Text, nullable=False),
    sa.Column("robot", sa.Text, nullable=False),
    sa.Column("code", sa.Integer, nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("at_s", sa.Double, nullable=False),
    sa.Index("quarantine_blob", "blob", "robot", unique=True),
)
EVENTS = sa.Table(
    "events",
    METADATA,
    sa.Column("id", RowNumber, primary_key=True),
    sa.Column("at_s", sa.Double, nullable=False),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("robot", sa.Text, nullable=False),
    sa.Column("text", sa.Text, nullable=False),
    sa.Column("data", sa.Text, nullable=False),
)


class Event(NamedTuple):
    """kind: one word, such as "quarantined". robot: empty where it is of none. data: more, by name."""

    at_s: float
    kind: str
    robot: str
    text: str
    data: dict[str, Any]


class Refused(NamedTuple):
    """A blob that did not verify: from whom, why."""

    blob: str
    robot: str
    code: int
    reason: str
    at_s: float


def add_event(
    connection: sa.Connection, at_s: float, kind: str, text: str, *, robot: str = "", data: dict[str, Any] | None = None
) -> None:
    row = {"at_s": at_s, "kind": kind, "robot": robot, "text": text, "data": json.dumps(data or {}, sort_keys=True)}
    connection.execute(sa.insert(EVENTS).values(row))


def latest_events(connection: sa.Connection, limit: int, kind: str | None = None) -> list[Event]:
    """The latest first."""
    chosen = sa.select(EVENTS).order_by(EVENTS.c.id.desc()).limit(limit)
    rows = connection.execute(chosen if kind is None else chosen.where(EVENTS.c.kind == kind))
    return [Event(row.at_s, row.kind, row.robot, row.text, json.loads(row.data)) for row in rows]


def add_refused(connection: sa.Connection, blob: str, robot: str, code: Code, reason: str, at_s: float) -> bool:
    """One row for each blob of each robot, with the time of the first and the latest code and reason. False where that
    code stands there already."""
    known = find_refused(connection, [blob], robot).get(blob)
    if known is not None and known.code == code:
        return False
    row = {"blob": blob, "robot": robot, "code": int(code), "reason": reason, "at_s": at_s}
    insert_new(connection, QUARANTINE, [row])
    own = sa.and_(QUARANTINE.c.blob == blob, QUARANTINE.c.robot == robot)
    connection.execute(sa.update(QUARANTINE).where(own).values(code=int(code), reason=reason))
    return True


def remove_refused(connection: sa.Connection, blobs: Iterable[str]) -> None:
    """They came whole after all, from whichever robot."""
    connection.execute(sa.delete(QUARANTINE).where(QUARANTINE.c.blob.in_(list(blobs))))


def find_refused(connection: sa.Connection, blobs: Iterable[str], robot: str) -> dict[str, Refused]:
    """Blob -> why it does not count."""
    chosen = sa.select(QUARANTINE).where(QUARANTINE.c.blob.in_(list(blobs)), QUARANTINE.c.robot == robot)
    return {row.blob: Refused(*row[1:]) for row in connection.execute(chosen)}


def count_refused(connection: sa.Connection) -> int:
    return connection.execute(sa.select(sa.func.count()).select_from(QUARANTINE)).scalar_one()


def refused_by_code(connection: sa.Connection) -> dict[int, int]:
    """Code -> blobs in quarantine."""
    code = QUARANTINE.c.code
    return {
        row[0]: row[1] for row in connection.execute(sa.select(code, sa.func.count()).group_by(code).order_by(code))
    }
