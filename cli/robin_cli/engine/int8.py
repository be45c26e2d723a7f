"""`robin engine build --engine onnxruntime-int8`: the scenes that INT8 is calibrated with and measured on."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from robin_cli.options import worker_count
from robin_perception.core.image_folder import scene_folders
from robin_perception.core.output import scratch_folder
from robin_perception.engines import EngineConfig
from robin_perception.engines.ort.int8 import NAME, cache_key
from robin_perception.engines.ort.int8_build import Progress, build_int8
from robin_perception.model.bundle import Bundle

CALIBRATION_SEED = 31_000_001
LABELLED_SEED = 31_000_002


@dataclass(frozen=True)
class Int8Scenes:
    """How many simulated scenes to draw: for the ranges, and, others, for the accuracy. data: labelled image folders of
    one's own cell in place of both; the first ``calibration`` of them calibrate, the next ``labelled`` ones measure."""

    calibration: int = 96
    labelled: int = 100
    data: Path | None = None


def build_from_scenes(
    bundle: Bundle, scenes: Int8Scenes, config: EngineConfig, workers: int, progress: Progress
) -> dict[str, Any]:
    """Draw or read the scenes, build, measure, cache. Raises RobinError as ``build_int8`` and ``make_dataset`` do."""
    with _folders(scenes, worker_count(workers), progress) as (calibration, labelled):
        found = build_int8(bundle, calibration, labelled, config, progress)
    return {
        "engine": NAME,
        "model": bundle.model_id,
        "key": cache_key(bundle),
        **found.model_dump(),
        "lost_ap_points": round(found.lost_ap_points, 3),
        "taken_by_auto": found.shortcoming is None,
        "why_not": found.shortcoming or "",
    }


@contextlib.contextmanager
def _folders(scenes: Int8Scenes, workers: int, progress: Progress) -> Iterator[tuple[list[Path], list[Path]]]:
    if scenes.data is not None:
        found = scene_folders(scenes.data)
        yield found[: scenes.calibration], found[scenes.calibration : scenes.calibration + scenes.labelled]
        return
    from robin_sim.dataset import make_dataset
    from robin_sim.training_scenes import DatasetConfig

    # As the held-out sets: every scene a pile of its own, goods that fit their container.
    config = DatasetConfig(fitted_share=1.0, views_per_pile=1)
    with scratch_folder("robin-int8-scenes-") as folder:
        sets = (("calibration", scenes.calibration, CALIBRATION_SEED), ("labelled", scenes.labelled, LABELLED_SEED))
        for name, count, seed in sets:
            make_dataset(folder / name, count, seed, workers, config, partial(progress, name))
        yield scene_folders(folder / "calibration"), scene_folders(folder / "labelled")
