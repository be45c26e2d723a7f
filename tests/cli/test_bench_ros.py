"""The benchmark of the ROS 2 nodes: its arithmetic, and the parts that need no minutes against real nodes over DDS."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.cli_helpers import Robin, colours, pickable_folder
from helpers.ros_environment import ROS_REASON, ros_domain

from robin_cli.bench.budgets import Budget
from robin_cli.bench.figures import Figure, figure_rows, memory_growth, spread
from robin_cli.bench.ros.figures import counted, dropped
from robin_perception.core.errors import Code, RobinError

needs_ros = pytest.mark.skipif(ROS_REASON is not None, reason=str(ROS_REASON))
RATE_HZ = 15.0


def quiet(done: int, total: int, latest: str) -> None:
    del done, total, latest


def test_memory_that_only_warms_up_is_flat_and_a_leak_is_not() -> None:
    times = np.arange(0.0, 600.0, 1.0)
    noise = np.random.default_rng(3).normal(0.0, 0.3, len(times))
    warming = 400.0 - 80.0 * np.exp(-times / 20.0) + noise
    assert abs(memory_growth(times, warming).percent) < 0.2
    leaking = memory_growth(times, warming + times * (3.0 / 60.0))
    assert leaking.slope_mb_per_min == pytest.approx(3.0, abs=0.1)
    assert 4.0 < leaking.percent < 7.0
    with pytest.raises(ValueError, match="five samples"):
        memory_growth([0.0, 1.0], [1.0, 1.0])


def test_a_figure_on_its_budget_is_within_and_the_table_says_over() -> None:
    on, over, shown = (
        Figure("service", "x", 5.0, "ms", Budget(at_most=5.0)),
        Figure("service", "x", 5.01, "ms", Budget(at_most=5.0)),
        Figure("service", "x", 9.0, "ms"),
    )
    assert [figure.within for figure in (on, over, shown)] == [True, False, None]
    assert [row[4] for row in figure_rows([on, over, shown])] == ["pass", "OVER", ""]
    assert figure_rows([over])[0][2:4] == ("5.01 ms", "≤ 5 ms")
    # What was not measured is within no budget.
    assert Figure("service", "x", float("nan"), "ms", Budget(at_most=5.0)).within is False


def test_counts_are_read_from_diagnostics() -> None:
    values = {"frames": "12", "dropped.busy": "3", "dropped.refused": "1", "frames.rate_hz": "1.20"}
    assert (counted(values, "frames"), counted(values, "scenes")) == (12, 0)
    assert dropped(values) == {"busy": 3, "refused": 1}
    assert spread([1.0, 2.0, 3.0])["p50"] == 2.0


def test_an_unknown_part_is_refused_before_anything_starts(robin: Robin) -> None:
    done = robin("bench", "ros", "--part", "latency,speed")
    assert done.status == 2
    assert "E405 OPTION_INVALID: unknown part 'speed'" in done.error_line


@pytest.fixture
def robin(capsys: pytest.CaptureFixture[str]) -> Robin:
    return Robin(capsys)


@pytest.fixture
def bench_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """A benchmark on small frames that need no rendering and a bundle that needs no training."""
    from robin_cli.bench.ros.station import RosBench

    monkeypatch.setenv("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    pickable_folder(tmp_path / "frames" / "0000")
    shutil.copytree(tmp_path / "frames" / "0000", tmp_path / "frames" / "0001")

    def make(engine: str = "auto", pixels: int = 1000) -> RosBench:
        return RosBench(
            frames=tmp_path / "frames",
            pixels=pixels,
            scratch=tmp_path,
            model=colours(tmp_path / "bundle"),
            engine=engine,
            threads=1,
            domain=ros_domain(),
            rate_hz=RATE_HZ,
            seconds=6.0,
            memory_seconds=6.0,
            memory_rate_hz=60.0,
            requests=5,
            starts=1,
        )

    return make


@needs_ros
@pytest.mark.slow
def test_service_is_timed_on_a_fresh_frame_each_time(bench_of: Callable[..., Any]) -> None:
    from robin_cli.bench.ros.parts import measure_service

    result = measure_service(bench_of(), quiet)
    values = result.values
    # A reply from memory, without planning, would be faster than the planner itself.
    assert values["plan_pick_ms"]["min"] > 0.5 * values["direct_plan_ms"]["min"]
    assert values["candidates_per_plan"]["min"] > 0
    assert {name: values[name]["n"] for name in ("plan_pick_ms", "direct_plan_ms", "overhead_ms")} == {
        "plan_pick_ms": 5,
        "direct_plan_ms": 5,
        "overhead_ms": 5,
    }
    assert [figure.budget for figure in result.figures] == [None, None, Budget(at_most=5.0)]


@needs_ros
@pytest.mark.slow
def test_latency_takes_turns_with_the_direct_call(bench_of: Callable[..., Any]) -> None:
    from robin_cli.bench.ros.parts import measure_latency

    values = measure_latency(bench_of(), quiet).values
    assert values["published_to_plan_ms"]["n"] > 0 and values["direct_total_ms"]["n"] > 0
    assert 0 < values["plans_per_s"] <= RATE_HZ * 1.2
    assert values["published_to_plan_ms"]["min"] > 0
    assert values["stages_p50_ms"]["in_segmentation"] > 0 and values["stages_p50_ms"]["in_planner"] > 0


@needs_ros
@pytest.mark.slow
def test_memory_accounts_for_every_frame(bench_of: Callable[..., Any]) -> None:
    from robin_cli.bench.ros.parts import measure_memory

    values = measure_memory(bench_of(), quiet).values
    assert values["camera_frames"] > 20
    assert values["unaccounted"] == 0
    assert values["growth"]["first_mb"] > 50 and len(values["rss_mb"]) >= 10


@needs_ros
@pytest.mark.slow
def test_recorder_counts_what_is_in_the_bag(bench_of: Callable[..., Any]) -> None:
    from robin_cli.bench.ros.processes import measure_recorder

    values = measure_recorder(bench_of(), quiet).values
    in_bag = values["in_bag"]["/camera/color/image_raw"]
    assert 0 < in_bag == values["published_frames"] - values["missing"]["color"]
    assert 0 < values["bag_bytes"] < values["message_bytes"]


@needs_ros
def test_recorder_is_not_tried_on_a_disk_that_cannot_hold_its_bag(bench_of: Callable[..., Any]) -> None:
    from robin_cli.bench.ros.processes import measure_recorder

    with pytest.raises(RobinError, match="GB are free") as caught:
        measure_recorder(bench_of(pixels=10**15), quiet)
    assert caught.value.code == Code.DISK_FULL


@needs_ros
@pytest.mark.slow
def test_a_node_that_cannot_start_ends_the_benchmark_with_its_reason(bench_of: Callable[..., Any]) -> None:
    from robin_cli.bench.ros.parts import measure_service

    with pytest.raises(RobinError, match=r"segmentation cannot configure.*E205 ENGINE_UNKNOWN") as caught:
        measure_service(bench_of(engine="abacus"), quiet)
    assert caught.value.code == Code.TRANSITION_FAILED
    assert os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] == "LOCALHOST"
