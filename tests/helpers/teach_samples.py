"""Lessons with a small number of steps on toy scenes, and an untrained network to teach."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

from edge_adapt.learn.see_job import DeepConfig, QuickConfig, TeachJob
from edge_adapt.training.data import PackedDataset
from edge_adapt.training.features import FeatureCache
from edge_adapt.training.teach_head import Lesson, without_pictures
from robin_perception.engines import EngineConfig, make_engine
from robin_perception.model.bundle import Bundle

QUICK = QuickConfig(steps=3, batch=2, replayed=2, variants=2)
DEEP = DeepConfig(steps=2, batch=1, replayed=1, checkpoint_steps=1)


def toy_job(bundle: Bundle, core: Path, taught: Path, work: Path, **changes: object) -> TeachJob:
    """Two taught scenes, two of the core set."""
    values = {
        "bundle": bundle.directory,
        "taught": taught,
        "content": "toy",
        "rows": (0, 1),
        "core": core,
        "core_scenes": 2,
        "core_features": work / "core",
        "work": work,
        "out": work / "bundle",
        "notes": "a test",
        "threads": 1,
        "niceness": 0,
        "quick_config": QUICK,
        "deep_config": DEEP,
    }
    return TeachJob(**(values | changes))


def lesson_of(folder: Path, bundle: Bundle, cache: Path, scenes: int) -> Lesson:
    """The first scenes of a data set with their features."""
    dataset = PackedDataset(folder)
    list(dataset.pack())
    dataset.refresh()
    with closing(make_engine("onnxruntime", bundle, EngineConfig())) as engine:
        features = FeatureCache(cache, bundle, engine, folder.name)
        list(features.fill(dataset.scene, scenes))
    return Lesson([without_pictures(dataset.scene(row)) for row in range(scenes)], features.maps())
