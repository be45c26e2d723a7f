"""How parcels look to the shipped network in rendered scenes, and draws from it: what simulated fleets are made of.

Looks of real instances (``robin_sim.novelty_scenes``) are kept in a small file. A planted novelty is the look of one
parcel of a packaging that base training never saw; its sightings differ from it as views of one parcel differ. Known
goods are drawn around looks of known goods, in good and in bad light, as a smoothed bootstrap does (Silverman and
Young 1987), so that mean and covariance stay.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robin_perception.core.bounded import read_plain_bytes
from robin_perception.core.disk import write_atomic
from robin_perception.core.errors import Code, RobinError
from robin_perception.novelty.scorer import NoveltyScorer
from robin_perception.segmentation.segmenter import Segmenter

LOOKS_FILE = Path(__file__).with_name("looks.npz")
KNOWN_PILES, UNSEEN_PILES, SEED = 30, 45, 130210
FAULTS = ("dark", "blur", "dirty_lens")
_MOST_BYTES = 20_000_000
_KEYS = ("appearance", "variant", "fault", "pile", "unseen")
_MOST_OF_ONE = 3  # confident instances of one variant in the three views of a pile, up to which they are one parcel
_OFTEN = 0.5  # share of a planted parcel's views that are unfamiliar, at least
_NOISE = 0.5  # of the smoothed bootstrap, in standard deviations
_POOL = 3000

Looks = NDArray[np.float32]


def collect_looks(segmenter: Segmenter, work: Path, out: Path, progress: Callable[[int, int], None]) -> None:
    """See piles through the shipped network and keep the looks; piles that are in ``work`` are not rendered again."""
    from robin_sim.novelty_scenes import KNOWN, UNFAMILIAR, collect

    known = collect(segmenter, KNOWN, KNOWN_PILES, SEED, work, progress)
    unseen = collect(segmenter, UNFAMILIAR, UNSEEN_PILES, SEED, work, progress)
    buffer = BytesIO()
    np.savez_compressed(
        buffer,
        appearance=np.concatenate([known.appearance, unseen.appearance]).astype(np.float16),
        variant=np.concatenate([known.variant, unseen.variant]),
        fault=np.concatenate([known.fault, unseen.fault]),
        pile=np.concatenate([known.pile, 100_000 + unseen.pile]),
        unseen=np.concatenate([np.full(len(known), ""), unseen.unseen]),
    )
    write_atomic(out, buffer.getvalue())


class LookPool:
    """Draws of looks that the station's limit calls unfamiliar, with their novelty. scorer: says which."""

    def __init__(self, path: Path, scorer: NoveltyScorer, rng: np.random.Generator) -> None:
        """Raises RobinError INPUT_*."""
        with np.load(BytesIO(read_plain_bytes(path, _MOST_BYTES)), allow_pickle=False) as file:
            if set(file.files) != set(_KEYS):
                raise RobinError(Code.INPUT_UNREADABLE, f"{path}: no looks of rendered parcels")
            self._rows = {key: file[key] for key in _KEYS}
        self._rows["appearance"] = self._rows["appearance"].astype(np.float32)
        self._scorer, self._rng = scorer, rng
        self._views = np.stack(list(self._view_differences()))
        self.planted = self._planted()
        self.odd_share: dict[str, float] = {}
        known = self._rows["unseen"] == ""
        self._known = {fault: self._pooled(fault, known & (self._rows["fault"] == fault)) for fault in ("", *FAULTS)}

    def known(self, fault: str = "") -> tuple[str, Looks, float]:
        """Packaging, look and novelty of a known parcel that seems unfamiliar, in good light or in a fault of the
        station."""
        variants, looks, novelty = self._known[fault]
        at = int(self._rng.integers(len(looks)))
        return str(variants[at]), looks[at], float(novelty[at])

    def views(self, packaging: str, count: int) -> Iterator[tuple[Looks, float]]:
        """Looks and novelty of ``count`` unfamiliar views of one parcel of that packaging."""
        parcels = self.planted[packaging]
        middle = parcels[int(self._rng.integers(len(parcels)))]
        while count > 0:
            looks = self._around(middle, 64)
            novelty = self._scorer.novelty_of(looks)
            for at in np.flatnonzero(novelty > 1)[:count]:
                count -= 1
                yield looks[at], float(novelty[at])

    def _planted(self) -> dict[str, list[Looks]]:
        """Packaging -> mean looks of single parcels of which most views are unfamiliar."""
        found: dict[str, list[Looks]] = {}
        for packaging, looks in self._parcels():
            middle = looks.mean(axis=0)
            if packaging and float((self._scorer.novelty_of(self._around(middle, 100)) > 1).mean()) > _OFTEN:
                found.setdefault(packaging, []).append(middle)
        return found

    def _around(self, middle: Looks, count: int) -> Looks:
        """Two differences of views, mixed so that their covariance stays: no view comes twice."""
        angle = self._rng.uniform(0, 2 * np.pi, (count, 1))
        one, other = (self._views[self._rng.integers(len(self._views), size=count)] for _ in range(2))
        return np.maximum(middle + one * np.cos(angle) + other * np.sin(angle), 0).astype(np.float32)

    def _parcels(self) -> Iterator[tuple[str, Looks]]:
        """(packaging, looks of one parcel) in good light."""
        rows = self._rows
        good = rows["fault"] == ""
        for variant in np.unique(rows["variant"]):
            for pile in np.unique(rows["pile"][good & (rows["variant"] == variant)]):
                own = good & (rows["variant"] == variant) & (rows["pile"] == pile)
                if own.sum() <= _MOST_OF_ONE:
                    yield str(rows["unseen"][own][0]), rows["appearance"][own]

    def _view_differences(self) -> Iterator[Looks]:
        for _, looks in self._parcels():
            for at in range(len(looks)):
                for other in looks[:at]:
                    yield (looks[at] - other) / np.sqrt(2)

    def _pooled(self, fault: str, chosen: NDArray[np.bool_]) -> tuple[NDArray[np.str_], Looks, NDArray[np.float64]]:
        looks, variants = self._rows["appearance"][chosen], self._rows["variant"][chosen]
        middle = looks.mean(axis=0)
        apart = looks - middle
        noise = self._rng.normal(size=(_POOL, len(looks))).astype(np.float32) @ apart / np.sqrt(len(looks))
        around = self._rng.integers(len(looks), size=_POOL)
        drawn = apart[around] + _NOISE * noise
        drawn = np.maximum(middle + drawn / np.sqrt(1 + _NOISE**2), 0).astype(np.float32)
        novelty = self._scorer.novelty_of(drawn)
        odd = novelty > 1
        self.odd_share[fault] = float(odd.mean())
        return variants[around[odd]], drawn[odd], novelty[odd]

    def facts(self) -> dict[str, Any]:
        """What the draws rest on."""
        return {
            "instances": len(self._rows["pile"]),
            "view_differences": len(self._views),
            "planted_parcels": {name: len(looks) for name, looks in self.planted.items()},
            "known_odd_share": self.odd_share,
        }
