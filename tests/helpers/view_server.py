"""The page on a free port of this machine, in a thread, and a plain client that sends what it is told to."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import uvicorn

from robin_view.app import create_app
from robin_view.settings import ViewSettings
from robin_view.sources import Sources
from robin_view.state import ViewState


@dataclass(frozen=True)
class Answer:
    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode()

    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True)
class ViewServer:
    """A running page. view: its state."""

    port: int
    view: ViewState

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def ask(
        self, path: str, method: str = "GET", body: bytes | str | None = None, headers: Mapping[str, str] | None = None
    ) -> Answer:
        """One request as it stands: nothing is added but the Host header."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request(method, path, body, dict(headers or {}))
            answer = connection.getresponse()
            return Answer(answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read())
        finally:
            connection.close()

    def change(self, path: str, values: Any = None, method: str = "POST", **headers: str) -> Answer:
        """A change as our own pages ask for it, with a body of JSON."""
        own = {"origin": self.url, "x-robin-token": self.view.sessions.page_token, "content-type": "application/json"}
        return self.ask(path, method, json.dumps(values), {**own, **headers})


@contextlib.contextmanager
def view_server(sources: Sources, folder: Path, **settings: Any) -> Iterator[ViewServer]:
    """folder: where the audit goes. settings: of ``ViewSettings``."""
    app = create_app(sources, ViewSettings(audit=folder / "audit.jsonl", **settings))
    with socket.create_server(("127.0.0.1", 0)) as door:
        server = uvicorn.Server(uvicorn.Config(app, log_level="error", timeout_graceful_shutdown=1))
        thread = threading.Thread(target=server.run, args=([door],), daemon=True)
        thread.start()
        try:
            yield ViewServer(door.getsockname()[1], app.state.view)
        finally:
            server.should_exit = True
            thread.join(20)
