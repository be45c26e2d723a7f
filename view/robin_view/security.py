"""Who may ask, and what a browser may do with the answer.

Every request passes here first: the name it was asked by (DNS rebinding), the page it comes from (foreign origins), the
word that lets people in. Every answer leaves with a Content-Security-Policy that runs no script but our own files.
"""

from __future__ import annotations

import getpass
import hmac
import ipaddress
import json
import secrets
import socket
import threading
import time
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from http.cookies import CookieError, SimpleCookie
from typing import Any

from robin_perception.core.errors import Code, RobinError
from robin_perception.core.last_resort import internal_error
from robin_view.refusal import status_of
from robin_view.settings import ViewSettings

COOKIE = "robin_view"
PAGE_TOKEN = "x-robin-token"
"""Header that every change carries: the page was made by this server."""
LOGIN = "/login"
OPEN_TO_ALL = ("/static/",)
SESSION_S = 12 * 3600.0
MOST_SESSIONS = 200
MOST_BODY = 8_000_000
HEADERS = {
    "content-security-policy": "default-src 'self'; object-src 'none'; base-uri 'none'; form-action 'self'; "
    "frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), microphone=(), geolocation=()",
}
_SAFE = ("GET", "HEAD", "OPTIONS")
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]


class Sessions:
    """Who has shown the token. page_token: that of every change, new with each start."""

    def __init__(self, settings: ViewSettings) -> None:
        self._token = settings.token.encode()
        self._here = getpass.getuser() if settings.loopback else "somebody with a certificate"
        self._known: dict[str, tuple[str, float]] = {}
        self._lock = threading.Lock()
        self.page_token = secrets.token_urlsafe(24)

    @property
    def asked(self) -> bool:
        """Whether anybody has to show a token."""
        return bool(self._token)

    def open(self, token: str, name: str) -> str:
        """A new session's cookie. Raises RobinError VIEW_TOKEN_WRONG."""
        if not self._right(token):
            raise RobinError(Code.VIEW_TOKEN_WRONG, "that is not the token that this page was started with")
        key = secrets.token_urlsafe(32)
        with self._lock:
            now = time.monotonic()
            alive = {k: v for k, v in self._known.items() if v[1] > now}
            self._known = dict(list(alive.items())[-MOST_SESSIONS:])
            self._known[key] = (name.strip()[:80] or "somebody", now + SESSION_S)
        return key

    def close(self, key: str) -> None:
        with self._lock:
            self._known.pop(key, None)

    def who(self, headers: Mapping[str, str]) -> str | None:
        """The name of who asks; None for somebody who has to show the token first."""
        if not self._token:
            return self._here
        if (found := headers.get("authorization", "")).startswith("Bearer ") and self._right(found[7:]):
            return "a program with the token"
        with self._lock:
            name, until = self._known.get(session_of(headers), ("", 0.0))
        return name if until > time.monotonic() else None

    def _right(self, token: str) -> bool:
        return bool(self._token) and hmac.compare_digest(token.encode(), self._token)


def session_of(headers: Mapping[str, str]) -> str:
    try:
        found = SimpleCookie(headers.get("cookie", "")).get(COOKIE)
    except CookieError:
        return ""
    return "" if found is None else found.value


class Security:
    """The door of the application, as ASGI middleware."""

    def __init__(self, app: Application, settings: ViewSettings, sessions: Sessions) -> None:
        self._app, self._settings, self._sessions = app, settings, sessions
        self._names = {"localhost", socket.gethostname().lower(), *(name.lower() for name in settings.names)}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self._app(scope, receive, send)
            return
        begun = False

        async def send_guarded(message: MutableMapping[str, Any]) -> None:
            nonlocal begun
            if message["type"] == "http.response.start":
                begun = True
                message = {**message, "headers": _with_defaults(list(message.get("headers", ())))}
            await send(message)

        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        try:
            scope.setdefault("state", {})["who"] = self._admit(scope, headers)
            await self._app(scope, _bounded(receive), send_guarded)
        except RobinError as exc:
            await _refuse(scope, exc, send_guarded)
        except Exception as exc:
            if begun:
                raise
            await _refuse(scope, internal_error(exc, ("robin", "view")), send_guarded)

    def _admit(self, scope: Scope, headers: dict[str, str]) -> str:
        """The name of who asks; "" on a page that needs none. Raises RobinError VIEW_*."""
        self._require_own_name(headers.get("host", ""))
        self._require_own_origin(scope, headers)
        who = self._sessions.who(headers)
        path = scope["path"]
        if who is None and path != LOGIN and not path.startswith(OPEN_TO_ALL):
            raise RobinError(Code.VIEW_LOGIN_NEEDED, "show the token first")
        return who or ""

    def _require_own_name(self, host: str) -> None:
        """A page elsewhere may have pointed its own name at this address; an address it cannot fake."""
        name = _host_name(host)
        try:
            ipaddress.ip_address(name)
        except ValueError:
            if name not in self._names:
                text = f"'{host[:80]}' is none of this machine's names; --name NAME makes it one"
                raise RobinError(Code.VIEW_HOST_FOREIGN, text) from None

    def _require_own_origin(self, scope: Scope, headers: dict[str, str]) -> None:
        """Other pages may link here, and nothing else."""
        site, mode = headers.get("sec-fetch-site", ""), headers.get("sec-fetch-mode", "")
        changes = scope["method"] not in _SAFE
        linked = mode == "navigate" and not changes
        own = f"{scope.get('scheme', 'http')}://{headers.get('host', '')}"
        foreign = headers.get("origin", own) != own or (site in ("cross-site", "same-site") and not linked)
        if foreign or (changes and "origin" not in headers and site != "same-origin"):
            raise RobinError(Code.VIEW_ORIGIN_FOREIGN, "the request comes from another page")


def same_word(given: str, known: str) -> bool:
    """In a time that tells nothing of where they differ."""
    return hmac.compare_digest(given.encode(), known.encode())


def _host_name(host: str) -> str:
    if host.startswith("["):
        return host[1:].split("]")[0]
    return host.rsplit(":", 1)[0].lower() if ":" in host else host.lower()


def _with_defaults(headers: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    names = {name.lower() for name, _ in headers}
    more = {**HEADERS, "cache-control": "no-store"}
    return headers + [(k.encode(), v.encode()) for k, v in more.items() if k.encode() not in names]


def _bounded(receive: Receive) -> Receive:
    """Bodies are bounded before they are believed."""
    length = 0

    async def bounded() -> MutableMapping[str, Any]:
        nonlocal length
        message = await receive()
        length += len(message.get("body", b""))
        if length > MOST_BODY:
            raise RobinError(Code.INPUT_TOO_LARGE, f"a request of more than {MOST_BODY:,} bytes")
        return message

    return bounded


async def _refuse(scope: Scope, exc: RobinError, send: Send) -> None:
    """Before any page: a page that a person asked for goes to the login, everything else gets one line."""
    accepts = dict(scope["headers"]).get(b"accept", b"")
    if exc.code is Code.VIEW_LOGIN_NEEDED and b"text/html" in accepts and scope["method"] == "GET":
        await send({"type": "http.response.start", "status": 303, "headers": [(b"location", LOGIN.encode())]})
        await send({"type": "http.response.body"})
        return
    body = json.dumps({"code": int(exc.code), "name": exc.code.name, "text": exc.text}).encode()
    head = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status_of(exc.code), "headers": head})
    await send({"type": "http.response.body", "body": body})
