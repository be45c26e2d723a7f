"""The label that one pick gives: what is gone, with the mask that was proposed as prior."""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_adapt.labels.evidence import Floats, Mask, gone_evidence
from edge_adapt.labels.label import LabelConfig, MaskLabel, NoLabel, Origin, PickLabel, TwoLabel
from robin_grasp.picks.change_features import frame_misfit
from robin_grasp.picks.outcome import PickResult
from robin_grasp.picks.pick_check import PickJudgement
from robin_perception.core.condition import Family
from robin_perception.core.errors import Code
from robin_perception.core.frame import Frame
from robin_perception.core.masks import outline
from robin_perception.core.scene import Scene

INSIDE, OUTSIDE = 1.0, -5.0  # log odds that the proposed mask gives, well inside and well outside
OTHER_PARCEL = 1.5  # log odds that another proposed mask gives against
SOFT = 0.05  # width of the prior's slope, of the root of the mask's area
GONE_WHOLE = 0.8  # share of another mask from which it is gone as a whole
MOVED = 0.3  # share from which a neighbour moved
FRAGMENT = 0.9  # area of a second mask over the target's, up to which both can be one parcel
UNSURE = 1.0  # log odds below which a pixel is ignored
THIN = 0.07  # width of differences that do not count, of the root of the proposed mask's area
EDGE_SPREAD = 1 / 320  # by how much filters widen what is gone, of the picture's width
LEAST_LOST = 0.15  # of the proposed mask, that must stay as it was to be taken from it; less is ignored: it may be
# what lay under the parcel, of the same look
DISPUTED = 0.9  # overlap with the proposed mask below which the label's own shape is looked at
SOLID = 0.9  # area over that of the convex hull: what can be picked lies on top and is whole
LEAST_PX = 60


@dataclass(frozen=True)
class SeenPick:
    """One pick as it was seen: the target's id in the scene of ``before``, the frame after, and the judgement. after,
    judgement: None where there is none."""

    target: int
    scene: Scene
    before: Frame
    after: Frame | None
    judgement: PickJudgement | None


def label_pick(pick: SeenPick, config: LabelConfig | None = None) -> PickLabel:
    """A clean pick gives a mask, a double one a constraint, the others nothing. Never raises for what a cell can
    deliver: what is void is a ``NoLabel`` with its reason."""
    config = config or LabelConfig()
    void = void_reason(pick, config)
    if void is not None:
        return void
    assert pick.judgement is not None and pick.after is not None
    if pick.judgement.result is PickResult.MULTI:
        gone = tuple(i for i in pick.judgement.neighbours_gone if i != pick.target)
        return TwoLabel((pick.target, *gone), pick.judgement.probability, pick.before.stamp_s)
    return _mask_label(pick, pick.before, pick.after, config)


def void_reason(pick: SeenPick, config: LabelConfig) -> NoLabel | None:
    """Why this pick says nothing about masks; None where it does."""
    for condition in pick.scene.conditions:
        if condition.family is Family.ENVIRONMENT:
            return NoLabel(Code.LABEL_STATION, f"'{condition.name}' held when the picture was taken")
    if pick.after is None:
        return NoLabel(Code.FRAME_AFTER_MISSING, "no frame after the pick")
    if misfit := frame_misfit(pick.before, pick.after):
        return NoLabel(Code.FRAME_AFTER_UNUSABLE, misfit)
    judgement = pick.judgement
    if judgement is None or judgement.probability < config.least_probability:
        sure = "not judged" if judgement is None else f"P({judgement.result.value}) = {judgement.probability:.2f}"
        return NoLabel(Code.LABEL_UNSURE, f"{sure}; {config.least_probability:.2f} is asked for")
    if judgement.result not in (PickResult.CLEAN, PickResult.MULTI):
        return NoLabel(Code.LABEL_NOTHING_SAID, f"the pick was judged {judgement.result.value}")
    if int((pick.scene.labels == pick.target).sum()) < LEAST_PX:
        return NoLabel(Code.LABEL_UNCLEAR, f"mask {pick.target} has fewer than {LEAST_PX} pixels")
    return None


def _mask_label(pick: SeenPick, before: Frame, after: Frame, config: LabelConfig) -> MaskLabel | NoLabel:
    proposed = pick.scene.labels == pick.target
    size = math.sqrt(float(proposed.sum()))
    distance = signed_distance(proposed)
    quiet = distance < -0.5 * size
    evidence = gone_evidence(before, after, quiet, distance > 0.08 * size)
    elsewhere = float((evidence[quiet] > 0).mean()) if quiet.any() else 0.0
    if elsewhere > config.most_changed_elsewhere:
        text = f"{100 * elsewhere:.0f} % of the rest of the picture changed too"
        return NoLabel(Code.LABEL_UNCLEAR, text)
    prior, moved = _prior(pick.scene, pick.target, proposed, distance, evidence)
    odds = np.where(moved, np.minimum(evidence, 0), evidence) + prior
    mask = corrected(proposed, odds > 0)
    if int(mask.sum()) < LEAST_PX:
        return NoLabel(Code.LABEL_UNCLEAR, "nothing in the target's place is gone")
    gone = float((evidence[mask] > 0).mean())
    if gone < config.least_gone:
        return NoLabel(Code.LABEL_UNCLEAR, f"{100 * gone:.0f} % of the target's place shows that it is gone")
    agreed = float((mask & proposed).sum()) / float((mask | proposed).sum())
    if agreed < DISPUTED and solidity(mask) < SOLID:
        return NoLabel(
            Code.LABEL_UNCLEAR, f"what is gone is no parcel's shape, and only {100 * agreed:.0f} % as proposed"
        )
    ignore = (
        edge_band(mask, config.band_px)
        | (moved & ~mask)
        | (mask & (odds <= 0))
        | ((np.abs(odds) < UNSURE) & (distance > -0.5 * size))
    )
    assert pick.judgement is not None
    confidence = pick.judgement.probability * (gone + agreed) / 2
    return MaskLabel(mask, ignore, confidence, Origin.PICK, before.stamp_s, pick.target)


def _prior(
    scene: Scene, target: int, proposed: Mask, distance: Floats, evidence: Floats
) -> tuple[Floats, NDArray[np.bool_]]:
    """Log odds by the masks of the scene, and the pixels of neighbours that moved. A small mask beside the target's
    that is gone as a whole is taken for a fragment of it."""
    size = math.sqrt(float(proposed.sum()))
    prior = np.clip(-OUTSIDE / 2 * distance / max(3.0, SOFT * size), OUTSIDE, INSIDE)
    moved = np.zeros(proposed.shape, dtype=bool)
    for other in scene.instances:
        if other.id == target:
            continue
        x0, y0, x1, y1 = other.bbox
        box = np.s_[y0:y1, x0:x1]
        mask = scene.labels[box] == other.id
        area = int(mask.sum())
        if area < LEAST_PX:
            continue
        changed = float((evidence[box][mask] > 0).mean())
        near = float(distance[box][mask].max()) > -4.0
        if changed > GONE_WHOLE and near and area < FRAGMENT * size * size:
            prior[box][mask] = INSIDE
            continue
        prior[box][mask] -= OTHER_PARCEL
        if changed > MOVED:
            moved[box] |= mask
    return prior.astype(np.float32), moved


def signed_distance(mask: Mask) -> Floats:
    """Pixels to the mask's edge, positive inside: float32 [H, W]."""
    inside, outside = (cv2.distanceTransform(m.astype(np.uint8), cv2.DIST_L2, 3) for m in (mask, ~mask))
    return np.asarray(inside - outside, dtype=np.float32)


def corrected(proposed: Mask, gone: Mask) -> Mask:
    """The proposed mask with what ``gone`` adds to it and takes from it, in one piece. The edge of what is gone is
    known to some pixels only, so thin differences are the proposed mask's to decide, and arms are not a parcel's."""
    gone = _eroded(gone, EDGE_SPREAD * proposed.shape[1])
    width = max(5.0, THIN * math.sqrt(float(proposed.sum())))
    added = _opened(gone & ~proposed, width)
    lost = _parts_above(_opened(proposed & ~gone, width), LEAST_LOST * float(proposed.sum()))
    mask = _opened((proposed | added) & ~lost, width)
    _, parts = cv2.connectedComponents(mask.astype(np.uint8), connectivity=4)
    counts = np.bincount(parts[gone & mask], minlength=2)
    counts[0] = 0
    piece = (parts == int(counts.argmax())) & (counts.max() > 0)
    outlines, _ = cv2.findContours(piece.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    filled = np.zeros(mask.shape, dtype=np.uint8)
    cv2.drawContours(filled, outlines, -1, 1, cv2.FILLED)
    return filled > 0


def _parts_above(mask: Mask, least_px: float) -> Mask:
    """The connected parts of at least that many pixels."""
    _, parts, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=4)
    large = stats[:, cv2.CC_STAT_AREA] >= least_px
    large[0] = False
    return np.asarray(large[parts])


def _opened(mask: Mask, width: float) -> Mask:
    return np.asarray(cv2.morphologyEx(mask.astype(np.uint8), cv2.MORPH_OPEN, _disc(width)) > 0)


def _eroded(mask: Mask, radius: float) -> Mask:
    return np.asarray(cv2.erode(mask.astype(np.uint8), _disc(2 * radius + 1)) > 0)


def _disc(width: float) -> NDArray[np.uint8]:
    size = round(width) | 1
    return np.asarray(cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (size, size)), dtype=np.uint8)


def solidity(mask: Mask) -> float:
    """Area over that of the convex hull."""
    return float(mask.sum()) / max(float(outline(mask, 0).sum()), 1.0)


def edge_band(mask: Mask, half_px: int) -> Mask:
    """Pixels within ``half_px`` of the mask's edge."""
    return np.asarray(np.abs(signed_distance(mask)) <= half_px)
