"""Faults of the camera that the environment monitors must find, a station that stays while goods change, and the count
of what was found."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from robin_grasp.tool import CellConfig
from robin_perception.core.errors import RobinError
from robin_perception.core.frame import Frame
from robin_perception.core.scene import Scene
from robin_perception.monitors.registry import CAUSES
from robin_sim import fault_cost, health
from robin_sim.cameras import look_at
from robin_sim.fault_cases import FaultCase, fault_cases
from robin_sim.faults import NO_FAULTS, Faults
from robin_sim.live_cell import LiveCell
from robin_sim.oracle import oracle_scene
from robin_sim.scenario import CountRange, load_scenario
from robin_sim.sensor import smears, spoil
from robin_sim.station import SimStation, StationView, picked_from


@cache
def station_view() -> StationView:
    station = SimStation(load_scenario("belt").config, CellConfig(), 130101, 0)
    return station.see(station.new_pile())


def frame(faults: Faults = NO_FAULTS, dirt: Any = None) -> Frame:
    seen = station_view()
    return spoil(seen.view, seen.camera, np.random.default_rng(5), None, faults, 1.0, dirt)


def test_new_faults_leave_what_they_do_not_touch_as_it_was_to_the_bit() -> None:
    healthy = frame()
    bright = frame(Faults(over_exposed=0.5))
    assert np.array_equal(bright.depth, healthy.depth) and bright.rgb.mean() > 1.3 * healthy.rgb.mean()
    dim = frame(Faults(dead_projector=0.7))
    assert np.array_equal(dim.rgb, healthy.rgb)
    assert np.array_equal(dim.depth[dim.depth > 0], healthy.depth[dim.depth > 0])
    assert (dim.depth > 0).mean() < 0.7 * (healthy.depth > 0).mean()
    unit = frame(Faults(depth_unit=10.0))
    assert np.allclose(unit.depth, 10 * healthy.depth) and np.array_equal(unit.rgb, healthy.rgb)
    apart = frame(Faults(colour_depth_apart=0.5))
    assert np.array_equal(apart.rgb, healthy.rgb)
    assert (apart.depth[7:, 10:] == healthy.depth[:-7, :-10]).mean() > 0.6


def test_dirt_that_stays_is_in_the_same_place_whatever_the_noise() -> None:
    dirt = smears(np.random.default_rng(2), (480, 640), 0.7)
    seen = station_view()
    holes = [
        spoil(seen.view, seen.camera, np.random.default_rng(k), None, Faults(dirty_lens=0.7), dirt=dirt).depth == 0
        for k in range(2)
    ]
    assert (dirt > 0.6).any() and all(hole[dirt > 0.8].mean() > 0.95 for hole in holes)


def test_dirt_stays_where_it_is_over_looks_and_piles_until_the_glass_is_cleaned() -> None:
    changes = {"belt_parcels": CountRange(least=2, most=3), "faults": Faults(dirty_lens=1.0)}
    config = load_scenario("belt").config.model_copy(update=changes)
    config = config.model_copy(update={"camera": config.camera.model_copy(update={"width": 320, "height": 240})})
    cell = LiveCell(config, CellConfig(), 3, look_at(np.array([0.75, 0.0, 0.0]), 1.3, 0.0, 0.0, 0.0))
    frames = [cell.next_pile(1.0), cell.look(2.0), cell.next_pile(3.0)]
    holes = np.stack([frame.depth == 0 for frame in frames])
    assert holes[0].mean() > 0.03 and holes.all(axis=0).mean() > 0.5 * holes[0].mean()
    cell.put_right()
    assert (cell.look(4.0).depth == 0)[holes.all(axis=0)].mean() < 0.5


def test_every_new_fault_is_told_as_active() -> None:
    faults = Faults(over_exposed=0.1, dead_projector=0.1, colour_depth_apart=0.1, depth_unit=10.0, frozen=True)
    assert set(faults.active) == {"over_exposed", "dead_projector", "colour_depth_apart", "depth_unit", "frozen"}
    assert NO_FAULTS.active == ()


def test_a_station_stays_while_goods_change() -> None:
    one, other = (SimStation(load_scenario("belt").config, CellConfig(), 130101, 0) for _ in range(2))
    piles = [one.new_pile(), one.new_pile()]
    assert len(piles[0].parcels) != len(piles[1].parcels) or not np.allclose(piles[0].poses, piles[1].poses)
    assert np.array_equal(other.new_pile().poses, piles[0].poses)
    assert np.array_equal(one.camera.T_base_camera, other.camera.T_base_camera)


def test_parcels_are_taken_from_the_top() -> None:
    station = SimStation(load_scenario("belt").config, CellConfig(), 130101, 0)
    pile = station.new_pile()
    counts = [len(left.parcels) for left in picked_from(pile, 3, 2)]
    assert counts == [len(pile.parcels), len(pile.parcels) - 2, len(pile.parcels) - 4]
    *_, last = picked_from(pile, 3, 2)
    assert last.poses[:, 2, 3].max() <= pile.poses[:, 2, 3].max()


def _line(index: int, frame: int | None, wrong: list[str]) -> dict[str, Any]:
    score = {"frame": frame, "right": ["dark"] if frame else [], "wrong": wrong}
    both = {"frame": None, "right": ["dark"], "wrong": []}
    cases = {
        "dark 0.6": {"baseline": score, "defaults": score, "fault": "dark"},
        "dark+depth_holes": {"baseline": both, "defaults": both, "fault": "dark+depth_holes"},
    }
    return {"kind": "faults", "seed": 4, "index": index, "container": "belt", "cases": cases}


def test_figures_count_named_misnamed_and_missed() -> None:
    alarms = {"baseline": ["blur"], "defaults": []}
    healthy = {"kind": "healthy", "scenario": "belt", "seed": 4, "index": 7, "frames": 160, "alarms": alarms, "ms": 3.0}
    found = health.summary([_line(0, 3, []), _line(1, 5, ["blur"]), _line(2, None, []), healthy])
    dark = found["faults"]["dark"]
    assert {key: dark[key] for key in ("piles", "named", "misnamed", "missed", "frames_to_alarm_p50")} == {
        "piles": 3, "named": 2, "misnamed": 1, "missed": 1, "frames_to_alarm_p50": 4.0,
    }  # fmt: skip
    assert found["together"]["dark+depth_holes"] == {"piles": 3, "both": 0, "one": 3, "none": 0, "misnamed": 0}
    assert (found["healthy"]["frames"], found["healthy"]["false_alarms"]) == (160, 1)
    assert found["healthy_without_baseline"]["false_alarms"] == 0


def test_stations_that_are_done_are_not_done_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = tmp_path / "lines"
    lines.write_text(
        json.dumps(_line(0, 3, [])) + "\n" + json.dumps({**_line(1, 3, []), "seed": 5}) + '\n{"kind": "fau'
    )
    made: list[int] = []

    def made_anew(seed: int, index: int, see: Any) -> dict[str, Any]:
        made.append(index)
        return _line(index, 4, [])

    monkeypatch.setattr(health, "faults_of_station", made_anew)
    found = health.run_health(health.HealthTrials(3, 0, 0, 4), lambda frame: None, lines, lambda done, total: None)  # type: ignore[arg-type,return-value]
    assert made == [1, 2] and found["faults"]["dark"]["named"] == 3
    made.clear()
    health.run_health(health.HealthTrials(3, 0, 0, 4), lambda frame: None, lines, lambda done, total: None)  # type: ignore[arg-type,return-value]
    assert made == []


def test_a_file_of_another_kind_is_not_added_to(tmp_path: Path) -> None:
    (tmp_path / "notes").write_text("bread, milk\n")
    with pytest.raises(RobinError, match="no results of this command"):
        health.run_health(
            health.HealthTrials(0, 0, 0, 4), lambda frame: None, tmp_path / "notes", lambda done, total: None
        )  # type: ignore[arg-type,return-value]
    assert (tmp_path / "notes").read_text() == "bread, milk\n"


def test_every_cause_is_among_the_cases() -> None:
    expected = {name for case in fault_cases(np.random.default_rng(0)) for name in case.expected}
    assert expected == {cause.name for cause in CAUSES}


def test_what_a_fault_costs_is_lost_less_won_over_all_piles() -> None:
    became = [("clean", "miss")] * 3 + [("clean", "clean")] * 6 + [("miss", "clean")]
    lines = [{"kind": "cost", "results": {"healthy": one, "blur 0.5": other}} for one, other in became]
    found = fault_cost.cost_figures(lines)
    assert {key: found["blur 0.5"][key] for key in ("piles", "clean", "costs")} == {
        "piles": 10, "clean": 7, "costs": True,
    }  # fmt: skip
    lost = found["blur 0.5"]["lost"]
    assert lost["rate"] == pytest.approx(0.2) and lost["low"] < 0 < 0.2 < lost["high"] < 0.6
    assert found["blur 0.5"]["results"] == {"miss": 3, "clean": 7}
    assert found["healthy"]["lost"]["rate"] == 0 and not found["healthy"]["costs"]


def test_the_same_pick_has_the_same_result_and_a_stale_picture_shows_what_is_gone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bright, frozen = Faults(over_exposed=0.1), Faults(frozen=True)
    cases = [FaultCase("", key, faults, frozenset()) for key, faults in (("bright", bright), ("frozen", frozen))]
    monkeypatch.setattr(fault_cost, "cost_cases", lambda rng: cases)
    station = SimStation(load_scenario("mixed").config, CellConfig(), 130101, 3)
    before, after = picked_from(station.new_pile(), 2)
    gone = np.argmax(before.poses[:, 2, 3])
    views = {len(pile.parcels): (pile, station.see(pile).view) for pile in (before, after)}
    shown = iter((len(after.parcels), len(after.parcels), len(before.parcels)))

    def see(frame: Frame) -> Scene:
        pile, view = views[next(shown)]
        scene = oracle_scene(pile, view)
        if pile is after:
            return scene
        labels = np.where(view.labels == gone + 1, scene.labels, 0)  # only a parcel that was taken since
        return replace(scene, labels=labels, instances=tuple(i for i in scene.instances if (labels == i.id).any()))

    results = fault_cost.cost_of_pile(130101, 3, see)["results"]
    assert results["healthy"] == results["bright"] == "clean" and results["frozen"] not in ("clean", "infeasible")
