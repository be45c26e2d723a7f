"""Where a person is asked: open requests and their answers, one small file each, so that they survive a restart."""

from __future__ import annotations

import contextlib
import itertools
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from robin_grasp.recovery.help_request import BY_TIMEOUT, LONGEST_WORD, HelpCause, HelpRequest
from robin_perception.core.bounded import read_plain_bytes
from robin_perception.core.config import first_fault
from robin_perception.core.disk import make_folder, write_atomic
from robin_perception.core.errors import Code, RobinError, printable
from robin_perception.core.output import locked

LONGEST_FILE = 100_000
LOCK_WAIT_S = 2.0
OnFault = Callable[[Code, str], None]


@dataclass
class _Entry:
    """due_s: when it times out, in the desk's steady clock; None: never. seen_ns: stamp of the file as last read, 0 for
    none: it is not on the disk."""

    request: HelpRequest
    due_s: float | None
    picture: bytes = b""
    seen_ns: int = 0


class HelpDesk:
    """Requests of one station. Thread-safe; another process may answer in the same folder.

    folder: None keeps nothing. kept: answered requests that stay on the disk. prefix: of the ids. clock: what is
    written down, s, and may be set; steady: what time-outs are counted in, s. on_fault: is told what could not be read
    or written, and of requests that timed out.
    """

    def __init__(
        self,
        folder: Path | None = None,
        kept: int = 200,
        prefix: str = "h",
        clock: Callable[[], float] = time.time,
        steady: Callable[[], float] = time.monotonic,
        on_fault: OnFault = lambda code, text: None,
    ) -> None:
        self._folder, self._kept, self._prefix = folder, kept, prefix
        self._clock, self._steady, self._on_fault = clock, steady, on_fault
        self._lock = threading.RLock()
        self._entries: dict[str, _Entry] = {}
        if folder is not None:
            self._load(folder)
        self._numbers = itertools.count(1 + max((self._number(name) for name in self._entries), default=0))

    def requests(self, answered: bool = False) -> tuple[HelpRequest, ...]:
        """Open requests, or all, oldest first."""
        with self._lock:
            return tuple(e.request for e in self._entries.values() if answered or e.request.is_open)

    def request(self, help_id: str) -> HelpRequest:
        """Raises RobinError HELP_NOT_OPEN for an id that is not known."""
        with self._lock:
            return self._entry(help_id).request

    def picture(self, help_id: str) -> bytes:
        """The request's JPEG; empty for none."""
        with self._lock:
            entry = self._entry(help_id)
            if not entry.picture and entry.request.picture and self._folder is not None:
                with contextlib.suppress(RobinError):
                    return read_plain_bytes(self._folder / entry.request.picture, 10 * LONGEST_FILE)
            return entry.picture

    def is_kept(self, help_id: str) -> bool:
        """Whether it is on the disk as it stands."""
        with self._lock:
            return self._entry(help_id).seen_ns != 0

    def ask(self, cause: HelpCause, plan_id: str = "", picture: bytes = b"") -> HelpRequest:
        """Ask a person. A request that cannot be written is open all the same, and ``on_fault`` is told."""
        with self._lock:
            help_id = f"{self._prefix}{next(self._numbers):06d}"
            name = f"{help_id}.jpg" if picture else ""
            request = HelpRequest(
                **cause.model_dump(), help_id=help_id, plan_id=plan_id, asked_s=self._clock(), picture=name
            )
            due_s = self._steady() + cause.timeout_s if cause.timeout_s > 0 else None
            self._entries[help_id] = entry = _Entry(request, due_s, picture)
            self._keep(entry)
            self._prune()
            return request

    def answer(self, help_id: str, answer: str, by: str = "", plan_id: str | None = None) -> HelpRequest:
        """A person answers. plan_id: of the pick that the person means, None where that was not said.

        Raises RobinError HELP_NOT_OPEN for an unknown id, another pick or an answered request, HELP_ANSWER_INVALID.
        """
        with self._lock, self._locked():
            entry = self._entry(help_id)
            self._refresh(entry)
            request = entry.request
            if not request.is_open:
                text = f"'{help_id}' was answered '{request.answer}' by {request.answered_by or 'somebody'}"
                raise RobinError(Code.HELP_NOT_OPEN, text)
            if plan_id is not None and plan_id != request.plan_id:
                text = f"'{help_id}' is about pick '{request.plan_id}', not '{plan_id}'"
                raise RobinError(Code.HELP_NOT_OPEN, text)
            if answer not in request.answers:
                text = f"'{help_id}' can be answered {', '.join(request.answers)}, not '{answer}'"
                raise RobinError(Code.HELP_ANSWER_INVALID, text)
            return self._close(entry, answer, by)

    def withdraw(self, help_id: str, why: str) -> None:
        """What was asked about is over: a later answer is refused. Nothing for a request that is closed already."""
        with self._lock, self._locked():
            entry = self._entry(help_id)
            self._refresh(entry)
            if entry.request.is_open:
                self._close(entry, "withdrawn", why)

    def tick(self) -> tuple[HelpRequest, ...]:
        """Requests that have been closed since the last call: by a time-out, or in another process."""
        closed = []
        with self._lock:
            for entry in [e for e in self._entries.values() if e.request.is_open]:
                self._refresh(entry)
                if entry.request.is_open and entry.due_s is not None and self._steady() >= entry.due_s:
                    self._time_out(entry)
                if not entry.request.is_open:
                    closed.append(entry.request)
        return tuple(closed)

    def _time_out(self, entry: _Entry) -> None:
        with self._locked():
            self._refresh(entry)
            request = entry.request
            if request.is_open:
                self._close(entry, request.timeout_answer, BY_TIMEOUT)
                text = f"nobody answered '{request.help_id}' in {request.timeout_s:.0f} s: '{request.timeout_answer}'"
                self._on_fault(Code.HELP_TIMED_OUT, f"{text} is taken ({request.text})")

    def _close(self, entry: _Entry, answer: str, by: str) -> HelpRequest:
        changes = {"answer": answer, "answered_by": printable(by)[:LONGEST_WORD], "answered_s": self._clock()}
        entry.request = entry.request.model_copy(update=changes)
        self._keep(entry)
        return entry.request

    def _entry(self, help_id: str) -> _Entry:
        if help_id not in self._entries and self._folder is not None:
            self._load(self._folder)  # asked by another process meanwhile
        if help_id not in self._entries:
            raise RobinError(Code.HELP_NOT_OPEN, f"there is no request '{help_id[:60]}'")
        return self._entries[help_id]

    # Disk.

    def _locked(self) -> contextlib.AbstractContextManager[None]:
        if self._folder is None or not self._folder.is_dir():
            return contextlib.nullcontext()
        return locked(self._folder, LOCK_WAIT_S)

    def _path(self, help_id: str) -> Path:
        assert self._folder is not None
        return self._folder / f"{help_id}.json"

    def _keep(self, entry: _Entry) -> None:
        if self._folder is None:
            return
        entry.seen_ns = 0
        try:
            make_folder(self._folder)
            if entry.picture and entry.request.picture:
                write_atomic(self._folder / entry.request.picture, entry.picture)
            path = self._path(entry.request.help_id)
            write_atomic(path, (entry.request.model_dump_json(indent=1) + "\n").encode())
            entry.seen_ns = path.stat().st_mtime_ns
        except (RobinError, OSError) as exc:
            text = f"'{entry.request.help_id}' is kept in memory only: {getattr(exc, 'text', exc)}"
            self._on_fault(Code.HELP_NOT_KEPT, text)

    def _refresh(self, entry: _Entry) -> None:
        """Take over what another process wrote. Only an answer is news."""
        if self._folder is None or not entry.seen_ns:
            return
        path = self._path(entry.request.help_id)
        try:
            stamp_ns = path.stat().st_mtime_ns
        except OSError:
            return
        if stamp_ns != entry.seen_ns and (found := self._read(path)) is not None:
            entry.request, entry.seen_ns = found, stamp_ns

    def _load(self, folder: Path) -> None:
        now_s, steady_s = self._clock(), self._steady()
        for path in sorted(folder.glob("*.json")):
            if path.stem in self._entries or (found := self._read(path)) is None:
                continue
            # A clock that was set back makes nobody wait longer than the whole time.
            left_s = min(max(found.timeout_s - (now_s - found.asked_s), 0.0), found.timeout_s)
            due_s = steady_s + left_s if found.timeout_s > 0 else None
            self._entries[found.help_id] = _Entry(found, due_s, seen_ns=path.stat().st_mtime_ns)
        self._entries = dict(sorted(self._entries.items()))

    def _read(self, path: Path) -> HelpRequest | None:
        """The request in that file; a damaged one is put aside and told."""
        try:
            found = HelpRequest.model_validate_json(read_plain_bytes(path, LONGEST_FILE))
            if found.help_id == path.stem:
                return found
            why = f"it holds '{found.help_id}'"
        except ValidationError as exc:
            why = first_fault(exc)
        except RobinError as exc:
            if exc.code is Code.INPUT_MISSING:
                return None
            why = exc.text
        with contextlib.suppress(OSError):
            os.replace(path, path.with_suffix(".damaged"))
        self._on_fault(Code.HELP_RECORD_DAMAGED, f"{path.name}: {why}; it was renamed {path.stem}.damaged")
        return None

    def _prune(self) -> None:
        answered = [e.request for e in self._entries.values() if not e.request.is_open]
        for request in answered[: max(0, len(answered) - self._kept)]:
            del self._entries[request.help_id]
            if self._folder is not None:
                self._path(request.help_id).unlink(missing_ok=True)
                if request.picture:
                    (self._folder / f"{request.help_id}.jpg").unlink(missing_ok=True)

    def _number(self, help_id: str) -> int:
        digits = help_id.removeprefix(self._prefix)
        return int(digits) if digits.isdecimal() else 0
