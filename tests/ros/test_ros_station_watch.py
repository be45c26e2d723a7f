"""The environment monitors in a node: conditions in the scene, faults while they last, a status per cause."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("diagnostic_msgs")
pytest.importorskip("rclpy")

from diagnostic_msgs.msg import DiagnosticStatus
from helpers.station_frames import HEALTHY, Spoilt, station_frame

from robin_perception.core.errors import Code
from robin_perception.monitors.baseline import take_baseline
from robin_perception.monitors.config import MonitorsConfig
from robin_perception.nodes.station_watch import StationWatch


class _Node:
    def __init__(self) -> None:
        self.reported: list[tuple[Code, bool]] = []
        self.over: list[Code] = []

    def get_fully_qualified_name(self) -> str:
        return "/segmentation"

    def report(self, code: Code, text: str, warning: bool = False, lasting: bool = False) -> None:
        assert lasting
        self.reported.append((code, warning))

    def recovered(self, what: str, *codes: Code) -> None:
        self.over.extend(codes)


@pytest.fixture
def baseline(tmp_path: Path) -> Path:
    path = tmp_path / "cell.baseline"
    take_baseline(station_frame(seed) for seed in range(30)).save(path)
    return path


def _watch(node: Any, config: MonitorsConfig, frozen_after: int = 10) -> StationWatch:
    return StationWatch(node, config, frozen_after, 0.0)


def test_conditions_stand_in_the_scene_and_in_diagnostics_until_they_end(baseline: Path) -> None:
    node = _Node()
    watch = _watch(node, MonitorsConfig(baseline=baseline))
    assert watch.statuses() == []
    for i in range(5):
        scene = watch.look(*station_frame(i, Spoilt(moved_px=9.0), float(i)))
    assert [condition.name for condition in scene.conditions] == ["camera_moved"]
    assert node.reported == [(Code.CAMERA_MOVED, False)]  # once: the node's other faults stay to be seen
    shown = {status.name: status for status in watch.statuses()}
    assert shown["/segmentation: camera_moved"].level == DiagnosticStatus.ERROR
    assert shown["/segmentation: dark"].level == DiagnosticStatus.OK and len(shown) == 9
    values = {pair.key: pair.value for pair in shown["/segmentation: camera_moved"].values}
    assert values["code"] == "146" and values["effect"] == "stop" and values["unit"] == "mm"
    for i in range(5, 10):
        scene = watch.look(*station_frame(i, HEALTHY, float(i)))
    assert scene.conditions == () and node.over == [Code.CAMERA_MOVED]
    assert all(status.level == DiagnosticStatus.OK for status in watch.statuses())


def test_a_baseline_that_is_not_there_is_a_warning_of_its_own(tmp_path: Path) -> None:
    node = _Node()
    watch = _watch(node, MonitorsConfig(baseline=tmp_path / "none.baseline"))
    watch.look(*station_frame(1))
    assert node.reported == [(Code.INPUT_MISSING, True)]
    assert watch.statuses()[-1].name == "/segmentation: baseline"


def test_a_camera_that_may_repeat_itself_is_not_frozen() -> None:
    for frozen_after, told in ((0, 0), (10, 1)):
        watch = _watch(_Node(), MonitorsConfig(), frozen_after)
        frame, scene = station_frame(1)
        for i in range(8):
            found = watch.look(type(frame)(frame.rgb, frame.depth, frame.K, frame.T_base_camera, float(i)), scene)
        assert len(found.conditions) == told


def test_frames_that_the_gate_refuses_show_in_diagnostics() -> None:
    watch = _watch(_Node(), MonitorsConfig())
    watch.look(*station_frame(1))
    for i in range(4):
        watch.refused(Code.DEPTH_UNIT_SUSPECT, 10.0 + i)
    shown = {status.name: status.level for status in watch.statuses()}
    assert shown["/segmentation: depth_unit"] == DiagnosticStatus.ERROR
