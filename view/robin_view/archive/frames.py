"""Image folders that nobody picked from: pictures to label, in the format that `robin adapt teach` reads."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_adapt.decision import Decision, DecisionContext, build_decision
from edge_adapt.evidence import RGB, Evidence
from robin_grasp.picks.traces import PickTraces
from robin_grasp.plan import Plan
from robin_perception.core.errors import Code, RobinError
from robin_perception.core.frame import Frame
from robin_perception.core.image_folder import COLOR_FILE, LABELS_FILE, load_frame, load_labels, load_scene_info
from robin_perception.core.scene import Scene
from robin_view.archive.facts import Facts
from robin_view.archive.index import Place
from robin_view.archive.readers import told

_LOOK_S = 2.0
_STEP = 10  # folders taken at a time; each is decoded


def image_folders(data: Path) -> list[Path]:
    """Those in ``data``, labelled or not, by name."""
    return sorted(path.parent for path in data.glob(f"*/{COLOR_FILE}") if not path.parent.name.startswith("."))


class FrameReader:
    """The image folders of one folder, also those that are added while the page runs."""

    def __init__(self, folder: Path, number: int) -> None:
        self.folder, self.number, self.title = folder, number, str(folder)
        self._taken, self._due_s = set[str](), 0.0

    def new(self) -> Iterator[tuple[Facts, Place] | RobinError]:
        if time.monotonic() < self._due_s:
            return
        fresh = [path for path in image_folders(self.folder) if path.name not in self._taken]
        if len(fresh) <= _STEP:
            self._due_s = time.monotonic() + _LOOK_S
        for path in fresh[:_STEP]:
            self._taken.add(path.name)
            try:
                decision = FrameEvidence(path).decision
            except RobinError as exc:
                yield exc
                continue
            yield told(decision.model_dump(mode="json"), Place(self.number, blob=path.name), str(path), pictures=True)

    def evidence(self, place: Place) -> FrameEvidence:
        return FrameEvidence(self.folder / place.blob)


class FrameEvidence(Evidence):
    """A frame without a pick. Raises RobinError where it is none, as ``load_frame``."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.frame = folder, load_frame(folder)
        self._decision = _record(folder.name, self.frame)

    @property
    def decision(self) -> Decision:
        return self._decision

    def has(self, name: str) -> bool:
        return name in ("color", "depth") or (name == "labels" and (self.folder / LABELS_FILE).is_file())

    def rgb(self, name: str) -> RGB | None:
        return self.frame.rgb if name == "color" else None

    def depth_m(self, name: str) -> NDArray[np.float32] | None:
        return self.frame.depth if name == "depth" else None

    def labels(self) -> NDArray[np.uint16] | None:
        return load_labels(self.folder) if self.has("labels") else None

    def traces(self) -> PickTraces | None:
        return None

    def rows(self) -> list[dict[str, Any]]:
        """What is told of each label: rows of scene.json."""
        return [row for row in load_scene_info(self.folder).get("instances", ()) if isinstance(row, dict)]


def _record(name: str, frame: Frame) -> Decision:
    """The record that the pages show of it: nothing was seen yet, and nothing chosen."""
    empty = np.zeros(frame.depth.shape, dtype=np.uint16)
    scene = Scene(frame.stamp_s, "", empty, (), np.zeros((1, 1), dtype=np.float32))
    plan = Plan(Code.NO_INSTANCE, "a picture to label; nobody picked", (), (), "geometric")
    made = build_decision(DecisionContext(run_id="frames", pile=0, pick=0, source="frames"), frame, scene, plan, None)
    plain = re.sub(r"[^A-Za-z0-9_.-]", "-", name).lstrip("._-")[:128] or "frame"
    return made.model_copy(update={"decision_id": plain})
