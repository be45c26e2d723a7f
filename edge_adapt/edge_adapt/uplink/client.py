"""The uplink at work: keeps a connection, sends what is most urgent, writes down what the fleet has."""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import zmq

from edge_adapt.uplink.config import UplinkConfig
from edge_adapt.uplink.identity import Identity
from edge_adapt.uplink.link import Link
from edge_adapt.uplink.pace import Backoff, TokenBucket
from edge_adapt.uplink.protocol import CHUNK_BYTES, Kind, Refused, pack, parse
from edge_adapt.uplink.reports import DecisionTail, Outbox
from edge_adapt.uplink.samples import SampleQueue, store_figures
from edge_adapt.uplink.session import Blob, Done, Outcome, Session
from robin_perception.core.disk import write_atomic
from robin_perception.core.errors import Code, RobinError

STATUS_FILE = "status.json"
_STATUS_S = 2.0
_FLUSH_S = 0.2  # between two syncs of what was heard; the rest is heard again after a crash
_STEP_S = 0.5
_MESSAGES_A_STEP = 256


class UplinkClient:
    """Owned by one thread. clock: monotonic seconds; wall: since 1970, told in reports and asked for the store's
    grace."""

    def __init__(
        self,
        config: UplinkConfig,
        identity: Identity,
        *,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
        rng: np.random.Generator | None = None,
    ) -> None:
        """Raises RobinError DISK_FULL, OPTION_INVALID."""
        self._config, self._identity, self._clock, self._wall = config, identity, clock, wall
        self._context = zmq.Context()
        self._link: Link | None = None
        rate = config.rate_mbit * 1e6 / 8
        bucket = TokenBucket(rate, max(rate, CHUNK_BYTES), clock)
        self._session = Session(config.transfers, bucket, clock)
        rng = rng or np.random.default_rng()
        self._backoff = Backoff(config.backoff_least_s, config.backoff_most_s, rng)
        self._outbox = Outbox(config.folder, int(config.outbox_mb * 1e6))
        self._store: dict[str, float] = {}
        self._reports: dict[str, str] = {}  # blob under way -> its file in the outbox
        self._tail = None if config.decisions is None else DecisionTail(config.decisions, config.folder)
        self._samples = SampleQueue(config, clock, wall)
        self._due_s = {
            "connect": clock(),
            "report": clock(),
            "status": clock(),
            "outbox": clock(),
            "note": clock(),
            "offer": clock(),
        }
        self._pause = Backoff(config.backoff_least_s, config.retry_s, rng)
        self.counts: Counter[str] = Counter()
        self.failure: RobinError | None = None  # of the connection
        self._trouble: RobinError | None = None  # with the robot's own disk
        self._refusal: RobinError | None = None  # the newest

    def run(self, stop: Callable[[], bool]) -> None:
        """Until told to stop. No failure of network, fleet or disk ends it."""
        while not stop():
            self.step()

    @property
    def is_idle(self) -> bool:
        """The fleet has all there is."""
        return self._samples.is_idle and not len(self._session) and not self._outbox.names()

    def step(self) -> None:
        """One round: wait for something to happen, at most half a second, and do what is to be done."""
        try:
            if self._is_due("flush", _FLUSH_S):
                self._samples.flush()
            if self._tail is not None and self._is_due("note", _STATUS_S):
                self._tail.note()
            if self._is_due("report", self._config.report_s):
                self._report()
            if self._is_due("status", _STATUS_S):
                write_atomic(self._config.folder / STATUS_FILE, json.dumps(self.status(), indent=1).encode())
            self._trouble = None
        except RobinError as exc:  # a full disk: it is tried again
            self._trouble = exc
        try:
            self._talk()
        except RobinError as exc:
            self._drop(exc)

    def status(self) -> dict[str, Any]:
        """For people, diagnostics and the fleet."""
        up = self._link is not None and self._link.is_up
        failure = self.failure or self._trouble or self._samples.failure or self._refusal
        return {
            "pid": os.getpid(),
            "robot": self._identity.robot,
            "endpoint": self._identity.endpoint,
            "connected": up,
            "code": 0 if failure is None else int(failure.code),
            "text": "" if failure is None else str(failure),
            "under_way": len(self._session),
            "reports_waiting": len(self._outbox.names()),
            "reports_dropped": self._outbox.dropped,
            "sent_mb": round(self._session.sent_bytes / 1e6, 3),
            **{key: self.counts[key] for key in ("connections", "resets", "malformed", "blobs", "had", "put_off")},
            **{key: int(self._store.get(f"store_{key}", 0)) for key in ("pending", "lost")},
            **{key: self._samples.counts[key] for key in ("stored", "checked", "refused", "fleet_lost")},
        }

    def close(self) -> None:
        self._session.reset()
        self._take_done()
        try:
            self._samples.flush()
            if self._tail is not None:
                self._tail.note()
        except RobinError as exc:  # the fleet is asked again the next time
            self._trouble = exc
        if self._link is not None:
            self._link.close()
        self._samples.close()
        self._context.destroy(0)

    def _talk(self) -> None:
        if self._link is None:
            wait_s = self._due_s["connect"] - self._clock()
            if wait_s > 0:
                time.sleep(min(wait_s, _STEP_S))
                return
            own = self._identity
            self._link = Link(self._context, own.endpoint, own.server_key, own)
        link, pace_s = self._link, self._session.wait_s()
        link.poll(min(pace_s, _STEP_S) if pace_s else _STEP_S, write=self._session.wants_to_send and not pace_s)
        was_up = link.is_up
        link.look()
        self.counts["connections"] += link.is_up and not was_up
        self._receive(link)
        if link.is_up:
            self._send(link)
        if self._session.silent_s() > self._config.reply_s:
            raise RobinError(Code.UPLINK_UNREACHABLE, f"{link.endpoint}: silent for {self._config.reply_s:g} s")

    def _receive(self, link: Link) -> None:
        for _ in range(_MESSAGES_A_STEP):
            frames = link.receive()
            if frames is None:
                break
            try:
                message = parse(frames)
            except RobinError:
                self.counts["malformed"] += 1
                raise
            if isinstance(message, Refused) and message.code == Code.KEY_REVOKED:
                raise RobinError(Code.UPLINK_KEY_REFUSED, f"{link.endpoint}: {message.reason}")
            self._session.receive(message)
            self._backoff.reset()
            self.failure = None
        self._take_done()

    def _send(self, link: Link) -> None:
        may_offer = self._clock() >= self._due_s["offer"]
        while may_offer and link.may_send() and self._session.has_room and (blob := self._next_blob()) is not None:
            link.send(pack(self._session.offer(blob)))
        for _ in range(_MESSAGES_A_STEP):
            if not link.may_send() or (message := self._session.next_message()) is None:
                break
            link.send(pack(message))
        self._take_done()

    def _next_blob(self) -> Blob | None:
        """Reports, decisions, samples."""
        return self._next_report() or (self._tail.next() if self._tail is not None else None) or self._samples.next()

    def _next_report(self) -> Blob | None:
        """One at a time."""
        if not self._reports and self._is_due("outbox", _STEP_S):
            for name in self._outbox.names():
                with contextlib.suppress(RobinError):  # it was dropped meanwhile
                    blob = self._outbox.blob(name)
                    self._reports[blob.name] = name
                    return blob
        return None

    def _take_done(self) -> None:
        for done in self._session.take_done():
            self.counts["blobs"] += done.outcome is Outcome.STORED
            self.counts["had"] += done.outcome is Outcome.HAVE
            if done.outcome in (Outcome.STORED, Outcome.HAVE):
                self._pause.reset()
            elif done.code and done.outcome is Outcome.AGAIN:
                self.counts["put_off"] += 1
                self._put_off()
            if done.code:
                self._refusal = RobinError(Code.UPLINK_REFUSED, f"{done.blob.name}: E{done.code} {done.reason}")
            if done.blob.kind.is_report:
                self._report_done(done)
            else:
                self._samples.done(done)

    def _put_off(self) -> None:
        """The fleet takes nothing now: nothing is offered for a while, and longer the next time."""
        if self._clock() >= self._due_s["offer"]:
            self._due_s["offer"] = self._clock() + self._pause.next_s()

    def _report_done(self, done: Done) -> None:
        over = done.outcome is not Outcome.AGAIN
        if done.blob.kind is Kind.DECISION and self._tail is not None:
            (self._tail.done if over else self._tail.again)(done.blob.name)
        elif (name := self._reports.pop(done.blob.name, None)) is not None and over:
            self._outbox.remove(name)
            self._due_s.pop("outbox", None)

    def _report(self) -> None:
        """The robot's counters, as a blob that goes before all others."""
        values = {key: float(value) for key, value in self.status().items() if isinstance(value, (int, float))}
        values.pop("pid")
        try:
            self._store = store_figures(self._config.store)
            values |= self._store
        except RobinError as exc:
            values["store_code"] = float(exc.code)
        report = {"format": 1, "source": "uplink", "at_s": self._wall(), "values": values}
        self._outbox.put(json.dumps(report).encode())

    def _drop(self, exc: RobinError) -> None:
        """The connection is of no use any more; another one is made after a while."""
        self.failure = exc
        self.counts["resets"] += self._link is not None
        if self._link is not None:
            self._link.close()
            self._link = None
        self._session.reset()
        self._take_done()
        self._due_s["connect"] = self._clock() + self._backoff.next_s()

    def _is_due(self, what: str, period_s: float) -> bool:
        now_s = self._clock()
        if self._due_s.get(what, now_s) > now_s:
            return False
        self._due_s[what] = now_s + period_s
        return True


def read_status(folder: Path) -> dict[str, Any] | None:
    """As the uplink of that folder has written it last; None: never."""
    from robin_perception.core.bounded import parse_json, read_plain_bytes

    try:
        return dict(parse_json(read_plain_bytes(folder / STATUS_FILE, 100_000), STATUS_FILE))
    except (RobinError, TypeError, ValueError):
        return None
