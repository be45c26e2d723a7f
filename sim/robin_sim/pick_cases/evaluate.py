"""Judges cases whose truth is known: with and without what a judgement can lack, beside the former judge."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robin_grasp.picks.load_features import LoadSegmenter
from robin_grasp.picks.outcome import PickResult
from robin_grasp.picks.pick_features import pick_evidence
from robin_grasp.picks.pick_judge import RESULTS, JudgedPicks, PickJudge, judge_set
from robin_perception.core.stats import rate
from robin_sim.pick_cases.former_check import judged_formerly
from robin_sim.pick_cases.store import PickCase, load_cases

BINS = 15  # of the calibration error
LOOK = ("load", "segmented")
VIEWS: dict[str, tuple[str, ...]] = {
    "look": (),
    "no_segmenter": ("segmented",),
    "no_look": LOOK,
    "no_traces": ("traces", *LOOK),
    "no_frame_after": ("change", *LOOK),
    "tool_only": ("traces", "change", *LOOK),
}
"""Name of an evaluation -> groups of features that it does without."""


@dataclass(frozen=True)
class CaseRow:
    """What is kept of a case. features, groups: as of ``PickEvidence``. arrived: something came to the place
    station. former: the former judge's result, and its belief. ms: what the features took."""

    group: str
    number: int
    truth: PickResult
    features: NDArray[np.float64]
    groups: tuple[str, ...]
    arrived: bool
    former: tuple[PickResult, float]
    ms: float


def case_row(case: PickCase, see_load: LoadSegmenter | None) -> CaseRow:
    pick = (case.grasp, case.scene, case.before, case.after, case.outcome, case.cell)
    started = time.perf_counter()
    found = pick_evidence(*pick, see_load)
    ms = 1e3 * (time.perf_counter() - started)
    truth, arrived = case.outcome.result, bool(case.outcome.truth["delivered"])
    return CaseRow(case.group, case.number, truth, found.row(), found.groups, arrived, judged_formerly(*pick), ms)


def rows_of(paths: Iterable[Path], see_load: LoadSegmenter | None) -> Iterator[CaseRow]:
    """Of all cases of these files, in order."""
    for path in paths:
        for case in load_cases(path):
            yield case_row(case, see_load)


def picks_to_learn_from(rows: Sequence[CaseRow]) -> tuple[JudgedPicks, dict[str, Any]]:
    """For ``edge_adapt.judge_training``, and where they come from: piles and seeds."""
    groups = sorted({row.group for row in rows})
    place = {name: k for k, name in enumerate(groups)}
    picks = JudgedPicks(
        np.stack([row.features for row in rows]),
        np.array([row.truth.value for row in rows]),
        np.array([place[row.group] for row in rows], dtype=np.int64),
    )
    seeds = sorted({int(name.rsplit("-", 2)[1].removeprefix("s")) for name in groups})
    return picks, {"piles": len(groups), "seeds": seeds, "cases": len(rows)}


def figures(rows: Sequence[CaseRow], judge: PickJudge) -> dict[str, Any]:
    """``confusion``, ``ece`` and rates of the judge with all it can have; the same of each of VIEWS and of the former
    judge under their names."""
    truth = np.array([row.truth.value for row in rows])
    found = {name: _view(rows, truth, judge, lacking) for name, lacking in VIEWS.items()}
    former = np.array([row.former[0].value for row in rows])
    belief, arrived = np.array([row.former[1] for row in rows]), np.array([row.arrived for row in rows])
    found["former"] = _figures(truth, former, belief, arrived)
    times = [row.ms for row in rows]
    return {
        "picks": len(rows),
        "truth": {result.value: int((truth == result.value).sum()) for result in RESULTS},
        "judge": judge.digest,
        "evidence_ms": {"p50": float(np.median(times)), "p95": float(np.quantile(times, 0.95))},
        **found["look"],
        "views": found,
    }


def _view(
    rows: Sequence[CaseRow], truth: NDArray[np.str_], judge: PickJudge, lacking: tuple[str, ...]
) -> dict[str, Any]:
    odds = np.zeros((len(rows), len(RESULTS)))
    sets = np.array([judge_set(group for group in row.groups if group not in lacking) for row in rows])
    for name in np.unique(sets):
        members = np.flatnonzero(sets == name)
        odds[members] = judge.probabilities(str(name), np.stack([rows[k].features for k in members.tolist()]))
    names = np.array([result.value for result in RESULTS])
    return _figures(truth, names[odds.argmax(axis=1)], odds.max(axis=1), np.array([row.arrived for row in rows]))


def _figures(
    truth: NDArray[np.str_], judged: NDArray[np.str_], belief: NDArray[np.float64], arrived: NDArray[np.bool_]
) -> dict[str, Any]:
    """confusion: truth -> judged -> picks. recall: of each truth. multi_arrived_recall: of doubles of which something
    came to the place station. drop_wrong_recall: of drop and wrong together, judged as what they are. caught: of multi,
    drop and wrong, not judged clean. clean_called_otherwise: of clean picks."""
    of = {result.value: truth == result.value for result in RESULTS}
    confusion = {a: {b: int((of[a] & (judged == b)).sum()) for b in of} for a in of}
    right = truth == judged
    bad = of["drop"] | of["wrong"]
    caught = bad | of["multi"]
    return {
        "confusion": confusion,
        "recall": {name: rate(int((members & right).sum()), int(members.sum())) for name, members in of.items()},
        "multi_arrived_recall": rate(int((of["multi"] & arrived & right).sum()), int((of["multi"] & arrived).sum())),
        "drop_wrong_recall": rate(int((bad & right).sum()), int(bad.sum())),
        "caught": rate(int((caught & (judged != "clean")).sum()), int(caught.sum())),
        "clean_called_otherwise": rate(int((of["clean"] & ~right).sum()), int(of["clean"].sum())),
        "ece": calibration_error(right, belief),
    }


def calibration_error(right: NDArray[np.bool_], belief: NDArray[np.float64]) -> float:
    """Expected calibration error of the likeliest result: mean over BINS equal bins of |share right - mean belief|,
    weighted by their picks (Naeini et al. 2015)."""
    if not len(right):
        return float("nan")
    place = np.minimum((belief * BINS).astype(np.int64), BINS - 1)
    gaps = [abs(right[place == k].mean() - belief[place == k].mean()) * (place == k).mean() for k in np.unique(place)]
    return float(sum(gaps))
