"""The process that teaches: ``python -m edge_adapt.training.teach_process JOB PARENT``.

It runs at low priority within a memory limit, ends with its parent, tells its progress as lines of JSON on standard
output, and leaves a whole bundle or nothing.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import sys
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import torch

from edge_adapt.learn.see_job import TeachJob
from edge_adapt.training.data import PackedDataset, TrainingScene
from edge_adapt.training.features import FeatureCache
from edge_adapt.training.operating_point import rescaled
from edge_adapt.training.teach_deep import teach_deep
from edge_adapt.training.teach_head import Lesson, teach_head, variant, without_pictures
from robin_perception.core.config import parse_config
from robin_perception.core.errors import Code, RobinError
from robin_perception.core.image_folder import read_json
from robin_perception.core.parent_death import end_with_parent
from robin_perception.engines import Engine, EngineConfig, make_engine
from robin_perception.model.bundle import Bundle, load_bundle
from robin_perception.model.derived import derive_bundle

_ENGINE = "onnxruntime"


def main(arguments: list[str]) -> int:
    """The exit status; what went wrong is the last line."""
    job_file, parent = Path(arguments[0]), int(arguments[1])
    end_with_parent(parent)
    try:
        values = read_json(job_file)
        run(parse_config(TeachJob, values if isinstance(values, dict) else {}, str(job_file)))
    except RobinError as exc:
        _tell(code=int(exc.code), text=exc.text)
        return 1
    except (MemoryError, RuntimeError) as exc:
        if not isinstance(exc, MemoryError) and "allocate memory" not in str(exc):
            raise
        _tell(code=int(Code.TEACHING_ENDED), text="out of the memory that teaching may use; the old model stays")
        return 1
    return 0


def run(job: TeachJob) -> None:
    """Teach as ordered and write the new bundle."""
    with contextlib.suppress(OSError):
        os.nice(max(0, job.niceness - os.nice(0)))
    _limit_memory(job.memory_bytes)
    torch.set_num_threads(job.threads)
    cv2.setNumThreads(1)
    bundle = load_bundle(job.bundle)
    taught, core = _packed(job.taught, None), _packed(job.core, job.core_scenes)
    if job.deep:
        teach_deep(job, bundle, taught, core, _steps("teaching"))
        return
    with contextlib.closing(make_engine(_ENGINE, bundle, EngineConfig(intra_threads=job.threads))) as engine:
        replay = _core_lesson(job, bundle, engine, core)
        lesson = _taught_lesson(job, bundle, engine, taught)
    head = teach_head(bundle, lesson, replay, job.quick_config, job.seed, _steps("teaching"))
    tables = rescaled(bundle.manifest.calibration, bundle.head, head, replay.maps)
    derive_bundle(bundle, job.out, head, notes=job.notes, calibration=tables)


def _limit_memory(limit: int) -> None:
    """Of what is private to this process; files that are mapped to be read do not count."""
    hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
    resource.setrlimit(resource.RLIMIT_DATA, (limit if hard < 0 else min(limit, hard), hard))


def _packed(folder: Path, limit: int | None) -> PackedDataset:
    dataset = PackedDataset(folder)
    for _ in dataset.pack(None if limit is None else max(0, limit - len(dataset))):
        continue
    dataset.refresh()
    return dataset


def _core_lesson(job: TeachJob, bundle: Bundle, engine: Engine, core: PackedDataset) -> Lesson:
    cache = FeatureCache(job.core_features, bundle, engine, str(job.core.name))
    _fill(cache, core.scene, job.core_scenes, "features of the core set")
    return Lesson([without_pictures(core.scene(row)) for row in range(job.core_scenes)], cache.maps())


def _taught_lesson(job: TeachJob, bundle: Bundle, engine: Engine, taught: PackedDataset) -> Lesson:
    count = job.quick_config.variants

    def scene(place: int) -> TrainingScene:
        row, number = job.rows[place // count], place % count
        return variant(taught.scene(row), number, np.random.default_rng([job.seed, row, number]))

    content = json.dumps([job.content, job.seed, count, list(job.rows)])
    cache = FeatureCache(job.work / "features", bundle, engine, content)
    total = len(job.rows) * count
    _fill(cache, scene, total, "features of the taught frames")
    return Lesson([without_pictures(scene(place)) for place in range(total)], cache.maps())


def _fill(cache: FeatureCache, scene: Callable[[int], TrainingScene], count: int, what: str) -> None:
    for done in cache.fill(scene, count):
        _tell(what=what, done=done, total=count)


def _steps(what: str) -> Callable[[int, int, float], None]:
    return lambda done, total, loss: _tell(what=what, done=done, total=total, loss=round(loss, 4))


def _tell(**values: object) -> None:
    print(json.dumps(values), flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
