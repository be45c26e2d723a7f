"""``/d/<id>``: one decision."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
from fastapi import APIRouter, Query
from markupsafe import Markup
from numpy.typing import NDArray
from starlette.requests import Request
from starlette.responses import Response

from edge_adapt.decision import Decision
from edge_adapt.evidence import Evidence, frame_of
from edge_adapt.picture_keeper import removed_pictures
from edge_adapt.report_card import Address, PickCard, pick_card, pick_row
from edge_adapt.report_figures import mask_paths, tool_footprint
from edge_adapt.report_pictures import has_picture, picture
from robin_perception.core.errors import Code, RobinError
from robin_perception.core.frame import Frame
from robin_view.archive.readers import RunReader
from robin_view.decision.answer import Question
from robin_view.decision.layers import PICTURES, edge_paths, layer, score_texts
from robin_view.decision.worker import Replanned, Seen
from robin_view.pictures import jpeg, picture_answer, shown_width, webp
from robin_view.refusal import unknown
from robin_view.state import ViewState

STAGE_WIDTH, QUICK_WIDTH = 1280, 640


@dataclass(frozen=True)
class Side:
    """One model's view of a frame, beside another's."""

    title: str
    decision: Decision
    masks: Markup
    tool: Markup
    chosen: str


def router(view: ViewState) -> APIRouter:
    routes = APIRouter(prefix="/d/{decision_id}")

    @routes.get("")
    def one(request: Request, decision_id: str) -> Response:
        return view.pages.page("decision/one.html.j2", request, **decision_values(view, decision_id))

    @routes.get("/picture/{name}")
    def picture_of(
        request: Request, decision_id: str, name: str, w: Annotated[int, Query(ge=16, le=4096)] = STAGE_WIDTH
    ) -> Response:
        rgb = picture(view.archive.evidence(decision_id), name)
        if rgb is None:
            raise unknown("picture", name)
        return picture_answer(request, webp(rgb, shown_width(w)))

    @routes.get("/quick/{name}")
    def quick_picture(request: Request, decision_id: str, name: str) -> Response:
        rgb = picture(view.archive.evidence(decision_id), name)
        if rgb is None:
            raise unknown("picture", name)
        return picture_answer(request, jpeg(rgb, QUICK_WIDTH), "image/jpeg")

    @routes.get("/layer/{name}")
    def layer_of(request: Request, decision_id: str, name: str) -> Response:
        rgb = layer(view.archive.evidence(decision_id), name) if name in PICTURES else None
        if rgb is None:
            raise unknown("layer", name)
        return picture_answer(request, webp(rgb, STAGE_WIDTH, exact=name == "novelty"))

    @routes.get("/why")
    def why(
        request: Request,
        decision_id: str,
        x: Annotated[int | None, Query(ge=0, le=65_535)] = None,
        y: Annotated[int | None, Query(ge=0, le=65_535)] = None,
        parcel: Annotated[int | None, Query(ge=1, le=65_535)] = None,
        cups: Annotated[str, Query(max_length=32, pattern=r"^[0-7 ]*$")] = "",
    ) -> Response:
        seen = seen_of(view.archive.evidence(decision_id))
        question = _question(seen, parcel, None if x is None or y is None else (x, y), cups)
        answer = None if question is None else view.worker.why(seen, question)
        return view.pages.page("decision/why.html.j2", request, answer=answer, question=question, d=seen.decision)

    @routes.get("/model/{number}")
    def model(request: Request, decision_id: str, number: int) -> Response:
        if not 0 <= number < len(view.sources.models):
            raise unknown("model", str(number))
        evidence, bundle = view.archive.evidence(decision_id), view.sources.models[number]
        seen = seen_of(evidence)
        now = view.worker.replan(seen, bundle)
        sides = (side_of("recorded then", Replanned(seen.decision, seen.labels)), side_of(f"{bundle.name}, now", now))
        return view.pages.page(
            "decision/models.html.j2", request, sides=sides, color=picture_address(decision_id, evidence)("color")
        )

    return routes


def decision_values(view: ViewState, decision_id: str) -> dict[str, Any]:
    """What the template of a decision takes. Raises RobinError VIEW_UNKNOWN and what reading a record raises."""
    evidence = view.archive.evidence(decision_id)
    decision, labels = evidence.decision, evidence.labels()
    row = view.archive.index.row(decision_id) or 0
    reader = view.archive.readers[view.archive.index.place(row).source]
    gone = removed_pictures(reader.folder) if isinstance(reader, RunReader) else {}
    card: PickCard = pick_card(evidence, picture_address(decision_id, evidence))
    before, after = view.archive.index.neighbours(row)
    return {
        "card": card,
        "key": decision_id,
        "d": decision,
        "row": pick_row(row + 1, decision, gone.get(decision.decision_id, "")),
        "source": reader.title,
        "layers": [name for name in PICTURES if name == "novelty" or evidence.has("depth")],
        "scores": Markup("" if labels is None else score_texts(labels, decision)),
        "edges": Markup("" if labels is None else edge_paths(labels, decision)),
        "models": [bundle.name for bundle in view.sources.models],
        "before": before,
        "after": after,
    }


def picture_address(key: str, evidence: Evidence, *, quick: bool = False) -> Address:
    """Addresses of this server. key: the decision's id here. quick: of pictures that cost little to make."""
    base, version = f"/d/{key}", evidence.decision.frame.digest[:12]

    def address(name: str) -> str:
        if not has_picture(evidence, name):
            return ""
        if quick:
            return f"{base}/quick/{name}?v={version}"
        width = 320 if name.startswith("parcel-") else STAGE_WIDTH if name == "color" else 640
        return f"{base}/picture/{name}?w={width}&v={version}"

    return address


def seen_of(evidence: Evidence) -> Seen:
    """Raises RobinError INPUT_MISSING where the frame was not kept."""
    frame, labels = frame_of(evidence), evidence.labels()
    if frame is None or labels is None or labels.shape != (frame.height, frame.width):
        raise RobinError(Code.INPUT_MISSING, f"{evidence.decision.decision_id}: its frame or its masks were not kept")
    return Seen(frame, labels, evidence.decision)


def _question(seen: Seen, parcel: int | None, at: tuple[int, int] | None, cups: str) -> Question | None:
    """None where nothing was detected at that spot."""
    if at is not None and at[0] < seen.frame.width and at[1] < seen.frame.height:
        parcel = parcel or int(seen.labels[at[1], at[0]])
    if not parcel:
        return None
    opened = tuple(dict.fromkeys(int(cup) for cup in cups.split()))
    return Question(parcel, None if at is None else _point(seen.frame, seen.labels, at), opened or None)


def _point(frame: Frame, labels: NDArray[np.uint16], at: tuple[int, int]) -> tuple[float, float, float] | None:
    """In base_link; the depth of the parcel where that pixel has none."""
    u, v = min(at[0], frame.width - 1), min(at[1], frame.height - 1)
    z = float(frame.depth[v, u]) or float(np.median(frame.depth[labels == labels[v, u]]))
    if z <= 0:
        return None
    ray = np.array([(u - frame.K[0, 2]) / frame.K[0, 0], (v - frame.K[1, 2]) / frame.K[1, 1], 1.0])
    x, y, height = (frame.T_base_camera[:3, :3] @ (ray * z) + frame.T_base_camera[:3, 3]).tolist()
    return x, y, height


def side_of(title: str, made: Replanned) -> Side:
    decision, chosen = made.decision, made.decision.chosen
    seen = next((i for i in decision.instances if chosen and i.id == chosen.instance), None)
    return Side(
        title,
        decision,
        Markup(mask_paths(made.labels, decision)),
        Markup(tool_footprint(chosen, decision) if chosen else ""),
        f"parcel {seen.id}, {seen.class_name.replace('_', ' ')}" if seen else "none",
    )
