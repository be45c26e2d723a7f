"""What goes with slow or failed picks: which property of scene, station, model, parcel or hour.

Each property is asked by itself: mutual information with the target, both in bins, against the same with the target
shuffled (p-value). The share of false discoveries is held by Benjamini and Hochberg (J. R. Stat. Soc. B 57, 1995).
Then all together: boosted trees on half of the picks, and by how much they are worse on the other half with one
property shuffled (permutation importance; L. Breiman, Machine Learning 45, 2001). A property that goes with the
target only because it goes with another one has little importance there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import xlogy
from scipy.stats import false_discovery_control
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.inspection import permutation_importance
from sklearn.metrics import get_scorer, mutual_info_score

from robin_fleet.ledger.metrics import Fact
from robin_perception.core.errors import Code, RobinError

FAILED = "failed"
LEAST_PICKS, LEAST_OF_EACH = 200, 20
"""Picks in all; failed and clean ones."""
_BINS, _SHUFFLES, _REPEATS = 6, 999, 20
_ENOUGH = 30  # shuffles that give as much as was seen (J. Besag and P. Clifford, Biometrika 78, 1991)
_MOST_KINDS = 24  # of words; rarer ones count as "other"
_LEAST_KNOWN = 0.5  # share of picks in which a property must be known
_NEVER = frozenset({"result"})  # another name of the target

Codes = NDArray[np.int64]


@dataclass(frozen=True)
class Found:
    """One property. information: mutual information, nats. p: of so much by chance; q: share of false discoveries among
    those at least as sure. importance, spread: how much worse the trees are without it, relative to what they explain.
    low, high: values where the target is low and high (middle), or the kinds."""

    name: str
    information: float
    p: float
    q: float
    discovered: bool
    importance: float
    spread: float
    low: str
    high: str


@dataclass(frozen=True)
class Correlation:
    """found: those that were discovered first, then the others, by information. score: of the trees on picks that they
    have not seen: R² of a figure, 2 AUC - 1 of failures; at most 0 where they explain nothing."""

    target: str
    picks: int
    false_share: float
    score: float
    found: tuple[Found, ...]

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Property:
    """values: as they are, NaN where unknown (figures), or kinds as numbers. codes: in bins, [N]; unknown is a bin."""

    name: str
    values: NDArray[np.float64]
    codes: Codes
    kinds: tuple[str, ...] = ()


@dataclass(frozen=True)
class Asked:
    """Properties of picks and a target, each known. y: of the target, [N]; ``coded``: in bins."""

    target: str
    y: NDArray[np.float64]
    coded: Codes
    properties: tuple[Property, ...]


def correlate(facts: Sequence[Fact], target: str, rng: np.random.Generator, false_share: float = 0.05) -> Correlation:
    """target: "failed", or a figure such as "latency_ms". Raises RobinError CORRELATE_UNKNOWN, CORRELATE_TOO_LITTLE."""
    asked = ask(facts, target)
    tested = associations(asked, rng)
    score, importance, spread = _trees(asked, rng)
    found = [
        Found(one.name, mi, p, q, q <= false_share, importance[n], spread[n], *_ends(one, asked.y))
        for n, (one, (mi, p, q)) in enumerate(zip(asked.properties, tested, strict=True))
    ]
    ordered = sorted(found, key=lambda one: (not one.discovered, -one.information))
    return Correlation(target, len(asked.y), false_share, score, tuple(ordered))


def ask(facts: Sequence[Fact], target: str) -> Asked:
    """Raises RobinError CORRELATE_UNKNOWN, CORRELATE_TOO_LITTLE."""
    known = [one for one in facts if target == FAILED or _is_figure(one.facts.get(target))]
    if not known:
        _refuse_unknown(facts, target)
    y = np.array([float(one.failed if target == FAILED else one.facts[target]) for one in known])
    _require_enough(y, target)
    coded = y.astype(np.int64) if target == FAILED else _binned(y)
    return Asked(target, y, coded, tuple(_properties(known, target)))


def associations(asked: Asked, rng: np.random.Generator) -> list[tuple[float, float, float]]:
    """(mutual information, p, q) of each property."""
    tested = [_information(one.codes, asked.coded, rng) for one in asked.properties]
    q = false_discovery_control([p for _, p in tested]) if tested else []
    return [(mi, p, float(q[n])) for n, (mi, p) in enumerate(tested)]


def extremes(facts: Sequence[Fact], target: str, count: int) -> tuple[list[Fact], list[Fact]]:
    """(the lowest, the highest) of a figure, most extreme first; clean and failed ones, the newest, of failures."""
    if target == FAILED:
        newest = sorted(facts, key=lambda one: -one.at_s)
        return [f for f in newest if not f.failed][:count], [f for f in newest if f.failed][:count]
    known = sorted((f for f in facts if _is_figure(f.facts.get(target))), key=lambda one: one.facts[target])
    return known[:count], known[::-1][:count]


def _properties(facts: Sequence[Fact], target: str) -> list[Property]:
    """Of a time the stages' times are no explanations, but its parts."""
    rows = [{**one.facts, "robot": one.robot} for one in facts]
    timed = target.endswith("_ms") or target.startswith("ms_")
    names = sorted({name for row in rows for name in row} - _NEVER - {target})
    found = []
    for name in names:
        if timed and (name.startswith("ms_") or name.endswith("_ms")):
            continue
        raw = [row.get(name) for row in rows]
        if sum(value is not None for value in raw) < _LEAST_KNOWN * len(rows):
            continue
        figures = all(value is None or _is_figure(value) for value in raw)
        one = _of_figures(name, raw) if figures else _of_kinds(name, raw)
        if len(np.unique(one.codes)) > 1:
            found.append(one)
    return found


def _of_figures(name: str, raw: Sequence[Any]) -> Property:
    values = np.array([np.nan if value is None else float(value) for value in raw])
    return Property(name, values, _binned(values))


def _of_kinds(name: str, raw: Sequence[Any]) -> Property:
    words = ["unknown" if value is None else str(value) for value in raw]
    counts = {word: words.count(word) for word in set(words)}
    kept = sorted(sorted(counts), key=lambda word: -counts[word])[:_MOST_KINDS]
    kinds = (*kept, "other")
    number = {word: n for n, word in enumerate(kept)}
    codes = np.array([number.get(word, len(kept)) for word in words], dtype=np.int64)
    return Property(name, codes.astype(np.float64), codes, kinds)


def _binned(values: NDArray[np.float64]) -> Codes:
    """By quantiles; unknown values are a bin of their own."""
    edges = np.unique(np.nanquantile(values, np.linspace(0, 1, _BINS + 1)[1:-1]))
    codes = np.searchsorted(edges, values, side="right")
    return np.where(np.isnan(values), _BINS, codes).astype(np.int64)


def _information(x: Codes, y: Codes, rng: np.random.Generator) -> tuple[float, float]:
    """(mutual information in nats, p-value by shuffling)."""
    width = int(y.max()) + 1
    size = (int(x.max()) + 1) * width

    def joint(shuffled: Codes) -> float:
        """As long as both margins stay, the information rises and falls with Σ n log n of the joint counts."""
        table = np.bincount(x * width + shuffled, minlength=size)
        return float(xlogy(table, table).sum())

    own = joint(y)
    beaten = done = 0
    while done < _SHUFFLES and beaten < _ENOUGH:  # where chance gives as much, few shuffles show it
        beaten, done = beaten + (joint(rng.permutation(y)) >= own - 1e-9), done + 1
    return float(mutual_info_score(x, y)), (1 + beaten) / (1 + done)


def _trees(asked: Asked, rng: np.random.Generator) -> tuple[float, list[float], list[float]]:
    """(score, importance, its standard deviation)."""
    properties, y, failures = asked.properties, asked.y, asked.target == FAILED
    if not properties:
        return 0.0, [], []
    x = np.column_stack([one.values for one in properties])
    kinds = [bool(one.kinds) for one in properties]
    seed = int(rng.integers(2**31))
    order = rng.permutation(len(y))
    half = len(y) // 2
    model = (HistGradientBoostingClassifier if failures else HistGradientBoostingRegressor)(
        max_iter=60, max_leaf_nodes=12, min_samples_leaf=20, categorical_features=kinds, random_state=seed
    )
    model.fit(x[order[:half]], y[order[:half]])
    left = order[half:]
    how = "roc_auc" if failures else "r2"
    found = permutation_importance(model, x[left], y[left], scoring=how, n_repeats=_REPEATS, random_state=seed)
    score = float(get_scorer(how)(model, x[left], y[left]))
    score, scale = (2 * score - 1, 2.0) if failures else (score, 1.0)
    return score, (scale * found.importances_mean).tolist(), (scale * found.importances_std).tolist()


def _ends(one: Property, y: NDArray[np.float64]) -> tuple[str, str]:
    """Where the target is low and high: middle values of a figure, or the kinds of lowest and highest mean."""
    if one.kinds:
        codes = [code for code in np.unique(one.codes) if (one.codes == code).sum() >= 10]
        means = sorted((float(y[one.codes == code].mean()), one.kinds[code]) for code in codes)
        return (means[0][1], means[-1][1]) if means else ("", "")
    middle = np.median(y) if len(np.unique(y)) > 2 else 0.5
    sides = (one.values[y <= middle], one.values[y > middle])
    return tuple(f"{np.nanmedian(v):.4g}" if np.isfinite(v).any() else "" for v in sides)  # type: ignore[return-value]


def _is_figure(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and bool(np.isfinite(value))


def _refuse_unknown(facts: Sequence[Fact], target: str) -> None:
    if not facts:
        raise RobinError(Code.CORRELATE_TOO_LITTLE, "no picks are known; robots have sent no decisions")
    names = sorted({name for one in facts for name, value in one.facts.items() if _is_figure(value)})
    raise RobinError(
        Code.CORRELATE_UNKNOWN, f"'{target}' is not known of picks; known are {FAILED}, {', '.join(names)}"
    )


def _require_enough(y: NDArray[np.float64], target: str) -> None:
    if len(y) < LEAST_PICKS:
        text = f"{target} is known of {len(y)} picks, at least {LEAST_PICKS} are needed"
        raise RobinError(Code.CORRELATE_TOO_LITTLE, text)
    if target == FAILED and min(y.sum(), (1 - y).sum()) < LEAST_OF_EACH:
        text = f"{int(y.sum())} of {len(y)} picks failed; at least {LEAST_OF_EACH} failed and clean ones are needed"
        raise RobinError(Code.CORRELATE_TOO_LITTLE, text)
