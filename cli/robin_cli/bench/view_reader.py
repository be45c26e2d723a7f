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
    """One turn of reading. Two connections: events, and whatever they tell of."""

    def __init__(self, address: str) -> None:
        self._events, self._pages = (http.client.HTTPConnection(address, timeout=60) for _ in range(2))
        self._off = threading.Event()
        self._news = threading.Condition()
        self._newest: dict[str, str] = {}
        self.pictures = 0
        self._threads = [threading.Thread(target=work, daemon=True) for work in (self._listen, self._read)]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._off.set()
        with self._news:
            self._news.notify()
        for thread in self._threads:
            thread.join(30)

    def _listen(self) -> None:
        self._events.request("GET", "/live/events")
        stream = self._events.getresponse()
        name = ""
        while not self._off.is_set():
            line = stream.readline().decode()
            if line.startswith("event: "):
                name = line[7:].strip()
            elif line.startswith("data: ") and name in ("look", "pick"):
                values = json.loads(line[6:])
                with self._news:
                    self._newest[name] = values["stamp" if name == "look" else "id"]
                    self._news.notify()
        self._events.close()

    def _read(self) -> None:
        while True:
            with self._news:
                self._news.wait_for(lambda: bool(self._newest) or self._off.is_set())
                if self._off.is_set():
                    break
                news, self._newest = self._newest, {}
            if "pick" in news:
                for address in _PICTURE.findall(self._get(f"/live/now?decision={news['pick']}")):
                    self._get(address.decode().replace("&amp;", "&"))
            if "look" in news:
                self.pictures += self._get(f"/live/picture?{news['look']}")[:2] == b"\xff\xd8"
        self._pages.close()

    def _get(self, path: str) -> bytes:
        self._pages.request("GET", path)
        return self._pages.getresponse().read()


def main() -> None:
    address = urlsplit(sys.argv[1]).netloc
    while sys.stdin.readline().strip() == "on":
        tablet, began = Tablet(address), time.monotonic()
        sys.stdin.readline()
        tablet.stop()
        print(json.dumps({"pictures": tablet.pictures, "seconds": time.monotonic() - began}), flush=True)


if __name__ == "__main__":
    main()
