"""The novelty score on packaging that base training never saw: how well it tells it from known goods."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from robin_perception.core.stats import percentiles, rate
from robin_perception.novelty.fit import Samples
from robin_perception.novelty.methods import METHODS
from robin_perception.novelty.scorer import NoveltyScorer
from robin_perception.segmentation.segmenter import Segmenter
from robin_sim.novelty_scenes import KNOWN, UNSEEN, Seen, pile_frames

_RESAMPLES = 400
_TIMED = 60
Floats = NDArray[np.floating[Any]]


def samples_of(known: Seen, odd: Seen) -> Samples:
    """What the statistics are fitted to; piles of the two keep numbers of their own."""
    both = np.concatenate([known.pile, odd.pile])
    appearance = np.concatenate([known.appearance, odd.appearance])
    faulty = np.concatenate([known.fault, odd.fault]) != ""
    return Samples(appearance, np.concatenate([known.odd, odd.odd]), faulty, both)


def judge(scorer: NoveltyScorer, known: Seen, unseen: Seen) -> dict[str, Any]:
    """auroc.<packaging> and flagged.{unseen, known, known_in_fault}, each with its 95 % interval: by piles for the
    former, Wilson's for the latter. known: also in bad light; known goods in the piles of ``unseen`` count as known."""
    familiar = unseen.only(unseen.unseen == "")
    strange = unseen.only(np.isin(unseen.unseen, list(UNSEEN.values())))
    good, bad = known.only(known.fault == ""), known.only(known.fault != "")
    scores = {name: scorer.novelty_of(part.appearance) for name, part in (("strange", strange), ("good", good))}
    beside = scorer.novelty_of(familiar.appearance)
    usual, usual_pile = np.concatenate([scores["good"], beside]), np.concatenate([good.pile, 100_000 + familiar.pile])
    auroc, flagged_by = {}, {}
    for name in UNSEEN.values():
        mine = strange.unseen == name
        auroc[name] = _area_with_interval(usual, usual_pile, scores["strange"][mine], strange.pile[mine])
        flagged_by[name] = _flagged(scores["strange"][mine])
    in_fault = scorer.novelty_of(bad.appearance)
    by_fault = {str(name): _flagged(in_fault[bad.fault == name]) for name in np.unique(bad.fault)}
    flagged = {"unseen": _flagged(scores["strange"]), "known": _flagged(usual), "known_in_fault": _flagged(in_fault)}
    return {
        "auroc": {name: found["auroc"] for name, found in auroc.items()},
        "auroc_intervals": {name: found["interval"] for name, found in auroc.items()},
        "flagged": {name: found["rate"] for name, found in flagged.items()},
        "flagged_intervals": flagged,
        "flagged_by_packaging": flagged_by,
        "flagged_by_fault": by_fault,
    }


def compare(known: Seen, unseen: Seen) -> dict[str, dict[str, dict[str, float]]]:
    """features -> method -> packaging -> area under ROC. Known goods of even piles, in any light, are the reference;
    those of odd piles, in good light, are told from the unseen."""
    reference, others = known.only(known.pile % 2 == 0), known.only((known.pile % 2 == 1) & (known.fault == ""))
    found: dict[str, dict[str, dict[str, float]]] = {}
    for features in ("cut", "embedding", "appearance"):
        base, usual, strange = (getattr(part, features).astype(np.float64) for part in (reference, others, unseen))
        for name, method in METHODS.items():
            classes = reference.classes.argmax(axis=1)
            low, high = method(base, classes, usual), method(base, classes, strange)
            areas = {key: area_under_roc(low, high[unseen.unseen == key]) for key in UNSEEN.values()}
            found.setdefault(features, {})[name] = areas
    return found


def area_under_roc(low: Floats, high: Floats) -> float:
    """P(a score of ``high`` exceeds one of ``low``), ties half (Mann and Whitney); NaN where either is empty."""
    if not len(low) or not len(high):
        return float("nan")
    order = np.sort(low)
    below = np.searchsorted(order, high, "left") + np.searchsorted(order, high, "right")
    return float(below.mean() / (2 * len(low)))


def _area_with_interval(
    low: Floats, low_pile: NDArray[np.int64], high: Floats, high_pile: NDArray[np.int64]
) -> dict[str, Any]:
    """Bootstrap over piles: parcels of one pile share light and camera."""
    rng = np.random.default_rng(0)
    areas = [
        area_under_roc(_resampled(low, low_pile, rng), _resampled(high, high_pile, rng)) for _ in range(_RESAMPLES)
    ]
    interval = [float(v) for v in np.nanpercentile(areas, (2.5, 97.5))] if len(high) and len(low) else None
    return {"auroc": area_under_roc(low, high), "interval": interval, "instances": len(high)}


def _resampled(scores: Floats, piles: NDArray[np.int64], rng: np.random.Generator) -> Floats:
    names, owner = np.unique(piles, return_inverse=True)
    times = np.bincount(rng.integers(0, max(len(names), 1), len(names)), minlength=len(names))
    return np.repeat(scores, times[owner]) if len(scores) else scores


def _flagged(novelty: Floats) -> dict[str, Any]:
    return dict(rate(int(np.count_nonzero(novelty > 1)), len(novelty)))


def path_cost(segmenter: Segmenter, seed: int) -> dict[str, float]:
    """What the score adds between a frame and its scene, ms, on frames of one pile; maps of skin are made while the
    network runs and are not in it."""
    frames = list(pile_frames(KNOWN, seed, 0))
    return percentiles([segmenter.segment(frames[i % len(frames)]).timings_ms["novelty"] for i in range(_TIMED)])
