"""The figures that the gate judges by: two models on the same labelled frames, on the ordinary way of a frame."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_adapt.labels.label import MaskLabel
from edge_adapt.models.gate import Compared, Times
from robin_perception.core.frame import Frame
from robin_perception.core.image_folder import IGNORE_LABEL, load_frame, load_labels, load_scene_info, scene_folders
from robin_perception.engines.base import Engine, Tensors
from robin_perception.engines.head_swap import same_network
from robin_perception.evaluation.evaluate import compare, segmenter_predictor
from robin_perception.model.bundle import CalibrationTables
from robin_perception.model.calibration import collect, fit_tables, joined
from robin_perception.segmentation.segmenter import Segmenter

_PAUSE_S = 0.002  # between two timed runs, so that one does not find the other's threads at work
_WARM_UP = 3
_LEAST_ROWS = 500  # of a calibration table; one of fewer would follow chance

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class LabelledFrame:
    """truth: uint16 [H, W], 0 no parcel, 65535 ignore. info: as scene.json. block: number of its pile or stretch of
    time; frames of one block are alike."""

    frame: Frame
    truth: NDArray[np.uint16]
    info: dict[str, Any]
    block: int


def folder_frames(data: Path, limit: int | None = None) -> Iterator[LabelledFrame]:
    """The labelled image folders of ``data`` by name, each a block. Raises RobinError for what cannot be read."""
    for number, folder in enumerate(scene_folders(data)[:limit]):
        yield LabelledFrame(load_frame(folder), load_labels(folder), load_scene_info(folder), number)


def picks_truth(labels: Sequence[MaskLabel], background: NDArray[np.bool_] | None = None) -> NDArray[np.uint16]:
    """Truth of a frame from what picks say about it; at least one label. What nobody knows is ignored. background:
    bool [H, W], where no parcel lies for sure."""
    truth = np.full(labels[0].mask.shape, IGNORE_LABEL, dtype=np.uint16)
    if background is not None:
        truth[background] = 0
    for number, label in enumerate(labels, 1):
        truth[label.mask & ~label.ignore] = number
    for label in labels:
        truth[label.ignore] = IGNORE_LABEL
    return truth


def compare_models(
    running: Segmenter, candidate: Segmenter, frames: Iterable[LabelledFrame], progress: Progress | None = None
) -> Compared:
    """Both models on each frame, one frame in memory at a time. Raises RobinError as ``Segmenter.segment``."""
    predict = segmenter_predictor(running), segmenter_predictor(candidate)
    results: tuple[list[Any], list[Any]] = ([], [])
    blocks = []
    for number, labelled in enumerate(frames, 1):
        info = with_packaging(labelled.info)
        for model, found in zip(predict, results, strict=True):
            found.append(compare(model(labelled.frame), labelled.truth, info))
        blocks.append(labelled.block)
        if progress is not None:
            progress(number, 0)
    return Compared(*results, blocks)


def time_networks(running: Engine, candidate: Engine, inputs: Sequence[Tensors], runs: int = 200) -> Times | None:
    """Both networks in turns on ``inputs``, each first equally often; None where both run the same network."""
    if same_network(running.bundle, candidate.bundle):
        return None
    times = np.zeros((2, runs))
    for number in range(-_WARM_UP, runs):
        for which in (0, 1) if number % 2 else (1, 0):
            time.sleep(_PAUSE_S)
            started = time.perf_counter()
            (running, candidate)[which].run(inputs[number % len(inputs)])
            times[which, max(number, 0)] = (time.perf_counter() - started) * 1e3
    return Times(times[0], times[1])


def recalibrated(segmenter: Segmenter, folders: Sequence[Path]) -> CalibrationTables:
    """Tables for the segmenter's scores from labelled frames that it did not learn from, such as the core set's. Those
    with too little to be fitted on stay as they are; ``update_manifest`` puts them into the bundle."""
    samples = joined([collect(segmenter, folder, number) for number, folder in enumerate(folders)])
    fresh, old = fit_tables(samples, f"{len(folders)} frames"), segmenter.bundle.manifest.calibration
    hits = int(samples.hit.sum())
    rows = {
        "detection": len(samples.hit),
        "mask_quality": hits,
        "visible_fraction": int(np.isfinite(samples.true_visible).sum()),
        "class_temperature": int((samples.true_class >= 0).sum()),
        "boundary_scale": hits,
        "mask_shift_px": hits,
    }
    kept = {name: getattr(old, name) for name, count in rows.items() if count < _LEAST_ROWS}
    return fresh.model_copy(update=kept)


def with_packaging(info: dict[str, Any]) -> dict[str, Any]:
    """scene.json with kind and variant of each parcel in place of its strata: the gate judges each of them alone."""
    instances = []
    for instance in info.get("instances", ()):
        kind, variant = instance.get("kind"), instance.get("variant")
        names = [str(kind)] if kind else []
        names += [f"{kind}/{variant}"] if kind and variant else []
        instances.append({**instance, "strata": names})
    return {**info, "instances": instances}
