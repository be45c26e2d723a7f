"""A tablet that follows Live, for ``robin bench view``: ``python -m robin_cli.bench.view_reader URL``.

It reads while standard input says "on", as the page's own script does: the newest picture of the camera when an event
tells of one, and each new pick with its pictures. On "off" it prints how many pictures of the camera it got in how many
seconds.
"""

from __future__ import annotations

import http.client
import json
import re
import sys
import threading
import time
from urllib.parse import urlsplit

_PICTURE = re.compile(rb'<img [^>]*src="(/d/[^"]*)"')


class Tablet:
    """One turn of reading. Three connections: events, pictures of the camera, picks."""

    def __init__(self, address: str) -> None:
        self._address, self._off, self._news = address, threading.Event(), threading.Condition()
        self._newest: dict[str, str] = {}
        self.pictures = 0
        work = (self._listen, self._looks, self._picks)
        self._threads = [threading.Thread(target=one, daemon=True) for one in work]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._off.set()
        with self._news:
            self._news.notify_all()
        for thread in self._threads:
            thread.join(30)

    def _listen(self) -> None:
        events = self._connection()
        events.request("GET", "/live/events")
        stream, name = events.getresponse(), ""
        while not self._off.is_set():
            line = stream.readline().decode()
            if line.startswith("event: "):
                name = line[7:].strip()
            elif line.startswith("data: ") and name in ("look", "pick"):
                values = json.loads(line[6:])
                with self._news:
                    self._newest[name] = values["stamp" if name == "look" else "id"]
                    self._news.notify_all()
        events.close()

    def _looks(self) -> None:
        pages = self._connection()
        while stamp := self._next("look"):
            self.pictures += _get(pages, f"/live/picture?{stamp}")[:2] == b"\xff\xd8"

    def _picks(self) -> None:
        pages = self._connection()
        while decision := self._next("pick"):
            for address in _PICTURE.findall(_get(pages, f"/live/now?decision={decision}")):
                _get(pages, address.decode().replace("&amp;", "&"))

    def _next(self, name: str) -> str:
        """The newest that was not read yet; empty at the end."""
        with self._news:
            self._news.wait_for(lambda: name in self._newest or self._off.is_set())
            return "" if self._off.is_set() else self._newest.pop(name)

    def _connection(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection(self._address, timeout=60)


def _get(pages: http.client.HTTPConnection, path: str) -> bytes:
    pages.request("GET", path)
    return pages.getresponse().read()


def main() -> None:
    address = urlsplit(sys.argv[1]).netloc
    while sys.stdin.readline().strip() == "on":
        tablet, began = Tablet(address), time.monotonic()
        sys.stdin.readline()
        tablet.stop()
        print(json.dumps({"pictures": tablet.pictures, "seconds": time.monotonic() - began}), flush=True)


if __name__ == "__main__":
    main()
