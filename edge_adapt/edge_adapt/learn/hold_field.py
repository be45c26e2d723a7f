"""P(clean) over the looks of goods: what picks of goods that look alike say of goods that were never picked.

A Gaussian process (C. E. Rasmussen and C. Williams, 2006, ch. 2) on the appearance, of what a pick ended with less what
the factory expected of it. Clusters cannot tell this: a mesh sack in a new colour is a new look, and yet a mesh sack.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve
from scipy.spatial.distance import cdist

from robin_perception.novelty.appearance import SIZE

Floats = NDArray[np.float64]
REACH = 0.7  # distance, as a share of an appearance's length, at which picks tell 1/e of what they tell of themselves
PRIOR_SD = 0.5  # of P(clean), from goods to goods
PICK_SD = 0.32  # of what one pick ends with, 0 or 1
MOST_PICKS = 400  # that are remembered
_CODED = np.float16


@dataclass(frozen=True)
class FieldPick:
    """seen: float32 [SIZE], appearance of unit length. surprise: 1 for a clean pick, 0 for another, less what was
    expected. at: number of the pick."""

    seen: NDArray[np.float32]
    surprise: float
    at: int

    def to_json(self) -> dict[str, Any]:
        coded = base64.b64encode(self.seen.astype(_CODED).tobytes()).decode()
        return {"seen": coded, "surprise": round(self.surprise, 4), "at": self.at}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> FieldPick:
        """Raises KeyError, TypeError, ValueError for what cannot be one."""
        seen = np.frombuffer(base64.b64decode(values["seen"], validate=True), dtype=_CODED).astype(np.float32)
        surprise, at = float(values["surprise"]), int(values["at"])
        if seen.shape != (SIZE,) or not np.isfinite(seen).all() or not abs(surprise) <= 1:
            raise ValueError(f"'seen' needs {SIZE} finite figures, 'surprise' at most 1")
        return cls(seen, surprise, at)


class HoldField:
    """What the newest picks say. half_life_picks: a pick so old counts half. Not thread-safe."""

    def __init__(self, half_life_picks: float) -> None:
        self._half_life = half_life_picks
        self.picks: list[FieldPick] = []
        self._solved: tuple[int, Floats, Any, Floats] | None = None

    def note(self, seen: NDArray[np.float32], expected: float, clean: bool, at: int) -> None:
        """One pick of goods with the appearance ``seen``; expected: P(clean) as the factory has it."""
        unit = unit_length(seen[None])[0]
        coded = unit.astype(_CODED).astype(np.float32)  # as it comes back from the disk
        self.picks = [*self.picks, FieldPick(coded, round(float(clean) - expected, 4), at)][-MOST_PICKS:]
        self._solved = None

    def change(self, seen: NDArray[np.float32], at: int) -> tuple[Floats, Floats, Floats]:
        """Of P(clean) of goods with appearances ``seen`` [I, SIZE] at pick number ``at``: mean [I] and standard
        deviation [I] of the difference to what the factory expects, and picks of such goods [I], faded."""
        if not self.picks or not len(seen):
            return np.zeros(len(seen)), np.full(len(seen), PRIOR_SD), np.zeros(len(seen))
        looks, factor, weights = self._solution(at)
        near = _kernel(unit_length(seen), looks)
        left = PRIOR_SD**2 - np.einsum("in,ni->i", near, cho_solve(factor, near.T))
        tries = near @ (1.0 / self._fading(at)) / PRIOR_SD**2
        return np.asarray(near @ weights), np.sqrt(np.maximum(left, 0.0)), np.asarray(tries)

    def _solution(self, at: int) -> tuple[Floats, Any, Floats]:
        if self._solved is None or self._solved[0] != at:
            looks = np.stack([pick.seen for pick in self.picks]).astype(np.float64)
            factor = cho_factor(_kernel(looks, looks) + np.diag(PICK_SD**2 * self._fading(at)))
            weights = cho_solve(factor, np.array([pick.surprise for pick in self.picks]))
            self._solved = at, looks, factor, weights
        return self._solved[1:]

    def _fading(self, at: int) -> Floats:
        """How much less each pick says by now, [N], 1 for the newest."""
        ages = np.array([at - pick.at for pick in self.picks], dtype=np.float64)
        return np.asarray(2.0 ** np.clip(ages / self._half_life, 0.0, 30.0))


def unit_length(seen: NDArray[np.floating]) -> Floats:
    """Appearances [I, SIZE] of length 1; one without any skin stays 0."""
    return np.asarray(seen / np.maximum(np.linalg.norm(seen, axis=1, keepdims=True), 1e-9), dtype=np.float64)


def _kernel(some: Floats, others: Floats) -> Floats:
    return np.asarray(PRIOR_SD**2 * np.exp(-cdist(some, others, "sqeuclidean") / REACH**2))
