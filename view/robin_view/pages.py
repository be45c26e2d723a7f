"""HTML from templates: everything that is put in is escaped, files that never change are told apart by digest."""

from __future__ import annotations

import hashlib
import mimetypes
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from edge_adapt.report_figures import BADGES, TEMPLATES
from robin_perception.core.errors import RobinError
from robin_view.refusal import status_of, unknown

HERE = Path(__file__).parent
STATIC = HERE / "static"
STYLE = "style.css"
FOR_EVER = "public, max-age=31536000, immutable"


@dataclass(frozen=True)
class Entry:
    """One line of the navigation."""

    title: str
    path: str


@dataclass(frozen=True)
class _File:
    data: bytes
    kind: str
    digest: str


class Pages:
    """Templates and static files. entries: of the navigation, in order."""

    def __init__(self, entries: tuple[Entry, ...]) -> None:
        self._environment = Environment(
            loader=FileSystemLoader([HERE / "templates", TEMPLATES]),
            autoescape=True,  # of every template, whatever its name
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._environment.globals.update(entries=entries, static=self.static)
        for name in self._environment.list_templates(("j2",)):
            self._environment.get_template(name)  # compiled now, and not while the first person waits
        style = self._environment.get_template("style.css.j2").render(badges=BADGES).encode()
        self._files = {STYLE: _file(STYLE, style)}
        for path in sorted(STATIC.rglob("*")):
            if path.is_file():
                name = path.relative_to(STATIC).as_posix()
                self._files[name] = _file(name, path.read_bytes())
        self._version = hashlib.sha256("".join(f.digest for f in self._files.values()).encode()).hexdigest()[:12]

    def static(self, name: str) -> str:
        """The address of a file of ``static/``. It changes with what the files hold, and modules import each other
        by relative names."""
        if name not in self._files:
            raise KeyError(name)
        return f"/static/{self._version}/{name}"

    def file(self, version: str, name: str) -> Response:
        """Raises RobinError VIEW_UNKNOWN."""
        if (found := self._files.get(name)) is None:
            raise unknown("file", name)
        cache = FOR_EVER if version == self._version else "no-store"
        return Response(found.data, media_type=found.kind, headers={"cache-control": cache})

    def text(self, template: str, request: Request, **values: Any) -> str:
        """The rendered template, a whole page or a part of one."""
        view = request.app.state.view
        return self._environment.get_template(template).render(
            here=request.url.path,
            who=getattr(request.state, "who", ""),
            can_leave=view.sessions.asked,
            changes=view.settings.allow_changes,
            page_token=view.sessions.page_token if view.settings.allow_changes else "",
            **values,
        )

    def page(self, template: str, request: Request, status: int = 200, **values: Any) -> HTMLResponse:
        return HTMLResponse(self.text(template, request, **values), status_code=status)

    def failure(self, request: Request, exc: RobinError) -> Response:
        """A page for a person; for a part of a page or a program the line alone."""
        line = f"E{int(exc.code)} {exc.code.name}: {exc.text}"
        if "text/html" in request.headers.get("accept", "") and "hx-request" not in request.headers:
            return self.page("failure.html.j2", request, status_of(exc.code), line=line)
        return Response(line, status_of(exc.code), media_type="text/plain")


def _file(name: str, data: bytes) -> _File:
    kind = "text/javascript" if name.endswith(".js") else mimetypes.guess_type(name)[0] or "application/octet-stream"
    return _File(data, kind, hashlib.sha256(data).hexdigest()[:16])
