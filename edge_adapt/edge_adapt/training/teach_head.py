"""Quick teaching: the head alone, from the factory's weights, on cached features: taught frames and replay, half and
half.

It always starts from the factory's head, so that nothing is carried over from an earlier lesson, and no layer may move
farther from it than a stated share of its norm.
"""

from __future__ import annotations

import copy
import functools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from edge_adapt.learn.see_job import DistillationConfig, QuickConfig
from edge_adapt.training.augment import AugmentConfig, augment
from edge_adapt.training.data import TrainingScene
from edge_adapt.training.distillation import distillation_terms
from edge_adapt.training.export import head_weights
from edge_adapt.training.features import Maps
from edge_adapt.training.geometry import NETWORK_HEIGHT, NETWORK_WIDTH
from edge_adapt.training.head import STRIDE_DETAIL, STRIDE_PEAK, Head, HeadOutputs
from edge_adapt.training.losses import Criterion, LossConfig
from edge_adapt.training.targets import Batch, collate
from edge_adapt.training.warm_start import read_head
from robin_perception.core.errors import Code, RobinError
from robin_perception.model.bundle import Bundle

Progress = Callable[[int, int, float], None]
"""Steps done, steps in all, loss."""

MAX_PARCELS = 16
TAUGHT_LOSS = LossConfig(embedding=0.0)
TAUGHT_VARIATION = AugmentConfig(blur=0.1, depth_holes=0.1, drop_colour=0.0, drop_depth=0.0)
_CLIP_NORM = 10.0
_GRIDS = tuple((NETWORK_HEIGHT // stride, NETWORK_WIDTH // stride) for stride in (STRIDE_DETAIL, STRIDE_PEAK))


@dataclass(frozen=True)
class Lesson:
    """Labelled scenes and their features, row by row. The scenes hold no pictures, which a head does not look at."""

    scenes: Sequence[TrainingScene]
    maps: Maps


def variant(scene: TrainingScene, number: int, rng: np.random.Generator) -> TrainingScene:
    """Variant ``number`` of a taught frame; 0 is the frame as it is."""
    return scene if number == 0 else augment(scene, TAUGHT_VARIATION, rng)


def without_pictures(scene: TrainingScene) -> TrainingScene:
    return replace(scene, rgb=np.zeros(0, dtype=np.uint8), depth=np.zeros(0, dtype=np.float32))


def half_and_half(taught: int, core: int, batch: int, rng: np.random.Generator) -> tuple[list[int], list[int]]:
    """Rows of a step: of the taught scenes and of the core."""
    half = batch // 2
    return rng.integers(taught, size=half).tolist(), rng.integers(core, size=batch - half).tolist()


class Teacher:
    """The loss of a lesson: what labels say, and what the factory's head says of the same features."""

    def __init__(self, factory: Head, config: DistillationConfig) -> None:
        self.factory = factory.requires_grad_(False)
        self.config = config
        self.criterion = Criterion(TAUGHT_LOSS)

    def loss(
        self, head: Head, outputs: HeadOutputs, known_maps: tuple[Tensor, Tensor], batch: Batch, replayed: Tensor
    ) -> Tensor:
        """known_maps: features that the factory's head reads. replayed: bool [B]. Raises RobinError
        TEACHING_DIVERGED."""
        located = self.criterion.locate(head, outputs, batch)
        with torch.no_grad():
            known = self.factory(*known_maps)
            known_points = self.criterion.locate(self.factory, known, batch)
        terms = self.criterion.terms(outputs, located, batch)
        terms |= distillation_terms(
            self.config, self.criterion, (outputs, located), (known, known_points), batch, replayed
        )
        bad = [name for name, value in terms.items() if not bool(torch.isfinite(value))]
        if bad:
            raise RobinError(Code.TEACHING_DIVERGED, f"the loss '{bad[0]}' is no number any more; the old model stays")
        return torch.stack(list(terms.values())).sum()


def teach_head(
    factory: Bundle, taught: Lesson, core: Lesson, config: QuickConfig, seed: int, progress: Progress
) -> dict[str, NDArray[np.float32]]:
    """The taught head's weights by graph input name: the same for the same seed. Raises RobinError MODEL_TENSOR_MISSING
    for a head of another shape, TEACHING_DIVERGED."""
    torch.manual_seed(seed)
    head = read_head(factory)
    teacher = Teacher(copy.deepcopy(head), config.distillation)
    optimizer = torch.optim.AdamW(head.parameters(), lr=config.learning_rate, weight_decay=0.0)
    for step in range(config.steps):
        set_rate(optimizer, config.learning_rate, step / config.steps)
        maps, batch, replayed = _draw(taught, core, config.batch, np.random.default_rng([seed, step]), factory)
        told = functools.partial(_told, teacher, head, maps, batch, replayed)
        loss = stepped(optimizer, head, [told])
        hold_near(head, teacher.factory, config.most_change)
        progress(step + 1, config.steps, loss)
    return head_weights(head)


def _told(teacher: Teacher, head: Head, maps: tuple[Tensor, Tensor], batch: Batch, replayed: Tensor) -> Tensor:
    return teacher.loss(head, head(*maps), maps, batch, replayed)


def set_rate(optimizer: torch.optim.Optimizer, rate: float, done: float) -> None:
    """Cosine from ``rate`` to nothing. done: share of the steps."""
    for group in optimizer.param_groups:
        group["lr"] = rate * 0.5 * (1 + math.cos(math.pi * done))


def stepped(optimizer: torch.optim.Optimizer, network: nn.Module, losses: Sequence[Callable[[], Tensor]]) -> float:
    """One step down the sum of ``losses``, which are computed one after the other; returns the sum. Raises RobinError
    TEACHING_DIVERGED for a gradient that is no number."""
    optimizer.zero_grad(set_to_none=True)
    total = 0.0
    for loss in losses:
        value = loss()
        value.backward()
        total += float(value.detach())
    norm = nn.utils.clip_grad_norm_(network.parameters(), _CLIP_NORM)
    if not bool(torch.isfinite(norm)):
        raise RobinError(Code.TEACHING_DIVERGED, "the gradient is no number any more; the old model stays")
    optimizer.step()
    return total


@torch.no_grad()
def hold_near(network: nn.Module, factory: nn.Module, most_change: float) -> None:
    """Pull every weight matrix that went farther from the factory's than ``most_change`` times its norm back to that
    distance."""
    for own, known in zip(network.parameters(), factory.parameters(), strict=True):
        if own.ndim < 2:
            continue
        change = own - known
        ratio = most_change * known.norm() / change.norm().clamp(min=1e-12)
        if ratio < 1:
            own.copy_(known + change * ratio)


def _draw(
    taught: Lesson, core: Lesson, size: int, rng: np.random.Generator, factory: Bundle
) -> tuple[tuple[Tensor, Tensor], Batch, Tensor]:
    chosen = half_and_half(len(taught.scenes), len(core.scenes), size, rng)
    scenes = [lesson.scenes[row] for lesson, rows in zip((taught, core), chosen, strict=True) for row in rows]
    batch = collate(scenes, MAX_PARCELS, rng, classes=factory.manifest.classes)
    replayed = torch.tensor([False] * len(chosen[0]) + [True] * len(chosen[1]))
    parts = list(_rows(taught.maps, chosen[0])), list(_rows(core.maps, chosen[1]))
    stride4, stride8 = (
        torch.from_numpy(np.concatenate([part[level] for part in parts]).astype(np.float32)).unflatten(2, grid)
        for level, grid in enumerate(_GRIDS)
    )
    return (stride4, stride8), batch, replayed


def _rows(maps: Maps, rows: list[int]) -> Iterator[NDArray[np.float16]]:
    yield maps.stride4[rows]
    yield maps.stride8[rows]
