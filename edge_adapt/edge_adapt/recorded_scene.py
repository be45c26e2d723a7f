"""The scene that a decision was made on, as far as its record holds it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edge_adapt.decision import Decision
from edge_adapt.record_parts import ConditionRecord, InstanceRecord
from robin_perception.core.condition import Condition, Family, PickingEffect
from robin_perception.core.errors import Code, RobinError
from robin_perception.core.scene import CLASSES, Instance, Scene

_BOUNDARY_STEP = 4


def recorded_scene(decision: Decision, labels: NDArray[np.uint16]) -> Scene:
    """labels: uint16 [H, W], as the record's mask picture has them. Of each class vote there is only the highest share;
    the boundary map and the embeddings are empty. Raises RobinError RECORD_INVALID for a condition of no known code."""
    names = decision.class_names or CLASSES
    height, width = labels.shape
    return Scene(
        decision.stamp_s,
        decision.model_id,
        labels,
        tuple(_instance(row, names) for row in decision.instances),
        np.zeros((height // _BOUNDARY_STEP, width // _BOUNDARY_STEP), dtype=np.float32),
        decision.scene_flags,
        class_names=names,
        conditions=tuple(_condition(row, decision.decision_id) for row in decision.conditions),
    )


def _instance(row: InstanceRecord, names: tuple[str, ...]) -> Instance:
    votes = np.full(len(names), (1.0 - row.class_probability) / max(len(names) - 1, 1), dtype=np.float32)
    if row.class_name in names:
        votes[names.index(row.class_name)] = row.class_probability
    scores = (row.detection, row.mask_quality, row.visible_fraction, row.boundary_uncertainty_px)
    novelty = float("nan") if row.novelty is None else row.novelty
    nothing = np.zeros(0, dtype=np.float32)
    return Instance(row.id, row.bbox, row.area_px, votes, *scores, nothing, novelty, row.film_depth)


def _condition(row: ConditionRecord, source: str) -> Condition:
    try:
        code = Code(row.code)
    except ValueError:
        raise RobinError(Code.RECORD_INVALID, f"{source}: no known condition: {row.code} {row.name!r}") from None
    return Condition(
        code=code,
        name=row.name,
        family=Family(row.family),
        value=float("nan") if row.value is None else row.value,
        limit=float("nan") if row.limit is None else row.limit,
        unit=row.unit,
        since_s=row.since_s,
        effect=PickingEffect(row.effect),
        text=row.text,
        instances=row.instances,
    )
