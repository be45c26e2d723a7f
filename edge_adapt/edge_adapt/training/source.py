"""What a training run learns from: scenes of several data sets, and batches of them made ahead."""

from __future__ import annotations

import contextlib
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edge_adapt.training.augment import AugmentConfig, augment
from edge_adapt.training.data import PackedDataset, TrainingScene, read_scene, scene_folders
from edge_adapt.training.targets import Batch, class_index, collate
from robin_perception.core.errors import Code, RobinError

Progress = Callable[[str], None]
_AHEAD = 3  # batches per loader thread


@dataclass(frozen=True)
class SourceConfig:
    """data: folders; shares: how often each is drawn from, None by its number of scenes. The rest as in
    ``TrainConfig``."""

    data: Sequence[Path]
    shares: Sequence[float] | None
    validation_data: Path
    validation_scenes: int
    repack_minutes: float
    batch: int
    max_parcels: int
    seed: int
    augment: AugmentConfig


def packed_datasets(folders: Sequence[Path], progress: Progress) -> list[PackedDataset]:
    """Data sets with all of their finished scenes packed. Raises RobinError as ``PackedDataset.pack``."""
    datasets = [PackedDataset(folder) for folder in folders]
    for dataset in datasets:
        for count in dataset.pack():
            if count % 200 == 0:
                progress(f"packed {count} scenes of {dataset.dataset}")
        dataset.refresh()
    return datasets


class SceneSource:
    """Training scenes of all data sets; packs scenes as they appear. ``batch`` may run on several threads; the data
    sets are replaced by larger ones as a whole, never changed."""

    def __init__(self, config: SourceConfig, classes: tuple[str, ...], progress: Progress) -> None:
        self.config = config
        self.classes = classes
        self.datasets = packed_datasets(config.data, progress)
        for kind in sorted({kind for dataset in self.datasets for kind in dataset.kinds}):
            class_index(kind, classes)
        self.packed_at = time.monotonic()
        self._validation: list[TrainingScene] | None = None
        if self.training_count() < 1:
            raise RobinError(Code.INPUT_MISSING, f"{config.data[0]}: no scene to train on")

    def training_count(self) -> int:
        return sum(len(dataset) for dataset in self.datasets)

    def validation(self) -> list[TrainingScene]:
        """The held-out scenes, decoded once."""
        if self._validation is None:
            folders = scene_folders(self.config.validation_data)[: self.config.validation_scenes]
            self._validation = [read_scene(folder) for folder in folders]
        return self._validation

    def maybe_repack(self) -> None:
        """Take in what was added since; called by one thread."""
        if time.monotonic() - self.packed_at > self.config.repack_minutes * 60:
            grown = [PackedDataset(path) for path in self.config.data]
            for dataset in grown:
                with contextlib.suppress(RobinError):  # another training packs them now: what is there is enough
                    for _ in dataset.pack():
                        continue
                dataset.refresh()
            self.datasets = grown
            self.packed_at = time.monotonic()

    def batch(self, step: int) -> Batch:
        """The batch of ``step``: a function of seed, step and the scenes at hand, so that a resumed run repeats it."""
        datasets = [dataset for dataset in self.datasets if len(dataset)]
        weights = np.array([self._share(dataset) for dataset in datasets])
        rng = np.random.default_rng([self.config.seed, step])
        scenes = []
        for index in rng.choice(len(datasets), self.config.batch, p=weights / weights.sum()).tolist():
            scene = datasets[index].scene(int(rng.integers(len(datasets[index]))))
            scenes.append(augment(scene, self.config.augment, rng))
        return collate(scenes, self.config.max_parcels, rng, classes=self.classes)

    def _share(self, dataset: PackedDataset) -> float:
        if self.config.shares is None:
            return len(dataset)
        return self.config.shares[list(self.config.data).index(dataset.dataset)]


class Loader:
    """Batches in the order of steps, made ahead on ``threads`` threads. An error there is raised in ``next``."""

    def __init__(self, source: SceneSource, first_step: int, threads: int = 1) -> None:
        self._source, self._step = source, first_step
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="loader")
        self._ahead: deque[Future[Batch]] = deque()
        self._packing: Future[None] | None = None
        for _ in range(_AHEAD * threads):
            self._order()

    def _order(self) -> None:
        if self._packing is None or self._packing.done():
            if self._packing is not None:
                self._packing.result()
            self._packing = self._pool.submit(self._source.maybe_repack)
        self._ahead.append(self._pool.submit(self._source.batch, self._step))
        self._step += 1

    def next(self) -> Batch:
        self._order()
        return self._ahead.popleft().result()

    def close(self) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)
