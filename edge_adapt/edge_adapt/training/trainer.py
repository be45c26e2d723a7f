"""Base training: one process, a background loader, checkpoints, a schedule over steps or minutes."""

from __future__ import annotations

import copy
import json
import math
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from types import FrameType
from typing import Any, Literal, Protocol

import torch
from pydantic import Field, model_validator
from torch import nn

from edge_adapt.training.augment import AugmentConfig
from edge_adapt.training.checkpoint import (
    find_checkpoint,
    load_checkpoint,
    load_module,
    read_state,
    save_checkpoint,
    state_classes,
)
from edge_adapt.training.data import dataset_classes
from edge_adapt.training.losses import Criterion, LossConfig
from edge_adapt.training.meter import Meter
from edge_adapt.training.network import NetworkConfig, SegmentationNetwork
from edge_adapt.training.source import Loader, Progress, SceneSource, SourceConfig
from edge_adapt.training.targets import Batch
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
    shares: tuple[float, ...] | None = Field(
        default=None, description="how often each data set is drawn from; by its number of scenes where not given"
    )
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
    device: Literal["auto", "cpu", "cuda"] = Field(default="auto", description="auto: cuda where there is one")
    threads: int = Field(default=2, ge=1)
    loaders: int = Field(default=1, ge=1, le=64, description="threads that make batches; a GPU needs many")
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

    @model_validator(mode="after")
    def _shares_of_data(self) -> TrainConfig:
        if self.shares is not None and (len(self.shares) != len(self.data) or min(self.shares) <= 0):
            raise ValueError(f"shares: expected {len(self.data)} numbers above 0, one for each data set")
        return self

    def source(self) -> SourceConfig:
        """What the scenes are drawn by."""
        names = (field.name for field in fields(SourceConfig))
        return SourceConfig(**{name: getattr(self, name) for name in names})


@dataclass(frozen=True)
class TrainResult:
    """steps and minutes of training in all (earlier parts of a resumed run included); finished: reached its end."""

    checkpoint: Path
    steps: int
    minutes: float
    finished: bool
    validation: dict[str, float]


_CHECKPOINT, _CONFIG = "checkpoint", "config.json"
START_STEP = 1 << 40  # batches of a start from a bundle are none that a run trains on


class Schedule(Protocol):
    """What a learning rate goes by: its highest, the share of the run that it rises in, the share that is left."""

    @property
    def learning_rate(self) -> float: ...
    @property
    def warmup_share(self) -> float: ...
    @property
    def final_rate_share(self) -> float: ...


def cosine_rate(config: Schedule, progress: float) -> float:
    """Linear warm-up, then cosine down to ``final_rate_share``; ``progress`` in [0, 1]."""
    if progress < config.warmup_share:
        return config.learning_rate * max(progress / config.warmup_share, 0.02)
    angle = (progress - config.warmup_share) / max(1e-9, 1 - config.warmup_share)
    low = config.final_rate_share
    return config.learning_rate * (low + (1 - low) * 0.5 * (1 + math.cos(math.pi * min(1.0, angle))))


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


def chosen_device(name: str) -> torch.device:
    """The device that a run asks for. Raises RobinError OPTION_INVALID where there is no such one."""
    if name == "cuda" and not torch.cuda.is_available():
        raise RobinError(Code.OPTION_INVALID, "device 'cuda': torch finds none here; use auto or cpu")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")


@torch.no_grad()
def follow(average: nn.Module, network: nn.Module, decay: float) -> None:
    """Exponential average of weights and batch statistics; decay: the share of ``average`` that stays."""
    for own, other in zip(average.state_dict().values(), network.state_dict().values(), strict=True):
        if own.dtype.is_floating_point:
            own.lerp_(other, 1 - decay)
        else:
            own.copy_(other)


class Trainer:
    """State of one run. ``run`` may be called once; ``step`` does one optimiser step and returns the terms."""

    def __init__(self, config: TrainConfig, progress: Progress) -> None:
        torch.set_num_threads(config.threads)
        torch.manual_seed(config.seed)
        self.config = config
        self.progress = progress
        self.device = chosen_device(config.device)
        self.classes = dataset_classes(config.data)
        self.network = SegmentationNetwork(config.network, self.classes).to(self.device)
        self.average = copy.deepcopy(self.network).requires_grad_(False)
        self.optimizer = torch.optim.AdamW(
            _parameter_groups(self.network, config.weight_decay), lr=config.learning_rate
        )
        self.criterion = Criterion(config.loss, device=self.device)
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
        batches = [source.batch(START_STEP + i).pictures for i in range(self.config.start_batches)]
        bundle = start_from_bundle(self.network.cpu(), self.config.start_from, batches)
        self.network.to(self.device)
        self.average.load_state_dict(self.network.state_dict())
        self.started_from = {"model": bundle.model_id, **bundle.manifest.provenance.model_dump(mode="json")}
        self.progress(f"starting from {bundle.model_id}")

    def done_share(self) -> float:
        limit = self.config.max_minutes
        by_time = 0.0 if limit is None else self.seconds / (limit * 60)
        return min(1.0, max(self.steps / self.config.steps, by_time))

    def step(self, batch: Batch) -> dict[str, float]:
        """One optimiser step; returns the loss, its terms, the gradient's norm and the learning rate."""
        rate = cosine_rate(self.config, self.done_share())
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.network.train()
        batch = batch.to(self.device)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.config.bf16):
            outputs = self.network(*batch.pictures)
        loss, terms = self.criterion(self.network.head, outputs, batch)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        norm = nn.utils.clip_grad_norm_(self.network.parameters(), self.config.clip_norm)
        if bool(torch.isfinite(norm)):
            self.optimizer.step()
            follow(self.average, self.network, min(self.config.average_decay, (1 + self.steps) / (10 + self.steps)))
        self.steps += 1
        return {"loss": float(loss.detach()), "norm": float(norm), "rate": rate, **terms}

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
            self.validation = validate(copy.deepcopy(self.average).cpu(), scenes)
            self.log({"validation": self.validation})
            self.progress(f"step {self.steps} validation " + " ".join(f"{k} {v}" for k, v in self.validation.items()))

    def run(self) -> TrainResult:
        """Train to the end, or until SIGINT or SIGTERM; nothing is written before data and weights are known to be
        good."""
        source = SceneSource(self.config.source(), self.classes, self.progress)
        self.start(source)
        write_atomic(self.config.out / _CONFIG, json.dumps(self.config.model_dump(mode="json"), indent=1).encode())
        self.progress(f"{source.training_count()} scenes to train on, {len(source.validation())} held out")
        loader = Loader(source, self.steps, self.config.loaders)
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
