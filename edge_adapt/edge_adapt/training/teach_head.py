"""Quick teaching: the head alone, from the factory's weights, on cached features of taught frames and of replayed ones.

It always starts from the factory's head, so that nothing is carried over from an earlier lesson, and no layer may move
farther from it than a stated share of its norm. Labels are followed on taught frames alone. On replayed ones the head
goes on saying what the factory's says, whose slope is zero where it starts: their labels would shake it at every step.
"""

from __future__ import annotations

import copy
import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from edge_adapt.learn.see_job import DistillationConfig, QuickConfig
from edge_adapt.training.augment import AugmentConfig, augment
from edge_adapt.training.data import TrainingScene
from edge_adapt.training.distillation import at_peaks, known_terms, untold_terms
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
TAUGHT_LOSS = LossConfig(heat=2.0, mask=6.0, dice=6.0, embedding=0.0)
TAUGHT_VARIATION = AugmentConfig(blur=0.1, depth_holes=0.1, drop_colour=0.0, drop_depth=0.0)
BACKGROUND_LOSS = 6.0
_HARDEST_CELLS = 24
_CLIP_NORM = 10.0
_WARM_UP = 0.1
Features = tuple[Tensor, Tensor]
"""At stride 4 and at stride 8."""
_GRID4, _GRID8 = ((NETWORK_HEIGHT // stride, NETWORK_WIDTH // stride) for stride in (STRIDE_DETAIL, STRIDE_PEAK))
_PHASES = ((0, 0), (0, 1), (1, 0), (1, 1))
"""(row, column) of the stride-4 cell that is taken of each block of two by two: a step sees one cell in four, which
are as many as the peaks' grid has, and takes a third of the time."""


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


def background_loss(heat: Tensor, target: Tensor) -> Tensor:
    """Mean cross entropy of the likeliest cells of each image's background. heat: logits [B,h,w]; target as
    ``Batch.heat``. The focal loss leaves a false peak alone once it is below a half, which a calibrated score of .8
    may be."""
    each = F.softplus(heat).masked_fill(target != 0, 0.0).flatten(1)
    return each.topk(_HARDEST_CELLS, dim=1).values.mean()


class Teacher:
    """The loss of a lesson: what labels say of taught frames, and what the factory's head says of replayed ones. cells:
    as of ``Criterion``. known_maps: features that the factory's head reads. Both raise RobinError TEACHING_DIVERGED."""

    def __init__(self, factory: Head, config: DistillationConfig, cells: Tensor | slice = slice(None)) -> None:
        self.factory = factory.requires_grad_(False)
        self.config = config
        self.criterion = Criterion(TAUGHT_LOSS, cells)

    def taught(self, head: Head, outputs: HeadOutputs, known_maps: Features, batch: Batch) -> Tensor:
        located = self.criterion.locate(head, outputs, batch)
        terms = self.criterion.terms(outputs, located, batch)
        terms["background"] = BACKGROUND_LOSS * background_loss(outputs.heat[:, 0].float(), batch.heat)
        known = self.criterion.locate(self.factory, self._known(known_maps), batch)
        if located is not None and known is not None:
            terms |= untold_terms(self.config, located.points, known.points, batch.class_index < 0)
        return _sum(terms)

    def replayed(self, head: Head, outputs: HeadOutputs, known_maps: Features, batch: Batch) -> Tensor:
        known = self._known(known_maps)
        batch = at_peaks(batch, known.heat.float())
        own_points, known_points = (
            self.criterion.locate(*side, batch) for side in ((head, outputs), (self.factory, known))
        )
        return _sum(known_terms(self.config, self.criterion, (outputs, own_points), (known, known_points), batch))

    @torch.no_grad()
    def _known(self, maps: Features) -> HeadOutputs:
        with torch.autocast("cpu", torch.bfloat16):
            return self.factory(*maps)


def _sum(terms: dict[str, Tensor]) -> Tensor:
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
    known = copy.deepcopy(head)
    teachers = [Teacher(known, config.distillation, _cells(phase)) for phase in _PHASES]
    optimizer = torch.optim.AdamW(head.parameters(), lr=config.learning_rate, weight_decay=0.0)
    classes = factory.manifest.classes
    for step in range(config.steps):
        set_rate(optimizer, config.learning_rate, step, config.steps)
        rng = np.random.default_rng([seed, step])
        phase = int(rng.integers(len(_PHASES)))
        told = [
            (teachers[phase].taught, _draw(taught, config.batch, _PHASES[phase], rng, classes)),
            (teachers[phase].replayed, _draw(core, config.replayed, _PHASES[phase], rng, classes)),
        ]
        losses = [functools.partial(_loss, of, head, *part) for of, part in told]
        done = stepped(optimizer, head, losses)
        hold_near(head, known, config.most_change)
        progress(step + 1, config.steps, done)
    return head_weights(head)


def set_rate(optimizer: torch.optim.Optimizer, rate: float, step: int, steps: int) -> None:
    """A line from nothing to ``rate`` over the first tenth of the steps, then a cosine back to nothing. Adam's first
    steps move every weight by the whole rate, whatever its slope: they would break what a network knows."""
    warm = min(1.0, (step + 1) / (_WARM_UP * steps))
    for group in optimizer.param_groups:
        group["lr"] = rate * warm * 0.5 * (1 + math.cos(math.pi * step / steps))


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


def _loss(of: Callable[..., Tensor], head: Head, maps: Features, batch: Batch) -> Tensor:
    with torch.autocast("cpu", torch.bfloat16):
        outputs = head(*maps)
    return of(head, outputs, maps, batch)


def _draw(
    lesson: Lesson, count: int, phase: tuple[int, int], rng: np.random.Generator, classes: tuple[str, ...]
) -> tuple[Features, Batch]:
    rows = rng.integers(len(lesson.scenes), size=count).tolist()
    batch = collate([lesson.scenes[row] for row in rows], MAX_PARCELS, rng, classes=classes)
    return _features(lesson.maps, rows, phase), batch


def _cells(phase: tuple[int, int]) -> Tensor:
    """Flat indices of the stride-4 cells of ``phase``."""
    grid = torch.arange(_GRID4[0] * _GRID4[1]).view(_GRID4)
    return grid[phase[0] :: 2, phase[1] :: 2].reshape(-1)


def _features(maps: Maps, rows: Sequence[int], phase: tuple[int, int]) -> Features:
    """[B,C4,48,64], the cells of ``phase``, and [B,C8,48,64]; channels next to each other in memory, which is quick."""
    stride4 = [maps.stride4[row].reshape(-1, *_GRID4)[:, phase[0] :: 2, phase[1] :: 2] for row in rows]
    stride8 = [maps.stride8[row].reshape(-1, *_GRID8) for row in rows]
    first, second = (
        torch.from_numpy(np.stack([values.transpose(1, 2, 0) for values in part])).bfloat16().permute(0, 3, 1, 2)
        for part in (stride4, stride8)
    )
    return first, second
