"""How good are labels from picks? Simulated piles are picked empty, with masks as predicted and picks as judged; the
truth is asked only for the figures.

One line of JSON per pile is kept, so that a run that broke off goes on where it was.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_adapt.labels.label import MaskLabel, NoLabel, PickLabel
from edge_adapt.labels.pick_label import SeenPick
from edge_adapt.labels.pile import FrameLabels, PileLabels
from robin_grasp.picks.change_features import CHANGE_M, COLOUR_CHANGE, NOISE_PER_M
from robin_grasp.picks.outcome import PickResult
from robin_grasp.picks.pick_check import PickChecker
from robin_grasp.planner.registry import make_planner
from robin_grasp.recovery.failure_memory import FailureMemory
from robin_grasp.tool import CellConfig
from robin_perception.core.frame import Frame
from robin_perception.core.scene import Scene
from robin_perception.core.stats import rate
from robin_sim.load_camera import LoadCameraConfig
from robin_sim.open_pile import OpenPile
from robin_sim.oracle import MIN_VISIBLE_PX
from robin_sim.physics import UnstableSimulationError
from robin_sim.result_lines import Job, append_line, done_lines
from robin_sim.scenario import load_scenario

Mask = NDArray[np.bool_]
SCENARIOS = ("mixed", "belt", "tote", "flush_small", "bags", "stacked")
MOST_PICKS = 90  # of a pile
FOUND, WRONG, GOOD = 0.5, 0.5, 0.9  # IoU
RESAMPLES = 2000


@dataclass(frozen=True)
class LabelTrials:
    """piles: how many; they take turns through SCENARIOS."""

    piles: int
    seed: int

    def jobs(self) -> list[Job]:
        return [("labels", SCENARIOS[k % len(SCENARIOS)], k) for k in range(self.piles)]


def run_labels(
    trials: LabelTrials, see: Callable[[Frame], Scene], lines: Path, advance: Callable[[int, int], None]
) -> dict[str, Any]:
    """Figures of all piles. lines: file of what is done; what stands in it is not done again."""
    jobs, done = trials.jobs(), done_lines(lines, trials.seed)
    for number, job in enumerate(jobs):
        advance(number, len(jobs))
        if job not in done:
            done[job] = label_pile(job[1], trials.seed, job[2], see)
            append_line(lines, done[job])
    advance(len(jobs), len(jobs))
    return summary([done[job] for job in jobs])


def label_pile(scenario: str, seed: int, index: int, see: Callable[[Frame], Scene]) -> dict[str, Any]:
    """One line of results: every pick with what its label is worth, and the first frame as all picks label it."""
    began = time.process_time()
    config = load_scenario(scenario).config
    opened = OpenPile(config, CellConfig(), seed, index, load_camera=LoadCameraConfig())
    labels, first_truth = PileLabels(), np.zeros((0, 0), dtype=np.uint16)
    rows: list[dict[str, Any]] = []
    for pick, result, truth in _picks(opened, see):
        first_truth = truth if not rows else first_truth
        rows.append(_row(pick, labels.add(pick), result, truth))
    line = {"kind": "labels", "scenario": scenario, "seed": seed, "index": index, "picks": rows, "first": None}
    if rows:
        emptied = opened.frame if opened.empty else None
        line["first"] = {"emptied": opened.empty, **first_frame(labels.of_frame(0, emptied), first_truth)}
    return {**line, "cpu_s": time.process_time() - began}


def _picks(
    opened: OpenPile, see: Callable[[Frame], Scene]
) -> Iterator[tuple[SeenPick, PickResult, NDArray[np.uint16]]]:
    """Until the pile is empty or stuck: the pick as seen, its true result, and what the frame before truly shows."""
    planner, memory = make_planner("geometric", opened.cell), FailureMemory()
    checker = PickChecker(opened.cell, None, see)
    before = opened.look()
    for _ in range(MOST_PICKS):
        if opened.empty or memory.stuck:
            return
        truth, scene = opened.parcel_image(), see(before)
        grasp = planner.plan(before, scene, memory.failed).best
        if grasp is None:
            return
        try:
            outcome = opened.pick(grasp, opened.meant_by(scene, grasp))
        except UnstableSimulationError:
            return
        memory.note(grasp, outcome.result)
        after = opened.look()
        judgement = checker.check(grasp, scene, before, after, outcome)
        yield SeenPick(grasp.instance_id, scene, before, after, judgement), outcome.result, truth
        before = after


def _row(pick: SeenPick, label: PickLabel, result: PickResult, truth: NDArray[np.uint16]) -> dict[str, Any]:
    """IoU of each mask with the parcel that it shows most of; of the label None where there is none."""
    assert pick.judgement is not None and pick.after is not None
    proposed = pick.scene.labels == pick.target
    return {
        "result": result.value,
        "judged": pick.judgement.result.value,
        "label": best_iou(label.mask, truth) if isinstance(label, MaskLabel) else None,
        "confidence": label.confidence if isinstance(label, MaskLabel) else None,
        "void": label.code.name if isinstance(label, NoLabel) else "",
        "proposed": best_iou(proposed, truth),
        "subtraction": best_iou(subtracted(pick.before, pick.after), truth),
    }


def best_iou(mask: Mask, truth: NDArray[np.uint16]) -> float:
    """With the parcel that most pixels of ``mask`` show that show any; 0 without one."""
    counts = np.bincount(truth[mask], minlength=2)
    counts[0] = 0
    parcel = truth == int(counts.argmax())
    return float((mask & parcel).sum() / (mask | parcel).sum()) if counts.any() else 0.0


def subtracted(before: Frame, after: Frame) -> Mask:
    """Plain image subtraction: the largest piece whose depth or colour differs by more than a fixed limit."""
    z0, z1 = before.depth, after.depth
    moved = np.abs(z1 - z0) > CHANGE_M + NOISE_PER_M * np.maximum(z0, z1) ** 2
    apart = np.abs(after.rgb.astype(np.int16) - before.rgb).mean(axis=2) > COLOUR_CHANGE
    differs = (((z0 > 0) & (z1 > 0) & moved) | apart).astype(np.uint8)
    opened = cv2.morphologyEx(differs, cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
    _, parts, stats, _ = cv2.connectedComponentsWithStats(opened)
    return np.asarray((parts == 1 + stats[1:, cv2.CC_STAT_AREA].argmax()) if len(stats) > 1 else opened > 0)


def first_frame(found: FrameLabels, truth: NDArray[np.uint16]) -> dict[str, Any]:
    """parcels: as many as are to be seen in the first frame; ious: of each, with its best label, 0 without one.
    known, right: share of its pixels that are labelled, and of these the share with the right answer."""
    least_px = MIN_VISIBLE_PX * truth.size / (512 * 384)
    ious = []
    for parcel in np.flatnonzero(np.bincount(truth.ravel(), minlength=1) >= least_px):
        if parcel == 0:
            continue
        shown = truth == parcel
        counts = np.bincount(found.labels[shown], minlength=2)
        counts[0] = 0
        mask = found.labels == int(counts.argmax())
        ious.append(float((mask & shown).sum() / (mask | shown).sum()) if counts.any() else 0.0)
    numbers = range(1, int(found.labels.max()) + 1)
    names = [0, *(int(np.bincount(truth[found.labels == number], minlength=1).argmax()) for number in numbers)]
    answers = np.array(names, dtype=np.int64)[found.labels]
    known = ~found.ignore
    right = float((answers == truth)[known].mean()) if known.any() else None
    return {"ious": ious, "known": float(known.mean()), "right": right}


def summary(lines: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Of picks that the pick check called clean: median IoU of label, proposed mask and subtraction on the picks that
    were labelled, shares labelled, good and wrong. Intervals: bootstrap over piles for medians, Wilson for shares."""
    clean = [[p for p in line["picks"] if p["judged"] == PickResult.CLEAN.value] for line in lines]
    picks = [p for pile in clean for p in pile]
    labelled = [[p for p in pile if p["label"] is not None] for pile in clean]
    ious = [p["label"] for pile in labelled for p in pile]
    firsts = [line["first"] for line in lines if line["first"] is not None and line["first"]["emptied"]]
    seen = [iou for first in firsts for iou in first["ious"]]
    by = ("label", "proposed", "subtraction")
    return {
        "piles": len(lines),
        "picks": sum(len(line["picks"]) for line in lines),
        "clean": len(picks),
        "median_iou": {name: _median([[p[name] for p in pile] for pile in labelled]) for name in by},
        "mean_error": {name: 1 - float(np.mean([p[name] for pile in labelled for p in pile])) for name in by}
        if ious
        else None,
        "labelled": rate(len(ious), len(picks)),
        "good": rate(sum(iou >= GOOD for iou in ious), len(picks)),
        "wrong": rate(sum(iou < WRONG for iou in ious), len(ious)),
        "void": _counts(p["void"] for p in picks if p["void"]),
        "disputed": _disputed(picks),
        "first_frame": {
            "emptied": len(firsts),
            "labelled": rate(sum(iou >= FOUND for iou in seen), len(seen)),
            "median_iou": _median([[iou for iou in first["ious"] if iou >= FOUND] for first in firsts]),
            "known": float(np.mean([first["known"] for first in firsts])) if firsts else None,
            "right": float(np.mean([first["right"] for first in firsts])) if firsts else None,
        },
        "cpu_s_per_pick": sum(line["cpu_s"] for line in lines) / max(1, sum(len(line["picks"]) for line in lines)),
    }


def _disputed(picks: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Picks whose proposed mask is not good: what label and proposal are worth there."""
    poor = [p for p in picks if p["proposed"] < GOOD]
    told = [p for p in poor if p["label"] is not None]
    medians = {name: float(np.median([p[name] for p in told])) if told else None for name in ("label", "proposed")}
    return {"picks": len(poor), "labelled": len(told), **medians}


def _counts(names: Iterator[str]) -> dict[str, int]:
    found: dict[str, int] = {}
    for name in names:
        found[name] = found.get(name, 0) + 1
    return found


def _median(piles: Sequence[Sequence[float]]) -> dict[str, float | None]:
    """Median of all values and its 95 % interval by a bootstrap over piles."""
    full = [np.array(pile) for pile in piles if len(pile)]
    if not full:
        return {"median": None, "low": None, "high": None}
    rng = np.random.default_rng(0)
    draws = rng.integers(len(full), size=(RESAMPLES, len(full)))
    spread = [float(np.median(np.concatenate([full[k] for k in draw]))) for draw in draws.tolist()]
    low, high = np.quantile(spread, (0.025, 0.975)).tolist()
    return {"median": float(np.median(np.concatenate(full))), "low": low, "high": high}
