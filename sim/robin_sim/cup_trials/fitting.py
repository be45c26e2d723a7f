"""Fits the tables of the cups' health (``robin_grasp.cup_health_fit``) to presses of good and of torn cups."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path

import numpy as np
import yaml
from numpy.typing import NDArray

from robin_grasp.cup_health_fit import CUP_FIT_VERSION, CupHealthFit
from robin_grasp.planner.fit import Provenance
from robin_perception.core.disk import write_atomic
from robin_sim.cup_trials.presses import Press

Floats = NDArray[np.float64]

FILE_HEADER = """# The tables of the cups' health (robin_grasp.cup_health_fit; docs/cups.md says what they mean).
"""
READING_EDGES = (0.06, 0.15, 0.235, 0.34, 0.46, 0.6, 0.75)
SEAL_EDGES = (0.8, 0.94, 0.972)
CLASSES = 8
ROUNDS = 200
PRIOR_COUNT = 1.0  # readings that each row is given beforehand, spread as that bin of expected seal reads overall
LEAST = 0.004  # of a row's probability in any bin: what was never seen may still happen
BLOCKED_NOISE = 0.002  # of a blocked cup's readings, in each bin above the first
FLAT_SHARE = 0.5  # of the classes' shares that is spread evenly: what goods come next is not what came so far
LOST_IN_LIFT = 0.03  # of 2,577 cups in 550 simulated picks 30 came off beside others that held, 1.2 %
LEAKY_ROW = (0.35, 0.25, 0.25, 0.1, 0.02, 0.01, 0.01, 0.01)
LEAKY_SHARE = 0.1
WORN_SHARE = 0.2  # of weak cups, share that leak less than a torn one: as likely in each of the lowest bins
WORN_BINS = 4
BESIDE_SHARE = 0.05  # of picks, where the planner takes an edge for a face: not seen in the presses, set by hand
BESIDE_NOTHING = 0.5  # of the cups of such a pick, share that lies beside the parcel
NOTHING_SHARE = 0.5


def fit_tables(good: Sequence[Press], torn: Sequence[Press], name: str, seeds: str) -> CupHealthFit:
    """Expectation maximisation of the latent class model on presses of good cups; then, with the classes that the other
    cups of a press tell, the readings of the torn ones.

    Two classes are set by hand, in which good, weak and blocked cups read alike, so that such picks tell nothing of the
    cups: goods that leak so much that good cups read as torn ones do elsewhere, and goods on which nothing holds. Their
    shares are those of the doubt that a single low reading leaves, not of the goods that were pressed."""
    reading, seal, opened = _binned(good)
    tables, shares = _maximise(reading, seal, opened)
    bins = len(READING_EDGES) + 1
    weak = _weak(torn, tables, shares)
    shares = (1 - FLAT_SHARE) * shares + FLAT_SHARE / len(shares)
    blocked = np.full(bins, BLOCKED_NOISE)
    blocked[0] = 1.0 - BLOCKED_NOISE * (bins - 1)
    # Every class once more, with the tool partly beside the parcel: what holds reads as before, the rest nothing.
    tables = np.concatenate([tables, _beside(tables, blocked)])
    weak = np.concatenate([weak, _beside(weak, blocked)])
    shares = np.concatenate([shares * (1 - BESIDE_SHARE), shares * BESIDE_SHARE])
    by_hand = np.array([LEAKY_ROW, blocked])
    tables = np.concatenate([tables, np.tile(by_hand[:, None], (1, len(SEAL_EDGES) + 1, 1))])
    weak = np.concatenate([weak, by_hand])
    shares = np.append(shares * (1 - LEAKY_SHARE - NOTHING_SHARE), [LEAKY_SHARE, NOTHING_SHARE])
    return CupHealthFit(
        version=CUP_FIT_VERSION,
        name=name,
        provenance=_provenance(f"{len(good)} presses of good cups and {len(torn)} of a torn one, {seeds}"),
        reading_edges=READING_EDGES,
        seal_edges=SEAL_EDGES,
        class_share=_rounded(shares),
        good=tuple(tuple(_rounded(row) for row in rows) for rows in tables),
        weak=tuple(_rounded(row) for row in weak),
        blocked=_rounded(blocked),
        lost_in_lift=LOST_IN_LIFT,
    )


def _beside(rows: Floats, nothing: Floats) -> Floats:
    return np.asarray(BESIDE_NOTHING * nothing + (1 - BESIDE_NOTHING) * rows)


def _provenance(data: str) -> tuple[Provenance, ...]:
    today = datetime.now(timezone.utc).date().isoformat()
    method = "expectation maximisation of latent classes (robin eval cups --fit); half of their shares spread evenly"
    fitted = Provenance(figures=("class_share", "good", "weak"), data=data, method=method, made=today)
    figures = ("reading_edges", "seal_edges", "blocked", "lost_in_lift", "classes from 8 on", "worn lips")
    by_hand = Provenance(figures=figures, data="none", method="set by hand", made=today)
    return fitted, by_hand


def _rounded(row: Floats) -> tuple[float, ...]:
    return tuple(round(float(value), 5) for value in row / row.sum())


def _binned(presses: Sequence[Press]) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.bool_]]:
    """Bin of the reading, bin of the expected seal, and which cups were open, each [presses, cups]."""
    reached = np.array([press.reached for press in presses])
    seals = np.array([press.seals for press in presses], dtype=np.float64)
    reading = np.searchsorted(READING_EDGES, reached, side="right")
    return reading, np.searchsorted(SEAL_EDGES, np.nan_to_num(seals), side="right"), ~np.isnan(seals)


def _maximise(reading: NDArray[np.intp], seal: NDArray[np.intp], opened: NDArray[np.bool_]) -> tuple[Floats, Floats]:
    """Tables [C, S, B] and shares [C]. At the start, presses where nothing holds are a class, and the others are told
    apart by their median reading."""
    bins, seals = len(READING_EDGES) + 1, len(SEAL_EDGES) + 1
    middle = np.array([np.median(row[use]) for row, use in zip(reading, opened, strict=True)])
    nothing = np.array([(row[use] == 0).all() for row, use in zip(reading, opened, strict=True)])
    order = np.argsort(np.argsort(middle, kind="stable"), kind="stable")
    start = np.where(nothing, 0, 1 + order * (CLASSES - 1) // len(order))
    member = 0.9 * np.eye(CLASSES)[start] + 0.1 / CLASSES
    overall = np.zeros((seals, bins))
    np.add.at(overall, (seal[opened], reading[opened]), 1.0)
    overall = (overall + 0.2) / (overall + 0.2).sum(axis=1, keepdims=True)
    for _ in range(ROUNDS):
        tables = np.tile(PRIOR_COUNT * overall, (CLASSES, 1, 1))
        for c in range(CLASSES):
            weight = np.broadcast_to(member[:, c, None], opened.shape)
            np.add.at(tables[c], (seal[opened], reading[opened]), weight[opened])
        tables /= tables.sum(axis=2, keepdims=True)
        shares = (member.sum(axis=0) + 1.0) / (len(member) + CLASSES)
        member = _members(tables, shares, reading, seal, opened)
    tables = (1 - LEAST * bins) * tables + LEAST
    return tables, shares


def _members(
    tables: Floats, shares: Floats, reading: NDArray[np.intp], seal: NDArray[np.intp], opened: NDArray[np.bool_]
) -> Floats:
    """P(class | readings of the open cups): [presses, C]."""
    log = np.where(opened[None], np.log(tables[:, seal, reading]), 0.0).sum(axis=2).T + np.log(shares)
    member = np.exp(log - log.max(axis=1, keepdims=True))
    return np.asarray(member / member.sum(axis=1, keepdims=True))


def _weak(torn: Sequence[Press], tables: Floats, shares: Floats) -> Floats:
    """Readings of torn cups [C, B], by the class that the other cups tell; where there are few, of all classes."""
    reading, seal, opened = _binned(torn)
    rows, bad = np.arange(len(torn)), np.array([press.torn for press in torn])
    others = opened.copy()
    others[rows, bad] = False
    member = _members(tables, shares, reading, seal, others)
    bins = len(READING_EDGES) + 1
    overall = np.bincount(reading[rows, bad], minlength=bins) + 0.5
    weak = np.tile(5.0 * overall / overall.sum(), (len(shares), 1))
    for c in range(len(shares)):
        np.add.at(weak[c], reading[rows, bad], member[:, c])
    weak *= (1 - WORN_SHARE) / weak.sum(axis=1, keepdims=True)
    weak[:, :WORN_BINS] += WORN_SHARE / WORN_BINS
    return np.asarray((1 - LEAST * bins) * weak + LEAST)


def write_fit(fit: CupHealthFit, path: Path) -> None:
    """As ``load_config`` reads it. Raises RobinError as ``write_atomic``."""
    text = yaml.safe_dump(fit.model_dump(mode="json"), sort_keys=False, default_flow_style=None, width=140)
    write_atomic(path, (FILE_HEADER + text).encode())
