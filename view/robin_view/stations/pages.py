"""``/stations``: each station as it was at its latest decision, and what a technician should see to."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from robin_perception.core.errors import RobinError
from robin_view.archive.index import Query
from robin_view.search.pages import shown_time
from robin_view.state import ViewState

_LATELY = 200
_MOST = 200


def router(view: ViewState) -> APIRouter:
    routes = APIRouter(prefix="/stations")

    @routes.get("")
    def every(request: Request) -> Response:
        rows, faults, robots = _stations(view), list[dict[str, Any]](), list[dict[str, Any]]()
        if view.fleet is not None:
            faults, robots = _of_fleet(view)
        return view.pages.page("stations/all.html.j2", request, rows=rows, faults=faults, robots=robots)

    return routes


def _stations(view: ViewState) -> list[dict[str, Any]]:
    """name, picks and failures lately, cups and conditions of the latest decision."""
    index, found = view.archive.index, []
    for name in sorted(index.find(Query()).facets["station"])[:_MOST]:
        rows = index.find(Query(words={"station": (name,)})).rows[:_LATELY]
        lines = [index.line(int(row)) for row in rows]
        tried = [line for line in lines if line["result"] not in ("infeasible", "unfinished", "waited")]
        told = {"name": name, "picks": len(tried), "failed": sum(line["result"] != "clean" for line in tried)}
        found.append(
            {**told, "at": shown_time(lines[0]["at_s"]), "latest": lines[0]["id"], **_latest(view, lines[0]["id"])}
        )
    return found


def _latest(view: ViewState, decision_id: str) -> dict[str, Any]:
    try:
        decision = view.archive.evidence(decision_id).decision
    except RobinError:
        return {"cups": (), "conditions": (), "model": ""}
    environment = [one for one in decision.conditions if one.family == "environment"]
    return {"cups": decision.cup_health, "conditions": environment, "model": decision.model_id}


def _of_fleet(view: ViewState) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Faults of stations for technicians, and robots with when they were heard of."""
    from robin_fleet.ledger.novelties import faults_by_station
    from robin_fleet.ledger.robots import all_robots

    assert view.fleet is not None
    with view.fleet.ledger.read() as connection:
        faults, robots = faults_by_station(connection), all_robots(connection)
    for fault in faults:
        fault |= {"first": shown_time(fault["first_s"]), "last": shown_time(fault["last_s"])}
    return faults, [
        {**one._asdict(), "seen": "never" if one.seen_s is None else shown_time(one.seen_s)} for one in robots
    ]
