"""Base training: one process, a background loader, checkpoints, a schedule over steps or minutes."""

from __future__ import annotations

import contextlib
import copy
import json
import math
import queue
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import torch
from pydantic import Field
from torch import nn

from edge_adapt.training.augment import AugmentConfig, augment
from edge_adapt.training.checkpoint import (
    find_checkpoint,
    load_checkpoint,
    load_module,
    read_state,
    save_checkpoint,
    state_classes,
)
from edge_adapt.training.data import PackedDataset, TrainingScene, dataset_classes, read_scene, scene_folders
from edge_adapt.training.losses import Criterion, LossConfig
from edge_adapt.training.meter import Meter
from edge_adapt.training.network import NetworkConfig, SegmentationNetwork
from edge_adapt.training.targets import Batch, class_index, collate
from edge_adapt.training.validate import validate
from edge_adapt.training.warm_start import start_from_bundle
from robin_perception.core.config import StrictConfig
from robin_perception.core.disk import write_atomic
from robin_perception.core.errors import Code, RobinError
from robin_perception.core.output import output_folder


class TrainConfig(StrictConfig):
    """One training run. Ends after ``steps`` or ``max_minutes`` of training, whichever comes first; the learning rate's
    warm-up (share of the run) and cosine are laid over the same progress. data: dataset folders; validation_data:
    another one, of which the first ``validation_scenes`` are looked at now and then. start_from: a bundle whose weights
    a run without a checkpoint starts with; the batch statistics are taken over ``start_batches`` batches."""

    data: tuple[Path, ...] = Field(min_length=1)
    validation_data: Path
    out: Path
    start_from: Path | None = None
    start_batches: int = Field(default=12, ge=1)
    steps: int = Field(default=1_000_000, ge=1)
    max_minutes: float | None = Field(default=None, gt=0)
    batch: int = Field(default=8, ge=1, le=256)
    learning_rate: float = Field(default=1.5e-3, gt=0, le=1)
    final_rate_share: float = Field(default=0.01, ge=0, le=1)
    warmup_share: float = Field(default=0.03, ge=0, le=0.5)
    weight_decay: float = Field(default=0.02, ge=0, le=1)
    clip_norm: float = Field(default=10.0, gt=0)
    average_decay: float = Field(default=0.998, ge=0, lt=1)
    bf16: bool = True
    threads: int = Field(default=2, ge=1)
    seed: int = Field(default=0, ge=0)
    max_parcels: int = Field(default=40, ge=1, le=250)
    validation_scenes: int = Field(default=16, ge=0)
    validate_minutes: float = Field(default=5.0, gt=0)
    checkpoint_minutes: float = Field(default=5.0, gt=0)
    repack_minutes: float = Field(default=3.0, gt=0)
    log_steps: int = Field(default=20, ge=1)
    network: NetworkConfig = NetworkConfig()
    loss: LossConfig = LossConfig()
    augment: AugmentConfig = AugmentConfig()


@dataclass(frozen=True)
class TrainResult:
    """steps and minutes of training in all (earlier parts of a resumed run included); finished: reached its end."""

    checkpoint: Path
    steps: int
    minutes: float
    finished: bool
    validation: dict[str, float]


Progress = Callable[[str], None]
_CHECKPOINT, _CONFIG = "checkpoint", "config.json"
_START_STEP = 1 << 40  # batches of a start from a bundle are none that a run trains on


def learning_rate(config: TrainConfig, progress: float) -> float:
    """Linear warm-up, then cosine down to ``final_rate_share``; ``progress`` in [0, 1]."""
    if progress < config.warmup_share:
        return config.learning_rate * max(progress / config.warmup_share, 0.02)
    angle = (progress - config.warmup_share) / max(1e-9, 1 - config.warmup_share)
    low = config.final_rate_share
    return config.learning_rate * (low + (1 - low) * 0.5 * (1 + math.cos(math.pi * min(1.0, angle))))


class SceneSource:
    """Training scenes of all datasets; packs scenes as they appear."""

    def __init__(self, config: TrainConfig, classes: tuple[str, ...], progress: Progress) -> None:
        self.config = config
        self.classes = classes
        self.datasets = [PackedDataset(path) for path in config.data]
        for dataset in self.datasets:
            for count in dataset.pack():
                if count % 200 == 0:
                    progress(f"packed {count} scenes of {dataset.dataset}")
            dataset.refresh()
            for kind in dataset.kinds:
                class_index(kind, classes)
        self.packed_at = time.monotonic()
        self._validation: list[TrainingScene] | None = None
        if self.training_count() < 1:
            raise RobinError(Code.INPUT_MISSING, f"{config.data[0]}: no scene to train on")

    def training_count(self) -> int:
        return sum(len(dataset) for dataset in self.datasets)

    def training_scene(self, position: int) -> TrainingScene:
        for dataset in self.datasets:
            if position < len(dataset):
                return dataset.scene(position)
            position -= len(dataset)
        raise IndexError(position)

    def validation(self) -> list[TrainingScene]:
        """The held-out scenes, decoded once."""
        if self._validation is None:
            folders = scene_folders(self.config.validation_data)[: self.config.validation_scenes]
            self._validation = [read_scene(folder) for folder in folders]
        return self._validation

    def maybe_repack(self) -> None:
        if time.monotonic() - self.packed_at > self.config.repack_minutes * 60:
            for dataset in self.datasets:
                with contextlib.suppress(RobinError):  # another training packs them now: what is there is enough
                    for _ in dataset.pack():
                        continue
                dataset.refresh()
            self.packed_at = time.monotonic()

    def batch(self, step: int) -> Batch:
        """The batch of ``step``: a function of seed, step and the scenes at hand, so that a resumed run repeats it."""
        rng = np.random.default_rng([self.config.seed, step])
        picks = rng.integers(self.training_count(), size=self.config.batch)
        scenes = [augment(self.training_scene(int(i)), self.config.augment, rng) for i in picks]
        return collate(scenes, self.config.max_parcels, rng, classes=self.classes)


class Loader:
    """Makes batches ahead on one thread. The thread owns the source; its error is raised in ``next``."""

    def __init__(self, source: SceneSource, first_step: int) -> None:
        self._queue: queue.Queue[Batch | BaseException] = queue.Queue(maxsize=3)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work, args=(source, first_step), daemon=True)
        self._thread.start()

    def _work(self, source: SceneSource, step: int) -> None:
        while not self._stop.is_set():
            try:
                source.maybe_repack()
                item: Batch | BaseException = source.batch(step)
            except BaseException as exc:
                item = exc
            while not self._stop.is_set():
                try:
                    self._queue.put(item, timeout=0.2)
                    break
                except queue.Full:
                    continue
            if isinstance(item, BaseException):
                return
            step += 1

    def next(self) -> Batch:
        item = self._queue.get()
        if isinstance(item, BaseException):
            raise item
        return item

    def close(self) -> None:
        self._stop.set()
        self._thread.join()


@contextmanager
def _stop_on_signal() -> Iterator[threading.Event]:
    """Set on SIGTERM or SIGINT, so that a run saves before it ends. Only the main thread can listen."""
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield asked
        return

    def handle(_signal: int, _frame: FrameType | None) -> None:
        asked.set()

    previous = {number: signal.signal(number, handle) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield asked
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _parameter_groups(network: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    matrices = [p for p in network.parameters() if p.ndim > 1]
    vectors = [p for p in network.parameters() if p.ndim <= 1]
    return [{"params": matrices, "weight_decay": weight_decay}, {"params": vectors, "weight_decay": 0.0}]


class Trainer:
    """State of one run. ``run`` may be called once; ``step`` does one optimiser step and returns the terms."""

    def __init__(self, config: TrainConfig, progress: Progress) -> None:
        torch.set_num_threads(config.threads)
        torch.manual_seed(config.seed)
        self.config = config
        self.progress = progress
        self.classes = dataset_classes(config.data)
        self.network = SegmentationNetwork(config.network, self.classes)
        self.average = copy.deepcopy(self.network).requires_grad_(False)
        self.optimizer = torch.optim.AdamW(
            _parameter_groups(self.network, config.weight_decay), lr=config.learning_rate
        )
        self.criterion = Criterion(config.loss)
        self.steps = 0
        self.seconds = 0.0
        self.checkpoint = config.out / _CHECKPOINT
        self.validation: dict[str, float] = {}
        self.started_from: dict[str, Any] | None = None
        found = find_checkpoint(self.checkpoint)
        if found is not None:
            state = read_state(found)
            if state["network"] != config.network.model_dump():
                raise RobinError(Code.CONFIG_OUT_OF_RANGE, f"{found}: 'network' differs from the configuration")
            if state_classes(state) != self.classes:
                text = f"trained for {', '.join(state_classes(state))}, the data sets name {', '.join(self.classes)}"
                raise RobinError(Code.CONFIG_OUT_OF_RANGE, f"{found}: {text}")
            load_checkpoint(found, self.network, self.average, self.optimizer)
            self.steps, self.seconds = int(state["steps"]), float(state["seconds"])
            self.validation = state["validation"]
            self.started_from = state.get("started_from")
            progress(f"resumed at step {self.steps}, {self.seconds / 60:.1f} min")

    def start(self, source: SceneSource) -> None:
        """Before the first step of a run: take over the weights of ``start_from``."""
        if self.config.start_from is None or self.steps > 0:
            return
        batches = [source.batch(_START_STEP + i) for i in range(self.config.start_batches)]
        bundle = start_from_bundle(self.network, self.config.start_from, batches)
        self.average.load_state_dict(self.network.state_dict())
        self.started_from = {"model": bundle.model_id, **bundle.manifest.provenance.model_dump(mode="json")}
        self.progress(f"starting from {bundle.model_id}")

    def done_share(self) -> float:
        limit = self.config.max_minutes
        by_time = 0.0 if limit is None else self.seconds / (limit * 60)
        return min(1.0, max(self.steps / self.config.steps, by_time))

    def step(self, batch: Batch) -> dict[str, float]:
        """One optimiser step; returns the loss, its terms, the gradient's norm and the learning rate."""
        rate = learning_rate(self.config, self.done_share())
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.network.train()
        with torch.autocast("cpu", torch.bfloat16, enabled=self.config.bf16):
            outputs = self.network(batch.rgb, batch.depth, batch.intrinsics, batch.belt_plane)
        loss, terms = self.criterion(self.network.head, outputs, batch)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        norm = nn.utils.clip_grad_norm_(self.network.parameters(), self.config.clip_norm)
        if bool(torch.isfinite(norm)):
            self.optimizer.step()
            self._follow()
        self.steps += 1
        return {"loss": float(loss.detach()), "norm": float(norm), "rate": rate, **terms}

    @torch.no_grad()
    def _follow(self) -> None:
        """Exponential average of weights and batch statistics, quicker at the start."""
        decay = min(self.config.average_decay, (1 + self.steps) / (10 + self.steps))
        for own, other in zip(self.average.state_dict().values(), self.network.state_dict().values(), strict=True):
            if own.dtype.is_floating_point:
                own.lerp_(other, 1 - decay)
            else:
                own.copy_(other)

    def save(self) -> None:
        """Replace the checkpoint by the present state."""
        state = {
            "steps": self.steps,
            "seconds": self.seconds,
            "validation": self.validation,
            "network": self.config.network.model_dump(),
            "classes": list(self.classes),
            "config": self.config.model_dump(mode="json"),
            "started_from": self.started_from,
        }
        save_checkpoint(self.checkpoint, self.network, self.average, self.optimizer, state)

    def log(self, record: dict[str, Any]) -> None:
        rounded = {k: round(v, 5) if isinstance(v, float) else v for k, v in record.items()}
        with (self.config.out / "train_log.jsonl").open("a") as file:
            file.write(json.dumps({"step": self.steps, "minutes": round(self.seconds / 60, 3), **rounded}) + "\n")

    def check(self, source: SceneSource) -> None:
        """Validate the averaged network and log it."""
        scenes = source.validation()
        if scenes:
            self.validation = validate(self.average, scenes)
            self.log({"validation": self.validation})
            self.progress(f"step {self.steps} validation " + " ".join(f"{k} {v}" for k, v in self.validation.items()))

    def run(self) -> TrainResult:
        """Train to the end, or until SIGINT or SIGTERM; nothing is written before data and weights are known to be
        good."""
        source = SceneSource(self.config, self.classes, self.progress)
        self.start(source)
        write_atomic(self.config.out / _CONFIG, json.dumps(self.config.model_dump(mode="json"), indent=1).encode())
        self.progress(f"{source.training_count()} scenes to train on, {len(source.validation())} held out")
        loader = Loader(source, self.steps)
        try:
            with _stop_on_signal() as asked:
                self._loop(loader, source, asked)
                self.save()
                self.check(source)
                self.save()
        finally:
            loader.close()
        return TrainResult(self.checkpoint, self.steps, self.seconds / 60, self.done_share() >= 1, self.validation)

    def _loop(self, loader: Loader, source: SceneSource, asked: threading.Event) -> None:
        meter = Meter(self.config.batch)
        started = time.monotonic() - self.seconds
        saved = validated = self.seconds
        while self.done_share() < 1 and not asked.is_set():
            terms = self.step(loader.next())
            self.seconds = time.monotonic() - started
            meter.add(terms)
            if self.steps % self.config.log_steps == 0:
                record = meter.report(self.seconds, source.training_count())
                self.log(record)
                self.progress(meter.line(self.steps, self.seconds, self.done_share(), record))
            if self.seconds - validated > self.config.validate_minutes * 60:
                self.check(source)
                validated = self.seconds
            if self.seconds - saved > self.config.checkpoint_minutes * 60:
                self.save()
                saved = self.seconds


def train(config: TrainConfig, progress: Progress) -> TrainResult:
    """Train, or go on where ``config.out/checkpoint`` stands. Raises RobinError on bad data, and OPTION_INVALID where
    ``config.out`` holds another's files, cannot be written or is written by another process."""
    with output_folder(config.out):
        _refuse_foreign(config.out)
        return Trainer(config, progress).run()


def _refuse_foreign(out: Path) -> None:
    """A training replaces these two, so they must be of an earlier one."""
    checkpoint, settings = out / _CHECKPOINT, out / _CONFIG
    if checkpoint.exists() and find_checkpoint(checkpoint) is None:
        raise RobinError(Code.OPTION_INVALID, f"{checkpoint}: is no checkpoint; name another folder for the training")
    if settings.exists() and b'"validation_data"' not in settings.read_bytes():
        raise RobinError(Code.OPTION_INVALID, f"{settings}: is of no training; name another folder for the training")


def read_network(checkpoint: Path) -> SegmentationNetwork:
    """The averaged network of a checkpoint folder, ready to export."""
    state = read_state(checkpoint)
    network = SegmentationNetwork(NetworkConfig.model_validate(state["network"]), state_classes(state))
    load_module(checkpoint, network, "average")
    return network.eval()
