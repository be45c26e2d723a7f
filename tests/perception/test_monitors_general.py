"""What the monitors tell apart beyond one fault at one plain station: black belts, heavy dirt, few marks."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from helpers.station_frames import Cell, Spoilt, station_frame

from robin_perception.core.frame import Frame
from robin_perception.core.scene import Scene
from robin_perception.monitors.baseline import StationBaseline, take_baseline
from robin_perception.monitors.cause import Usual
from robin_perception.monitors.config import MonitorsConfig
from robin_perception.monitors.look import look_at
from robin_perception.monitors.motion import Motion, together
from robin_perception.monitors.station import StationMonitor

MM_PER_PX = 1e3 * 1.2 / 600.0


def commissioned(cell: Cell = Cell()) -> StationBaseline:
    return take_baseline(station_frame(seed, cell=cell) for seed in range(30))


def named(baseline: StationBaseline, spoilt: Spoilt, cell: Cell = Cell(), frames: int = 5) -> list[str]:
    monitor = StationMonitor(MonitorsConfig(), baseline)
    for i in range(100, 100 + frames):
        monitor.observe(*station_frame(i, spoilt, float(i), cell=cell))
    return [condition.name for condition in monitor.conditions]


def test_a_black_belt_tells_how_much_light_is_left_by_what_is_not_black() -> None:
    black = Cell(belt=0.001)
    assert named(commissioned(black), Spoilt(light=0.2), black) == ["dark"]


def test_dirt_over_most_edges_is_no_blur() -> None:
    assert named(commissioned(), Spoilt(dirt_rows=260)) == ["dirty_lens"]
