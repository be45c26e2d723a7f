"""The features that a pick is judged by, on picks made by hand; and what is said of each thing that is missing."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers.grasp_scenes import Box
from helpers.judged_picks import OTHER, TARGET, WEIGHT_N, grasp, load_view, outcome, scene_of, traces

from robin_grasp.picks.outcome import PickOutcome, PickResult
from robin_grasp.picks.pick_features import FEATURE_GROUPS, FEATURES, PickEvidence, pick_evidence
from robin_grasp.picks.traces import LoadView, PickTraces
from robin_grasp.tool import CellConfig
from robin_perception.core.code_texts import CODE_TEXTS
from robin_perception.core.errors import Code, RobinError
from robin_perception.core.frame import Frame
from robin_perception.core.scene import Scene

BEFORE, SCENE = scene_of()
ALONE = (0.0, 0.0, 0.20, 0.16, 0.10)
BESIDE = (0.0, -0.17, 0.20, 0.16, 0.10)  # the tool's y axis runs against base y


def evidence(
    after: Frame | None = None, made: PickOutcome | None = None, see: object = None, picked: object = None
) -> PickEvidence:
    made = made or outcome(traces=traces(), load=load_view([ALONE]))
    return pick_evidence(picked or grasp(), SCENE, BEFORE, after, made, CellConfig(), see)  # type: ignore[arg-type]


def without(*boxes: Box) -> Frame:
    """The frame after, with the other boxes gone."""
    return scene_of([box for box in (TARGET, OTHER) if box not in boxes])[0]


def test_every_feature_is_told_and_described() -> None:
    found = evidence(without(TARGET), see=lambda frame: replace(SCENE, labels=SCENE.labels[:384, :512]))
    assert set(found.values) == set(FEATURES)
    assert found.groups == tuple(FEATURE_GROUPS)
    assert found.lacks == ()
    assert all(text and not text.endswith(".") for text in FEATURES.values())
    assert not np.isnan(found.row()).any()


def test_figures_of_the_tool() -> None:
    found = evidence(made=outcome(2 * WEIGHT_N, cups=(0, 1))).values
    assert found["cups_open"] == 8 and found["held_share"] == 0.25
    assert found["log_load"] == pytest.approx(math.log(2), abs=0.01)
    assert math.isnan(evidence(made=outcome(), picked=grasp(mass_kg=0.0)).values["log_load"])


def test_traces_tell_when_a_cup_let_go_and_what_fell() -> None:
    found = evidence(
        made=outcome(traces=traces({0: 0.5, 1: 1.5, 2: 1.5}, [(0.0, WEIGHT_N), (1.5, WEIGHT_N / 2)]))
    ).values
    assert found["gripped_share"] == 1.0
    assert (found["lost_in_lift"], found["lost_in_transfer"]) == (1, 2)
    assert found["held_at_end_share"] == pytest.approx(5 / 8)
    assert found["arrive_share"] == pytest.approx(0.5, abs=0.01)
    assert found["lost_n"] == pytest.approx(WEIGHT_N / 2, abs=0.05)
    assert found["fall_n"] == pytest.approx(WEIGHT_N / 2, abs=0.2)
    kept = evidence(made=outcome(traces=traces())).values
    assert kept["lost_in_transfer"] == kept["fall_n"] == kept["lost_n"] == 0


def test_a_pick_that_gripped_nothing_has_traces_without_a_lift() -> None:
    made = traces(dict.fromkeys(range(8), 0.0), [(0.0, 0.0)])
    marks = {"vacuum": 0, "weigh": 20}
    found = evidence(made=outcome(0.0, (), PickTraces(made.rate_hz, made.vacuum_pa, made.weight_n, marks)))
    assert "traces" in found.groups and found.values["gripped_share"] == 0.0
    assert math.isnan(found.values["lift_pull"])


def test_frames_tell_what_sank_where() -> None:
    target_gone = evidence(without(TARGET)).values
    assert target_gone["target_sunk"] > 0.97 and target_gone["neighbour_sunk"] < 0.02
    assert target_gone["target_sunk_l"] == pytest.approx(0.20 * 0.16 * 0.10 * 1e3, rel=0.2)
    assert abs(target_gone["sunk_ratio"]) < 0.2
    both = evidence(without(TARGET, OTHER))
    assert both.values["neighbour_sunk"] > 0.97 and both.neighbours_gone == (2,)
    assert both.values["touching_gone_dm2"] == pytest.approx(3.2, rel=0.2)
    other = evidence(without(OTHER)).values
    assert other["target_changed"] < 0.02 and other["target_kept"] > 0.97 and other["neighbour_sunk"] > 0.97


def test_a_thin_parcel_is_told_by_its_colour() -> None:
    """8 mm of height are less than what depth can tell."""
    flat = Box(0.75, 0.0, 0.25, 0.2, 0.008)
    before, scene = scene_of([flat])
    white = before.rgb.copy()
    white[scene.labels == 1] = 230
    bare, _ = scene_of([])
    found = pick_evidence(grasp(), scene, replace(before, rgb=white), bare, outcome(), CellConfig()).values
    assert found["target_sunk"] < 0.1 and found["target_changed"] > 0.9


def test_film_that_is_gone_is_told_by_depth_that_comes_back_and_by_its_colour() -> None:
    """Through film depth sees what is under it, or nothing: nothing sinks when it is taken away."""
    bare, _ = scene_of([OTHER])
    mask = SCENE.labels == 1
    lost = mask & (np.indices(mask.shape)[1] % 2 == 0)
    film = replace(
        BEFORE,
        rgb=np.where(mask[..., None], np.clip(bare.rgb.astype(int) + 12, 0, 255), BEFORE.rgb).astype(np.uint8),
        depth=np.where(lost, np.float32(0), np.where(mask, bare.depth, BEFORE.depth)),
    )
    gone = pick_evidence(grasp(), SCENE, film, bare, outcome(), CellConfig()).values
    assert gone["target_sunk"] == 0 and gone["target_changed"] < 0.02 and gone["target_kept"] > 0.98
    assert gone["target_blind"] == gone["target_regained"] == pytest.approx(0.5, abs=0.02)
    assert gone["target_colour"] == pytest.approx(12, abs=1)
    stays = pick_evidence(grasp(), SCENE, film, film, outcome(), CellConfig()).values
    assert stays["target_blind"] == gone["target_blind"] and stays["target_regained"] == stays["target_colour"] == 0


def test_a_look_tells_the_target_alone_from_two() -> None:
    alone = evidence().values
    assert alone["overlap"] > 0.85 and alone["outside_share"] < 0.05 and alone["missing_share"] < 0.02
    assert alone["rectangularity"] > 0.9 and abs(alone["area_ratio"]) < 0.1
    assert alone["hang_m"] == pytest.approx(0.10, abs=0.005)
    assert (alone["long_ratio"], alone["short_ratio"]) == pytest.approx((1, 1), abs=0.1)
    both = evidence(made=outcome(load=load_view([ALONE, BESIDE]))).values
    assert both["outside_share"] > 0.4 and both["other_under"] > 0.8 and both["area_ratio"] > 0.5
    other = evidence(made=outcome(load=load_view([BESIDE]))).values
    assert other["missing_share"] > 0.9 and other["overlap"] < 0.1


def test_what_hangs_beside_counts_as_the_neighbour_only_if_that_changed() -> None:
    made = outcome(load=load_view([ALONE, BESIDE]))
    assert evidence(without(TARGET, OTHER), made).values["other_gone_under"] > 0.8
    assert evidence(without(TARGET), made).values["other_gone_under"] < 0.05


def test_parts_of_a_load_are_told_apart_by_depth_and_by_gaps() -> None:
    deeper = (BESIDE[0], -0.19, *BESIDE[2:4], 0.16)
    step = evidence(made=outcome(load=load_view([ALONE, (BESIDE[0], -0.161, *BESIDE[2:4], 0.16)]))).values
    assert step["second_part_share"] > 0.3 and step["blobs"] == 1 and step["off_plane_share"] > 0.3
    gap = evidence(made=outcome(load=load_view([ALONE, deeper]))).values
    assert gap["blobs"] == 2 and gap["second_blob_share"] > 0.3


def halves(frame: Frame) -> Scene:
    """A network that sees two parcels side by side."""
    labels = np.zeros(frame.depth.shape, np.uint16)
    shown = frame.depth > 0
    columns = np.nonzero(shown.any(axis=0))[0]
    middle = int(columns.mean())
    labels[:, :middle][shown[:, :middle]] = 1
    labels[:, middle:][shown[:, middle:]] = 2
    both = tuple(replace(i, id=k, detection=0.9) for k, i in enumerate(SCENE.instances[:2], start=1))
    return replace(SCENE, labels=labels, instances=both)


def seam(strength: float) -> Callable[[Frame], Scene]:
    """A network that sees one parcel with a line of boundary across its middle, as strong as told."""

    def see(frame: Frame) -> Scene:
        labels = (frame.depth > 0).astype(np.uint16)
        columns = np.nonzero(labels.any(axis=0))[0]
        boundary = np.zeros((frame.height // 4, frame.width // 4), dtype=np.float32)
        boundary[:, int(columns.mean()) // 4] = strength
        return replace(SCENE, labels=labels, instances=(replace(SCENE.instances[0], id=1),), boundary=boundary)

    return see


def test_the_network_counts_what_hangs() -> None:
    found = evidence(see=halves).values
    assert found["load_instances"] == 2
    assert found["second_instance_share"] == pytest.approx(0.5, abs=0.1)
    assert found["second_instance_detection"] == 0.9


def test_cups_that_hang_on_nothing_of_the_largest_instance_are_counted() -> None:
    assert evidence(see=halves).values["held_beside_first"] == 4
    assert evidence(see=seam(0.0)).values["held_beside_first"] == 0
    two = evidence(made=outcome(cups=(0, 1), load=load_view([ALONE])), see=halves).values
    assert two["held_beside_first"] <= 2
    far = (0.30, 0.0, 0.05, 0.05, 0.10)
    assert evidence(made=outcome(load=load_view([far]))).values["held_beside_load"] == 8
    assert evidence().values["held_beside_load"] == 0


def test_a_boundary_that_all_but_parts_a_load_is_told() -> None:
    weak, none = evidence(see=seam(0.3)).values, evidence(see=seam(0.0)).values
    assert weak["load_instances"] == none["load_instances"] == 1
    assert weak["boundary_line"] == pytest.approx(0.3, abs=0.02) and none["boundary_line"] == 0
    assert weak["boundary_part_share"] > 0.4 and none["boundary_part_share"] == 0
    assert evidence(see=seam(0.1)).values["boundary_part_share"] == 0
    empty = evidence(made=outcome(load=load_view([])), see=lambda f: replace(SCENE, labels=f.depth.astype(np.uint16)))
    assert math.isnan(empty.values["boundary_line"])


def test_a_load_of_which_a_part_was_lost_is_not_judged_by_what_was_left() -> None:
    def lost(share: float) -> PickEvidence:
        weights = [(0.0, WEIGHT_N), (1.5, (1 - share) * WEIGHT_N)]
        return evidence(made=outcome(traces=traces({}, weights), load=load_view([ALONE])))

    half = lost(0.5)
    assert half.values["shed_n"] == pytest.approx(WEIGHT_N / 2, abs=0.05)
    assert "load" not in half.groups and "were lost on the way" in lacks(half)[Code.LOAD_VIEW_UNUSABLE]
    noise = lost(0.3 / WEIGHT_N)
    assert noise.values["shed_n"] == 0 and "load" in noise.groups


def test_the_network_is_shown_the_load_as_if_it_lay_on_a_belt() -> None:
    shown: list[Frame] = []

    def keep(frame: Frame) -> Scene:
        shown.append(frame)
        return replace(SCENE, labels=np.zeros(frame.depth.shape, np.uint16), instances=())

    evidence(see=keep)
    frame = shown[0].validated()
    middle = frame.depth[frame.height // 2, frame.width // 2]
    at = frame.T_base_camera @ np.array([0.0, 0.0, middle, 1.0])
    assert at[2] == pytest.approx(0.10, abs=0.005)  # as high as the box that hangs so deep
    assert frame.T_base_camera[2, 3] == pytest.approx(1.2)


def test_an_empty_tool_has_no_load() -> None:
    found = evidence(made=outcome(load=load_view([]))).values
    assert found["load_dm2"] == 0 and math.isnan(found["overlap"])


def lacks(found: PickEvidence) -> dict[Code, str]:
    return {lack.code: lack.text for lack in found.lacks}


def test_everything_missing_is_named() -> None:
    found = evidence(made=outcome())
    assert found.groups == ("tool",)
    assert set(lacks(found)) == {Code.TRACES_MISSING, Code.FRAME_AFTER_MISSING, Code.LOAD_VIEW_MISSING}
    told = {name for name, value in found.values.items() if not math.isnan(value)}
    assert told <= set(FEATURE_GROUPS["tool"])
    assert all(code in CODE_TEXTS for code in lacks(found))


@pytest.mark.parametrize(
    ("spoil", "text"),
    [
        (lambda f: replace(f, camera_id="other"), "of camera 'other'"),
        (lambda f: replace(f, rgb=f.rgb[:240], depth=f.depth[:240]), "640x240"),
        (lambda f: replace(f, T_base_camera=f.T_base_camera @ _shift(0.004)), "moved by 4.0 mm"),
        (lambda f: replace(f, K=f.K * [[1.01, 1, 1], [1, 1, 1], [1, 1, 1]]), "intrinsics"),
    ],
)
def test_a_frame_of_another_camera_is_not_compared(spoil: object, text: str) -> None:
    found = evidence(spoil(without(TARGET)))  # type: ignore[operator]
    assert text in lacks(found)[Code.FRAME_AFTER_UNUSABLE]
    assert "change" not in found.groups and math.isnan(found.values["target_sunk"])


def _shift(by_m: float) -> np.ndarray:
    pose = np.eye(4)
    pose[0, 3] = by_m
    return pose


@pytest.mark.parametrize(
    ("spoil", "text"),
    [
        (lambda t: replace(t, vacuum_pa=t.vacuum_pa[:, :4]), "the tool has 8 cups"),
        (lambda t: replace(t, weight_n=t.weight_n[:-7]), "100 samples of vacuum, 93 of weight"),
        (lambda t: replace(t, rate_hz=0.0), "0 samples a second"),
        (lambda t: replace(t, rate_hz=math.nan), "samples a second"),
        (lambda t: replace(t, marks={"lift": 10}), "marks"),
        (lambda t: replace(t, marks={**t.marks, "arrive": 100}), "marks"),
        (lambda t: replace(t, marks={**t.marks, "weigh": 99, "transfer": 20}), "marks"),
        (lambda t: replace(t, weight_n=t.weight_n * np.float32(math.nan)), "not finite"),
    ],
)
def test_traces_that_do_not_fit_are_not_read(spoil: object, text: str) -> None:
    found = evidence(made=outcome(traces=spoil(traces())))  # type: ignore[operator]
    assert text in lacks(found)[Code.TRACES_INVALID]
    assert "traces" not in found.groups and math.isnan(found.values["arrive_n"])


@pytest.mark.parametrize(
    ("spoil", "text"),
    [
        (lambda v: replace(v, T_base_tool=np.ones((4, 4))), "no rigid one"),
        (lambda v: replace(v, frame=replace(v.frame, T_base_camera=v.T_base_tool)), "does not look at them"),
        (lambda v: replace(v, T_base_tool=v.T_base_tool @ _shift(3.0)), "outside"),
        (lambda v: replace(v, frame=replace(v.frame, depth=v.frame.depth[:10])), "differ in size"),
        (lambda v: replace(v, frame=replace(v.frame, depth=v.frame.depth * np.float32(math.nan))), "NaN"),
    ],
)
def test_a_look_that_cannot_be_used_is_not(spoil: object, text: str) -> None:
    view: LoadView = spoil(load_view([ALONE]))  # type: ignore[operator]
    found = evidence(made=outcome(load=view))
    assert text in lacks(found)[Code.LOAD_VIEW_UNUSABLE]
    assert "load" not in found.groups and math.isnan(found.values["load_dm2"])


def test_result_and_truth_are_never_read() -> None:
    made = outcome(traces=traces(), load=load_view([ALONE]))
    other = replace(made, result=PickResult.MULTI, truth={"lifted": [1, 2]})
    assert np.array_equal(evidence(without(TARGET), made).row(), evidence(without(TARGET), other).row(), equal_nan=True)


def test_a_grasp_of_another_scene_is_refused() -> None:
    with pytest.raises(RobinError, match="no instance 7") as caught:
        evidence(picked=replace(grasp(), instance_id=7))
    assert caught.value.code is Code.OUTCOME_INVALID


def test_the_page_tells_every_feature() -> None:
    page = (Path(__file__).resolve().parents[2] / "docs/pick-check.md").read_text()
    for name, text in FEATURES.items():
        assert f"| `{name}` | {text} |" in page
