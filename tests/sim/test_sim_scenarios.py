"""Scenarios and faults: what is registered, what is refused, and that draws follow the seed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from robin_grasp.tool import CellConfig, ToolConfig, WorkspaceConfig
from robin_perception.core.errors import Code, RobinError
from robin_sim.faults import Faults
from robin_sim.new_surfaces import NEW_SURFACES
from robin_sim.open_pile import OpenPile
from robin_sim.runs.request import RunRequest
from robin_sim.scenario import CameraConfig, CountRange, ScenarioConfig, draw_pile_start, load_scenario, scenario_names
from robin_sim.sensor import SensorModelConfig
from robin_sim.surroundings import draw_surroundings

EXPECTED = {
    "mixed", "belt", "tote", "flush", "stacked", "bags", "black_bags", "clear_bags", "new_print", "dark", "blur",
    "dirty_lens", "moved_camera", "depth_holes", "blocked_cup", "torn_cup", "new_cell",
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
        ("description: a\ncamera: {least_tilt_rad: 0.5}\n", Code.CONFIG_OUT_OF_RANGE, "least_tilt_rad 0.5 is above"),
        ("description: a\ncamera: {stereo: {dropout: [1, 9]}}\n", Code.CONFIG_OUT_OF_RANGE, "dropout"),
        ("description: a\ncamera: {stereo: {speckle: [0.1, 0]}}\n", Code.CONFIG_OUT_OF_RANGE, "camera.stereo"),
        ("description: a\nsurroundings: old\n", Code.CONFIG_OUT_OF_RANGE, "surroundings"),
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


def test_a_new_cell_is_one_cell_for_all_piles_of_a_seed_and_another_for_the_next() -> None:
    scenario = load_scenario("new_cell").config
    few = scenario.model_copy(
        update={"belt_parcels": CountRange(least=1, most=2), "arrangements": {"single_layer": 1.0}}
    )
    opened = {(seed, pile): OpenPile(few, CellConfig(), seed, pile) for seed in (1, 2) for pile in (0, 1)}
    for pile in opened.values():
        pile.remove(pile.pile.parcels)
    looks = {key: pile.look() for key, pile in opened.items()}
    poses = {key: frame.T_base_camera for key, frame in looks.items()}
    assert np.array_equal(poses[1, 0], poses[1, 1]) and not np.array_equal(poses[1, 0], poses[2, 0])
    truth = {key: pile.truth[0] for key, pile in opened.items()}
    assert np.array_equal(truth[1, 0].rgb, truth[1, 1].rgb), "belt, hall and light"
    assert not np.array_equal(truth[1, 0].rgb, truth[2, 0].rgb)
    assert not np.array_equal(looks[1, 0].depth, looks[1, 1].depth), "the camera's noise is another one"
    for frame in looks.values():
        tilt = np.arccos(-frame.T_base_camera[2, 2])
        assert scenario.camera.least_tilt_rad - 0.01 <= tilt <= scenario.camera.max_tilt_rad + 0.01


def test_the_support_of_a_new_cell_is_none_that_training_draws() -> None:
    for seed in range(8):
        around = draw_surroundings(np.random.default_rng(seed), load_scenario("new_cell").config, WorkspaceConfig())
        assert around.background.kind in NEW_SURFACES
        (lamp,) = around.lighting.lights
        rise = lamp.position_m[2] / np.linalg.norm(lamp.position_m - (0.75, 0.0, 0.0))
        assert 0.2 < rise < np.sin(np.radians(22)), "lower than those of training"


def test_a_camera_is_as_poor_as_the_scenario_says() -> None:
    camera = load_scenario("new_cell").config.camera
    drawn = [camera.draw_sensor(np.random.default_rng(seed)).stereo for seed in range(20)]
    for key in ("disparity_noise_px", "dropout", "speckle"):
        low, high = getattr(camera.stereo, key)
        values = [getattr(stereo, key) for stereo in drawn]
        assert low <= min(values) < max(values) <= high
    assert CameraConfig().draw_sensor(np.random.default_rng(0)) == SensorModelConfig(), "usual cells have the usual one"


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
