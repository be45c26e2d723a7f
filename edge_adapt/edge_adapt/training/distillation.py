"""What the factory's network says, as soft targets: a network that is taught new goods shall go on saying it where
nothing new was shown (Hinton et al. 2015; Li & Hoiem 2016, "Learning without Forgetting").

Every term is zero where the two agree. On replayed scenes all outputs are held. On taught frames only what their labels
do not tell is: the embedding, the visible fraction, and the class where no class was given.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from edge_adapt.learn.see_job import DistillationConfig
from edge_adapt.training.head import HeadOutputs
from edge_adapt.training.losses import Criterion, Located, edge_map
from edge_adapt.training.targets import Batch


def bernoulli_divergence(logits: Tensor, teacher: Tensor) -> Tensor:
    """KL(teacher || student) of each logit; its slope is that of the cross entropy."""
    p = torch.sigmoid(teacher)
    return F.binary_cross_entropy_with_logits(logits, p, reduction="none") - (
        F.binary_cross_entropy_with_logits(teacher, p, reduction="none")
    )


def distillation_terms(
    config: DistillationConfig,
    criterion: Criterion,
    student: tuple[HeadOutputs, Located | None],
    teacher: tuple[HeadOutputs, Located | None],
    batch: Batch,
    replayed: Tensor,
) -> dict[str, Tensor]:
    """Weighted terms by name. replayed: bool [B], which images of the batch come from the core set. The teacher's
    tensors carry no gradient."""
    (own, own_points), (known, known_points) = student, teacher
    core = replayed.float().view(-1, 1, 1, 1)
    heat = bernoulli_divergence(own.heat.float(), known.heat.float()) * core
    peaks = (torch.sigmoid(known.heat.float()) * core).sum().clamp(min=1)
    edges, _ = edge_map(batch.labels)
    edge_weight = (1 + 3 * edges) * core
    boundary = bernoulli_divergence(own.boundary.float(), known.boundary.float()) * edge_weight
    on_parcels = (batch.labels[:, 1::2, 1::2].unsqueeze(1) > 0).float() * core
    offset = F.smooth_l1_loss(own.offset.float() * 10, known.offset.float() * 10, reduction="none", beta=0.5)
    terms = {
        "keep_heat": config.heat * heat.sum() / peaks,
        "keep_boundary": config.boundary * boundary.sum() / edge_weight.sum().clamp(min=1),
        "keep_offset": config.offset * (offset.sum(1, keepdim=True) * on_parcels).sum() / on_parcels.sum().clamp(min=1),
    }
    if own_points is not None and known_points is not None:
        of_core = replayed[batch.image].float()
        _, weight = criterion.mask_targets(edges.flatten(1), batch)
        terms |= _point_terms(config, own_points, known_points, weight, of_core, batch.class_index < 0)
    return terms


def _point_terms(
    config: DistillationConfig, own: Located, known: Located, weight: Tensor, of_core: Tensor, unnamed: Tensor
) -> dict[str, Tensor]:
    count = of_core.sum().clamp(min=1)
    mask = bernoulli_divergence(own.logits, known.logits) * weight
    mask = mask.sum(1) / weight.sum(1).clamp(min=1)
    quality = bernoulli_divergence(own.points.quality, known.points.quality)
    visible = bernoulli_divergence(own.points.visible, known.points.visible)
    shares = F.softmax(known.points.classes, dim=1)
    classes = (shares * (shares.clamp(min=1e-9).log() - F.log_softmax(own.points.classes, dim=1))).sum(1)
    held = torch.maximum(of_core, unnamed.float())
    embedding = 1 - (own.points.embedding * known.points.embedding).sum(1)
    return {
        "keep_mask": config.mask * (mask * of_core).sum() / count,
        "keep_quality": config.quality * (quality * of_core).sum() / count,
        "keep_visible": config.visible * visible.mean(),
        "keep_classes": config.classes * (classes * held).sum() / held.sum().clamp(min=1),
        "keep_embedding": config.embedding * embedding.mean(),
    }
