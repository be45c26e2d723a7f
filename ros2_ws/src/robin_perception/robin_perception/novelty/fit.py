"""Make the statistics of known goods from appearances of known and of odd-looking goods. Pure NumPy, deterministic."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robin_perception.novelty.appearance import SIZE
from robin_perception.novelty.calibration import DEFAULT_RATE, conformal_limit
from robin_perception.novelty.statistics import MOST_REFERENCES, TERM_WEIGHTS, NoveltyStatistics

Floats = NDArray[np.float32]

FAULT_RATE = 0.08
"""Share of known goods in bad light that may exceed the limit: below the tenth that is promised."""
_SHRINK = 0.1  # of the covariance towards its diagonal
_FLOOR = 1e-3
_MEMBERS, _HIDDEN = 4, 48
_STEPS, _BATCH, _RATE, _DECAY = 500, 256, 1e-3, 0.3
_HELD_OUT = 4  # every so-manieth pile sets the scales and limits instead of teaching


@dataclass(frozen=True)
class Samples:
    """Confident instances. appearance float32 [n, SIZE]; odd bool [n]; faulty bool [n]: seen in bad light, blurred or
    through dirt; pile int [n]."""

    appearance: Floats
    odd: NDArray[np.bool_]
    faulty: NDArray[np.bool_]
    pile: NDArray[np.int64]


def fit(samples: Samples, trunk: str, provenance: dict[str, Any], rate: float = DEFAULT_RATE) -> NoveltyStatistics:
    """Statistics with their limit: known goods exceed it at ``rate`` in good light, and at ``FAULT_RATE`` in bad.

    Raises RobinError NOVELTY_TOO_FEW.
    """
    held = samples.pile % _HELD_OUT == _HELD_OUT - 1
    good, bad = (held & ~samples.odd & (samples.faulty == faulty) for faulty in (False, True))
    conformal_limit(np.zeros(np.count_nonzero(good)), rate)  # before minutes go into the layer
    known = samples.appearance[~held & ~samples.odd]
    mean, scale = known.mean(axis=0), known.std(axis=0) + np.float32(_FLOOR)
    standard = (known - mean) / scale
    covariance = np.cov(standard.T)
    covariance = (1 - _SHRINK) * covariance + _SHRINK * np.diag(np.diag(covariance)) + _FLOOR * np.eye(SIZE)
    teach = ~held
    layer = _layer((samples.appearance[teach] - mean) / scale, samples.odd[teach])
    raw = NoveltyStatistics(
        mean.astype(np.float32),
        scale.astype(np.float32),
        np.linalg.inv(covariance).astype(np.float32),
        *layer,
        reference=_reference(known),
        middle=np.zeros(len(TERM_WEIGHTS), dtype=np.float32),
        spread=np.ones(len(TERM_WEIGHTS), dtype=np.float32),
        limit=1.0,
        rate=rate,
        trunk=trunk,
        provenance=provenance,
    )
    return _scaled(raw, samples.appearance[good], samples.appearance[bad], rate)


def _reference(known: Floats) -> Floats:
    """Known goods to compare with, as the file keeps them: all, or as many as it takes, drawn evenly."""
    chosen = np.linspace(0, len(known) - 1, min(len(known), MOST_REFERENCES)).round().astype(np.intp)
    return known[chosen].astype(np.float16).astype(np.float32)


def _scaled(raw: NoveltyStatistics, good: Floats, bad: Floats, rate: float) -> NoveltyStatistics:
    """With middle, spread and limit from known goods that taught nothing."""
    terms = raw.terms(good)
    middle = np.median(terms, axis=0)
    spread = np.maximum([conformal_limit(term, rate) for term in terms.T] - middle, _FLOOR)
    scaled = replace(raw, middle=middle.astype(np.float32), spread=spread.astype(np.float32))
    limits = [conformal_limit(scaled.score(good), rate)]
    if len(bad) > 1 / FAULT_RATE:
        limits.append(conformal_limit(scaled.score(bad), FAULT_RATE))
    return replace(scaled, limit=max(limits))


def _layer(x: Floats, odd: NDArray[np.bool_]) -> tuple[Floats, Floats, Floats]:
    """Hidden weights [D, H], biases [H] and output weights [H] of several small networks side by side, whose log odds
    are averaged: each begins elsewhere and sees other batches."""
    members = [_member(x, odd, np.random.default_rng(seed)) for seed in range(_MEMBERS)]
    weights, biases, outs = (np.concatenate(parts, axis=-1) for parts in zip(*members, strict=True))
    return weights, biases, (outs / _MEMBERS).astype(np.float32)


def _member(x: Floats, odd: NDArray[np.bool_], rng: np.random.Generator) -> tuple[Floats, Floats, Floats]:
    """One hidden layer of rectified units, trained by Adam on the logistic loss with decoupled weight decay (Kingma and
    Ba, 2015; Loshchilov and Hutter, 2019). Odd and known ones weigh the same."""
    size = x.shape[1]
    values = [
        rng.normal(0, np.sqrt(2 / size), (size, _HIDDEN)).astype(np.float32),
        np.zeros(_HIDDEN, dtype=np.float32),
        rng.normal(0, np.sqrt(1 / _HIDDEN), _HIDDEN).astype(np.float32),
    ]
    moments = [(np.zeros_like(v), np.zeros_like(v)) for v in values]
    groups = np.flatnonzero(odd), np.flatnonzero(~odd)
    truth = np.repeat(np.array([1, 0], dtype=np.float32), _BATCH // 2)
    for step in range(1, _STEPS + 1):
        rows = np.concatenate([rng.choice(group, _BATCH // 2) for group in groups])
        step_rate = _RATE * 0.5 * (1 + np.cos(np.pi * step / _STEPS))
        for k, slope in enumerate(_slopes(x[rows], truth, *values)):
            first, second = moments[k]
            first += 0.1 * (slope - first)
            second += 0.001 * (slope * slope - second)
            move = (first / (1 - 0.9**step)) / (np.sqrt(second / (1 - 0.999**step)) + 1e-8)
            values[k] -= np.float32(step_rate) * (move + np.float32(_DECAY) * values[k]).astype(np.float32)
    return values[0], values[1], values[2]


def _slopes(x: Floats, truth: Floats, weight: Floats, bias: Floats, out: Floats) -> tuple[Floats, Floats, Floats]:
    """Of the mean logistic loss by hidden weights, biases and output weights."""
    hidden = np.maximum(x @ weight + bias, 0)
    error = (1 / (1 + np.exp(-np.clip(hidden @ out, -30, 30))) - truth) / np.float32(len(x))
    back = np.outer(error, out) * (hidden > 0)
    return x.T @ back, back.sum(axis=0), hidden.T @ error
