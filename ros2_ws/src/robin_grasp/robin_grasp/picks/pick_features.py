"""The named features that a pick is judged by, of whatever there is: the tool's figures, its traces, the frames before
and after, a look at the load. What is missing or cannot be used is NaN, and is named with a code."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from robin_grasp.picks.change_features import CHANGE_FEATURES, change_features, frame_misfit
from robin_grasp.picks.load_features import (
    LOAD_FEATURES,
    SEGMENTED_FEATURES,
    LoadSegmenter,
    footprints,
    held_cells,
    load_features,
    load_misfit,
    load_volume,
    segmented_features,
)
from robin_grasp.picks.outcome import PickOutcome
from robin_grasp.picks.sensor_features import (
    TOOL_FEATURES,
    TRACE_FEATURES,
    tool_features,
    trace_features,
    trace_misfit,
)
from robin_grasp.picks.silhouette import silhouette
from robin_grasp.plan import Grasp
from robin_grasp.tool import CellConfig, mask_to_cups
from robin_perception.core.errors import Code, RobinError
from robin_perception.core.frame import Frame
from robin_perception.core.scene import Scene

FEATURE_GROUPS: dict[str, dict[str, str]] = {
    "tool": TOOL_FEATURES,
    "traces": TRACE_FEATURES,
    "change": CHANGE_FEATURES,
    "load": LOAD_FEATURES,
    "segmented": SEGMENTED_FEATURES,
}
"""What there is to judge by -> its features, name -> meaning, in the order of the feature vector."""
FEATURES = {name: text for group in FEATURE_GROUPS.values() for name, text in group.items()}
FEATURE_NAMES = tuple(FEATURES)
PLACE = {name: k for k, name in enumerate(FEATURE_NAMES)}


class Lack(NamedTuple):
    """What the judgement had to do without, and why."""

    code: Code
    text: str

    def __str__(self) -> str:
        return f"E{int(self.code)} {self.code.name}: {self.text}"


@dataclass(frozen=True)
class PickEvidence:
    """values: feature -> figure, NaN where it is not known. groups: those of FEATURE_GROUPS that there are. lacks: what
    is missing. neighbours_gone: ids of other masks that changed as a whole."""

    values: dict[str, float]
    groups: tuple[str, ...]
    lacks: tuple[Lack, ...]
    neighbours_gone: tuple[int, ...]

    def row(self) -> NDArray[np.float64]:
        """In the order of FEATURE_NAMES."""
        return np.array([self.values[name] for name in FEATURE_NAMES])


def pick_evidence(
    grasp: Grasp,
    scene: Scene,
    before: Frame,
    after: Frame | None,
    outcome: PickOutcome,
    cell: CellConfig,
    see_load: LoadSegmenter | None = None,
) -> PickEvidence:
    """Everything that tells what became of a pick, but for its result and truth.

    see_load: runs the network on the look at the load; None: it is not asked. Raises RobinError OUTCOME_INVALID for
    figures of another tool, and where the scene does not hold the grasp's instance.
    """
    tool, traces, load = cell.tool, outcome.traces, outcome.load
    if len(outcome.vacuum_pa) != tool.cup_count or grasp.cups >> tool.cup_count:
        text = f"vacuum of {len(outcome.vacuum_pa)} cups, open cups {mask_to_cups(grasp.cups)}"
        raise RobinError(Code.OUTCOME_INVALID, f"{text}: the tool of the pick check has {tool.cup_count}")
    target = next((i for i in scene.instances if i.id == grasp.instance_id), None)
    if target is None:
        raise RobinError(Code.OUTCOME_INVALID, f"the scene has no instance {grasp.instance_id}, which was picked")
    values = dict.fromkeys(FEATURE_NAMES, math.nan) | tool_features(grasp, scene, target, outcome, tool)
    lacks: list[Lack] = []
    groups = ["tool"]
    if traces is None:
        lacks.append(Lack(Code.TRACES_MISSING, "the tool's sensors were not recorded over time"))
    elif misfit := trace_misfit(traces, tool.cup_count):
        lacks.append(Lack(Code.TRACES_INVALID, misfit))
    else:
        values |= trace_features(grasp, traces, tool)
        groups.append("traces")
    changed: dict[int, float] | None = None
    gone: tuple[int, ...] = ()
    if after is None:
        lacks.append(Lack(Code.FRAME_AFTER_MISSING, "no frame of the pile came after the pick"))
    elif misfit := frame_misfit(before, after):
        lacks.append(Lack(Code.FRAME_AFTER_UNUSABLE, misfit))
    else:
        change = change_features(grasp, scene, target, before, after)
        values |= change.features
        changed, gone = change.changed_share, change.gone
        groups.append("change")
    if values["held_share"] == 0.0:
        pass  # an empty tool has no load: there is nothing to look at, and nothing is missing
    elif load is None:
        lacks.append(Lack(Code.LOAD_VIEW_MISSING, "there is no look at the load"))
    elif values["shed_n"] > 0.0:
        text = f"it shows what was left: {values['shed_n']:.1f} N were lost on the way"
        lacks.append(Lack(Code.LOAD_VIEW_UNUSABLE, text))
    elif misfit := load_misfit(load):
        lacks.append(Lack(Code.LOAD_VIEW_UNUSABLE, misfit))
    else:
        seen, held = silhouette(load, tool), held_cells(outcome, tool)
        prints = footprints(grasp, scene, target, before)
        values |= load_features(target, prints, load, seen, changed, held)
        values |= load_volume(values)
        groups.append("load")
        if see_load is not None:
            try:
                values |= segmented_features(load, seen, see_load, held)
                groups.append("segmented")
            except RobinError as exc:  # of whoever runs the network
                lacks.append(Lack(Code.LOAD_NOT_SEGMENTED, exc.text))
    return PickEvidence(values, tuple(groups), tuple(lacks), gone)
