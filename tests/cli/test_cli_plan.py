"""``robin plan`` end to end on a small bundle."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from helpers.cli_helpers import HEIGHT, WIDTH, Robin, colours, left_over, pickable_folder

from robin_cli.commands.plan_run import workspace_of
from robin_grasp.grasp_overlay import OPEN_CUP
from robin_perception.core.errors import Code
from robin_perception.core.image_folder import load_frame


@pytest.fixture
def robin(capsys: pytest.CaptureFixture[str]) -> Robin:
    return Robin(capsys)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return colours(tmp_path_factory.mktemp("models") / "colours")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return pickable_folder(tmp_path / "scene")


def test_a_picture_gives_masks_grasps_and_files(robin: Robin, folder: Path, model: Path, tmp_path: Path) -> None:
    done = robin("plan", "--folder", folder, "--model", model, "--out", tmp_path / "out", "--planner", "geometric")
    assert done.status == 0
    assert sorted(left_over(tmp_path / "out")) == ["depth.png", "masks.png", "overlay.png", "plan.json"]
    answer = json.loads((tmp_path / "out/plan.json").read_text())
    assert {"code", "message", "model", "instances", "grasps"} <= answer.keys()
    assert answer["code"] == 0
    assert len(answer["instances"]) == 12
    assert answer["frame"]["pose_source"] == "camera_file"
    best = answer["grasps"][0]
    assert {"instance", "position_m", "quaternion_xyzw", "cups", "score", "terms"} <= best.keys()
    assert best["position_m"][2] == pytest.approx(0.08, abs=0.01)
    assert best["cups"] and set(best["cups"]) <= set(range(8))
    assert np.linalg.norm(best["quaternion_xyzw"]) == pytest.approx(1.0, abs=1e-4)
    masks = cv2.imread(str(tmp_path / "out/masks.png"), cv2.IMREAD_UNCHANGED)
    assert masks.dtype == np.uint16 and set(np.unique(masks)) == set(range(13))
    overlay = cv2.imread(str(tmp_path / "out/overlay.png"))
    assert overlay.shape == (HEIGHT, WIDTH, 3)
    assert (overlay == OPEN_CUP[::-1]).all(axis=2).sum() > 10


def test_three_files_give_the_same_as_their_folder(robin: Robin, folder: Path, model: Path, tmp_path: Path) -> None:
    files = ("--color", folder / "color.png", "--depth", folder / "depth.png", "--camera", folder / "camera.json")
    common = ("--model", model, "--planner", "geometric")
    assert robin("plan", *files, *common, "--out", tmp_path / "a", "--json", tmp_path / "j/a.json").status == 0
    assert robin("plan", "--folder", folder, *common, "--out", tmp_path / "b").status == 0
    first, second = (json.loads((tmp_path / name / "plan.json").read_text()) for name in "ab")
    assert first["grasps"] == second["grasps"]
    assert json.loads((tmp_path / "j/a.json").read_text()) == first


def test_without_a_pose_the_support_plane_is_used(robin: Robin, folder: Path, model: Path, tmp_path: Path) -> None:
    camera = json.loads((folder / "camera.json").read_text())
    del camera["T_base_camera"]
    (folder / "camera.json").write_text(json.dumps(camera))
    done = robin("plan", "--folder", folder, "--model", model, "--out", tmp_path / "out", "--planner", "geometric")
    assert done.status == 0
    assert "support plane" in done.err
    answer = json.loads((tmp_path / "out/plan.json").read_text())
    assert answer["frame"]["pose_source"] == "support_plane"
    assert answer["grasps"][0]["position_m"][2] == pytest.approx(0.08, abs=0.01)


def test_the_workspace_of_a_picture_is_what_it_shows(folder: Path) -> None:
    workspace = workspace_of(load_frame(folder))
    seen = (WIDTH / (0.9 * WIDTH) * 1.2, HEIGHT / (0.9 * WIDTH) * 1.2)
    assert workspace.size_m == pytest.approx(seen, rel=0.12)
    assert workspace.centre_m == pytest.approx((0.75, 0.0), abs=0.02)
    assert workspace.reach_min_m == 0.0


def test_no_parcel_is_an_answer_with_a_reason(robin: Robin, folder: Path, model: Path, tmp_path: Path) -> None:
    cv2.imwrite(str(folder / "color.png"), np.zeros((HEIGHT, WIDTH, 3), np.uint8))
    done = robin("plan", "--folder", folder, "--model", model, "--out", tmp_path / "out", "--planner", "geometric")
    assert done.status == 0
    assert "no grasp: E301 NO_INSTANCE" in done.out
    answer = json.loads((tmp_path / "out/plan.json").read_text())
    assert (answer["code"], answer["grasps"]) == (int(Code.NO_INSTANCE), [])
    assert answer["message"]


def test_files_of_an_earlier_plan_are_replaced_and_others_kept(
    robin: Robin, folder: Path, model: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "notes.txt").write_text("mine")
    (out / "plan.json").write_text("old")
    assert robin("plan", "--folder", folder, "--model", model, "--out", out, "--planner", "geometric").status == 0
    assert json.loads((out / "plan.json").read_text())["code"] == 0
    assert (out / "notes.txt").read_text() == "mine"
    assert not [name for name in left_over(tmp_path) if name.endswith(".tmp")]
