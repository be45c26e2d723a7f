"""What the factory's network says, as soft targets: a network that is taught new goods shall go on saying it where
nothing new was shown (Hinton et al. 2015; Li & Hoiem 2016, "Learning without Forgetting").

Every term is zero where the two agree, and so is its slope: replayed scenes alone move nothing.
"""

from __future__ import annotations

from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from edge_adapt.learn.see_job import DistillationConfig
from edge_adapt.training.head import HeadOutputs, PointOutputs
from edge_adapt.training.losses import Criterion, Located
from edge_adapt.training.targets import Batch

_PEAKS = 20  # of an image
_NEAR_LOGIT = -4.0  # cells above it are of the mask or near its edge
_FAR = 0.05


def bernoulli_divergence(logits: Tensor, teacher: Tensor) -> Tensor:
    """KL(teacher || student) of each logit; its slope is that of the cross entropy."""
    p = torch.sigmoid(teacher)
    return F.binary_cross_entropy_with_logits(logits, p, reduction="none") - (
        F.binary_cross_entropy_with_logits(teacher, p, reduction="none")
    )


def known_terms(
    config: DistillationConfig,
    criterion: Criterion,
    student: tuple[HeadOutputs, Located | None],
    teacher: tuple[HeadOutputs, Located | None],
    batch: Batch,
) -> dict[str, Tensor]:
    """All outputs on replayed scenes, at the batch's locations (``at_peaks``): weighted terms by name. The teacher's
    tensors carry no gradient."""
    (own, own_points), (known, known_points) = student, teacher
    heat = bernoulli_divergence(own.heat.float(), known.heat.float())
    edges, _ = criterion.edges(batch.labels)
    weight = 1 + 3 * edges
    boundary = bernoulli_divergence(own.boundary.float().flatten(2), known.boundary.float().flatten(2)) * weight
    on_parcels = (criterion.labels(batch.labels).unsqueeze(1) > 0).float()
    vote, known_vote = (10 * side.offset.float().flatten(2) for side in (own, known))
    offset = F.smooth_l1_loss(vote, known_vote, reduction="none", beta=0.5)
    terms = {
        "keep_heat": config.heat * heat.sum() / torch.sigmoid(known.heat.float()).sum().clamp(min=1),
        "keep_boundary": config.boundary * boundary.sum() / weight.sum(),
        "keep_offset": config.offset * (offset.sum(1, keepdim=True) * on_parcels).sum() / on_parcels.sum().clamp(min=1),
    }
    if own_points is not None and known_points is not None:
        near = _FAR + (1 - _FAR) * (known_points.logits > _NEAR_LOGIT).float()
        weight = near * (1 + 3 * edges[:, 0])[batch.image]
        mask = (bernoulli_divergence(own_points.logits, known_points.logits) * weight).sum(1)
        terms["keep_mask"] = config.mask * (mask / weight.sum(1)).mean()
        quality = bernoulli_divergence(own_points.points.quality, known_points.points.quality)
        terms["keep_quality"] = config.quality * quality.mean()
        everywhere = torch.ones(len(batch.cell), dtype=torch.bool)
        terms |= untold_terms(config, own_points.points, known_points.points, everywhere)
    return terms


def at_peaks(batch: Batch, heat: Tensor) -> Batch:
    """The batch with the likeliest peaks of each image as its locations, parcels or not. Those are what a picture is
    decoded from: a mask that changes at an unlikely one may take another's place. heat: the factory's logits
    [B,1,h,w]."""
    peaks = heat.masked_fill(heat < F.max_pool2d(heat, 3, 1, 1), -torch.inf).flatten(1)
    cell = peaks.topk(_PEAKS, dim=1).indices.flatten()
    image = torch.arange(len(heat)).repeat_interleave(_PEAKS)
    return replace(batch, image=image, cell=cell)


def untold_terms(
    config: DistillationConfig, own: PointOutputs, known: PointOutputs, unnamed: Tensor
) -> dict[str, Tensor]:
    """What labels of taught frames do not tell: embedding, visible fraction, and the class of those that are
    ``unnamed``, bool [P]."""
    shares = F.softmax(known.classes, dim=1)
    classes = (shares * (shares.clamp(min=1e-9).log() - F.log_softmax(own.classes, dim=1))).sum(1)
    return {
        "keep_visible": config.visible * bernoulli_divergence(own.visible, known.visible).mean(),
        "keep_classes": config.classes * (classes * unnamed).sum() / unnamed.sum().clamp(min=1),
        "keep_embedding": config.embedding * (1 - (own.embedding * known.embedding).sum(1)).mean(),
    }
