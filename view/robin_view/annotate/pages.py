"""``/annotate``: pictures to label, and the page that one of them is labelled on."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query
from pydantic import Field
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from robin_perception.core.config import StrictConfig
from robin_perception.core.errors import Code, RobinError
from robin_view.annotate.desk import Desk
from robin_view.annotate.drafts import MOST_MASKS, parse_draft
from robin_view.annotate.work import Cut, cut
from robin_view.archive.index import Query as Wanted
from robin_view.changes import require_changes
from robin_view.state import ViewState

PAGE = 24
TOOLS = (
    ("select", "V"), ("split", "S"), ("join", "J"), ("add", "A"),
    ("box", "C"), ("brush", "B"), ("erase", "E"), ("polygon", "P"),
)  # fmt: skip
ACTIONS = (("remove", "Del"), ("ignore", "X"), ("undo", "U"), ("redo", "R"), ("hide", "O"), ("fit", "F"))
Who = Annotated[str, Depends(require_changes)]
Coordinate = Annotated[int, Field(ge=-1, le=65_535)]


class _Mask(StrictConfig):
    id: int = Field(ge=1, le=65_535)
    counts: str = Field(max_length=2_000_000)


class CutRequest(StrictConfig):
    """A cut as a page asks for it."""

    kind: Literal["look", "split", "join", "add"]
    ids: tuple[int, ...] = Field((), max_length=2)
    clicks: tuple[tuple[Coordinate, Coordinate], ...] = Field((), max_length=32)
    masks: tuple[_Mask, ...] = Field((), max_length=MOST_MASKS + 1)


class DoneRequest(StrictConfig):
    """version: the one that is handed over."""

    version: int = Field(ge=0)


async def _body(request: Request) -> bytes:
    return await request.body()


def router(view: ViewState) -> APIRouter:
    routes = APIRouter(prefix="/annotate")
    model = next(iter(view.sources.models), None)
    desk = Desk(view.archive, view.fleet, view.worker, model)

    @routes.get("")
    def pictures(request: Request, page: Annotated[int, Query(ge=1, le=100_000)] = 1) -> Response:
        rows, more = _rows(view, desk, page)
        where = desk.where()
        return view.pages.page("annotate/list.html.j2", request, rows=rows, page=page, more=more, where=where)

    @routes.get("/{key}")
    def one(request: Request, key: str) -> Response:
        opened = desk.open(key)
        pictures = [("colour", f"/d/{key}/picture/color?w=1280")]
        pictures += [(name, f"/d/{key}/layer/{name}") for name in ("depth", "height")]
        allowed = view.settings.allow_changes
        told = {"key": key, "classes": opened.classes, "changes": allowed, "picture": pictures[0][1]}
        names: dict[str, Any] = {"tools": TOOLS, "actions": ACTIONS, "pictures": pictures, "classes": opened.classes}
        return view.pages.page("annotate/one.html.j2", request, key=key, told=told, **names)

    @routes.get("/{key}/draft")
    def draft(key: str) -> Response:
        return JSONResponse(desk.open(key).draft.model_dump(mode="json"))

    @routes.put("/{key}/draft")
    def keep(key: str, who: Who, body: Annotated[bytes, Depends(_body)]) -> Response:
        opened, given = desk.open(key), parse_draft(body, key)
        view.audit.write(who, "annotate", key=key, version=given.version + 1, masks=len(given.masks))
        return JSONResponse({"version": desk.save(opened, given, who).version})

    @routes.post("/{key}/cut")
    def cut_masks(key: str, who: Who, work: CutRequest) -> Response:
        opened = desk.open(key)
        counts = {mask.id: mask.counts for mask in work.masks}
        asked = Cut(work.kind, work.ids, work.clicks, counts)
        picture = opened.draft.picture
        job = partial(cut, opened.frame, picture, model, view.sources.cell, asked)
        if work.kind == "look":  # a picture is looked at while the person does
            view.worker.begin((picture, "look"), job)
            return JSONResponse({"pieces": []})
        pieces = view.worker.asked((picture, work.model_dump_json()), job)
        return JSONResponse({"pieces": [piece._asdict() for piece in pieces]})

    @routes.post("/{key}/done")
    def done(key: str, who: Who, asked: DoneRequest) -> Response:
        opened = desk.open(key)
        if opened.draft.version != asked.version:
            raise RobinError(Code.ANNOTATION_STALE, f"{key}: changed meanwhile; load it again")
        view.audit.write(who, "hand over labels", key=key, masks=len(opened.draft.masks), sample=opened.sample)
        desk.hand_over(opened, who)
        desk.save(opened, opened.draft.model_copy(update={"done": True}), who)
        return JSONResponse({"next": _next(view, desk, key)})

    return routes


def _pictured(view: ViewState) -> list[int]:
    """Rows of decisions whose picture was kept, the newest first."""
    index = view.archive.index
    return [int(row) for row in index.find(Wanted()).rows if index.pictured(int(row))]


def _rows(view: ViewState, desk: Desk, page: int) -> tuple[list[dict[str, Any]], bool]:
    rows = _pictured(view)
    shown = [view.archive.index.line(row) for row in rows[(page - 1) * PAGE : page * PAGE]]
    found = [{"id": line["id"], "parcels": int(line["parcels"]), "state": desk.state(line["id"])} for line in shown]
    return found, len(rows) > page * PAGE


def _next(view: ViewState, desk: Desk, key: str) -> str:
    """The address of the next older picture that is not done; the list where there is none."""
    index = view.archive.index
    ids = [str(index.line(row)["id"]) for row in _pictured(view)]
    at = ids.index(key) + 1 if key in ids else 0
    for other in (*ids[at:], *ids[:at]):
        if other != key and desk.state(other) != "done":
            return f"/annotate/{other}"
    return "/annotate"
