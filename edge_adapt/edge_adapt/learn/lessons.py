"""What picks that stand in the store teach of seeing: frames with masks that nobody drew.

A pile's picks label its frames (``edge_adapt.labels``). Background is what still looks the same after the last of them,
lies as low as the support plane there, and is in no mask; all else that no pick tells of is ignored. Depth alone would
not do: it goes through film.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_adapt.decision import Decision
from edge_adapt.labels.label import PILE_PICKS, LabelConfig, MaskLabel
from edge_adapt.labels.pick_label import SeenPick
from edge_adapt.labels.pile import PileLabels
from edge_adapt.recorded_scene import recorded_scene
from edge_adapt.recording import DEPTH_SCALE_M
from edge_adapt.store.index import SampleRow
from edge_adapt.store.sample import AFTER, StoredSample
from edge_adapt.store.store import StoreReader
from robin_grasp.picks.outcome import PickResult
from robin_grasp.picks.pick_check import PickJudgement
from robin_perception.core.disk import sync_tree, write_error
from robin_perception.core.errors import Code, RobinError
from robin_perception.core.frame import Frame
from robin_perception.core.image_folder import IGNORE_LABEL, SCENE_FILE, save_frame

SUPPORT_M = 0.01  # height over the support plane up to which nothing lies there
_GONE = (Code.STORE_BLOB_MISSING, Code.INPUT_MISSING)  # the store made room meanwhile
_SPECK_PX, _WIDE_PX = 7, 31
_MARGIN_PX = 9  # around what lies higher, and around masks: both run over edges


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
    return SeenPick(chosen.instance, recorded_scene(decision, sample.labels()), before, after, judgement)


def lesson_frames(
    picks: Iterator[StoredPick], belt_z_m: float, per_pile: int, config: LabelConfig | None = None
) -> Iterator[LessonFrame]:
    """Labelled frames of the picks' piles, in order: ``per_pile`` of each pile at most, evenly spread over it."""
    for pile in _piles(picks):
        labels = PileLabels(config)
        known = [number for number, pick in enumerate(pile) if isinstance(labels.add(pick.seen), MaskLabel)]
        last = pile[-1].seen
        bare = bare_support(last, belt_z_m)
        for number in _spread(known, per_pile):
            pick = pile[number]
            found = labels.of_frame(number, last.after)
            told = np.where(found.ignore | (found.labels == 0), np.uint16(IGNORE_LABEL), found.labels)
            told[solid(bare & (found.labels == 0) & ~found.ignore) & (found.labels == 0)] = 0
            yield LessonFrame(pick.seq, pick.pile, pick.seen.before, told, len(found.parcels))


def write_lesson(folder: Path, frames: Iterable[LessonFrame]) -> int:
    """As image folders in the order of ``frames``, whole or not at all; returns how many. One frame is in memory at a
    time. Raises RobinError DISK_FULL, and what ``frames`` raises."""
    aside, number = folder.with_name(f".{folder.name}.tmp"), 0
    try:
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir(parents=True)
        for number, lesson in enumerate(frames, start=1):
            place = aside / f"{number - 1:06d}"
            save_frame(place, lesson.frame, lesson.labels, DEPTH_SCALE_M)
            parcels = np.unique(lesson.labels[(lesson.labels > 0) & (lesson.labels < IGNORE_LABEL)])
            info = {"pile": lesson.pile, "instances": [{"id": int(parcel)} for parcel in parcels]}
            (place / SCENE_FILE).write_text(json.dumps(info) + "\n")
        sync_tree(aside)
        shutil.rmtree(folder, ignore_errors=True)
        aside.rename(folder)
        return number
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


def bare_support(last: SeenPick, belt_z_m: float) -> NDArray[np.bool_]:
    """Where nothing lies after a pile's last pick, bool [H, W]; nowhere without a frame after it."""
    if last.after is None:
        return np.zeros(last.before.depth.shape, dtype=bool)
    v, u = np.indices(last.after.depth.shape, dtype=np.float32)
    plane, K, z = last.after.belt_plane(belt_z_m), last.after.K, last.after.depth
    height = z * (plane[0] * (u - K[0, 2]) / K[0, 0] + plane[1] * (v - K[1, 2]) / K[1, 1] + plane[2]) + plane[3]
    high = cv2.medianBlur(np.where(z > 0, height, 1.0).astype(np.float32), 5) > SUPPORT_M
    other = (last.scene.labels > 0) & (last.scene.labels != last.target)
    near = np.ones((_MARGIN_PX, _MARGIN_PX), np.uint8)
    return np.asarray(cv2.dilate((high | other).astype(np.uint8), near) == 0)


def solid(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The wide parts of a mask, without specks in them: bool [H, W]. Under film there are only narrow ones."""
    whole = cv2.morphologyEx(mask.astype(np.uint8), cv2.MORPH_CLOSE, np.ones((_SPECK_PX, _SPECK_PX), np.uint8))
    return np.asarray(cv2.morphologyEx(whole, cv2.MORPH_OPEN, np.ones((_WIDE_PX, _WIDE_PX), np.uint8)) > 0)
