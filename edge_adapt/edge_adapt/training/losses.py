"""Training losses. Everything is float32, whatever the trunk ran in; ignored pixels carry no weight anywhere."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from edge_adapt.training.data import IGNORE
from edge_adapt.training.head import (
    COORDINATE_UNIT_PX,
    STRIDE_DETAIL,
    STRIDE_PEAK,
    Head,
    HeadOutputs,
    PointOutputs,
    expand_kernels,
    grid_coordinates,
    mask_planes,
)
from edge_adapt.training.targets import Batch
from robin_perception.core.config import StrictConfig

_NEAR_MARGIN = 0.35
_NEAR_MARGIN_PX = 12.0


class LossConfig(StrictConfig):
    """Weights of the terms; far_weight: share of a background pixel far from the parcel in the mask's cross entropy;
    edge_weight: extra share of a pixel at any parcel's edge; temperature: of the contrastive embedding loss."""

    heat: float = Field(default=1.0, ge=0)
    dice: float = Field(default=3.0, ge=0)
    mask: float = Field(default=3.0, ge=0)
    boundary: float = Field(default=0.5, ge=0)
    offset: float = Field(default=0.6, ge=0)
    quality: float = Field(default=0.3, ge=0)
    visible: float = Field(default=1.0, ge=0)
    classes: float = Field(default=0.7, ge=0)
    embedding: float = Field(default=0.2, ge=0)
    far_weight: float = Field(default=0.05, ge=0, le=1)
    edge_weight: float = Field(default=3.0, ge=0)
    temperature: float = Field(default=0.15, gt=0)


def focal_loss(logits: Tensor, target: Tensor) -> Tensor:
    """Penalty-reduced focal loss per centre, Gaussian targets (Law & Deng 2018); 1 at centres, < 0 ignored."""
    p = torch.sigmoid(logits)
    positive = (target > 0.999).float()
    valid = (target >= 0).float()
    gain = F.logsigmoid(logits) * (1 - p).square() * positive
    loss = F.logsigmoid(-logits) * p.square() * (1 - target.clamp(min=0)).pow(4) * (1 - positive) * valid
    return -(gain + loss).sum() / positive.sum().clamp(min=1)


def quarters(labels: Tensor) -> Tensor:
    """labels uint8 [B,192,256] -> [B,4,96*128]: the four half-resolution pixels of every stride-4 cell."""
    b, h, w = labels.shape
    return labels.view(b, h // 2, 2, w // 2, 2).permute(0, 2, 4, 1, 3).reshape(b, 4, -1)


def edge_map(labels: Tensor) -> tuple[Tensor, Tensor]:
    """Stride-4 cells [B,1,96,128] whose surroundings hold more than one label; and where no ignored pixel is near."""
    values = labels.float().unsqueeze(1)
    highest = F.max_pool2d(values, 4, 2, 1)
    lowest = -F.max_pool2d(-values, 4, 2, 1)
    return (highest != lowest).float(), (highest != IGNORE).float()


def boundary_loss(logits: Tensor, edges: Tensor, known: Tensor) -> Tensor:
    """Cross entropy (edges count twice) plus Dice."""
    weight = known * (1 + edges)
    entropy = F.binary_cross_entropy_with_logits(logits, edges, reduction="none")
    p = torch.sigmoid(logits) * known
    edges = edges * known
    dice = 1 - (2 * (p * edges).sum() + 1) / (p.square().sum() + edges.sum() + 1)
    return (entropy * weight).sum() / weight.sum().clamp(min=1) + dice


def offset_loss(offset: Tensor, labels: Tensor, centres: Tensor, grid: Tensor) -> Tensor:
    """Smooth L1 between the voted and the true centre on every labelled cell, scaled units x 10. offset [B,2,N]; labels
    [B,N]; centres as in ``Batch``; grid [2,N]."""
    cells = labels.long()
    inside = ((cells > 0) & (cells != IGNORE)).float()
    truth = torch.gather(centres, 1, cells.unsqueeze(-1).expand(-1, -1, 2)).transpose(1, 2)
    difference = F.smooth_l1_loss((offset + grid) * 10, truth * 10, reduction="none", beta=0.5)
    return (difference.sum(1) * inside).sum() / inside.sum().clamp(min=1)


def contrastive_loss(embedding: Tensor, variant: Tensor, temperature: float) -> Tensor:
    """Supervised contrastive loss (Khosla et al. 2020) on kind and variant."""
    count = len(variant)
    if count < 2:
        return embedding.sum() * 0
    similarity = embedding @ embedding.T / temperature
    self_mask = torch.eye(count, dtype=torch.bool, device=embedding.device)
    same = (variant[:, None] == variant[None, :]) & ~self_mask
    log_share = similarity - torch.logsumexp(similarity.masked_fill(self_mask, -1e4), dim=1, keepdim=True)
    partners = same.sum(1)
    mean_log = (log_share * same).sum(1) / partners.clamp(min=1)
    return -(mean_log * (partners > 0)).sum() / (partners > 0).sum().clamp(min=1)


def visible_loss(logits: Tensor, visible: Tensor) -> Tensor:
    """Cross entropy, not |p - v|, whose slope vanishes where a covered parcel is taken for a whole one."""
    known = ~torch.isnan(visible)
    loss = F.binary_cross_entropy_with_logits(logits, visible.nan_to_num(), reduction="none") * known
    return loss.sum() / known.sum().clamp(min=1)


def class_loss(logits: Tensor, index: Tensor) -> Tensor:
    """Cross entropy over the locations whose class is told."""
    return F.cross_entropy(logits, index, ignore_index=-1, reduction="sum") / (index >= 0).sum().clamp(min=1)


def _near_box(box: Tensor, grid_px: Tensor) -> Tensor:
    """[P, N] float: 1 inside the parcel's box grown by a third."""
    size = (box[:, 2:] - box[:, :2]) * _NEAR_MARGIN + _NEAR_MARGIN_PX
    low, high = box[:, :2] - size, box[:, 2:] + size
    x, y = grid_px[0], grid_px[1]
    inside_x = (x >= low[:, 0:1]) & (x <= high[:, 0:1])
    inside_y = (y >= low[:, 1:2]) & (y <= high[:, 1:2])
    return (inside_x & inside_y).float()


@dataclass
class Located:
    """What a head says at the P training locations: points, and mask logits [P, N] over the stride-4 cells."""

    points: PointOutputs
    logits: Tensor


class Criterion:
    """Total loss and its terms for one batch. What labels do not tell (class -1, visible NaN) costs nothing. cells:
    which stride-4 cells count, indices of the flat grid; the outputs at stride 4 are those of these cells."""

    def __init__(
        self, config: LossConfig, cells: Tensor | slice = slice(None), device: torch.device | str = "cpu"
    ) -> None:
        self.config = config
        self.cells = cells
        self.grid = grid_coordinates(STRIDE_DETAIL)[:, cells].to(device)
        self.peak_grid = grid_coordinates(STRIDE_PEAK).to(device)
        self.grid_px = self.grid * COORDINATE_UNIT_PX + torch.tensor([[255.5], [191.5]], device=device)

    def __call__(self, head: Head, outputs: HeadOutputs, batch: Batch) -> tuple[Tensor, dict[str, float]]:
        terms = self.terms(outputs, self.locate(head, outputs, batch), batch)
        total = torch.stack(list(terms.values())).sum()
        return total, {name: float(value.detach()) for name, value in terms.items()}

    def locate(self, head: Head, outputs: HeadOutputs, batch: Batch) -> Located | None:
        """None for a batch without a location."""
        if not len(batch.cell):
            return None
        rows = outputs.stride8.float().flatten(2).transpose(1, 2)[batch.image, batch.cell]
        points = head.points(rows)
        kernels = expand_kernels(points.kernel, self.peak_grid.T[batch.cell])
        features = outputs.mask_features.float().flatten(2)
        offset = outputs.offset.float().flatten(2)
        logits = []
        for image in range(len(features)):
            planes = mask_planes(features[image], offset[image], self.grid)
            logits.append(kernels[batch.image == image] @ planes)
        return Located(points, torch.cat(logits)[_back_in_order(batch)])

    def edges(self, labels: Tensor) -> tuple[Tensor, Tensor]:
        """``edge_map`` of the cells that count, [B,1,N] each."""
        edges, known = (values.flatten(2)[..., self.cells] for values in edge_map(labels))
        return edges, known

    def labels(self, labels: Tensor) -> Tensor:
        """One label for each cell that counts, [B,N]."""
        return labels[:, 1::2, 1::2].flatten(1)[:, self.cells]

    def terms(self, outputs: HeadOutputs, located: Located | None, batch: Batch) -> dict[str, Tensor]:
        """Weighted terms by name."""
        c = self.config
        edges, known = self.edges(batch.labels)
        offset, labels = outputs.offset.float().flatten(2), self.labels(batch.labels)
        terms = {
            "heat": c.heat * focal_loss(outputs.heat[:, 0].float(), batch.heat),
            "boundary": c.boundary * boundary_loss(outputs.boundary.float().flatten(2), edges, known),
            "offset": c.offset * offset_loss(offset, labels, batch.centres, self.grid),
        }
        if located is not None:
            terms |= self._parcel_terms(located, edges.flatten(1), batch)
        return terms

    def _parcel_terms(self, located: Located, edges: Tensor, batch: Batch) -> dict[str, Tensor]:
        c, points, logits = self.config, located.points, located.logits
        target, weight = self.mask_targets(edges, batch)
        valid = (weight > 0).float()
        entropy = F.binary_cross_entropy_with_logits(logits, target, weight, reduction="none")
        entropy = (entropy.sum(1) / weight.sum(1).clamp(min=1)).mean()
        p = torch.sigmoid(logits) * valid
        dice = 1 - (2 * (p * target).sum(1) + 1) / (p.square().sum(1) + target.square().sum(1) + 1)
        with torch.no_grad():
            found, truth = (logits > 0).float() * valid, (target > 0.5).float()
            both = (found * truth).sum(1)
            overlap = both / (found.sum(1) + truth.sum(1) - both).clamp(min=1)
        return {
            "mask": c.mask * entropy,
            "dice": c.dice * dice.mean(),
            "quality": c.quality * F.binary_cross_entropy_with_logits(points.quality, overlap),
            "visible": c.visible * visible_loss(points.visible, batch.visible),
            "classes": c.classes * class_loss(points.classes, batch.class_index),
            "embedding": c.embedding * contrastive_loss(points.embedding, batch.variant, c.temperature),
        }

    def mask_targets(self, edges: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        """Covered share of every cell [P,N] (soft targets keep sub-cell edges), weights [P,N]. edges: [B,N]."""
        c = self.config
        parts = quarters(batch.labels)[..., self.cells]
        targets = []
        for image in range(len(parts)):
            identity = batch.identity[batch.image == image].to(torch.uint8).view(-1, 1, 1)
            targets.append((parts[image].unsqueeze(0) == identity).sum(1, dtype=torch.uint8).float() * 0.25)
        near = _near_box(batch.box, self.grid_px)
        share = c.far_weight + (1 - c.far_weight) * near
        image_weight = (1 + c.edge_weight * edges) * (parts != IGNORE).all(1).float()
        return torch.cat(targets)[_back_in_order(batch)], share * image_weight[batch.image]


def _back_in_order(batch: Batch) -> Tensor:
    """Index that puts rows, collected image by image, back into the order of the batch's locations."""
    order = torch.cat([torch.nonzero(batch.image == image)[:, 0] for image in range(len(batch.labels))])
    return torch.argsort(order)
