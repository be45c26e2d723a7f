"""The first page, the login, and files that every page needs."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Form
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response

from robin_perception.core.errors import RobinError
from robin_view.archive.index import Query
from robin_view.refusal import status_of
from robin_view.search.pages import shown_time
from robin_view.security import COOKIE, LOGIN, SESSION_S, session_of
from robin_view.state import ViewState

LATEST = 8


def router(view: ViewState) -> APIRouter:
    routes = APIRouter()

    @routes.get("/")
    def first(request: Request) -> Response:
        found = view.archive.index.find(Query())
        lines = [view.archive.index.line(int(row)) for row in found.rows[:LATEST]]
        return view.pages.page(
            "home/first.html.j2",
            request,
            sources=view.sources,
            found=found,
            lines=[{**line, "at": shown_time(line["at_s"])} for line in lines],
            faults=view.archive.faults,
            whole=view.archive.whole.is_set(),
        )

    @routes.get("/status")
    def status() -> JSONResponse:
        """For programs: how far the records are read."""
        index = view.archive
        return JSONResponse({"decisions": len(index.index), "whole": index.whole.is_set(), "faults": index.faults})

    @routes.get("/static/{version}/{name:path}")
    def static(version: str, name: str) -> Response:
        return view.pages.file(version, name)

    @routes.get(LOGIN)
    def login(request: Request) -> Response:
        return view.pages.page("home/login.html.j2", request, wrong="")

    @routes.post(LOGIN)
    def enter(
        request: Request,
        token: Annotated[str, Form(max_length=512)],
        name: Annotated[str, Form(max_length=80)] = "",
    ) -> Response:
        try:
            key = view.sessions.open(token, name)
        except RobinError as exc:
            return view.pages.page("home/login.html.j2", request, status_of(exc.code), wrong=exc.text)
        answer = RedirectResponse("/", status_code=303)
        secure = view.settings.secure
        answer.set_cookie(COOKIE, key, max_age=int(SESSION_S), httponly=True, samesite="strict", secure=secure)
        return answer

    @routes.post("/logout")
    def leave(request: Request) -> Response:
        view.sessions.close(session_of(request.headers))
        answer = RedirectResponse(LOGIN, status_code=303)
        answer.delete_cookie(COOKIE)
        return answer

    return routes
