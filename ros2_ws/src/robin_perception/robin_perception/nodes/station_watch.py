"""The environment monitors as a node has them: conditions in the scene, a status per cause in /diagnostics."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from diagnostic_msgs.msg import DiagnosticStatus, KeyValue

from robin_perception.core.condition import Condition, PickingEffect
from robin_perception.core.errors import Code
from robin_perception.core.frame import Frame
from robin_perception.core.scene import Scene
from robin_perception.monitors.config import MonitorsConfig
from robin_perception.monitors.station import Reading, StationMonitor
from robin_perception.nodes.base import RobinNode


class StationWatch:
    """``look`` and ``refused`` are called in the one thread that takes the frames; ``statuses`` in any."""

    def __init__(self, node: RobinNode[Any], config: MonitorsConfig, frozen_after: int, belt_z_m: float) -> None:
        """frozen_after: the gate's; 0 says that this camera may repeat itself."""
        if frozen_after == 0:
            config = config.model_copy(update={"frozen_after": 0})
        self._node = node
        self._monitor = StationMonitor.of(config, belt_z_m)
        self._shown: tuple[tuple[Reading, ...], tuple[Condition, ...]] = ((), ())

    def look(self, frame: Frame, scene: Scene) -> Scene:
        """The scene with what holds now."""
        return replace(scene, conditions=(*scene.conditions, *self._told(self._monitor.observe(frame, scene))))

    def refused(self, code: Code, stamp_s: float) -> None:
        """The gate let no frame through; its own fault is reported already."""
        self._shown = self._monitor.readings(), self._monitor.refused(code, stamp_s)

    def statuses(self) -> list[DiagnosticStatus]:
        """One per cause; none before the first frame."""
        readings, conditions = self._shown
        told = {condition.name: condition for condition in conditions}
        shown = [
            _status(self._node.get_fully_qualified_name(), reading, told.get(reading.name)) for reading in readings
        ]
        if "baseline" in told:
            shown.append(_plain(self._node.get_fully_qualified_name(), told["baseline"]))
        return shown

    def _told(self, conditions: tuple[Condition, ...]) -> tuple[Condition, ...]:
        """The node's own status tells a condition once, when it begins: each has a status of its own, and must not hide
        what else is wrong with the node."""
        before = {condition.code for condition in self._shown[1]}
        for condition in conditions:
            if condition.code not in before:
                stops = condition.effect == PickingEffect.STOP
                self._node.report(condition.code, condition.text, warning=not stops, lasting=True)
        standing = {condition.code for condition in conditions}
        for ended in self._shown[1]:
            if ended.code not in standing:
                self._node.recovered(ended.name, ended.code)
        self._shown = self._monitor.readings(), conditions
        return conditions


def _status(node: str, reading: Reading, condition: Condition | None) -> DiagnosticStatus:
    shown = DiagnosticStatus(level=DiagnosticStatus.OK, name=f"{node}: {reading.name}", message="as usual")
    if condition is not None:
        shown = _plain(node, condition)
    pairs = {"value": reading.value, "usual": reading.usual, "limit": reading.limit}
    shown.values = [KeyValue(key=key, value=f"{value:.4g}") for key, value in pairs.items()]
    shown.values.append(KeyValue(key="unit", value=reading.unit))
    if condition is not None:
        shown.values.append(KeyValue(key="code", value=str(int(condition.code))))
        shown.values.append(KeyValue(key="since_s", value=f"{condition.since_s:.3f}"))
        shown.values.append(KeyValue(key="effect", value=condition.effect.value))
    return shown


def _plain(node: str, condition: Condition) -> DiagnosticStatus:
    stops = condition.effect == PickingEffect.STOP
    level = DiagnosticStatus.ERROR if stops else DiagnosticStatus.WARN
    message = f"E{int(condition.code)} {condition.code.name}: {condition.text}"
    return DiagnosticStatus(level=level, name=f"{node}: {condition.name}", message=message, hardware_id="robin_edge")
