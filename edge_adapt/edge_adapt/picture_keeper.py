"""Which pictures of picks stay on the disk: by age, bytes and free disk, failures and flagged picks longest.

Records are small and stay. Pictures are some megabytes a pick: without a rule they fill the disk, and then nothing is
recorded at all.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from pydantic import Field

from edge_adapt.decision import Decision
from edge_adapt.decision_store import IMAGE_FOLDER, LONGEST_RECORD, RECORD_FILE
from robin_grasp.recovery.action import Action
from robin_perception.core.bounded import parse_json, read_plain_bytes
from robin_perception.core.config import StrictConfig
from robin_perception.core.disk import write_error
from robin_perception.core.errors import RobinError

REMOVED_FILE = "removed_pictures.jsonl"
MOST_REMOVED_BYTES = 100_000_000
_AS_USUAL = frozenset({Action.DELIVER.value, Action.GO_ON.value})
_LEAVING = ".leaving-"  # a picture folder on its way out, so that half of one is never taken for whole
_MB = 1_000_000
_DAY_S = 86_400.0


class PictureRules(StrictConfig):
    """When the pictures of a pick are removed. Failed, flagged and infeasible picks go last."""

    keep_days: float = Field(14.0, gt=0, le=3650, description="Pictures of clean picks are kept this long, days.")
    keep_failures_days: float = Field(
        90.0, gt=0, le=3650, description="Pictures of failed, flagged and infeasible picks are kept this long, days."
    )
    most_mb: int = Field(20_000, ge=10, le=100_000_000, description="All pictures together, 1e6 bytes.")
    least_free_mb: int = Field(
        2_000,
        ge=0,
        le=100_000_000,
        description="Pictures are removed while the disk has less room than this, 1e6 bytes.",
    )


@dataclass(frozen=True)
class RemovedPictures:
    """What one step removed. reason: "age", "bytes" (all pictures together) or "free_disk"."""

    decision_id: str
    size_bytes: int
    reason: str


@dataclass(frozen=True)
class _Kept:
    taken_s: float
    size_bytes: int


class PictureKeeper:
    """Pictures of one record folder. Owned by the thread that writes the records.

    clock: seconds since 1970; one that jumps back keeps pictures longer, never shorter than the bytes allow.
    free_bytes: room on the disk. Raises RobinError when the folder cannot be read.
    """

    def __init__(
        self,
        folder: Path,
        rules: PictureRules,
        clock: Callable[[], float] = time.time,
        free_bytes: Callable[[], int] | None = None,
    ) -> None:
        self._folder, self._rules, self._clock = folder, rules, clock
        self._free_bytes = free_bytes or (lambda: shutil.disk_usage(folder).free)
        self._clean: OrderedDict[str, _Kept] = OrderedDict()  # oldest first
        self._notable: OrderedDict[str, _Kept] = OrderedDict()
        self._bytes = 0
        self.removed = 0
        self._scan()

    @property
    def kept_bytes(self) -> int:
        return self._bytes

    def add(self, decision: Decision) -> None:
        """Pictures of ``decision`` were written."""
        if decision.images:
            self._note(decision.decision_id, is_notable(decision), self._clock())

    def step(self) -> RemovedPictures | None:
        """Remove the pictures of at most one pick, and say which and why. None: no rule asks for more.

        Raises RobinError when they cannot be removed.
        """
        found = self._next()
        if found is None:
            return None
        kept, decision_id, reason = found
        leaving = self._folder / IMAGE_FOLDER / f"{_LEAVING}{decision_id}"
        try:
            os.replace(leaving.with_name(decision_id), leaving)
            shutil.rmtree(leaving)
        except FileNotFoundError:
            pass  # somebody else removed it
        except OSError as exc:
            raise write_error(leaving, exc) from None
        size = kept.pop(decision_id).size_bytes
        self._bytes -= size
        self.removed += 1
        gone = RemovedPictures(decision_id, size, reason)
        self._write_down(gone)
        return gone

    def _next(self) -> tuple[OrderedDict[str, _Kept], str, str] | None:
        rules, now_s = self._rules, self._clock()
        for kept, days in ((self._clean, rules.keep_days), (self._notable, rules.keep_failures_days)):
            if kept:
                oldest = next(iter(kept))
                if now_s - kept[oldest].taken_s > days * _DAY_S:
                    return kept, oldest, "age"
        kept = self._clean or self._notable
        if not kept:
            return None
        if self._bytes > rules.most_mb * _MB:
            return kept, next(iter(kept)), "bytes"
        if rules.least_free_mb and self._free_bytes() < rules.least_free_mb * _MB:
            return kept, next(iter(kept)), "free_disk"
        return None

    def _write_down(self, gone: RemovedPictures) -> None:
        """So that a trace can tell a rule from a loss. On a full disk this line is what is given up."""
        line = {"decision_id": gone.decision_id, "reason": gone.reason, "bytes": gone.size_bytes, "at_s": self._clock()}
        with contextlib.suppress(OSError), (self._folder / REMOVED_FILE).open("a") as stream:
            stream.write(json.dumps(line) + "\n")

    def _scan(self) -> None:
        images = self._folder / IMAGE_FOLDER
        if not images.is_dir():
            return
        clean = set(_clean_ids(self._folder / RECORD_FILE))
        found = []
        for entry in os.scandir(images):
            if entry.name.startswith(_LEAVING):
                shutil.rmtree(entry.path, ignore_errors=True)
            elif entry.is_dir(follow_symlinks=False):
                found.append((entry.stat(follow_symlinks=False).st_mtime, entry.name))
        for taken_s, name in sorted(found):
            self._note(name, name not in clean, taken_s)

    def _note(self, decision_id: str, notable: bool, taken_s: float) -> None:
        folder = self._folder / IMAGE_FOLDER / decision_id
        size = sum(entry.stat(follow_symlinks=False).st_size for entry in os.scandir(folder))
        (self._notable if notable else self._clean)[decision_id] = _Kept(taken_s, size)
        self._bytes += size


def is_notable(decision: Decision) -> bool:
    """Worth keeping longest: not clean, flagged by anybody, under a condition of station or goods, or not delivered at
    once."""
    flagged = decision.scene_flags or decision.flags or decision.conditions
    return decision.result != "clean" or bool(flagged) or any(step.action not in _AS_USUAL for step in decision.steps)


def removed_pictures(folder: Path) -> dict[str, str]:
    """Decision id -> reason, of the pictures that a rule removed from the records of ``folder``."""
    reasons = {}
    with contextlib.suppress(RobinError):
        for line in read_plain_bytes(folder / REMOVED_FILE, MOST_REMOVED_BYTES).splitlines():
            with contextlib.suppress(RobinError, KeyError, TypeError):
                values = parse_json(line, REMOVED_FILE)
                reasons[str(values["decision_id"])] = str(values["reason"])
    return reasons


def _clean_ids(path: Path) -> Iterator[str]:
    """Ids of picks that may go first; what cannot be read stays longest."""
    with contextlib.suppress(OSError), path.open("rb") as stream:
        while line := stream.readline(LONGEST_RECORD):
            with contextlib.suppress(ValueError):
                decision = Decision.model_validate_json(line)
                if not is_notable(decision):
                    yield decision.decision_id
