"""Robots of the fleet: who may send, where each one stands, and the one-time tokens that let new ones in."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import sqlalchemy as sa

from robin_fleet.ledger.core import METADATA, insert_new

ENROLLED, REVOKED = "enrolled", "revoked"

ROBOTS = sa.Table(
    "robots",
    METADATA,
    sa.Column("robot", sa.Text, primary_key=True),
    sa.Column("site", sa.Text, nullable=False),
    sa.Column("station", sa.Text, nullable=False),
    sa.Column("public_key", sa.Text, nullable=False),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("enrolled_s", sa.Double, nullable=False),
    sa.Column("seen_s", sa.Double),
    sa.Index("robots_key", "public_key", unique=True),
)
TOKENS = sa.Table(
    "tokens",
    METADATA,
    sa.Column("token_sha256", sa.Text, primary_key=True),
    sa.Column("site", sa.Text, nullable=False),
    sa.Column("station", sa.Text, nullable=False),
    sa.Column("expires_s", sa.Double, nullable=False),
    sa.Column("used_s", sa.Double),
)


class Robot(NamedTuple):
    """public_key: of its CURVE pair, 40 characters. state: ENROLLED or REVOKED. seen_s: None until it spoke."""

    robot: str
    site: str
    station: str
    public_key: str
    state: str
    enrolled_s: float
    seen_s: float | None


def add_token(connection: sa.Connection, token_sha256: str, site: str, station: str, expires_s: float) -> None:
    """A new token, of which the ledger knows the hash alone."""
    row = {"token_sha256": token_sha256, "site": site, "station": station, "expires_s": expires_s}
    connection.execute(sa.insert(TOKENS).values(row))


def spend_token(connection: sa.Connection, token_sha256: str, now_s: float) -> tuple[str, str] | None:
    """(site, station) that it was made for. None for one that is unknown, too old or spent."""
    spent = connection.execute(
        sa.update(TOKENS)
        .where(TOKENS.c.token_sha256 == token_sha256, TOKENS.c.used_s.is_(None), TOKENS.c.expires_s > now_s)
        .values(used_s=now_s)
        .returning(TOKENS.c.site, TOKENS.c.station)
    ).first()
    return None if spent is None else (spent.site, spent.station)


def enrol(connection: sa.Connection, robot: str, site: str, station: str, public_key: str, now_s: float) -> bool:
    """Let a robot in; one that is known changes its key and place, and is let in again. False where another robot has
    that key."""
    values = {"site": site, "station": station, "public_key": public_key, "state": ENROLLED, "enrolled_s": now_s}
    owner = connection.execute(sa.select(ROBOTS.c.robot).where(ROBOTS.c.public_key == public_key)).scalar()
    if owner not in (None, robot):
        return False
    insert_new(connection, ROBOTS, [{"robot": robot, **values}])
    connection.execute(sa.update(ROBOTS).where(ROBOTS.c.robot == robot).values(values))
    return True


def revoke(connection: sa.Connection, robot: str) -> bool:
    """False where no such robot was let in."""
    enrolled = sa.and_(ROBOTS.c.robot == robot, ROBOTS.c.state == ENROLLED)
    return connection.execute(sa.update(ROBOTS).where(enrolled).values(state=REVOKED)).rowcount == 1


def mark_seen(connection: sa.Connection, robot: str, now_s: float) -> None:
    connection.execute(sa.update(ROBOTS).where(ROBOTS.c.robot == robot).values(seen_s=now_s))


def find_robot(connection: sa.Connection, robot: str) -> Robot | None:
    return find_robots(connection, [robot]).get(robot)


def find_robots(connection: sa.Connection, robots: Iterable[str]) -> dict[str, Robot]:
    """By name."""
    rows = connection.execute(sa.select(ROBOTS).where(ROBOTS.c.robot.in_(list(robots))))
    return {row.robot: Robot(*row) for row in rows}


def robot_of_key(connection: sa.Connection, public_key: str) -> Robot | None:
    """The robot that may send with that key; None for an unknown or revoked one."""
    chosen = sa.select(ROBOTS).where(ROBOTS.c.public_key == public_key, ROBOTS.c.state == ENROLLED)
    row = connection.execute(chosen).first()
    return None if row is None else Robot(*row)


def all_robots(connection: sa.Connection) -> list[Robot]:
    """By name."""
    return [Robot(*row) for row in connection.execute(sa.select(ROBOTS).order_by(ROBOTS.c.robot))]
