"""Lessons from labels that are wrong, taught to the shipped head and put before the gate.

The labels that judge come from where the taught ones came from, so they are as wrong. The place is one where the
network takes pictures on the belt for parcels, so that there is something true to learn, too.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from helpers.teach_samples import lesson_of
from helpers.training_scenes import write_toy_dataset
from numpy.typing import NDArray

from edge_adapt.learn.see_job import QuickConfig
from edge_adapt.models.gate import Compared, GateConfig, GateVerdict, judge_candidate
from edge_adapt.training.teach_head import Lesson, teach_head
from robin_perception.core.errors import Code
from robin_perception.core.image_folder import load_frame, load_labels, load_scene_info, scene_folders
from robin_perception.engines import EngineConfig
from robin_perception.evaluation.evaluate import Prediction, SceneResult, compare, segmenter_predictor
from robin_perception.model.bundle import load_bundle
from robin_perception.segmentation.segmenter import Segmenter, load_segmenter

BASE = Path(__file__).resolve().parents[2] / "models" / "base"
TAUGHT, JUDGED = 9, 7
QUICK = QuickConfig(steps=24, batch=4, learning_rate=0.002)
GATE = GateConfig(site_frames=2, site_parcels=8, core_frames=5, replicates=200)
CAMERA_PX = (8, 6)  # down and to the right: ten pixels

Labels = NDArray[np.unsignedinteger]
Poison = Callable[[list[Labels]], list[Labels]]


def right(frames: list[Labels]) -> list[Labels]:
    return frames


def of_other_picks(frames: list[Labels]) -> list[Labels]:
    """Frames after were shuffled: each has the labels of another."""
    return frames[1:] + frames[:1]


def of_wrong_masks(frames: list[Labels]) -> list[Labels]:
    """The pick check calls misses clean: half of the labels are masks of nothing, beside their parcels."""
    return [_astray(labels, np.random.default_rng([5, number])) for number, labels in enumerate(frames)]


def _astray(labels: Labels, rng: np.random.Generator) -> Labels:
    found = labels.copy()
    for label in _ids(labels):
        if rng.random() < 0.5:
            mask = labels == label
            found[mask] = 0
            found[np.roll(mask, tuple(rng.integers(-150, 150, 2)), (0, 1)) & (found == 0)] = label
    return found


def of_two_parcels(frames: list[Labels]) -> list[Labels]:
    """The pick check calls doubles clean: every label is of two parcels."""
    merged = [labels.copy() for labels in frames]
    for labels in merged:
        ids = _ids(labels)
        for one, other in zip(ids[::2], ids[1::2], strict=False):
            labels[labels == other] = one
    return merged


def of_a_moved_camera(frames: list[Labels]) -> list[Labels]:
    return [np.roll(labels, CAMERA_PX, (0, 1)) for labels in frames]


def _ids(labels: Labels) -> list[int]:
    return [int(label) for label in np.unique(labels) if 0 < label < min(255, np.iinfo(labels.dtype).max)]


def add_pictures(folder: Path, rng: np.random.Generator) -> None:
    """Rectangles of the size of parcels, printed on the belt."""
    rgb, labels = cv2.imread(str(folder / "color.png")), load_labels(folder)
    printed = rgb.copy()
    for _ in range(14):
        centre, size = rng.uniform((0, 0), (512, 384)), rng.uniform(45, 110, 2)
        corners = cv2.boxPoints((centre.tolist(), size.tolist(), float(rng.uniform(0, 180)))).astype(np.int32)
        cv2.fillPoly(printed, [corners], rng.integers(40, 250, 3).tolist())
        cv2.polylines(printed, [corners], True, (20, 20, 20), 2)
    cv2.imwrite(str(folder / "color.png"), np.where((labels == 0)[..., None], printed, rgb))


@dataclass
class Place:
    """The taught lessons, and what the factory's model sees on the frames that judge."""

    segmenter: Segmenter
    site: Lesson
    core: Lesson
    judged: dict[str, list[Path]]
    before: dict[str, list[Prediction]]

    def seen(self) -> dict[str, list[Prediction]]:
        predict = segmenter_predictor(self.segmenter)
        return {name: [predict(load_frame(folder)) for folder in folders] for name, folders in self.judged.items()}

    def results(self, seen: dict[str, list[Prediction]], name: str, poison: Poison) -> list[SceneResult]:
        folders = self.judged[name]
        found = []
        truths = poison([load_labels(folder) for folder in folders])
        for prediction, labels, folder in zip(seen[name], truths, folders, strict=True):
            info, ids = load_scene_info(folder), _ids(labels)
            kept = [row for row in info["instances"] if row["id"] in ids]
            found.append(compare(prediction, labels, {**info, "instances": kept}))
        return found

    def taught_with(self, poison: Poison) -> dict[str, list[Prediction]]:
        """What the head that learned from poisoned labels sees."""
        factory, scenes = load_bundle(BASE), []
        for scene, labels in zip(self.site.scenes, poison([s.labels for s in self.site.scenes]), strict=True):
            ids = _ids(labels)
            kept = tuple(one for one in scene.instances if one.id in ids)
            scenes.append(replace(scene, labels=labels, instances=kept))
        head = teach_head(factory, Lesson(scenes, self.site.maps), self.core, QUICK, 0, lambda *_: None)
        self.segmenter.set_head(head)
        return self.seen()

    def verdict(self, after: dict[str, list[Prediction]], poison: Poison, config: GateConfig = GATE) -> GateVerdict:
        site = Compared(self.results(self.before, "site", poison), self.results(after, "site", poison))
        core = Compared(self.results(self.before, "core", right), self.results(after, "core", right))
        return judge_candidate(site, core, None, np.random.default_rng(0), config)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    folder, lessons, judged = tmp_path_factory.mktemp("place"), {}, {}
    for name, seed, boxes in (("core", 11, 8), ("site", 12, 6)):
        data = write_toy_dataset(folder / name, TAUGHT + JUDGED, seed, boxes)
        if name == "site":
            for number, scene in enumerate(scene_folders(data)):
                add_pictures(scene, np.random.default_rng([3, number]))
        judged[name] = scene_folders(data)[TAUGHT:]
        lessons[name] = lesson_of(data, load_bundle(BASE), folder / f"features-{name}", TAUGHT)
    segmenter = load_segmenter(BASE, "onnxruntime", engine_config=EngineConfig(intra_threads=1))
    made = Place(segmenter, lessons["site"], lessons["core"], judged, {})
    made.before = made.seen()
    return made


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_right_labels_pass(place: Place) -> None:
    """The checks below can fail, those with a higher site figure too."""
    assert place.verdict(place.taught_with(right), right, GATE.model_copy(update={"least_site": 0.8})).accepted


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("poison", [of_other_picks, of_two_parcels])
def test_poisoned_labels_are_refused(place: Place, poison: Poison) -> None:
    verdict = place.verdict(place.taught_with(poison), poison)
    assert verdict.code is Code.CANDIDATE_REFUSED, verdict.text


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize(("poison", "least_site"), [(of_wrong_masks, 0.65), (of_a_moved_camera, 0.8)])
def test_what_is_partly_right_is_refused_or_does_no_harm(place: Place, poison: Poison, least_site: float) -> None:
    """What such labels say of the background is right. Where the head passes it is better than the factory's by true
    labels, too, and on the core set no worse. A site figure that true labels reach finds them out."""
    after = place.taught_with(poison)
    verdict = place.verdict(after, poison)
    assert not verdict.accepted or place.verdict(after, right).accepted, verdict.text
    strict = GATE.model_copy(update={"least_site": least_site})
    assert not place.verdict(after, poison, strict).accepted
