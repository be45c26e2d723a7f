"""A tablet that follows Live, for ``robin bench view``: ``python -m robin_cli.bench.view_reader URL``.

It reads as the page's own script does: the newest picture of the camera when an event tells of one, and each new pick
with its pictures. When standard input ends it prints how many pictures of the camera it got.
"""

from __future__ import annotations

import http.client
import json
import re
import sys
import threading
from urllib.parse import urlsplit

_PICTURE = re.compile(rb'<img [^>]*src="(/d/[^"]*)"')


class Tablet:
    """Three threads with a connection each: events, pictures of the camera, picks."""

    def __init__(self, address: str) -> None:
        self._address, self._news = address, threading.Condition()
        self._newest: dict[str, str] = {}
        self.pictures = 0
        work = (self._listen, self._looks, self._picks)
        for one in work:
            threading.Thread(target=one, daemon=True).start()

    def _listen(self) -> None:
        events = self._connection()
        events.request("GET", "/live/events")
        stream, name = events.getresponse(), ""
        while line := stream.readline().decode():
            if line.startswith("event: "):
                name = line[7:].strip()
            elif line.startswith("data: ") and name in ("look", "pick"):
                values = json.loads(line[6:])
                with self._news:
                    self._newest[name] = values["stamp" if name == "look" else "id"]
                    self._news.notify_all()

    def _looks(self) -> None:
        pages = self._connection()
        while True:
            stamp = self._next("look")
            self.pictures += _get(pages, f"/live/picture?{stamp}")[:2] == b"\xff\xd8"

    def _picks(self) -> None:
        pages = self._connection()
        while True:
            decision = self._next("pick")
            for address in _PICTURE.findall(_get(pages, f"/live/now?decision={decision}")):
                _get(pages, address.decode().replace("&amp;", "&"))

    def _next(self, name: str) -> str:
        """The newest that was not read yet."""
        with self._news:
            self._news.wait_for(lambda: name in self._newest)
            return self._newest.pop(name)

    def _connection(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection(self._address, timeout=60)


def _get(pages: http.client.HTTPConnection, path: str) -> bytes:
    pages.request("GET", path)
    return pages.getresponse().read()


def main() -> None:
    tablet = Tablet(urlsplit(sys.argv[1]).netloc)
    sys.stdin.read()
    print(tablet.pictures, flush=True)


if __name__ == "__main__":
    main()
