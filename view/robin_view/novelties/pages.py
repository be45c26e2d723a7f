"""``/novelties``: what comes again that nobody taught, the most urgent first. Of an aggregator alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, Form
from starlette.requests import Request
from starlette.responses import Response

from robin_perception.core.bounded_arrays import decode_image
from robin_perception.core.errors import Code, RobinError
from robin_view.archive.readers import id_of
from robin_view.changed import Who, then
from robin_view.pictures import picture_answer, shown_width, webp
from robin_view.refusal import unknown
from robin_view.search.pages import shown_time
from robin_view.state import ViewState

if TYPE_CHECKING:
    from robin_fleet.folder import Fleet
    from robin_fleet.ledger.novelties import SightingRow

SHOWN, PICTURES = 30, 24
ADDRESS = "/novelties"


def router(view: ViewState) -> APIRouter:
    routes = APIRouter(prefix=ADDRESS)

    @routes.get("")
    def every(request: Request) -> Response:
        from robin_fleet.novelties.review import ranked

        fleet = _fleet(view)
        found = ranked(fleet.ledger)
        rows = [_row(one.row, one.standing, one.rank) for one in found[:SHOWN]]
        return view.pages.page("novelties/all.html.j2", request, rows=rows, count=len(found))

    @routes.post("/look")
    def look(who: Who) -> Response:
        """Take in what came since the last look."""
        from robin_fleet.novelties.update import update

        fleet = _fleet(view)
        view.audit.write(who, "look at novelties")
        update(fleet.ledger, fleet.objects)
        return then(ADDRESS)

    @routes.get("/{novelty}")
    def one(request: Request, novelty: str) -> Response:
        from robin_fleet.novelties.review import of_novelty, ranked

        fleet = _fleet(view)
        row, seen = of_novelty(fleet.ledger, novelty)
        others = [(o.row.novelty, o.title) for o in ranked(fleet.ledger) if o.row.novelty != row.novelty]
        shown = [_sighting(fleet, sighting) for sighting in reversed(seen[-PICTURES:])]
        return view.pages.page("novelties/one.html.j2", request, n=row, seen=shown, count=len(seen), others=others)

    @routes.get("/{novelty}/picture/{number}")
    def picture(request: Request, novelty: str, number: int, w: int = 160) -> Response:
        """number: of the sighting, 0 the first."""
        from robin_fleet.novelties.review import of_novelty

        fleet = _fleet(view)
        _, seen = of_novelty(fleet.ledger, novelty)
        if not -len(seen) <= number < len(seen):
            raise unknown("picture", str(number))
        name = seen[number].picture
        bgr = decode_image(fleet.objects.get(name), name)
        return picture_answer(request, webp(bgr[:, :, 2::-1], shown_width(w)))

    @routes.post("/{novelty}/confirm")
    def confirm(novelty: str, who: Who) -> Response:
        return _decided(view, who, "confirm", novelty)

    @routes.post("/{novelty}/dismiss")
    def dismiss(novelty: str, who: Who) -> Response:
        _decided(view, who, "dismiss", novelty)
        return then(ADDRESS)

    @routes.post("/{novelty}/name")
    def name(novelty: str, who: Who, called: Annotated[str, Form(max_length=200)]) -> Response:
        return _decided(view, who, "name", novelty, called)

    @routes.post("/{novelty}/merge")
    def merge(novelty: str, who: Who, other: Annotated[str, Form(max_length=200)]) -> Response:
        return _decided(view, who, "merge", novelty, other)

    return routes


def _fleet(view: ViewState) -> Fleet:
    """Raises RobinError VIEW_UNKNOWN where the page is not that of an aggregator."""
    if view.fleet is None:
        raise RobinError(Code.VIEW_UNKNOWN, "there is no aggregator here; robin view --fleet DIR")
    return view.fleet


def _decided(view: ViewState, who: str, what: str, novelty: str, *given: str) -> Response:
    from robin_fleet.novelties import review

    fleet = _fleet(view)
    known, _ = review.of_novelty(fleet.ledger, novelty)
    view.audit.write(who, f"{what} novelty", novelty=known.novelty, given=list(given))
    decide: Callable[..., Any] = getattr(review, what)
    row = decide(fleet.ledger, known.novelty, *given, who)
    return then(f"{ADDRESS}/{row.novelty}")


def _row(row: Any, where: Any, rank: int) -> dict[str, Any]:
    told = {"rank": rank, "id": row.novelty, "name": row.name, "state": row.state, "seen": where.seen}
    return {**told, "failed": where.failed, "sites": ", ".join(where.sites), "at": shown_time(where.last_s)}


def _sighting(fleet: Fleet, seen: SightingRow) -> dict[str, Any]:
    """decision: that it is of; empty where its sample is gone."""
    from robin_fleet.ledger.samples import find_sample

    with fleet.ledger.read() as connection:
        sample = find_sample(connection, seen.sample)
    told = {"site": seen.site, "station": seen.station, "level": seen.level, "failed": seen.failed}
    return {
        **told,
        "at": shown_time(seen.at_s),
        "decision": "" if sample is None else id_of(sample.robot, sample.decision_id),
    }
