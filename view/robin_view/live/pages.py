"""``/live``: the latest pick with its picture, figures of the last picks, and questions that can be answered."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Form, Query
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from edge_adapt.live_picture import LiveReader
from edge_adapt.report_card import pick_card, pick_row
from edge_adapt.told import code_text
from robin_grasp.recovery.help_desk import HelpDesk
from robin_perception.core.errors import Code, RobinError
from robin_perception.core.ids import plain_id
from robin_view.changes import require_changes
from robin_view.decision.pages import picture_address
from robin_view.pictures import picture_answer
from robin_view.refusal import unknown
from robin_view.state import ViewState

LAST = 20
RATE_OVER = 100
"""Picks that the rate is measured over, at most."""
ATTEMPTED = ("clean", "miss", "drop", "multi", "wrong")


def router(view: ViewState) -> APIRouter:
    routes = APIRouter(prefix="/live")

    @routes.get("")
    def live(request: Request) -> Response:
        return view.pages.page("live/live.html.j2", request, help=_asked(view), desk=view.sources.desk, **now(view, ""))

    @routes.get("/events")
    def events() -> Response:
        return StreamingResponse(view.streams.join(), media_type="text/event-stream")

    @routes.get("/now")
    def shown_now(request: Request, decision: Annotated[str, Query(max_length=128)] = "") -> Response:
        return view.pages.page("live/now.html.j2", request, **now(view, decision))

    @routes.get("/picture")
    def picture() -> Response:
        """What the camera sees now."""
        if view.sources.live is None:
            raise RobinError(Code.VIEW_UNKNOWN, "no running cell was named")
        data = LiveReader(view.sources.live).read()
        return Response(data, media_type="image/jpeg", headers={"cache-control": "no-store"})

    @routes.get("/help")
    def asked(request: Request) -> Response:
        return view.pages.page("live/help.html.j2", request, help=_asked(view), desk=view.sources.desk)

    @routes.get("/help/{help_id}/picture")
    def asked_picture(request: Request, help_id: str) -> Response:
        data = _desk(view).picture(plain_id(help_id, "help"))
        if not data:
            raise unknown("picture of request", help_id)
        return picture_answer(request, data, "image/jpeg")

    @routes.post("/help/{help_id}/answer")
    def answered(
        request: Request,
        help_id: str,
        answer: Annotated[str, Form(max_length=200)],
        who: Annotated[str, Depends(require_changes)],
        pick: Annotated[str, Form(max_length=128)] = "",
    ) -> Response:
        """pick: that the person saw the request to be about; empty where it is about none."""
        desk = _desk(view)
        asked = desk.request(plain_id(help_id, "help"))
        view.audit.write(who, "help answered", help_id=asked.help_id, answer=answer, pick=asked.plan_id)
        desk.answer(asked.help_id, answer, who, pick)
        if not desk.is_kept(asked.help_id):
            raise RobinError(Code.HELP_NOT_KEPT, f"the answer to '{asked.help_id}' could not be written")
        return view.pages.page("live/help.html.j2", request, help=_asked(view), desk=view.sources.desk)

    return routes


def now(view: ViewState, decision_id: str) -> dict[str, Any]:
    """What the template of the latest pick takes; of that one where an id is given, and nothing where there is none.
    Raises RobinError VIEW_UNKNOWN and what reading a record raises."""
    index = view.archive.index
    rows = index.latest(RATE_OVER)
    lines = [index.line(int(row)) for row in rows]
    name = decision_id or (lines[0]["id"] if lines else "")
    if not name:
        return {"card": None, "last": [], "per_hour": None, "clean": None}
    evidence = view.archive.evidence(name)
    attempts = [line for line in lines if line["result"] in ATTEMPTED]
    return {
        "card": pick_card(evidence, picture_address(name, evidence, quick=True)),
        "key": name,
        "d": evidence.decision,
        "row": pick_row(int(rows[0]) + 1, evidence.decision, ""),
        "last": lines[:LAST],
        "per_hour": per_hour(attempts),
        "clean": (sum(line["result"] == "clean" for line in attempts), len(attempts)),
    }


def per_hour(attempts: list[dict[str, Any]]) -> float | None:
    """Picks per hour of lines, the latest first, by when they were recorded; no faster than the cell itself says that
    it was, since simulated piles are picked side by side. None for fewer than two."""
    span_s = attempts[0]["at_s"] - attempts[-1]["at_s"] if len(attempts) > 1 else 0.0
    own_s = sum(line["pick_s"] for line in attempts[:-1] if line["pick_s"] > 0)
    return 3600.0 * (len(attempts) - 1) / max(span_s, own_s) if span_s > 0 else None


def _desk(view: ViewState) -> HelpDesk:
    """Opened anew each time: other processes write there."""
    if view.sources.desk is None:
        raise RobinError(Code.VIEW_UNKNOWN, "no help desk was named; --desk DIR names the cell's")
    return HelpDesk(view.sources.desk)


def _asked(view: ViewState) -> list[dict[str, Any]]:
    desk: Path | None = view.sources.desk
    if desk is None or not desk.is_dir():
        return []
    return [{**request.model_dump(), "cause": code_text(int(request.code))} for request in HelpDesk(desk).requests()]
