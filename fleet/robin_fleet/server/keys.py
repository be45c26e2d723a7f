"""Keys of the fleet: the server's own, the robots' as the ledger has them, and one-time tokens for new robots."""

from __future__ import annotations

import hashlib
import queue
import secrets
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from edge_adapt.uplink.identity import KeyPair, new_key_pair, read_private, write_private
from robin_fleet.ledger import robots
from robin_fleet.ledger.core import Ledger
from robin_perception.core.errors import Code, RobinError

KEY_FILE = "server_key.json"
_TOKEN_BYTES = 32
_SEEN_S = 30.0  # the ledger is told so often who has sent something


def server_keys(folder: Path) -> KeyPair:
    """The server's pair, made at the first call. Raises RobinError SERVER_KEYS_INVALID, DISK_FULL."""
    path = folder / KEY_FILE
    try:
        return read_private(path, KeyPair, Code.SERVER_KEYS_INVALID)
    except RobinError as exc:
        if exc.code is not Code.INPUT_MISSING:
            raise RobinError(Code.SERVER_KEYS_INVALID, exc.text) from None
    pair = new_key_pair()
    write_private(path, pair)
    return pair


def make_token(ledger: Ledger, site: str, station: str, valid_s: float) -> str:
    """A token that lets one robot in; the ledger has its hash alone. Raises RobinError LEDGER_*."""
    token = secrets.token_urlsafe(_TOKEN_BYTES)
    with ledger.write() as connection:
        robots.add_token(connection, _digest(token), site, station, time.time() + valid_s)
    return token


def enrol_robot(ledger: Ledger, token: str, public_key: str) -> str:
    """Name of the robot that has ``public_key`` from now on. One that shows its token again, for want of an answer,
    gets the same. Raises RobinError TOKEN_INVALID, KEY_REVOKED, LEDGER_*."""
    now_s = time.time()
    with ledger.write() as connection:
        known = next((one for one in robots.all_robots(connection) if one.public_key == public_key), None)
        if known is not None and known.state == robots.REVOKED:
            raise RobinError(Code.KEY_REVOKED, "this key was revoked; make another")
        if known is not None:
            return known.robot
        place = robots.spend_token(connection, _digest(token), now_s)
        if place is None:
            raise RobinError(Code.TOKEN_INVALID, "the token is unknown, too old or used")
        robot = f"{place[0]}-{place[1]}-{_digest(public_key)[:8]}"
        robots.enrol(connection, robot, *place, public_key, now_s)
        return robot


class Request(NamedTuple):
    """A robot that wants to be enrolled. peer: its connection."""

    peer: bytes
    ticket: int
    token: str
    key: str


class Reply(NamedTuple):
    request: Request
    robot: str = ""
    error: RobinError | None = None


class KeyRing:
    """Who may send: read from the ledger every ``period_s``, in a thread of its own, which enrols robots, too. Where
    the ledger does not answer, those that were known stay known. done: called there when there are replies to
    ``take``."""

    def __init__(self, ledger: Ledger, period_s: float, done: Callable[[], object]) -> None:
        """Raises RobinError LEDGER_*."""
        self._ledger, self._period_s, self._done = ledger, period_s, done
        self._robots: dict[str, str] = {}
        self._seen: set[str] = set()
        self._seen_due_s = time.monotonic()
        self._queue: queue.SimpleQueue[Request | None] = queue.SimpleQueue()
        self._replies: queue.SimpleQueue[Reply] = queue.SimpleQueue()
        self.failure: RobinError | None = None
        self._read()
        self._thread = threading.Thread(target=self._run, name="fleet-keys", daemon=True)
        self._thread.start()

    def robot_of(self, key: str) -> str | None:
        """The enrolled robot that has this public key."""
        return self._robots.get(key)

    def __len__(self) -> int:
        return len(self._robots)

    def saw(self, robot: str) -> None:
        """It has sent something; the ledger is told soon."""
        self._seen.add(robot)

    def ask(self, request: Request) -> None:
        self._queue.put(request)

    def take(self) -> list[Reply]:
        taken = []
        while not self._replies.empty():
            taken.append(self._replies.get())
        return taken

    def close(self) -> None:
        self._queue.put(None)
        self._thread.join()

    def _run(self) -> None:
        while True:
            try:
                request = self._queue.get(timeout=self._period_s)
            except queue.Empty:
                self._look()
                continue
            if request is None:
                return
            self._replies.put(self._enrolled(request))
            self._look()
            self._done()

    def _enrolled(self, request: Request) -> Reply:
        try:
            return Reply(request, enrol_robot(self._ledger, request.token, request.key))
        except RobinError as exc:
            return Reply(request, error=exc)
        except Exception as exc:
            return Reply(request, error=RobinError(Code.INTERNAL_ERROR, f"{type(exc).__name__}: {exc}"))

    def _look(self) -> None:
        try:
            self._read()
            if time.monotonic() >= self._seen_due_s:
                self._seen_due_s = time.monotonic() + _SEEN_S
                self._note_seen()
            self.failure = None
        except RobinError as exc:
            self.failure = exc
        except Exception as exc:  # whatever a driver thinks of: who is revoked must be seen all the same
            self.failure = RobinError(Code.INTERNAL_ERROR, f"{type(exc).__name__}: {exc}")

    def _note_seen(self) -> None:
        seen, self._seen = self._seen, set()
        if seen:
            with self._ledger.write() as connection:
                for robot in list(seen):  # one that speaks just now may still come into it
                    robots.mark_seen(connection, robot, time.time())

    def _read(self) -> None:
        with self._ledger.read() as connection:
            found = robots.all_robots(connection)
        self._robots = {one.public_key: one.robot for one in found if one.state == robots.ENROLLED}


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
