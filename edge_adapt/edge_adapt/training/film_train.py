"""Trains a film network, beginning with the trunk of the bundle that it is for."""

from __future__ import annotations

import copy
import json
import tempfile
import time
import warnings
from collections.abc import Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor, nn

from edge_adapt.training.augment import AugmentConfig, augment
from edge_adapt.training.checkpoint import find_checkpoint, load_checkpoint, read_state, save_checkpoint
from edge_adapt.training.data import TrainingScene
from edge_adapt.training.export import OPSET
from edge_adapt.training.film import GRID, FilmGraph, FilmNetwork, film_heights, film_terms
from edge_adapt.training.geometry import NETWORK_HEIGHT, NETWORK_WIDTH
from edge_adapt.training.head import STRIDE_DETAIL
from edge_adapt.training.network import parameter_count
from edge_adapt.training.source import Progress, packed_datasets
from edge_adapt.training.teach_deep import network_like
from edge_adapt.training.trainer import START_STEP, cosine_rate, follow
from edge_adapt.training.warm_start import Pictures, start_from_bundle
from robin_perception.core.config import StrictConfig
from robin_perception.core.errors import Code, RobinError
from robin_perception.model.bundle import FRAME_INPUTS, Bundle, load_bundle
from robin_perception.segmentation.film_reader import FACTS_KEY, FILM_OUTPUT

_CHECKPOINT = "checkpoint"
_CLIP_NORM = 10.0
_AVERAGE = 0.995  # share of the averaged weights that a step leaves
_AHEAD = 2


class FilmTrainConfig(StrictConfig):
    """data: data sets with film.png, drawn from by their number of scenes. model: the bundle that it begins with."""

    data: tuple[Path, ...] = Field(min_length=1)
    model: Path
    out: Path
    steps: int = Field(default=1600, ge=1)
    batch: int = Field(default=8, ge=1, le=64)
    learning_rate: float = Field(default=8e-4, gt=0, le=1)
    warmup_share: float = Field(default=0.03, ge=0, le=0.5)
    final_rate_share: float = Field(default=0.01, ge=0, le=1)
    weight_decay: float = Field(default=0.02, ge=0, le=1)
    start_batches: int = Field(default=12, ge=1)
    threads: int = Field(default=2, ge=1)
    seed: int = Field(default=0, ge=0)
    checkpoint_steps: int = Field(default=200, ge=1)
    log_steps: int = Field(default=20, ge=1)
    augment: AugmentConfig = AugmentConfig(drop_colour=0.0, drop_depth=0.0)


@dataclass(frozen=True)
class FilmBatch:
    """What ``FilmNetwork`` gets, and what ``film_terms`` compares with."""

    pictures: Pictures
    film: Tensor
    height: Tensor
    labels: Tensor


def film_cells(film: NDArray[np.float32]) -> NDArray[np.float32]:
    """Depth of film at the centres of the detail grid's cells, [384,512] -> [96,128]: the mean of the four pixels
    there. 0 where one of them shows no film, -1 where nobody knows."""
    first = STRIDE_DETAIL // 2 - 1
    blocks = film.reshape(GRID[0], STRIDE_DETAIL, GRID[1], STRIDE_DETAIL)
    four = blocks[:, first : first + 2, :, first : first + 2]
    lowest = four.min(axis=(1, 3))
    return np.where(lowest > 0, four.mean(axis=(1, 3)), np.minimum(lowest, 0)).astype(np.float32)


def collated(scenes: Sequence[TrainingScene]) -> FilmBatch:
    """One batch of scenes."""
    rgb, depth, intrinsics, plane = (
        torch.from_numpy(np.stack([getattr(scene, name) for scene in scenes])) for name in FRAME_INPUTS
    )
    film = torch.from_numpy(np.stack([film_cells(scene.film) for scene in scenes]))
    middle = slice(STRIDE_DETAIL // 2, None, STRIDE_DETAIL)
    labels = torch.from_numpy(np.stack([scene.labels[middle, middle] for scene in scenes]))
    return FilmBatch((rgb, depth, intrinsics, plane), film, film_heights(film, intrinsics, plane), labels)


class FilmSource:
    """Batches of scenes of all data sets, packed where they are not."""

    def __init__(self, config: FilmTrainConfig, progress: Progress) -> None:
        self.config = config
        self.datasets = packed_datasets(config.data, progress)
        self.scenes = sum(len(dataset) for dataset in self.datasets)
        if not self.scenes:
            raise RobinError(Code.INPUT_MISSING, f"{config.data[0]}: no scene to train on")

    def batch(self, step: int) -> FilmBatch:
        """That of ``step``: a function of seed, step and the scenes, so that a resumed run repeats it."""
        rng = np.random.default_rng([self.config.seed, step])
        rows = rng.integers(self.scenes, size=self.config.batch).tolist()
        return collated([augment(self._scene(row), self.config.augment, rng) for row in rows])

    def batches(self, first: int) -> Generator[FilmBatch, None, None]:
        """From step ``first`` on, made ahead in a thread."""
        with ThreadPoolExecutor(1) as pool:
            waiting = [pool.submit(self.batch, first + k) for k in range(_AHEAD)]
            while True:
                waiting.append(pool.submit(self.batch, first + _AHEAD))
                first += 1
                yield waiting.pop(0).result()

    def _scene(self, row: int) -> TrainingScene:
        for dataset in self.datasets:
            if row < len(dataset):
                return dataset.scene(row)
            row -= len(dataset)
        raise IndexError(row)


def train_film(config: FilmTrainConfig, progress: Progress) -> bytes:
    """The serialised graph of a film network; goes on where ``config.out/checkpoint`` stands. Raises RobinError on bad
    data and MODEL_*."""
    torch.set_num_threads(config.threads)
    torch.manual_seed(config.seed)
    source = FilmSource(config, progress)
    bundle, network = _begun(config, source)
    average = copy.deepcopy(network).requires_grad_(False)
    optimizer = torch.optim.AdamW(network.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay)
    checkpoint, first = config.out / _CHECKPOINT, 0
    if (found := find_checkpoint(checkpoint)) is not None:
        state = read_state(found)
        if state.get("model") != bundle.model_id:
            text = f"{found}: began with {state.get('model')}, not with {bundle.model_id}"
            raise RobinError(Code.CONFIG_OUT_OF_RANGE, text)
        load_checkpoint(found, network, average, optimizer)
        first = int(state["steps"])
        progress(f"resumed at step {first}")
    progress(f"{source.scenes} scenes, film network of {parameter_count(network):,} weights from {bundle.model_id}")
    began, mean = time.monotonic(), dict[str, float]()
    batches = source.batches(first)
    try:
        for step in range(first, config.steps):
            terms = _step(network, optimizer, next(batches), cosine_rate(config, step / config.steps))
            follow(average, network, min(_AVERAGE, (1 + step) / (10 + step)))
            mean = {name: 0.95 * mean.get(name, value) + 0.05 * value for name, value in terms.items()}
            if (step + 1) % config.log_steps == 0:
                rate = config.batch * (step + 1 - first) / (time.monotonic() - began)
                told = " ".join(f"{name} {value:.3f}" for name, value in mean.items())
                left = (config.steps - step - 1) * config.batch / rate / 60
                progress(f"step {step + 1}: {told} | {rate:.1f} images/s, {left:.1f} min left")
            if (step + 1) % config.checkpoint_steps == 0 or step + 1 == config.steps:
                save_checkpoint(checkpoint, network, average, optimizer, {"steps": step + 1, "model": bundle.model_id})
    finally:
        batches.close()
    facts = {
        "model": bundle.model_id,
        "steps": config.steps,
        "seed": config.seed,
        "scenes": source.scenes,
        "data": [path.name for path in config.data],
    }
    return export_film(average, facts)


def _begun(config: FilmTrainConfig, source: FilmSource) -> tuple[Bundle, FilmNetwork]:
    """A film network with the bundle's trunk."""
    network = network_like(load_bundle(config.model))
    batches = [source.batch(START_STEP + k).pictures for k in range(config.start_batches)]
    bundle = start_from_bundle(network, config.model, batches)
    return bundle, FilmNetwork(network.preprocess, network.trunk, network.config.pyramid4)


def _step(network: nn.Module, optimizer: torch.optim.Optimizer, batch: FilmBatch, rate: float) -> dict[str, float]:
    for group in optimizer.param_groups:
        group["lr"] = rate
    network.train()
    with torch.autocast("cpu", torch.bfloat16):
        told, around = network(*batch.pictures)
    terms = film_terms(told.float(), around, batch.film, batch.height, batch.labels)
    loss = terms["height"] + terms["slope"] + terms["film"]
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    norm = nn.utils.clip_grad_norm_(network.parameters(), _CLIP_NORM)
    if bool(torch.isfinite(norm)):
        optimizer.step()
    return {name: float(value.detach()) for name, value in terms.items()}


def export_film(network: FilmNetwork, facts: dict[str, Any]) -> bytes:
    """The serialised graph of ``FilmGraph``, with ``facts`` of what it was made from."""
    frame = (
        torch.zeros(NETWORK_HEIGHT, NETWORK_WIDTH, 3, dtype=torch.uint8),
        torch.ones(NETWORK_HEIGHT, NETWORK_WIDTH),
        torch.tensor([400.0, 400.0, 255.5, 191.5]),
        torch.tensor([0.0, 0.0, -1.0, 1.2]),
    )
    with warnings.catch_warnings(), torch.no_grad(), tempfile.TemporaryDirectory() as folder:
        warnings.simplefilter("ignore")
        path = str(Path(folder) / "film.onnx")
        torch.onnx.export(
            FilmGraph(network).eval(),
            frame,
            path,
            input_names=list(FRAME_INPUTS),
            output_names=[FILM_OUTPUT],
            opset_version=OPSET,
            do_constant_folding=True,
            dynamo=False,
        )
        model = onnx.load_model(path)
    onnx.helper.set_model_props(model, {FACTS_KEY: json.dumps(facts)})
    model = onnx.shape_inference.infer_shapes(model)
    onnx.checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString())
