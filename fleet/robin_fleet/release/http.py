"""The repository of releases over HTTP, to be read and no more.

Plain HTTP is sound here: every byte that a robot believes is signed, and which bytes are the newest is signed, too. Who
listens on the way learns which release goes where; a fleet that minds puts a proxy with TLS in front.
"""

from __future__ import annotations

import http.server
import os
import re
import stat
import threading
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from robin_perception.core.errors import Code, RobinError

_ADDRESS = re.compile(r"http://([^/:]+|\[[0-9a-fA-F:]+\]):([0-9]{1,5})/?")
_PATH = re.compile(r"/(metadata|targets)(/[A-Za-z0-9][A-Za-z0-9._-]{0,254}){1,8}")
_LONGEST_PATH = 1000
_AT_A_TIME = 32
_SILENT_S = 30.0  # a robot that takes nothing for so long is let go
_CHUNK = 65_536


class ReleaseHttp:
    """Serves ``metadata`` and ``targets`` of a folder in threads of its own, from ``start`` to ``close``. At most
    _AT_A_TIME robots at a time; others are turned away and come again."""

    def __init__(self, listen: str, folder: Path) -> None:
        """listen: http://address:port. Raises RobinError OPTION_INVALID, LISTEN_FAILED."""
        address = _ADDRESS.fullmatch(listen)
        if address is None or not 0 <= int(address[2]) < 65536:
            raise RobinError(Code.OPTION_INVALID, f"'{listen}': http://address:port is needed")
        try:
            self._server = _Server((address[1].replace("*", "").strip("[]"), int(address[2])), folder)
        except OSError as exc:
            raise RobinError(Code.LISTEN_FAILED, f"{listen}: {exc.strerror or exc}") from None
        self._thread = threading.Thread(target=self._server.serve_forever, name="release-http", daemon=True)

    @property
    def port(self) -> int:
        return int(self._server.server_address[1])

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, address: tuple[str, int], folder: Path) -> None:
        self.folder = folder
        self._places = threading.BoundedSemaphore(_AT_A_TIME)
        super().__init__(address, _Handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        if not self._places.acquire(blocking=False):
            self.shutdown_request(request)
            return
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._places.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A robot that went away is no news."""


class _Handler(http.server.BaseHTTPRequestHandler):
    server: _Server
    timeout = _SILENT_S
    server_version, sys_version = "robin-releases", ""

    def do_GET(self) -> None:
        self._answer(body=True)

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def log_message(self, format: str, *args: Any) -> None:
        """Nobody reads a line for each of thousands of robots."""

    def _answer(self, body: bool) -> None:
        descriptor = _opened(self.server.folder, self.path)
        if descriptor is None:
            self.send_error(HTTPStatus.NOT_FOUND)
            return
        with open(descriptor, "rb") as stream:
            left = os.fstat(descriptor).st_size
            self.send_response(HTTPStatus.OK)
            self.send_header("Content-Type", "application/octet-stream")
            self.send_header("Content-Length", str(left))
            self.end_headers()
            while body and left > 0 and (data := stream.read(min(_CHUNK, left))):
                self.wfile.write(data)
                left -= len(data)


def _opened(folder: Path, address: str) -> int | None:
    """Descriptor of the plain file that an address names; None for any other. No link is followed within ``folder``."""
    path = unquote(urlsplit(address[:_LONGEST_PATH]).path, errors="replace")
    if len(address) > _LONGEST_PATH or _PATH.fullmatch(path) is None:
        return None
    descriptor = None
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        for part in path.strip("/").split("/"):
            flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
            inner = os.open(part, flags, dir_fd=descriptor)
            os.close(descriptor)
            descriptor = inner
        if stat.S_ISREG(os.fstat(descriptor).st_mode):
            found, descriptor = descriptor, None
            return found
    except OSError:
        pass
    finally:
        if descriptor is not None:
            os.close(descriptor)
    return None
