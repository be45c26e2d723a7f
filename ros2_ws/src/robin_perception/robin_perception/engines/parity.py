"""Whether an engine computes what the reference computes: the instance tensors of one frame, candidate by candidate.

Candidates are matched by their peak's place, not by their row: where two scores nearly tie, two engines that are right
both may order them differently, and where two cells side by side do, put the peak into either.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from robin_perception.core.config import StrictConfig
from robin_perception.engines.base import Tensors

# Candidates below this raw score decide nothing, and there are as many of them as the graph has rows.
COMPARED_FROM = 0.2
_NEXT_CELL_PX = 8.5  # peaks stand on a grid of 8 pixels
_MANY_CELLS = 16  # smaller masks are compared by their logits only: one cell would be a tenth of their area


class ParityBound(StrictConfig):
    """How far the outputs may be from the reference's.

    score: largest difference of detection, mask quality and visible fraction. classes: of class probabilities, which
    move most where the class is in doubt, so that bytes are allowed more there. mask_iou: least overlap of a mask with
    its reference. boundary: mean difference of the boundary map. lost: share of candidates without a partner; one of
    them is always allowed where its score is within ``score`` of the least that is compared. moved: share whose partner
    stands in the next cell, as ties between two cells do.
    """

    score: float = Field(gt=0, le=1)
    classes: float = Field(gt=0, le=1)
    mask_iou: float = Field(ge=0, le=1)
    boundary: float = Field(gt=0, le=1)
    lost: float = Field(ge=0, le=1)
    moved: float = Field(ge=0, le=1)


BOUNDS = {
    "float32": ParityBound(score=2e-3, classes=2e-3, mask_iou=0.99, boundary=1e-3, lost=0.0, moved=0.02),
    "float16": ParityBound(score=0.03, classes=0.03, mask_iou=0.95, boundary=5e-3, lost=0.02, moved=0.05),
    "int8": ParityBound(score=0.10, classes=0.20, mask_iou=0.90, boundary=5e-3, lost=0.05, moved=0.1),
}


@dataclass(frozen=True)
class Parity:
    """What was found over all frames; the worst one counts, boundary, lost and moved apart, which are means."""

    frames: int
    candidates: int
    score: float
    classes: float
    mask_iou: float
    boundary: float
    lost: float
    moved: float

    def exceeds(self, bound: ParityBound) -> str | None:
        """What is outside of the bound, in one line; None when all is inside."""
        if self.candidates == 0:
            return "the reference sees nothing in the golden frames, so nothing was compared"
        found = []
        for name in ("score", "classes", "boundary", "lost", "moved"):
            value, limit = getattr(self, name), getattr(bound, name)
            if not value <= limit:  # NaN is outside, too
                found.append(f"{name} {value:.4g} > {limit:g}")
        if not self.mask_iou >= bound.mask_iou:
            found.append(f"mask_iou {self.mask_iou:.4g} < {bound.mask_iou:g}")
        return ", ".join(found) or None

    def to_json(self) -> dict[str, float]:
        return asdict(self)


def compare(pairs: Iterable[tuple[Tensors, Tensors]]) -> Parity:
    """(reference's tensors, engine's tensors) of each frame, INSTANCE_OUTPUTS all of them."""
    frames, candidates, lost, moved = 0, 0, 0, 0
    worst, iou, boundary = {"score": 0.0, "classes": 0.0}, 1.0, 0.0
    for reference, found in pairs:
        frames += 1
        rows = np.flatnonzero(reference["detection"] >= COMPARED_FROM)
        partners = partner_rows(reference["peak_xy"][rows], found)
        near = np.abs(reference["detection"][rows] - COMPARED_FROM) < 0.05
        lost += int(((partners < 0) & ~near).sum())
        candidates += len(rows)
        rows, partners = rows[partners >= 0], partners[partners >= 0]
        stayed = np.abs(reference["peak_xy"][rows] - found["peak_xy"][partners]).max(axis=1, initial=0.0) < 0.5
        moved += int((~stayed).sum())
        for name in ("detection", "mask_quality", "visible_fraction", "class_probabilities"):
            difference = np.abs(reference[name][rows] - found[name][partners])
            if name != "detection":  # the others are said of a cell, and that of a tie's other cell may differ
                difference = difference[stayed]
            kind = "classes" if name == "class_probabilities" else "score"
            worst[kind] = float(np.maximum(worst[kind], difference.max(initial=0.0)))  # NaN stays NaN
        iou = min(iou, _least_iou(reference["mask_logits"][rows], found["mask_logits"][partners]))
        boundary += float(np.abs(reference["boundary"] - found["boundary"]).mean())
    each = max(1, candidates)
    return Parity(
        frames,
        candidates,
        **worst,
        mask_iou=iou,
        boundary=boundary / max(1, frames),
        lost=lost / each,
        moved=moved / each,
    )


def partner_rows(wanted: NDArray[np.float32], found: Tensors) -> NDArray[np.intp]:
    """For each peak [n, 2] the row of the nearest candidate of ``found`` in the same cell or, where two cells side by
    side tie for the peak, in the next one; -1 where there is none."""
    if not len(wanted):
        return np.zeros(0, dtype=np.intp)
    distance = np.abs(wanted[:, None] - found["peak_xy"][None]).max(axis=2)
    distance[:, found["detection"] < COMPARED_FROM / 2] = np.inf  # cells beside a peak are listed with next to nothing
    nearest = distance.argmin(axis=1)
    return np.where(distance[np.arange(len(wanted)), nearest] < _NEXT_CELL_PX, nearest, -1)


def _least_iou(reference: NDArray[np.float32], found: NDArray[np.float32]) -> float:
    a, b = reference > 0, found > 0
    shared, either = (a & b).sum(axis=(1, 2)), (a | b).sum(axis=(1, 2))
    large = either >= _MANY_CELLS
    return float((shared[large] / either[large]).min(initial=1.0))
