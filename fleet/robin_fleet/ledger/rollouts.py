"""Roll-outs with all that happened to them, the picks that they are judged by, and robots that are to stay as they
are."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, NamedTuple

import sqlalchemy as sa

from robin_fleet.ledger.core import METADATA, RowNumber, insert_new
from robin_fleet.ledger.robots import ENROLLED, ROBOTS
from robin_fleet.rollout.plan import COUNTED_S, RobotFacts
from robin_fleet.rollout.state import Change, RolloutState
from robin_perception.core.errors import Code, RobinError

ROBOT, SITE = "robot", "site"
"""What a hold is for."""
ROLLOUTS = sa.Table(
    "rollouts",
    METADATA,
    sa.Column("rollout", sa.Text, primary_key=True),
    sa.Column("release", sa.Text, nullable=False),
    sa.Column("phase", sa.Text, nullable=False),
    sa.Column("began_s", sa.Double, nullable=False),
    sa.Column("state", sa.Text, nullable=False),
)
ROLLOUT_EVENTS = sa.Table(
    "rollout_events",
    METADATA,
    sa.Column("id", RowNumber, primary_key=True),
    sa.Column("rollout", sa.Text, sa.ForeignKey("rollouts.rollout"), nullable=False),
    sa.Column("at_s", sa.Double, nullable=False),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("text", sa.Text, nullable=False),
    sa.Column("data", sa.Text, nullable=False),
    sa.Index("rollout_events_rollout", "rollout", "id"),
)
PICK_COUNTS = sa.Table(
    "pick_counts",
    METADATA,
    sa.Column("begin_s", sa.BigInteger, primary_key=True),
    sa.Column("robot", sa.Text, primary_key=True),
    sa.Column("model", sa.Text, primary_key=True),
    sa.Column("picks", sa.BigInteger, nullable=False),
    sa.Column("clean", sa.BigInteger, nullable=False),
)
HOLDS = sa.Table(
    "holds",
    METADATA,
    sa.Column("what", sa.Text, primary_key=True),
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("why", sa.Text, nullable=False),
    sa.Column("at_s", sa.Double, nullable=False),
)


class Told(NamedTuple):
    """One event of a roll-out."""

    at_s: float
    kind: str
    text: str
    data: dict[str, Any]


class PickCount(NamedTuple):
    """Picks of one robot with one model in the ``COUNTED_S`` seconds from begin_s on."""

    begin_s: int
    robot: str
    model: str
    picks: int
    clean: int


class Hold(NamedTuple):
    """what: ROBOT or SITE."""

    what: str
    name: str
    why: str
    at_s: float


def put(connection: sa.Connection, change: Change, now_s: float) -> RolloutState:
    """Write an event, and the state after it. Returns the state."""
    state, event = change
    row = {"rollout": state.rollout, "release": state.release, "began_s": state.began_s}
    values = {"phase": state.phase.value, "state": state.model_dump_json()}
    insert_new(connection, ROLLOUTS, [{**row, **values}])
    connection.execute(sa.update(ROLLOUTS).where(ROLLOUTS.c.rollout == state.rollout).values(values))
    told = {"rollout": state.rollout, "at_s": now_s, "kind": event.kind, "text": event.text}
    connection.execute(sa.insert(ROLLOUT_EVENTS).values({**told, "data": json.dumps(event.data, sort_keys=True)}))
    return state


def find_rollout(connection: sa.Connection, rollout: str) -> RolloutState:
    """Raises RobinError ROLLOUT_UNKNOWN."""
    found = connection.execute(sa.select(ROLLOUTS.c.state).where(ROLLOUTS.c.rollout == rollout)).scalar()
    if found is None:
        raise RobinError(Code.ROLLOUT_UNKNOWN, f"roll-out {rollout}: there is none; robin fleet rollout status")
    return RolloutState.model_validate_json(found)


def all_rollouts(connection: sa.Connection) -> list[RolloutState]:
    """Oldest first."""
    rows = connection.execute(sa.select(ROLLOUTS.c.state).order_by(ROLLOUTS.c.began_s, ROLLOUTS.c.rollout))
    return [RolloutState.model_validate_json(row.state) for row in rows]


def events_of(connection: sa.Connection, rollout: str, kinds: Sequence[str] = ()) -> list[Told]:
    """Oldest first; all of them, or those of some kinds."""
    chosen = sa.select(ROLLOUT_EVENTS).where(ROLLOUT_EVENTS.c.rollout == rollout).order_by(ROLLOUT_EVENTS.c.id)
    rows = connection.execute(chosen.where(ROLLOUT_EVENTS.c.kind.in_(kinds)) if kinds else chosen)
    return [Told(row.at_s, row.kind, row.text, json.loads(row.data)) for row in rows]


def merge_days(connection: sa.Connection, before_s: float) -> None:
    """Stretches that began before then become one a day, so that sums stay what they are."""
    day, begin = 86_400, PICK_COUNTS.c.begin_s
    old = sa.and_(begin < before_s // day * day, begin % day != 0)
    key = ((begin - begin % day).label("begin_s"), PICK_COUNTS.c.robot, PICK_COUNTS.c.model)
    sums = (sa.func.sum(PICK_COUNTS.c.picks), sa.func.sum(PICK_COUNTS.c.clean))
    rows = connection.execute(sa.select(*key, *sums).where(old).group_by(*key)).all()
    for begin_s, robot, model, picks, clean in rows:
        add_count(connection, PickCount(begin_s, robot, model, int(picks), int(clean)))
    connection.execute(sa.delete(PICK_COUNTS).where(old))


def count_pick(connection: sa.Connection, robot: str, model: str, at_s: float, clean: bool) -> None:
    """One more pick. Each is to be counted once: with the blob that tells of it, in one transaction."""
    begin_s = int(at_s // COUNTED_S * COUNTED_S)
    add_count(connection, PickCount(begin_s, robot, model, 1, int(clean)))


def add_count(connection: sa.Connection, found: PickCount) -> None:
    """Picks beside those of the same robot, model and stretch of time that are counted already."""
    key = {"begin_s": found.begin_s, "robot": found.robot, "model": found.model}
    insert_new(connection, PICK_COUNTS, [{**key, "picks": 0, "clean": 0}])
    more = {"picks": PICK_COUNTS.c.picks + found.picks, "clean": PICK_COUNTS.c.clean + found.clean}
    own = [PICK_COUNTS.c[name] == value for name, value in key.items()]
    connection.execute(sa.update(PICK_COUNTS).where(*own).values(more))


def counted(connection: sa.Connection, begin_s: float, end_s: float) -> list[PickCount]:
    """Picks of windows that begin within [begin_s, end_s)."""
    begin = PICK_COUNTS.c.begin_s
    chosen = sa.select(PICK_COUNTS).where(begin >= begin_s, begin < end_s)
    return [PickCount(*row) for row in connection.execute(chosen.order_by(begin, PICK_COUNTS.c.robot))]


class Span(NamedTuple):
    """When a robot first and last picked with a model: windows' begins."""

    robot: str
    model: str
    first_s: int
    last_s: int


def spans(connection: sa.Connection, robots: Sequence[str], since_s: float) -> list[Span]:
    """Of these robots, each model that they picked with since then."""
    begin = PICK_COUNTS.c.begin_s
    chosen = sa.select(PICK_COUNTS.c.robot, PICK_COUNTS.c.model, sa.func.min(begin), sa.func.max(begin))
    chosen = chosen.where(PICK_COUNTS.c.robot.in_(list(robots)), begin >= since_s)
    rows = connection.execute(chosen.group_by(PICK_COUNTS.c.robot, PICK_COUNTS.c.model))
    return sorted(Span(*row) for row in rows)


def totals(connection: sa.Connection, since_s: float = 0.0) -> dict[str, tuple[int, int]]:
    """Robot -> picks, clean ones."""
    sums = (sa.func.sum(PICK_COUNTS.c.picks), sa.func.sum(PICK_COUNTS.c.clean))
    chosen = sa.select(PICK_COUNTS.c.robot, *sums).where(PICK_COUNTS.c.begin_s >= since_s)
    return {row[0]: (int(row[1]), int(row[2])) for row in connection.execute(chosen.group_by(PICK_COUNTS.c.robot))}


def hold(connection: sa.Connection, what: str, name: str, why: str, now_s: float) -> None:
    """Robots that are held take no new release; those that run one stay with it."""
    insert_new(connection, HOLDS, [{"what": what, "name": name, "why": why, "at_s": now_s}])


def release_hold(connection: sa.Connection, what: str, name: str) -> bool:
    """False where it was not held."""
    own = sa.delete(HOLDS).where(HOLDS.c.what == what, HOLDS.c.name == name)
    return connection.execute(own).rowcount == 1


def all_holds(connection: sa.Connection) -> list[Hold]:
    return [Hold(*row) for row in connection.execute(sa.select(HOLDS).order_by(HOLDS.c.what, HOLDS.c.name))]


def robot_facts(connection: sa.Connection, since_s: float) -> list[RobotFacts]:
    """Of all that are enrolled, with their rates since then."""
    held = {(one.what, one.name) for one in all_holds(connection)}
    known = totals(connection, since_s)
    rows = connection.execute(
        sa.select(ROBOTS.c.robot, ROBOTS.c.site, ROBOTS.c.station)
        .where(ROBOTS.c.state == ENROLLED)
        .order_by(ROBOTS.c.robot)
    )
    facts = []
    for robot, site, station in rows:
        picks, clean = known.get(robot, (0, 0))
        free = (ROBOT, robot) not in held and (SITE, site) not in held
        facts.append(RobotFacts(robot, f"{site}/{station}", free, clean / picks if picks else None))
    return facts
