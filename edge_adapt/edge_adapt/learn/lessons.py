"""What picks that stand in the store teach of seeing: frames with masks that nobody drew.

A pile's picks label its frames (``edge_adapt.labels``). What lies as low as the support plane is background; all else
that no pick tells of is ignored.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_adapt.decision import Decision
from edge_adapt.labels.label import LabelConfig, MaskLabel
from edge_adapt.labels.pick_label import SeenPick
from edge_adapt.labels.pile import FrameLabels, PileLabels
from edge_adapt.recording import DEPTH_SCALE_M
from edge_adapt.store.index import SampleRow
from edge_adapt.store.sample import AFTER, StoredSample
from edge_adapt.store.store import StoreReader
from robin_grasp.picks.outcome import PickResult
from robin_grasp.picks.pick_check import PickJudgement
from robin_perception.core.condition import Condition, Family, PickingEffect
from robin_perception.core.disk import sync_tree, write_error
from robin_perception.core.errors import Code, RobinError
from robin_perception.core.frame import Frame
from robin_perception.core.image_folder import IGNORE_LABEL, SCENE_FILE, save_frame
from robin_perception.core.scene import Instance, Scene

SUPPORT_M = 0.004  # height over the support plane up to which nothing lies there
PILE_PICKS = 24  # that label each other, at most
_GONE = (Code.STORE_BLOB_MISSING, Code.INPUT_MISSING)  # the store made room meanwhile
_MARGIN_PX = 9  # around what lies higher: depth runs over edges


@dataclass(frozen=True)
class StoredPick:
    """One sample as a pick that was seen. pile: what it shares parcels with."""

    seq: int
    pile: str
    seen: SeenPick

    @property
    def clean(self) -> bool:
        judgement = self.seen.judgement
        return judgement is not None and judgement.result is PickResult.CLEAN


@dataclass(frozen=True)
class LessonFrame:
    """labels: uint16 [H, W], 0 background, 65535 ignored, else a parcel. parcels: how many."""

    seq: int
    pile: str
    frame: Frame
    labels: NDArray[np.uint16]
    parcels: int


def pile_of(decision_id: str) -> str:
    """Run and pile, from RUN-PILE-PICK."""
    return decision_id.rpartition("-")[0]


def stored_picks(store: StoreReader, rows: Sequence[SampleRow]) -> Iterator[StoredPick]:
    """Those of ``rows`` in which something was picked and judged, one in memory at a time. A sample that has left the
    store meanwhile is passed over. Raises RobinError STORE_BLOB_DAMAGED, RECORD_INVALID."""
    for row in rows:
        try:
            sample = store.read(row)
            seen = seen_pick(sample, sample.decision())
        except RobinError as exc:
            if exc.code not in _GONE:
                raise
            continue
        if seen is not None:
            yield StoredPick(row.seq, pile_of(row.decision), seen)


def seen_pick(sample: StoredSample, decision: Decision) -> SeenPick | None:
    """None where nothing was picked, or nobody judged it. Raises RobinError as ``StoredSample.frame``."""
    outcome, chosen = decision.outcome, decision.chosen
    if outcome is None or chosen is None or outcome.judged is None:
        return None
    judgement = PickJudgement(
        result=PickResult(outcome.judged),
        probability=outcome.probability or 0.0,
        reasons=outcome.reasons,
        target_gone=float("nan"),
        neighbours_gone=(),
    )
    before = sample.frame()
    after = sample.frame(AFTER) if sample.has(AFTER) else None
    return SeenPick(chosen.instance, _scene(sample, decision), before, after, judgement)


def lesson_frames(
    picks: Iterator[StoredPick], belt_z_m: float, per_pile: int, config: LabelConfig | None = None
) -> Iterator[LessonFrame]:
    """Labelled frames of the picks' piles, in order: ``per_pile`` of each pile at most, evenly spread over it."""
    for pile in _piles(picks):
        labels = PileLabels(config)
        known = [number for number, pick in enumerate(pile) if isinstance(labels.add(pick.seen), MaskLabel)]
        for number in _spread(known, per_pile):
            pick = pile[number]
            found = labels.of_frame(number)
            lesson = _with_background(pick.seen.before, found, belt_z_m)
            yield LessonFrame(pick.seq, pick.pile, pick.seen.before, lesson, len(found.parcels))


def write_lesson(folder: Path, frames: Sequence[LessonFrame]) -> None:
    """As image folders in the order of ``frames``, whole or not at all. Raises RobinError DISK_FULL."""
    aside = folder.with_name(f".{folder.name}.tmp")
    try:
        shutil.rmtree(aside, ignore_errors=True)
        for number, lesson in enumerate(frames):
            place = aside / f"{number:06d}"
            save_frame(place, lesson.frame, lesson.labels, DEPTH_SCALE_M)
            parcels = np.unique(lesson.labels[(lesson.labels > 0) & (lesson.labels < IGNORE_LABEL)])
            info = {"pile": lesson.pile, "instances": [{"id": int(parcel)} for parcel in parcels]}
            (place / SCENE_FILE).write_text(json.dumps(info) + "\n")
        sync_tree(aside)
        shutil.rmtree(folder, ignore_errors=True)
        aside.rename(folder)
    except OSError as exc:
        raise write_error(folder, exc) from None
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _piles(picks: Iterator[StoredPick]) -> Iterator[list[StoredPick]]:
    pile: list[StoredPick] = []
    for pick in picks:
        if pile and (pick.pile != pile[0].pile or len(pile) >= PILE_PICKS):
            yield pile
            pile = []
        pile.append(pick)
    if pile:
        yield pile


def _spread(numbers: Sequence[int], most: int) -> list[int]:
    if len(numbers) <= most:
        return list(numbers)
    return [numbers[round(k * (len(numbers) - 1) / max(most - 1, 1))] for k in range(most)]


def _with_background(frame: Frame, found: FrameLabels, belt_z_m: float) -> NDArray[np.uint16]:
    labels = found.labels.copy()
    free = support_pixels(frame, belt_z_m)
    labels[found.ignore & ~(free & (labels == 0))] = IGNORE_LABEL
    return labels


def support_pixels(frame: Frame, belt_z_m: float) -> NDArray[np.bool_]:
    """Where the frame shows the bare support plane, bool [H, W]."""
    v, u = np.indices(frame.depth.shape, dtype=np.float32)
    plane, z = frame.belt_plane(belt_z_m), frame.depth
    rays = (u - frame.K[0, 2]) / frame.K[0, 0], (v - frame.K[1, 2]) / frame.K[1, 1]
    height = z * (plane[0] * rays[0] + plane[1] * rays[1] + plane[2]) + plane[3]
    low = cv2.medianBlur(np.where(z > 0, height, 1.0).astype(np.float32), 5) < SUPPORT_M
    return np.asarray(cv2.erode(low.astype(np.uint8), np.ones((_MARGIN_PX, _MARGIN_PX), np.uint8)) > 0)


def _scene(sample: StoredSample, decision: Decision) -> Scene:
    """What labels need of it."""
    nothing = np.zeros(0, dtype=np.float32)
    instances = tuple(
        Instance(
            id=row.id,
            bbox=row.bbox,
            area_px=row.area_px,
            class_probabilities=nothing,
            detection=row.detection,
            mask_quality=row.mask_quality,
            visible_fraction=row.visible_fraction,
            boundary_uncertainty_px=row.boundary_uncertainty_px,
            embedding=nothing,
        )
        for row in decision.instances
    )
    conditions = tuple(
        Condition(
            code=Code(row.code),
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
        for row in decision.conditions
    )
    labels = sample.labels()
    return Scene(decision.stamp_s, decision.model_id, labels, instances, nothing[:, None], conditions=conditions)
