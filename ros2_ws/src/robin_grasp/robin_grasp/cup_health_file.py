"""The cups' health on disk: it outlives the node, and nothing on the disk ends a pick.

One JSON file, replaced as a whole after each pick: ``format``, ``sha256`` of what stands under ``cups``, and the cups.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from pydantic import Field, ValidationError

from robin_grasp.cup_health import CupHealth, CupHealthConfig, CupReport, CupState
from robin_grasp.learned import json_digest
from robin_grasp.picks.outcome import PickOutcome
from robin_grasp.plan import Grasp
from robin_grasp.tool import MAX_CUPS, ToolConfig
from robin_perception.core.bounded import parse_json, read_plain_bytes
from robin_perception.core.config import StrictConfig, first_fault
from robin_perception.core.disk import make_folder, set_aside, write_atomic
from robin_perception.core.errors import Code, RobinError

FORMAT = "robin-cup-health-1"
FILE_BYTES = 100_000


class _Cup(StrictConfig):
    """One cup in the file."""

    good: float = Field(gt=0, lt=1)
    weak: float = Field(gt=0, lt=1)
    blocked: float = Field(gt=0, lt=1)
    state: str = Field(pattern="^(good|weak|blocked)$")
    picks: int = Field(ge=0)
    held: int = Field(ge=0)
    unused: int = Field(ge=0)
    changed_s: float = Field(ge=0, le=1e11)


class _Cups(StrictConfig):
    cups: tuple[_Cup, ...] = Field(min_length=1, max_length=MAX_CUPS)


class CupHealthKeeper:
    """Cup health with its file. Not thread-safe.

    path: None keeps it in memory alone. The file is read again where somebody else wrote it meanwhile, as
    ``robin cups reset`` does. set_aside: a file that cannot be used is renamed, so that the next pick does not replace
    it. problem: what is wrong with the file now, None while it is well; after a failed
    write the next one is tried all the same.
    """

    def __init__(
        self,
        tool: ToolConfig,
        path: Path | None = None,
        config: CupHealthConfig | None = None,
        now_s: float = 0.0,
        set_aside: bool = True,
    ) -> None:
        self.path = path
        self._sets_aside = set_aside
        self.health = CupHealth(tool, config, now_s=now_s)
        self.problem: RobinError | None = None
        self._known: tuple[int, ...] = ()
        self.refresh(now_s)

    def refresh(self, now_s: float) -> None:
        """Take what somebody else wrote into the file, if it was written."""
        if self.path is not None and (now := _signature(self.path)) != self._known:
            self._read(self.path)
            self._known = now
        self.health.clock(now_s)

    def note(self, grasp: Grasp, outcome: PickOutcome, now_s: float) -> tuple[CupReport, ...]:
        """``CupHealth.note``, and on disk."""
        self.refresh(now_s)
        changed = self.health.note(grasp, outcome, now_s)
        self.save()
        return changed

    def reset(self, cups: tuple[int, ...], now_s: float) -> None:
        """``CupHealth.reset``, and on disk."""
        self.refresh(now_s)
        self.health.reset(cups, now_s)
        self.save()

    def _read(self, path: Path) -> None:
        try:
            _restore(self.health, read_plain_bytes(path, FILE_BYTES), path)
        except RobinError as exc:
            if exc.code is Code.INPUT_MISSING:
                return
            self.problem = exc if exc.code is Code.CUPS_MISMATCH else RobinError(Code.CUPS_STATE_DAMAGED, exc.text)
            if self._sets_aside:
                text = f"{self.problem.text}; {set_aside(path)}; all cups count as good"
                self.problem = RobinError(self.problem.code, text)

    def save(self) -> None:
        """Write it now; ``problem`` tells whether that failed."""
        if self.path is None:
            return
        try:
            make_folder(self.path.parent)
            write_atomic(self.path, health_bytes(self.health))
        except RobinError as exc:
            self.problem = RobinError(Code.CUPS_NOT_SAVED, f"{exc.text}; cup health is kept in memory")
        else:
            self.problem = None
        self._known = _signature(self.path)


def _signature(path: Path) -> tuple[int, ...]:
    try:
        found = path.stat()
    except OSError:
        return ()
    return found.st_ino, found.st_mtime_ns, found.st_size


def health_bytes(health: CupHealth) -> bytes:
    """The file's content."""
    cups = health.to_json()
    return (json.dumps({"format": FORMAT, "sha256": json_digest(cups), "cups": cups}, indent=1) + "\n").encode()


def _restore(health: CupHealth, data: bytes, path: Path) -> None:
    """Raises RobinError CUPS_STATE_DAMAGED, or CUPS_MISMATCH for another tool's."""
    content = parse_json(data, str(path), Code.CUPS_STATE_DAMAGED)
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise RobinError(Code.CUPS_STATE_DAMAGED, f"{path}: not '{FORMAT}'")
    if content.get("sha256") != json_digest(content.get("cups")):
        raise RobinError(Code.CUPS_STATE_DAMAGED, f"{path}: does not match its sha256")
    try:
        cups = _Cups.model_validate({"cups": content["cups"]}).cups
    except ValidationError as exc:
        raise RobinError(Code.CUPS_STATE_DAMAGED, f"{path}: {first_fault(exc)}") from None
    if len(cups) != health.tool.cup_count:
        text = f"{path}: is of a tool with {len(cups)} cups, this one has {health.tool.cup_count}"
        raise RobinError(Code.CUPS_MISMATCH, text)
    health.belief = np.array([(cup.good, cup.weak, cup.blocked) for cup in cups])
    health.state = [CupState[cup.state.upper()] for cup in cups]
    health.picks, health.held, health.unused = (
        np.array([getattr(cup, name) for cup in cups], dtype=np.int64) for name in ("picks", "held", "unused")
    )
    health.changed_s = np.array([cup.changed_s for cup in cups])
