"""Bundles with heads of their own, registries of them, and results of models that are better or worse."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file

from edge_adapt.models.registry import ModelRegistry
from edge_adapt.store.blobs import Files
from robin_perception.core.errors import Code, RobinError
from robin_perception.core.scene import Instance, Scene
from robin_perception.engines.testing.tiny_bundle import tiny_bundle
from robin_perception.evaluation.evaluate import Prediction, SceneResult, compare
from robin_perception.model.bundle import Bundle, load_bundle, read_manifest, write_bundle

WHO = "a test"


def head_bundle(folder: Path, number: int) -> Bundle:
    """The tiny bundle with another head."""
    base = tiny_bundle(folder)
    head = {key: value + np.float32(0.01 * number) for key, value in base.head.items()}
    network, manifest = base.network_path.read_bytes(), base.manifest
    return write_bundle(
        folder,
        network,
        head,
        name="tiny",
        input_size=(manifest.input_height, manifest.input_width),
        max_instances=manifest.max_instances,
        classes=manifest.classes,
    )


def bundles(folder: Path, count: int) -> list[Path]:
    """The factory's, then ``count`` others."""
    tiny_bundle(folder / "factory")
    return [folder / "factory", *(head_bundle(folder / f"learned{n}", n).directory for n in range(1, count + 1))]


def registry_of(folder: Path, count: int = 3, files: Files | None = None) -> tuple[ModelRegistry, list[Path]]:
    paths = bundles(folder, count)
    return ModelRegistry(folder / "models", paths[0], files=files), paths


def running(registry: ModelRegistry) -> str:
    """Model id of what runs."""
    return registry.load().bundle.model_id


def model_of(path: Path) -> str:
    return load_bundle(path).model_id


def truth_boxes() -> NDArray[np.uint16]:
    """Six parcels of 12 x 12 pixels."""
    truth = np.zeros((48, 80), dtype=np.uint16)
    for number in range(6):
        y, x = 5 + 20 * (number // 3), 5 + 25 * (number % 3)
        truth[y : y + 12, x : x + 12] = number + 1
    return truth


def seen_boxes(
    rng: np.random.Generator | None = None, *, off_px: int = 0, missed: float = 0.0, sure: float = 0.9
) -> Scene:
    """What a model sees of them. off_px: how far each mask stands to the right of its parcel; missed: share that is not
    found (of the last ones, without ``rng``); sure: detection that each mask is given."""
    found = np.roll(truth_boxes(), off_px, axis=1)
    odds = np.linspace(1, 0, 6) if rng is None else rng.random(6)
    found[np.isin(found, np.flatnonzero(odds < missed) + 1)] = 0
    instances = tuple(_instance(found, int(label), sure) for label in np.unique(found) if label)
    return Scene(0.0, "m", found, instances, np.zeros((1, 1), dtype=np.float32))


def judged_scene(rng: np.random.Generator, *, tag: str = "carton", **how: float) -> SceneResult:
    scene = seen_boxes(rng, **how)  # type: ignore[arg-type]
    info = {"instances": [{"id": n, "strata": [tag]} for n in range(1, 7)]}
    return compare(Prediction(scene, scene), truth_boxes(), info)


def _instance(labels: NDArray[np.uint16], label: int, sure: float) -> Instance:
    ys, xs = np.nonzero(labels == label)
    box = (int(xs.min()), int(ys.min()), int(xs.max()) + 1, int(ys.max()) + 1)
    empty = np.zeros(5, dtype=np.float32)
    return Instance(label, box, len(ys), empty, sure, sure, 1.0, 1.0, empty)


def judged_scenes(seed: int, count: int, **how: Any) -> list[SceneResult]:
    rng = np.random.default_rng(seed)
    return [judged_scene(rng, **how) for _ in range(count)]


def quick_load(directory: Path) -> Bundle:
    """As ``load_bundle``, with every hash but without a look at the graph, which takes ten times as long."""
    if not directory.is_dir():
        raise RobinError(Code.MODEL_MISSING, f"{directory}: no such model bundle")
    manifest = read_manifest(directory)
    for name, wanted in manifest.files.items():
        path = directory / name
        if not path.is_file() or hashlib.sha256(path.read_bytes()).hexdigest() != wanted:
            raise RobinError(Code.MODEL_HASH_MISMATCH, f"{path}: sha256 differs")
    return Bundle(directory, manifest, load_file(directory / "head.safetensors"))
