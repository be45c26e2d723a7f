"""Figures of robots over time, thinned out with age; and facts of picks that may explain how they went."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import sqlalchemy as sa

from robin_fleet.ledger.core import METADATA, insert_new
from robin_fleet.ledger.rollouts import merge_days

METRICS = sa.Table(
    "metrics",
    METADATA,
    sa.Column("robot", sa.Text, primary_key=True),
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("at_s", sa.Double, primary_key=True),
    sa.Column("value", sa.Double, nullable=False),
    sa.Index("metrics_at", "at_s"),
)
PICK_FACTS = sa.Table(
    "pick_facts",
    METADATA,
    sa.Column("decision", sa.Text, primary_key=True),
    sa.Column("robot", sa.Text, primary_key=True),
    sa.Column("at_s", sa.Double, nullable=False),
    sa.Column("failed", sa.Boolean, nullable=False),
    sa.Column("facts", sa.Text, nullable=False),
    sa.Index("pick_facts_at", "at_s"),
)
DAY_S = 86_400.0
KEPT = ((2 * DAY_S, 3600.0), (60 * DAY_S, DAY_S))
"""Older than so long: one value in each stretch of so many seconds, the last one. That loses nothing of a counter."""
FACTS_KEPT_S = COUNTS_KEPT_S = 30 * DAY_S


class Value(NamedTuple):
    """One figure of one robot at one time."""

    robot: str
    name: str
    at_s: float
    value: float


class Fact(NamedTuple):
    """facts: figures and words by name."""

    decision: str
    robot: str
    at_s: float
    failed: bool
    facts: dict[str, Any]


def add_values(connection: sa.Connection, robot: str, at_s: float, values: Mapping[str, float]) -> None:
    insert_new(connection, METRICS, [{"robot": robot, "name": n, "at_s": at_s, "value": v} for n, v in values.items()])


def latest_values(connection: sa.Connection, since_s: float) -> list[Value]:
    """The newest value of each figure of each robot that told one since then."""
    keys = (METRICS.c.robot, METRICS.c.name)
    newest = sa.select(*keys, sa.func.max(METRICS.c.at_s).label("at_s")).where(METRICS.c.at_s >= since_s)
    found = newest.group_by(*keys).subquery()
    joined = METRICS.join(found, sa.and_(*(METRICS.c[k] == found.c[k] for k in ("robot", "name", "at_s"))))
    rows = connection.execute(sa.select(METRICS).select_from(joined).order_by(*keys))
    return [Value(*row) for row in rows]


def series(connection: sa.Connection, name: str, since_s: float, robot: str | None = None) -> list[Value]:
    """Of one figure, oldest first."""
    chosen = sa.select(METRICS).where(METRICS.c.name == name, METRICS.c.at_s >= since_s)
    if robot is not None:
        chosen = chosen.where(METRICS.c.robot == robot)
    return [Value(*row) for row in connection.execute(chosen.order_by(METRICS.c.at_s, METRICS.c.robot))]


def thin(connection: sa.Connection, now_s: float) -> int:
    """Remove what is old, as ``KEPT`` says. Returns how many values went."""
    gone = 0
    for age_s, step_s in KEPT:
        stretch = sa.func.floor(METRICS.c.at_s / step_s)
        old = METRICS.c.at_s < now_s - age_s
        keys = (METRICS.c.robot, METRICS.c.name)
        last = sa.select(*keys, sa.func.max(METRICS.c.at_s)).where(old).group_by(*keys, stretch)
        whole = sa.tuple_(METRICS.c.robot, METRICS.c.name, METRICS.c.at_s)
        gone += connection.execute(sa.delete(METRICS).where(old, whole.not_in(last))).rowcount
    merge_days(connection, now_s - COUNTS_KEPT_S)
    connection.execute(sa.delete(PICK_FACTS).where(PICK_FACTS.c.at_s < now_s - FACTS_KEPT_S))
    return gone


def add_fact(
    connection: sa.Connection, robot: str, decision: str, at_s: float, failed: bool, facts: Mapping[str, Any]
) -> None:
    row = {"decision": decision, "robot": robot, "at_s": at_s, "failed": failed}
    insert_new(connection, PICK_FACTS, [{**row, "facts": json.dumps(facts, sort_keys=True)}])


def facts_since(connection: sa.Connection, since_s: float, limit: int) -> Sequence[Fact]:
    """The newest ``limit`` of them, oldest first."""
    chosen = sa.select(PICK_FACTS).where(PICK_FACTS.c.at_s >= since_s)
    rows = connection.execute(chosen.order_by(PICK_FACTS.c.at_s.desc(), PICK_FACTS.c.decision).limit(limit))
    found = [Fact(row.decision, row.robot, row.at_s, row.failed, json.loads(row.facts)) for row in rows]
    return found[::-1]
