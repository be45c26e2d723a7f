"""What ``robin eval film`` counts: places on clear bags, bags and other parcels."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers.training_scenes import CAMERA_HEIGHT_M, write_toy_dataset

from robin_perception.core.errors import Code, RobinError
from robin_perception.core.frame import Frame
from robin_perception.core.image_folder import load_labels, save_film
from robin_perception.core.scene import Instance, Scene
from robin_perception.evaluation.film import evaluate_film
from robin_perception.segmentation.film import film_design

OVER_M = 0.03  # of film over the depth that is seen


def tops(folder: Path) -> dict[int, float]:
    """Depth of each toy box, by id; its film is OVER_M nearer."""
    return {
        int(k): CAMERA_HEIGHT_M - 0.04 - 0.02 * (int(k) - 1) for k in np.unique(load_labels(folder)) if 0 < k < 65535
    }


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Boxes of which those with odd numbers are film."""
    folder = write_toy_dataset(tmp_path_factory.mktemp("figures") / "data", 2, boxes=4)
    for scene in (folder / "000000", folder / "000001"):
        labels, film = load_labels(scene), np.zeros((384, 512), dtype=np.float32)
        for number, depth in tops(scene).items():
            if number % 2:
                film[labels == number] = depth - OVER_M
        save_film(scene, film)
    return folder


def teller(data: Path, off_m: float, opaque_too: bool = False):  # type: ignore[no-untyped-def]
    """Masks as labelled; film is told ``off_m`` too deep."""
    scenes = iter(sorted(path for path in data.iterdir() if path.name.isdigit()))

    def see(frame: Frame) -> Scene:
        folder = next(scenes)
        labels = load_labels(folder)
        instances = []
        for number, depth in tops(folder).items():
            v, u = np.nonzero(labels == number)
            box = (int(u.min()), int(v.min()), int(u.max()) + 1, int(v.max()) + 1)
            face = (depth - OVER_M + off_m, 0.0, 0.0, 0.0, 0.0, 0.0) if number % 2 or opaque_too else ()
            votes, none = np.zeros(5, dtype=np.float32), np.zeros(0, dtype=np.float32)
            instances.append(Instance(number, box, len(v), votes, 0.9, 0.9, 1.0, 0.5, none, film_depth=face))
        labels = np.where(labels == 65535, 0, labels).astype(np.uint16)
        return Scene(frame.stamp_s, "toy", labels, tuple(instances), np.zeros((96, 128), dtype=np.float32))

    return see


def test_a_face_that_is_right_is_counted_right_and_what_is_seen_is_not(data: Path) -> None:
    found = evaluate_film(teller(data, 0.0), data)
    assert found["scenes"] == 2 and found["places"] > 10
    assert found["faces"]["film"]["right"]["rate"] == 1.0 and found["faces"]["film"]["height_mm_p50"] < 0.5
    assert found["faces"]["seen"]["right"]["rate"] == 0.0
    assert found["faces"]["seen"]["height_mm_p50"] == pytest.approx(30, abs=1)
    assert found["told"]["rate"] == 1.0 and found["wrongly_told"]["count"] == 0 and found["opaque_parcels"] > 0


def test_a_face_that_is_off_is_not(data: Path) -> None:
    found = evaluate_film(teller(data, 0.008), data)
    assert found["faces"]["film"]["right"]["rate"] == 0.0
    assert found["faces"]["film"]["height_mm_p50"] == pytest.approx(8, abs=0.5)
    assert evaluate_film(teller(data, 0.004), data)["faces"]["film"]["right"]["rate"] == 1.0


def test_film_on_other_parcels_is_told(data: Path) -> None:
    found = evaluate_film(teller(data, 0.0, opaque_too=True), data)
    assert found["wrongly_told"]["rate"] == 1.0


def test_goods_that_no_instance_shows_are_not_counted(data: Path) -> None:
    see = teller(data, 0.0)

    def blind(frame: Frame) -> Scene:
        scene = see(frame)
        return replace(scene, labels=np.zeros_like(scene.labels), instances=())

    found = evaluate_film(blind, data)
    assert found["film_parcels"] == found["places"] == 0
    assert found["faces"]["film"]["height_mm_p50"] is None


def test_a_data_set_without_film_is_named(tmp_path: Path) -> None:
    bare = write_toy_dataset(tmp_path / "bare", 1)
    with pytest.raises(RobinError, match=r"no scene with a film\.png") as caught:
        evaluate_film(lambda frame: None, bare)  # type: ignore[arg-type,return-value]
    assert caught.value.code is Code.INPUT_MISSING


def test_the_design_is_minus_one_to_one_across_the_box() -> None:
    box = (10, 20, 31, 61)
    u, v = film_design(np.array([10.0, 20.0, 30.0]), np.array([20.0, 40.0, 60.0]), box)[:, 1:3].T
    assert u == pytest.approx([-20 / 21, 0, 20 / 21]) and v == pytest.approx([-40 / 41, 0, 40 / 41])
