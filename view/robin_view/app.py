"""The application: one door, one list of page families, one way in which failures are told."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import TYPE_CHECKING

import anyio.to_thread
from fastapi import APIRouter, FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from edge_adapt.live_picture import LiveReader
from robin_perception.core.errors import Code, RobinError
from robin_view import home
from robin_view.annotate import pages as annotate_pages
from robin_view.archive.archive import Archive
from robin_view.changes import Audit
from robin_view.cloud import pages as cloud_pages
from robin_view.decision import pages as decision_pages
from robin_view.decision.worker import Worker
from robin_view.live import pages as live_pages
from robin_view.live.stream import Streams
from robin_view.models import pages as models_pages
from robin_view.novelties import pages as novelties_pages
from robin_view.pages import Entry, Pages
from robin_view.refusal import unknown
from robin_view.search import pages as search_pages
from robin_view.search.looks import Looks
from robin_view.security import Security, Sessions
from robin_view.settings import ViewSettings
from robin_view.sources import Sources
from robin_view.state import ViewState
from robin_view.stations import pages as stations_pages

if TYPE_CHECKING:
    from robin_fleet.folder import Fleet

ROUTERS: tuple[Callable[[ViewState], APIRouter], ...] = (
    home.router,
    live_pages.router,
    decision_pages.router,
    cloud_pages.router,
    search_pages.router,
    annotate_pages.router,
    novelties_pages.router,
    models_pages.router,
    stations_pages.router,
)
"""Of all families of pages."""
THREADS = 4
"""That answer at the same time: pictures take memory, and the robot its cores."""
NAVIGATION = (
    Entry("Start", "/"),
    Entry("Live", "/live"),
    Entry("Search", "/search"),
    Entry("Annotate", "/annotate"),
    Entry("Models", "/models"),
    Entry("Stations", "/stations"),
)
OF_A_FLEET = (*NAVIGATION[:4], Entry("Novelties", "/novelties"), *NAVIGATION[4:])


def create_app(sources: Sources, settings: ViewSettings) -> FastAPI:
    """The page over ``sources``. Raises RobinError OPTION_INVALID where it would not be safe to start."""
    settings = settings.checked()
    sessions = Sessions(settings)
    fleet = _opened(sources.fleet)
    archive = Archive(sources, fleet)
    worker = Worker(sources.cell, sources.planner)
    pages, audit, streams = (
        Pages(NAVIGATION if sources.fleet is None else OF_A_FLEET),
        Audit(settings.audit),
        Streams(archive, sources.desk, LiveReader(sources.live) if sources.live else None),
    )
    view = ViewState(sources, settings, sessions, pages, audit, archive, fleet, worker, Looks(archive), streams)
    app = FastAPI(title="Robin", docs_url=None, redoc_url=None, openapi_url=None, lifespan=_alive)
    app.state.view = view
    app.add_middleware(Security, settings=settings, sessions=sessions)
    app.add_exception_handler(RobinError, _told)
    app.add_exception_handler(HTTPException, _told)
    app.add_exception_handler(RequestValidationError, _told)
    for router in ROUTERS:
        app.include_router(router(view))
    return app


@contextlib.asynccontextmanager
async def _alive(app: FastAPI) -> AsyncIterator[None]:
    view: ViewState = app.state.view
    anyio.to_thread.current_default_thread_limiter().total_tokens = THREADS
    with view.archive, view.fleet or contextlib.nullcontext():
        yield
    view.worker.close()
    view.looks.close()


def _opened(folder: Path | None) -> Fleet | None:
    if folder is None:
        return None
    from robin_fleet.folder import open_fleet  # a robot has no ledger

    return open_fleet(folder)


async def _told(request: Request, exc: Exception) -> Response:
    if isinstance(exc, RequestValidationError):
        first = exc.errors()[0]
        exc = RobinError(Code.OPTION_INVALID, f"{'.'.join(map(str, first['loc']))}: {first['msg']}")
    elif isinstance(exc, HTTPException):
        exc = unknown("page", request.url.path)
    assert isinstance(exc, RobinError)
    pages: Pages = request.app.state.view.pages
    return pages.failure(request, exc)
