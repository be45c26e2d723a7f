"""Deep teaching: the whole network, from the factory's weights, with the replay and the distillation of a quick lesson.

Batch norms keep the statistics they start with: a few frames of one cell are no basis for new ones, and so the network
that is trained is the one that is exported.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import nn

from edge_adapt.learn.see_job import TeachJob
from edge_adapt.training.augment import AugmentConfig, augment
from edge_adapt.training.checkpoint import find_checkpoint, load_checkpoint, read_state, save_checkpoint
from edge_adapt.training.data import PackedDataset, TrainingScene
from edge_adapt.training.export import export_onnx, head_weights
from edge_adapt.training.network import SMALL_NETWORK, NetworkConfig, SegmentationNetwork
from edge_adapt.training.targets import Batch, collate
from edge_adapt.training.teach_head import (
    MAX_PARCELS,
    TAUGHT_VARIATION,
    Progress,
    Teacher,
    hold_near,
    set_rate,
    stepped,
)
from edge_adapt.training.warm_start import start_from_bundle
from robin_perception.core.config import config_digest
from robin_perception.core.errors import Code, RobinError
from robin_perception.model.bundle import Bundle
from robin_perception.model.derived import derive_bundle

_CHECKPOINT = "deep"
_MICRO = 4  # frames that go through the network at once: memory, not result


def teach_deep(job: TeachJob, factory: Bundle, taught: PackedDataset, core: PackedDataset, progress: Progress) -> None:
    """Teach, or go on where the checkpoint under ``job.work`` stands, and write the new bundle. Raises RobinError
    MODEL_TENSOR_MISSING for a network of another shape, TEACHING_DIVERGED."""
    torch.manual_seed(job.seed)
    config = job.deep_config
    network = network_like(factory)
    start_from_bundle(network, job.bundle, [_draw(job, taught, core, 0, factory)[0][0].pictures])
    known = copy.deepcopy(network).eval().requires_grad_(False)
    teacher = Teacher(known.head, config.distillation)
    optimizer = torch.optim.AdamW(network.parameters(), lr=config.learning_rate, weight_decay=0.0)
    folder, digest = job.work / _CHECKPOINT, config_digest(job)
    for step in range(_resumed(folder, digest, network, optimizer), config.steps):
        set_rate(optimizer, config.learning_rate, step, config.steps)
        losses = _losses(network, known, teacher, _draw(job, taught, core, step, factory))
        loss = stepped(optimizer, network, losses)
        hold_near(network, known, config.most_change)
        if (step + 1) % config.checkpoint_steps == 0:
            save_checkpoint(folder, network, None, optimizer, {"steps": step + 1, "job": digest})
        progress(step + 1, config.steps, loss)
    network.eval()
    derive_bundle(factory, job.out, head_weights(network.head), notes=job.notes, network=export_onnx(network))


def network_like(bundle: Bundle) -> SegmentationNetwork:
    """An untrained network of the bundle's shape. Raises RobinError MODEL_TENSOR_MISSING."""
    shapes = [np.shape(bundle.head.get(f"head.{name}.weight", ())) for name in ("pixel1", "heat1")]
    for config in (NetworkConfig(), SMALL_NETWORK):
        if [shape[1:] for shape in shapes] == [(config.pyramid4,), (config.pyramid8,)]:
            return SegmentationNetwork(config, bundle.manifest.classes)
    raise RobinError(Code.MODEL_TENSOR_MISSING, f"{bundle.directory}: a network of a shape that cannot be taught")


def _resumed(folder: Path, digest: str, network: nn.Module, optimizer: torch.optim.Optimizer) -> int:
    """Steps that are done."""
    found = find_checkpoint(folder)
    if found is None:
        return 0
    state = read_state(found)
    if state.get("job") != digest:
        return 0
    load_checkpoint(found, network, None, optimizer)
    return int(state["steps"])


def _losses(
    network: SegmentationNetwork,
    known: SegmentationNetwork,
    teacher: Teacher,
    parts: tuple[list[Batch], list[Batch]],
) -> list[Callable[[], torch.Tensor]]:
    """One loss for each part, taught ones and replayed ones, to be computed one after the other."""
    network.train()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()

    def loss(of: Callable[..., torch.Tensor], batch: Batch, count: int) -> torch.Tensor:
        pictures = (batch.rgb, batch.depth, batch.intrinsics, batch.belt_plane)
        with torch.autocast("cpu", torch.bfloat16):
            outputs = network(*pictures)
            with torch.no_grad():
                known_maps = known.features(*pictures)
        return of(network.head, outputs, known_maps, batch) / count

    sides = zip((teacher.taught, teacher.replayed), parts, strict=True)
    return [functools.partial(loss, of, batch, len(side)) for of, side in sides for batch in side]


def _draw(
    job: TeachJob, taught: PackedDataset, core: PackedDataset, step: int, factory: Bundle
) -> tuple[list[Batch], list[Batch]]:
    """The step's taught and replayed frames, in parts: a function of seed and step."""
    rng, config = np.random.default_rng([job.seed, step]), job.deep_config

    def parts(scene: Callable[[int], TrainingScene], count: int, variation: AugmentConfig, size: int) -> list[Batch]:
        rows = rng.integers(count, size=size).tolist()
        scenes = [augment(scene(row), variation, rng) for row in rows]
        return [
            collate(scenes[i : i + _MICRO], MAX_PARCELS, rng, classes=factory.manifest.classes)
            for i in range(0, size, _MICRO)
        ]

    own = parts(lambda place: taught.scene(job.rows[place]), len(job.rows), TAUGHT_VARIATION, config.batch)
    return own, parts(core.scene, job.core_scenes, AugmentConfig(), config.replayed)
