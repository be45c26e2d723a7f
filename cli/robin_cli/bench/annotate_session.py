"""A scripted annotator, who knows the truth and corrects masks until they show it; and one who draws all of it.

Time is that of the keystroke-level model (Card, Moran and Newell, "The keystroke-level model for user performance time
with interactive systems", CACM 23(7), 1980): pointing 1.1 s, a press of a button .1 s and its release .1 s, a key .28 s
(an average typist), and 1.35 s of thought before each thing that is done. A parcel with which nothing is to be done
takes such a thought, too. A stroke of the brush is pointing twice. The machine's answers are measured and added.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from robin_perception.core.image_folder import IGNORE_LABEL, load_frame, load_labels, load_scene_info, scene_folders
from robin_perception.segmentation.segmenter import Segmenter
from robin_view.annotate.cuts import Click, grow, join, split
from robin_view.annotate.hints import NetworkHints

Mask = NDArray[np.bool_]
Progress = Callable[[int, int], None]


class Session(NamedTuple):
    """point_s, click_s, key_s, think_s: of the model. enough_iou: from which on a mask is left as it is. least_px: area
    of the smallest parcel that is labelled. part: share of a parcel that a mask must have for the parcel to be in it.
    within: share of a mask that must lie in a parcel to be of it. found_iou: below it a parcel has no mask, and a
    mask no parcel. most_strokes: of the brush, before a person draws an outline."""

    point_s: float = 1.1
    click_s: float = 0.2
    key_s: float = 0.28
    think_s: float = 1.35
    enough_iou: float = 0.85
    least_px: int = 150
    part: float = 0.4
    within: float = 0.6
    found_iou: float = 0.3
    most_strokes: int = 3


SESSION = Session()
_CORNERS_PX = (10.0, 8.0, 6.0, 5.0, 4.0, 3.0, 2.5, 2.0, 1.5, 1.0, 0.5)


@dataclass
class Effort:
    """What was done so far."""

    clicks: int = 0
    keys: int = 0
    thoughts: int = 0
    machine_s: list[float] = field(default_factory=list)

    def act(self, clicks: int, keys: int) -> None:
        self.clicks, self.keys, self.thoughts = self.clicks + clicks, self.keys + keys, self.thoughts + 1

    @property
    def seconds(self) -> float:
        hand_s = self.clicks * (SESSION.point_s + SESSION.click_s) + self.keys * SESSION.key_s
        return hand_s + self.thoughts * SESSION.think_s + sum(self.machine_s)


@dataclass
class Scene:
    """truth: mask and kind of each parcel. said: pixels that count, where the truth says something."""

    truth: list[tuple[Mask, str]]
    said: Mask


def measure(data: Path, scenes: int, segmenter: Segmenter, progress: Progress) -> dict[str, Any]:
    """Of the scenes with the most parcels. Raises RobinError INPUT_*."""
    folders = sorted(scene_folders(data), key=lambda folder: -len(_scene(folder).truth))[:scenes]
    rows: list[dict[str, Any]] = []
    for done, folder in enumerate(folders):
        progress(done, len(folders))
        rows.append(_measured(folder, segmenter))
    kinds = ("untouched", "corrected", "outlines")
    found = {kind: {key: _spread([row[kind][key] for row in rows]) for key in rows[0][kind]} for kind in kinds}
    cut_ms = [1e3 * one for row in rows for one in row.pop("machine_s")]
    parcels = sum(row["parcels"] for row in rows)
    return {"scenes": len(rows), "parcels": parcels, **found, "cut_ms": _spread(cut_ms), "each": rows}


def _spread(values: Sequence[float]) -> dict[str, float]:
    if not values:
        return {}
    told: dict[str, Any] = {
        "mean": np.mean(values),
        "p50": np.median(values),
        "least": min(values),
        "most": max(values),
    }
    return {name: round(float(value), 3) for name, value in told.items()}


def _scene(folder: Path) -> Scene:
    labels = load_labels(folder)
    kinds = {one["id"]: str(one.get("kind", "")) for one in load_scene_info(folder).get("instances", ())}
    counts = np.bincount(labels.ravel(), minlength=IGNORE_LABEL + 1)
    ids = [number for number in np.flatnonzero(counts >= SESSION.least_px).tolist() if 0 < number < IGNORE_LABEL]
    return Scene([(labels == number, kinds.get(number, "")) for number in ids], labels != IGNORE_LABEL)


def _measured(folder: Path, segmenter: Segmenter) -> dict[str, Any]:
    scene, frame = _scene(folder), load_frame(folder)
    found, look = segmenter.analyse(frame)
    annotator = _Annotator(scene, NetworkHints(frame, found.boundary, look, segmenter))
    for one in found.instances:
        annotator.masks.append((found.labels == one.id, found.class_name(one)))
    before = annotator.iou()
    annotator.correct()
    corrected, drawn = annotator.effort, _drawn(scene)
    return {
        "scene": folder.name,
        "parcels": len(scene.truth),
        "untouched": {"seconds": 0.0, "clicks": 0, "iou": before},
        "corrected": {"seconds": corrected.seconds, "clicks": corrected.clicks, "iou": annotator.iou()},
        "outlines": {"seconds": drawn[0].seconds, "clicks": drawn[0].clicks, "iou": drawn[1]},
        "actions": annotator.actions,
        "machine_s": corrected.machine_s,
    }


class _Annotator:
    """Does what is most wrong first: masks of several parcels, parcels of several masks, parcels without one. Then it
    goes from mask to mask by a key, which chooses each: masks of nothing, outlines that are off, names."""

    def __init__(self, scene: Scene, hints: NetworkHints) -> None:
        self._scene, self._hints = scene, hints
        self.masks: list[tuple[Mask, str]] = []
        self.effort = Effort()
        self.actions: dict[str, int] = {}
        self._touched: set[int] = set()

    def iou(self) -> float:
        """Mean over the parcels of the truth, of the best mask of each."""
        return float(np.mean([self._best(mask)[1] for mask, _ in self._scene.truth]))

    def correct(self) -> None:
        for step in (self._split, self._join, self._add):
            step()
        self.effort.keys += len(self.masks)  # N goes through all of them, the most doubtful first
        for step in (self._remove, self._draw, self._name):
            step()
        self.effort.thoughts += len(self._scene.truth) - len(self._touched)

    def _did(self, what: str, parcels: Iterable[int], clicks: int, keys: int) -> None:
        """parcels: of the truth, that it was about."""
        self._touched |= set(parcels)
        self.effort.act(clicks, keys)
        self.actions[what] = self.actions.get(what, 0) + 1

    def _timed(self, work: Callable[[], Any]) -> Any:
        begin = time.perf_counter()
        result = work()
        self.effort.machine_s.append(time.perf_counter() - begin)
        return result

    def _best(self, truth: Mask) -> tuple[int, float]:
        scores = [_iou(mask & self._scene.said, truth) for mask, _ in self.masks]
        at = int(np.argmax(scores)) if scores else -1
        return at, scores[at] if scores else 0.0

    def _split(self) -> None:
        for at, (mask, name) in enumerate(list(self.masks)):
            inside = [mask & truth for truth, _ in self._scene.truth]
            sizes = [int(one.sum()) for one in inside]
            whole = [int(truth.sum()) for truth, _ in self._scene.truth]
            parts = [i for i, size in enumerate(sizes) if size >= SESSION.part * whole[i] and size >= SESSION.least_px]
            if len(parts) < 2:
                continue
            clicks = [_middle(inside[i]) for i in parts]
            pieces = self._timed(partial(split, self._hints, mask, clicks))
            self.masks[at] = pieces[0], name
            self.masks += [(piece, name) for piece in pieces[1:]]
            self._did("split", parts, len(clicks), 1)

    def _join(self) -> None:
        for number, (truth, _) in enumerate(self._scene.truth):
            own = [i for i, (mask, _) in enumerate(self.masks) if (mask & truth).sum() >= SESSION.within * mask.sum()]
            own = [i for i in own if (self.masks[i][0] & truth).sum() >= SESSION.least_px]
            if len(own) < 2:
                continue
            free = ~np.logical_or.reduce([mask for i, (mask, _) in enumerate(self.masks) if i not in own])
            joined = join([self.masks[i][0] for i in own], free)
            name = self.masks[own[0]][1]
            self.masks = [one for i, one in enumerate(self.masks) if i not in own] + [(joined, name)]
            self._did("join", [number], len(own), 1)

    def _add(self) -> None:
        for number, (truth, _) in enumerate(self._scene.truth):
            taken = np.logical_or.reduce([np.zeros_like(truth), *(mask for mask, _ in self.masks)])
            free = truth & ~taken
            if self._best(truth)[1] >= SESSION.found_iou or free.sum() < truth.sum() / 2:
                continue
            at = _middle(free)
            mask, found = self._timed(partial(grow, self._hints, ~taken, at))
            self.masks.append((mask, found.class_name if found else ""))
            self._did("add", [number], 1, 1)

    def _remove(self) -> None:
        kept = []
        for mask, name in self.masks:
            counted = mask & self._scene.said
            useful = max((_iou(counted, truth) for truth, _ in self._scene.truth), default=0.0)
            if useful < SESSION.found_iou and counted.sum() > SESSION.least_px:
                self._did("remove", (), 0, 1)
            else:
                kept.append((mask, name))
        self.masks = kept

    def _draw(self) -> None:
        """A new outline, in place of a mask that is still off."""
        for number, (truth, kind) in enumerate(self._scene.truth):
            at, score = self._best(truth)
            replaces = score >= SESSION.found_iou
            if score >= SESSION.enough_iou or (replaces and self._brushed(number, at, 1)):
                continue
            if self._boxed(number, at if replaces else -1):
                continue
            if replaces and self._brushed(number, at, SESSION.most_strokes):
                continue
            outline, corners, pieces = _outlined(truth)
            name = self.masks[at][1] if replaces else kind
            self.masks = [
                (mask & ~outline, other) for i, (mask, other) in enumerate(self.masks) if not (replaces and i == at)
            ]
            self.masks.append((outline, name))
            self._did("draw", [number], corners, 1 + pieces)

    def _boxed(self, number: int, at: int) -> bool:
        """Whether a box of three clicks shows the parcel, in place of mask ``at`` (-1: there is none): where no other
        mask is, or with Shift over them; else nothing is done."""
        truth, kind = self._scene.truth[number]
        corners = cv2.boxPoints(cv2.minAreaRect(cv2.findNonZero(truth.astype(np.uint8))))
        filled = np.zeros(truth.shape, dtype=np.uint8)
        cv2.fillPoly(filled, [np.rint(corners).astype(np.int32)], 1)
        over = np.asarray(filled > 0)
        under = over & ~np.logical_or.reduce(
            [np.zeros_like(truth), *(mask for i, (mask, _) in enumerate(self.masks) if i != at)]
        )
        for box, shift in ((under, 0), (over, 1)):
            if _iou(box & self._scene.said, truth) < SESSION.enough_iou:
                continue
            name = kind if at < 0 else self.masks[at][1]
            self.masks = [(mask & ~box, other) for i, (mask, other) in enumerate(self.masks) if i != at]
            self.masks.append((box, name))
            self._did("box", [number], 3, 1 + int(at < 0) + shift)
            return True
        return False

    def _brushed(self, number: int, at: int, most: int) -> bool:
        """Whether ``most`` strokes put a mask right; else nothing is done."""
        truth, (mask, name) = self._scene.truth[number][0], self.masks[at]
        for strokes in range(1, most + 1):
            lacks, extra = truth & ~mask, mask & ~truth & self._scene.said
            adds = lacks.sum() >= extra.sum()
            stroke = _stroke(lacks if adds else extra)
            mask = mask | stroke if adds else mask & ~stroke
            if _iou(mask & self._scene.said, truth) >= SESSION.enough_iou:
                self.masks = [(other & ~mask, called) for other, called in self.masks]
                self.masks[at] = mask, name
                self._did("brush", [number], 2 * strokes, 1 + strokes)
                return True
        return False

    def _name(self) -> None:
        for number, (truth, kind) in enumerate(self._scene.truth):
            at, _ = self._best(truth)
            if kind and at >= 0 and self.masks[at][1] != kind:
                self.masks[at] = self.masks[at][0], kind
                self._did("name", [number], 0, 1)


def _drawn(scene: Scene) -> tuple[Effort, float]:
    """All outlines and names by hand: a key for the tool, corners, Enter, a key for the name."""
    effort, ious = Effort(), []
    for truth, _ in scene.truth:
        outline, corners, pieces = _outlined(truth)
        effort.act(corners, 2 + pieces)
        ious.append(_iou(outline, truth))
    return effort, float(np.mean(ious))


def _outlined(truth: Mask) -> tuple[Mask, int, int]:
    """As few corners as reach ``enough_iou``: the mask, corners, pieces."""
    for step_px in _CORNERS_PX:
        polygons = list(_polygons(truth, step_px))
        mask = np.zeros(truth.shape, dtype=np.uint8)
        cv2.fillPoly(mask, polygons, 1)
        if _iou(mask > 0, truth) >= SESSION.enough_iou:
            break
    return mask > 0, sum(len(polygon) for polygon in polygons), len(polygons)


def _polygons(truth: Mask, step_px: float) -> Iterator[NDArray[np.int32]]:
    contours, _ = cv2.findContours(truth.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    largest = max(cv2.contourArea(contour) for contour in contours)
    for contour in contours:
        if cv2.contourArea(contour) >= 0.05 * largest:
            yield cv2.approxPolyDP(contour, step_px, True).astype(np.int32)


def _stroke(wanted: Mask) -> Mask:
    """One stroke of the brush along the largest piece of what is to be painted, as wide as most of it."""
    _, pieces, stats, _ = cv2.connectedComponentsWithStats(wanted.astype(np.uint8), connectivity=8)
    piece = (pieces == 1 + int(stats[1:, cv2.CC_STAT_AREA].argmax())).astype(np.uint8)
    inner = cv2.distanceTransform(np.pad(piece, 1), cv2.DIST_L2, 5)[1:-1, 1:-1]
    radius = max(1, round(float(inner.max())))
    points = np.argwhere(piece)[:, ::-1].astype(np.float64)
    centre = points.mean(axis=0)
    along = np.linalg.svd(points - centre, full_matrices=False)[2][0]
    reach = (points - centre) @ along
    low = min(0.0, float(np.quantile(reach, 0.02)) + radius)
    high = max(0.0, float(np.quantile(reach, 0.98)) - radius)
    start, end = (np.rint(centre + at * along).astype(int).tolist() for at in (low, high))
    painted = np.zeros(wanted.shape, dtype=np.uint8)
    cv2.line(painted, start, end, 1, 2 * radius)
    return np.asarray(painted > 0)


def _middle(mask: Mask) -> Click:
    """Where a person would click: the pixel farthest from the rim."""
    inner = cv2.distanceTransform(np.pad(mask, 1).astype(np.uint8), cv2.DIST_L2, 5)[1:-1, 1:-1]
    y, x = np.unravel_index(int(inner.argmax()), inner.shape)
    return int(x), int(y)


def _iou(one: Mask, other: Mask) -> float:
    union = int((one | other).sum())
    return int((one & other).sum()) / union if union else 1.0
