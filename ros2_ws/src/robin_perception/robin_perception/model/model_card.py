"""CARD.md of a bundle: what it was trained on, what it scores, and a picture of where it is worst."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from robin_perception.core.image_folder import load_frame, load_labels, load_scene_info, scene_folders
from robin_perception.evaluation.evaluate import Prediction, SceneResult, compare, segmenter_predictor
from robin_perception.evaluation.metrics import agreement
from robin_perception.model.bundle import Manifest
from robin_perception.segmentation.overlay import colour_depth, draw_labels, draw_masks
from robin_perception.segmentation.segmenter import Segmenter

FAILURES_FILE = "failures.jpg"
_TILE_WIDTH = 400
_SHOWN = ("ap50", "ap75", "overlap_f", "boundary_f", "merge_rate", "split_rate")
_STRATA = ("flush", "same_texture", "occluded")


@dataclass(frozen=True)
class WorstScene:
    """One failure: its folder, the share of its parcels without a mask of IoU >= .75, and the picture of it."""

    folder: Path
    lost_share: float
    picture: NDArray[np.uint8]


def worst_scenes(
    segmenter: Segmenter,
    data: Path,
    count: int = 6,
    limit: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> list[WorstScene]:
    """The ``count`` scenes under ``data`` in which the largest share of parcels has no good mask, worst first.

    Only scenes with three or more parcels are looked at. Raises RobinError for folders that cannot be read.
    """
    predict = segmenter_predictor(segmenter)
    folders = scene_folders(data)[:limit]
    worst: list[WorstScene] = []
    for done, folder in enumerate(folders):
        frame, truth, info = load_frame(folder), load_labels(folder), load_scene_info(folder)
        prediction = predict(frame)
        result = compare(prediction, truth, info)
        lost = _lost_share(prediction, truth, result)
        if len(result.tags) >= 3 and (len(worst) < count or lost > worst[-1].lost_share):
            seen = draw_masks(frame.rgb, prediction.operating, names=False)
            tiles = (frame.rgb, colour_depth(frame.depth), draw_labels(frame.rgb, truth), seen)
            worst.append(WorstScene(folder, lost, np.hstack([_tile(t) for t in tiles])))
            worst = sorted(worst, key=lambda w: -w.lost_share)[:count]
        if progress is not None:
            progress(done + 1, len(folders))
    return worst


def _lost_share(prediction: Prediction, truth: NDArray[np.uint16], result: SceneResult) -> float:
    found = agreement(prediction.operating.labels, truth).detected75
    return 1.0 - found / max(1, len(result.tags))


def _tile(rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
    height = round(rgb.shape[0] * _TILE_WIDTH / rgb.shape[1])
    small = cv2.resize(rgb, (_TILE_WIDTH, height), interpolation=cv2.INTER_AREA)
    square = np.zeros((_TILE_WIDTH * 3 // 4, _TILE_WIDTH, 3), dtype=np.uint8)
    square[: min(height, len(square))] = small[: len(square)]
    return square


def failures_picture(worst: list[WorstScene]) -> bytes:
    """JPEG, one row a scene: colour, depth, true masks, predicted masks."""
    rows = np.vstack([w.picture for w in worst])
    return cv2.imencode(".jpg", rows[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 85])[1].tobytes()


def card_text(
    manifest: Manifest,
    model_id: str,
    worst: list[WorstScene],
    weaknesses: str,
    film: Mapping[str, Any] | None = None,
) -> str:
    """Markdown. ``weaknesses``: what a person saw in the pictures; it is kept as written. film: facts of the film
    network; None: there is none."""
    made_of = manifest.provenance
    excluded = ", ".join(made_of.excluded) or "nothing"
    lines = [
        f"# {manifest.name}",
        "",
        f"`{model_id}`: instance segmentation of parcels from RGB-D, {manifest.parameters:,} parameters, input "
        f"{manifest.input_width}x{manifest.input_height}, at most {manifest.max_instances} parcels, classes "
        f"{', '.join(manifest.classes)}. Licence Apache-2.0.",
        "",
        "## Data",
        f"{made_of.scenes:,} simulated scenes, {made_of.data}; {made_of.steps:,} steps, training seed {made_of.seed}; "
        f"{made_of.notes}. No real image and no foreign weights. Never seen in training: {excluded}.",
        "",
        *([] if film is None else _film(film)),
        "## Scores",
        *_score_tables(manifest.scores),
        "## Calibration",
        *_calibration(manifest),
        "",
        "## Known weaknesses",
        weaknesses.strip() or "See the pictures.",
        "",
        f"![where it is worst]({FAILURES_FILE})",
        "",
        "The scenes with the largest share of lost parcels (no mask of IoU 0.75 or more): colour, depth, true masks, "
        "predicted masks. From top to bottom: "
        + ", ".join(f"`{w.folder.name}` ({100 * w.lost_share:.0f} % lost)" for w in worst)
        + ".",
        "",
    ]
    return "\n".join(lines)


def _film(facts: Mapping[str, Any]) -> list[str]:
    """What the film network was made from."""
    told = {name: facts.get(name, "not told") for name in ("model", "scenes", "steps", "seed")}
    return [
        "Where clear film stands is told by a film network of its own, `film.onnx`. It began with the trunk of "
        f"`{told['model']}`: {told['scenes']} simulated scenes, {told['steps']} steps, training seed {told['seed']}.",
        "",
    ]


def _score_tables(scores: Mapping[str, Mapping[str, Any]]) -> list[str]:
    lines = []
    for name, figures in scores.items():
        lines += [f"`{name}`, {figures['scenes']} scenes:", "", "| parcels | number | " + " | ".join(_SHOWN) + " |"]
        lines.append("|---|---|" + "---|" * len(_SHOWN))
        rows = {"all": figures} | {k: v for k, v in figures.get("strata", {}).items() if k in _STRATA}
        for stratum, part in rows.items():
            values = " | ".join(f"{part[key]:.3f}" if part.get(key) is not None else "-" for key in _SHOWN)
            lines.append(f"| {stratum} | {part['truths']} | {values} |")
        lines.append("")
    return lines or ["Not evaluated yet (`robin eval seg --record NAME`).", ""]


def _calibration(manifest: Manifest) -> list[str]:
    tables = manifest.calibration
    if not tables.fitted_on:
        return ["Not calibrated (`robin calibrate`)."]
    pairs = "; ".join(f"{key} {value:.4f}" for key, value in sorted(tables.reliability.items()))
    return [f"Isotonic, fitted on {tables.fitted_on}. Expected calibration errors: {pairs}."]
