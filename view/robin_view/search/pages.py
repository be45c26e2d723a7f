"""``/search``: facets with counts, a grid of pictures, those that look alike."""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import datetime, timezone
from typing import Any
from urllib.parse import urlencode

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from edge_adapt.told import code_text
from robin_perception.core.ids import plain_id
from robin_view.archive.index import FIGURES, ORDERS, Found
from robin_view.search.form import PER_PAGE, page_of, query_of
from robin_view.state import ViewState

FACETS = (
    ("result", "Result"),
    ("class", "Class"),
    ("tag", "Flags, conditions, actions"),
    ("code", "Code of the plan"),
    ("station", "Station"),
    ("model", "Model"),
    ("run", "Run"),
)
RANGES = tuple((name, name.removesuffix("_ms").removesuffix("_s").replace("_", " ")) for name in FIGURES)
MOST_IN_FACET = 40
_LAST_S = 4e9


def router(view: ViewState) -> APIRouter:
    routes = APIRouter()

    @routes.get("/search")
    def search(request: Request) -> Response:
        values = search_values(view, request)
        part = "hx-request" in request.headers
        return view.pages.page(f"search/{'found' if part else 'search'}.html.j2", request, **values)

    return routes


def search_values(view: ViewState, request: Request) -> dict[str, Any]:
    """What the template of the search takes. Raises RobinError OPTION_INVALID, VIEW_UNKNOWN."""
    began = time.perf_counter()
    given = request.query_params
    query, page = query_of(given), page_of(given)
    found = view.archive.index.find(query)
    like, waiting, alike = given.get("like", ""), 0, None
    if like:
        rows, alike, waiting = view.looks.like(plain_id(like, "like"), found.rows)
        found = replace(found, rows=rows)
    shown = found.rows[page * PER_PAGE : (page + 1) * PER_PAGE]
    lines = [_line(view.archive.index.line(int(row))) for row in shown]
    if alike is not None:
        lines = [{**line, "alike": float(a)} for line, a in zip(lines, alike[page * PER_PAGE :], strict=False)]
    return {
        "lines": lines,
        "total": len(found.rows),
        "of": found.of,
        "page": page,
        "pages": max(1, -(-len(found.rows) // PER_PAGE)),
        "link": lambda number: f"/search?{_with_page(request, number)}",
        "facets": [(name, title, _facet(found, name, given.getlist(name))) for name, title in FACETS],
        "ranges": RANGES,
        "orders": ORDERS,
        "given": given,
        "like": like,
        "waiting": waiting,
        "whole": view.archive.whole.is_set(),
        "milliseconds": 1e3 * (time.perf_counter() - began),
    }


def _facet(found: Found, name: str, chosen: list[str]) -> list[tuple[str, str, int, bool]]:
    """(value, text, count, chosen), the most frequent first; what is chosen is always there."""
    counts = {**dict.fromkeys(chosen, 0), **found.facets[name]}
    ordered = sorted(counts.items(), key=lambda item: (item[0] not in chosen, -item[1], item[0]))[:MOST_IN_FACET]
    return [(value, _shown(name, value), count, value in chosen) for value, count in ordered]


def _shown(name: str, value: str) -> str:
    if name == "code" and value.isdigit():
        return code_text(int(value)) if int(value) else "OK"
    return value.replace("_", " ") or "–"


def _line(line: dict[str, Any]) -> dict[str, Any]:
    return {**line, "at": shown_time(line["at_s"])}


def shown_time(at_s: float) -> str:
    """To the second, UTC; records are foreign, so any figure is shown."""
    at = datetime.fromtimestamp(min(max(at_s, 0.0), _LAST_S), timezone.utc) if at_s == at_s else None
    return "" if at is None else at.strftime("%Y-%m-%d %H:%M:%S")


def _with_page(request: Request, number: int) -> str:
    pairs = [(name, value) for name, value in request.query_params.multi_items() if name != "page" and value]
    return urlencode([*pairs, ("page", str(number))])
