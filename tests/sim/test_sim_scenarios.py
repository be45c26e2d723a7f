"""Scenarios and faults: what is registered, what is refused, and that draws follow the seed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from robin_grasp.tool import CellConfig, ToolConfig
from robin_perception.core.errors import Code, RobinError
from robin_sim.faults import Faults
from robin_sim.runs.request import RunRequest
from robin_sim.scenario import CountRange, ScenarioConfig, draw_pile_start, load_scenario, scenario_names

EXPECTED = {
    "mixed", "belt", "tote", "flush", "stacked", "bags", "black_bags", "clear_bags", "new_print", "dark", "blur",
    "dirty_lens", "moved_camera", "depth_holes", "blocked_cup", "torn_cup",
}  # fmt: skip


def test_the_registered_scenarios_load() -> None:
    assert set(scenario_names()) >= EXPECTED
    for name in scenario_names():
        assert load_scenario(name).config.description


def test_unknown_scenario_names_the_known() -> None:
    with pytest.raises(RobinError) as info:
        load_scenario("nonsense")
    assert info.value.code is Code.SCENARIO_UNKNOWN
    assert "nonsense" in info.value.text
    assert "mixed" in info.value.text


@pytest.mark.parametrize(
    ("text", "code", "named"),
    [
        ("description: a\nparcles: 3\n", Code.CONFIG_UNKNOWN_KEY, "parcles"),
        ("description: a\nfaults: {darkk: 0.5}\n", Code.CONFIG_UNKNOWN_KEY, "faults.darkk"),
        ("description: a\nfaults: {dark: 1.5}\n", Code.CONFIG_OUT_OF_RANGE, "faults.dark"),
        ("description: a\nfaults: {blocked_cups: [8]}\n", Code.CONFIG_OUT_OF_RANGE, "faults.blocked_cups"),
        ("description: a\ncontainers: {bin: 1}\n", Code.CONFIG_OUT_OF_RANGE, "bin"),
        ("description: a\narrangements: {tumbled: 0}\n", Code.CONFIG_OUT_OF_RANGE, "arrangements"),
        ("description: a\nbelt_parcels: {least: 9, most: 3}\n", Code.CONFIG_OUT_OF_RANGE, "belt_parcels"),
        ("description: a\ncamera: {width: .nan}\n", Code.CONFIG_OUT_OF_RANGE, "camera.width"),
        ("description: a\nmix: {excluded_variants: [poly_bag/pink]}\n", Code.CONFIG_OUT_OF_RANGE, "poly_bag/pink"),
        ("- 1\n", Code.CONFIG_UNREADABLE, "mapping"),
        ("description: [\n", Code.CONFIG_UNREADABLE, ""),
        ("", Code.CONFIG_OUT_OF_RANGE, "description"),
    ],
)
def test_bad_scenario_files_name_the_key(tmp_path: Path, text: str, code: Code, named: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(RobinError) as info:
        load_scenario(path)
    assert info.value.code is code
    assert str(path) in info.value.text
    assert named in info.value.text


def test_missing_scenario_file(tmp_path: Path) -> None:
    with pytest.raises(RobinError) as info:
        load_scenario(tmp_path / "none.yaml")
    assert info.value.code is Code.INPUT_MISSING


def test_counts_cover_their_range() -> None:
    rng = np.random.default_rng(0)
    drawn = [CountRange(least=5, most=60).draw(rng) for _ in range(4000)]
    assert min(drawn) == 5 and max(drawn) == 60
    assert 14 <= np.median(drawn) <= 20  # log-uniform: half of the piles lie below the geometric mean, 17.3


def test_pile_start_follows_the_seed_and_the_fault() -> None:
    config = load_scenario("mixed").config
    cell = CellConfig()
    starts = [draw_pile_start(config, cell, np.random.default_rng([7, k])) for k in range(40)]
    again = draw_pile_start(config, cell, np.random.default_rng([7, 0]))
    assert again.parcel_count == starts[0].parcel_count
    np.testing.assert_array_equal(again.true_camera.T_base_camera, starts[0].true_camera.T_base_camera)
    assert {s.workspace.container for s in starts} == {"belt", "tote"}
    assert {s.arrangement for s in starts} == {"tumbled", "flush", "stacked", "single_layer"}
    off = [np.linalg.norm(s.true_camera.position_m - s.camera.position_m) for s in starts]
    np.testing.assert_allclose(off, config.camera.calibration_error_m, rtol=1e-6)
    moved = load_scenario("moved_camera").config
    start = draw_pile_start(moved, cell, np.random.default_rng(0))
    assert np.linalg.norm(start.true_camera.position_m - start.camera.position_m) > 0.02


def test_active_faults_are_named() -> None:
    assert Faults().active == ()
    assert Faults(dark=0.3, torn_cups=(2,)).active == ("torn_cups", "dark")


def test_unseen_packaging_raises_the_share() -> None:
    config = ScenarioConfig(description="a", faults=Faults(unseen_packaging=0.4))
    assert config.mix.unseen_fraction == 0.0
    assert config.parcel_mix.unseen_fraction == 0.4


def test_a_fault_of_a_cup_that_the_tool_lacks_is_refused_before_the_first_pile() -> None:
    four = CellConfig(tool=ToolConfig(cup_centres_m=((0, 0), (0.05, 0), (0, 0.05), (0.05, 0.05))))
    with pytest.raises(RobinError, match=r"torn_cups names cup 6, the cell's tool has cups 0 to 3") as caught:
        RunRequest("torn_cup", 1, 1, masks="oracle", cell=four).checked()
    assert caught.value.code is Code.CONFIG_OUT_OF_RANGE
    assert RunRequest("blocked_cup", 1, 1, masks="oracle", cell=four).checked().loaded.config.faults.blocked_cups == (
        1,
    )
