"""What was learned of holding on disk: one JSON file, replaced as a whole after each pick. Nothing on the disk ends a
pick: with a file that cannot be used, the factory's expectation holds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from edge_adapt.learn.evidence import Evidence
from edge_adapt.learn.hold import HoldConfig, HoldLearner
from edge_adapt.learn.hold_field import FieldPick
from edge_adapt.learn.looks import GoodsLook
from robin_grasp.holding import HoldTerms
from robin_grasp.learned import LearnedState, json_digest
from robin_grasp.picks.outcome import PickOutcome, PickResult
from robin_grasp.plan import ALL_SOUND, CupTrust
from robin_grasp.recovery.machine import PickTarget
from robin_grasp.tool import CellConfig
from robin_perception.core.bounded import parse_json, read_plain_bytes
from robin_perception.core.config import config_digest
from robin_perception.core.disk import make_folder, set_aside, write_atomic
from robin_perception.core.errors import Code, RobinError
from robin_perception.core.frame import Frame
from robin_perception.core.scene import Scene

FORMAT = "robin-holding-3"
FILE_BYTES = 10_000_000


class HoldKeeper:
    """A learner with its file. Not thread-safe. problem: what is wrong with the file, None while it is well; a damaged
    one, or one of another tool, is set aside."""

    def __init__(self, cell: CellConfig, path: Path | None, config: HoldConfig | None = None) -> None:
        self.path = path
        self.learner = HoldLearner(cell, config)
        self.problem: RobinError | None = None
        if path is not None:
            self._read(path)

    @property
    def learned(self) -> LearnedState:
        """``HoldLearner.learned``."""
        return self.learner.learned

    def expected(self, frame: Frame, scene: Scene) -> HoldTerms:
        """``HoldLearner.expected``."""
        return self.learner.expected(frame, scene)

    def note(
        self, pick: PickTarget, outcome: PickOutcome, result: PickResult | None, trust: CupTrust = ALL_SOUND
    ) -> None:
        """``HoldLearner.note``, and on disk; ``problem`` tells whether that failed."""
        before = self.learner.picks
        self.learner.note(pick, outcome, result, trust)
        if self.path is None or self.learner.picks == before:
            return
        try:
            make_folder(self.path.parent)
            write_atomic(self.path, hold_bytes(self.learner))
        except RobinError as exc:
            self.problem = RobinError(Code.HOLDING_NOT_SAVED, f"{exc.text}; what is learned is kept in memory")
        else:
            self.problem = None

    def _read(self, path: Path) -> None:
        try:
            _restore(self.learner, read_plain_bytes(path, FILE_BYTES), path)
        except RobinError as exc:
            if exc.code is not Code.INPUT_MISSING:
                text = f"{exc.text}; {set_aside(path)}; goods are held as the factory expects"
                self.problem = RobinError(Code.HOLDING_DAMAGED, text)


def hold_bytes(learner: HoldLearner) -> bytes:
    """The file's content."""
    state = learner.to_json()
    return (json.dumps({"format": FORMAT, "sha256": learner.learned.digest, "state": state}) + "\n").encode()


def _restore(learner: HoldLearner, data: bytes, path: Path) -> None:
    """Raises RobinError HOLDING_DAMAGED, and changes nothing then."""
    content = parse_json(data, str(path), Code.HOLDING_DAMAGED)
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise RobinError(Code.HOLDING_DAMAGED, f"{path}: not '{FORMAT}'")
    state: Any = content.get("state")
    if content.get("sha256") != json_digest(state):
        raise RobinError(Code.HOLDING_DAMAGED, f"{path}: does not match its sha256")
    try:
        if state["tool"] != config_digest(learner.cell.tool):
            raise RobinError(Code.HOLDING_DAMAGED, f"{path}: was learned with another tool")
        classes = {str(name): Evidence.from_json(values) for name, values in state["classes"].items()}
        looks = [GoodsLook.from_json(values) for values in state["looks"]]
        alike, level = ([FieldPick.from_json(values) for values in state[name]] for name in ("alike", "level"))
        picks = int(state["picks"])
    except (AttributeError, KeyError, TypeError, ValueError) as exc:
        raise RobinError(Code.HOLDING_DAMAGED, f"{path}: {exc}") from None
    learner.restore(picks, classes, looks, alike, level)
