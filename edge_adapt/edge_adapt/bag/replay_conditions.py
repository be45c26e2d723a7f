"""Lock-step replay of what the environment monitors said: they see every recorded scene's frame again, in order."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from edge_adapt.bag.messages import recorded_conditions
from edge_adapt.bag.pipeline import PipelineRecord
from robin_grasp.recovery.help_request import DONE
from robin_perception.core.condition import Family
from robin_perception.core.frame import Frame
from robin_perception.core.scene import Scene
from robin_perception.monitors.station import StationMonitor
from robin_perception.novelty.watch import HELD_FLAG

_OF_PICKS = 200  # codes of the station itself are below


def start_monitor(record: PipelineRecord) -> StationMonitor:
    """The monitors of a station as ``record`` tells, without a baseline."""
    # The simulated cell's belt is that of each pile, a segmentation node's that of its settings.
    belt_z_m = record.cell.workspace.belt_z_m if record.complete else record.segmenter.belt_z_m
    return StationMonitor(record.monitors, None, belt_z_m)


def puts_right(code: int, answer: str) -> bool:
    """Whether an answered request for help was about the station, and it is in order again."""
    return code < _OF_PICKS and answer == DONE


class ConditionReplay:
    """record: what made the scenes. Conditions are made again where the bag holds all that they came from: every frame
    that was looked at (a station's recorder may miss some, and sums over frames then differ), and no baseline."""

    def __init__(self, record: PipelineRecord) -> None:
        self.wanted = record.monitors is not None and record.complete and not record.baseline_sha256
        self._own_limit = bool(record.novelty_limit_sha256)
        self._monitor = start_monitor(record) if self.wanted else None

    def look(self, frame: Frame, scene: Scene) -> Scene:
        """The scene with what holds now."""
        if self._monitor is None:
            return scene
        return replace(scene, conditions=(*scene.conditions, *self._monitor.observe(frame, scene)))

    def held(self, scene: Scene, recorded: Mapping[str, Any] | None) -> Scene:
        """The scene that the policy is asked with: conditions that are not made again are taken as recorded."""
        if self.wanted or recorded is None:
            return scene
        return replace(scene, conditions=recorded_conditions(recorded))

    def help(self, values: Mapping[str, Any]) -> None:
        """A request for help: where a person has put the station right, the monitors begin anew."""
        if self._monitor is not None and puts_right(int(values["code"]), str(values["answer"])):
            self._monitor.reset()

    def compared(self, scene: Mapping[str, Any]) -> dict[str, Any]:
        """A scene message as it is compared. What is not made again is left out: conditions of the goods, which come
        from what a station has collected, and novelty where the station has a limit of its own."""
        values = {**scene, "flags": [flag for flag in scene["flags"] if flag != HELD_FLAG]}
        if self._own_limit:
            values["instances"] = [{**seen, "novelty": 0.0} for seen in scene["instances"]]
        conditions = values.pop("conditions", [])
        if not self.wanted:
            return values
        return {**values, "conditions": [c for c in conditions if c["family"] == Family.ENVIRONMENT.value]}
