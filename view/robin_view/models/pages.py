"""``/models``: which version runs and why, what the gate found of each, and releases on their way to robots."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Form
from starlette.requests import Request
from starlette.responses import Response

from edge_adapt.models.registry import ModelRegistry
from edge_adapt.models.told import explain, status
from robin_perception.core.errors import Code, RobinError
from robin_view.changed import Who, Why, then
from robin_view.models.compared import compared
from robin_view.models.curve import learning_curve
from robin_view.models.releases import releases_told
from robin_view.refusal import unknown
from robin_view.state import ViewState

ADDRESS = "/models"
Number = Annotated[int, Form(ge=0, le=1_000_000)]


def router(view: ViewState) -> APIRouter:
    routes = APIRouter(prefix=ADDRESS)

    @routes.get("")
    def every(request: Request) -> Response:
        robot = None if view.sources.versions is None else _told(_registry(view))
        fleet = None if view.fleet is None else releases_told(view.fleet)
        return view.pages.page("models/all.html.j2", request, robot=robot, fleet=fleet)

    @routes.get("/version/{number}")
    def one(request: Request, number: int) -> Response:
        found = explain(_registry(view), number)
        return view.pages.page("models/version.html.j2", request, v=found, bars=_bars(found))

    @routes.get("/version/{number}/compared")
    def pictures(request: Request, number: int) -> Response:
        frames = compared(view, _registry(view), number)
        return view.pages.page("models/compared.html.j2", request, frames=frames)

    @routes.post("/rollback")
    def rollback(who: Who, why: Why) -> Response:
        view.audit.write(who, "roll back the model", why=why)
        _registry(view).rollback(who, why)
        return then(ADDRESS)

    @routes.post("/pin")
    def pin(who: Who, why: Why, version: Number) -> Response:
        view.audit.write(who, "pin a model", version=version, why=why)
        _registry(view).pin(who, why, version)
        return then(ADDRESS)

    @routes.post("/unpin")
    def unpin(who: Who, why: Why) -> Response:
        view.audit.write(who, "unpin the model", why=why)
        _registry(view).unpin(who, why)
        return then(ADDRESS)

    @routes.get("/training/{training}")
    def training(training: str) -> Response:
        """The report that a person signs, as it was made: with its pictures, and no script of its own runs."""
        return _report(view, training)

    @routes.post("/rollout/{rollout}/{what}")
    def rollout(rollout: str, what: str, who: Who, why: Why) -> Response:
        if view.fleet is None or what not in ("pause", "resume", "abort"):
            raise unknown("roll-out", rollout)
        from robin_fleet.ledger.rollouts import find_rollout
        from robin_fleet.release.repository import ReleaseRepository
        from robin_fleet.rollout.runner import RolloutRunner

        with view.fleet.ledger.read() as connection:
            find_rollout(connection, rollout)
        runner = RolloutRunner(view.fleet.ledger, ReleaseRepository(view.fleet.folder))
        view.audit.write(who, f"{what} roll-out", rollout=rollout, why=why)
        change = {"pause": runner.pause, "resume": runner.resume, "abort": runner.abort}[what]
        change(rollout, f"{why} ({who})")
        return then(ADDRESS)

    return routes


def _registry(view: ViewState) -> ModelRegistry:
    """Raises RobinError VIEW_UNKNOWN where the page knows of none."""
    folder, factory = view.sources.versions, next(iter(view.sources.models), Path("models/base"))
    if folder is None or not folder.is_dir():
        raise RobinError(Code.VIEW_UNKNOWN, "there are no versions of the model here; robin view --models DIR")
    return ModelRegistry(folder, factory)


def _told(registry: ModelRegistry) -> dict[str, Any]:
    told, entries = status(registry), registry.story().entries
    judged = [one for one in entries if "gate" in one.data and one.event in ("added", "refused")]
    return {**told, "curve": learning_curve(judged)}


def _bars(found: dict[str, Any]) -> list[dict[str, Any]]:
    """Checks of the gate, with value and interval as they are written."""
    rows = []
    for check in found["gate"].get("checks", ()):
        value, low, high = (check.get(key) for key in ("value", "low", "high"))
        interval = "" if low is None or high is None else f"{low:+.4f} to {high:+.4f}"
        rows.append({**check, "value": "–" if value is None else f"{value:.4g}", "interval": interval})
    return rows


def _report(view: ViewState, name: str) -> Response:
    if view.fleet is None:
        raise unknown("training", name)
    from robin_fleet.ledger.decks import trainings

    with view.fleet.ledger.read() as connection:
        row = next((one for one in trainings(connection) if one.training == name), None)
    if row is None or row.page is None:
        raise unknown("training", name)
    policy = "sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src data:"
    headers = {"content-security-policy": policy, "etag": f'"{row.page}"'}
    return Response(view.fleet.objects.get(row.page), media_type="text/html", headers=headers)
