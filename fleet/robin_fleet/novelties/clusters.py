"""Sightings of unfamiliar parcels put together by how they look: what is near to a known novelty joins it, HDBSCAN
finds new ones in what is left over.

A look is an appearance (``robin_perception.novelty.appearance``), float32 [SIZE], all of one length. Distances are
shares of that length, as in a station's own watch. Two views of one parcel are .28 apart in the middle, parcels of one
packaging in other prints .36 and more.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from robin_perception.core.config import StrictConfig

Looks = NDArray[np.floating[Any]]

_NAME = "nov-{:04d}"


class ClusterConfig(StrictConfig):
    """Which looks are of the same goods; distances are shares of a look's length."""

    same_look: float = Field(0.30, gt=0, le=1, description="A sighting nearer to a novelty's middle joins it.")
    same_middle: float = Field(0.21, gt=0, le=1, description="Novelties whose middles are nearer are one.")
    tight: float = Field(0.24, gt=0, le=1, description="Root mean square from the middle that a new one may have.")
    least: int = Field(4, ge=2, le=100, description="Sightings that a new novelty is made of.")
    cuts: tuple[float, ...] = Field(
        (0.34, 0.31, 0.28, 0.25), min_length=1, description="Heights at which HDBSCAN's tree is cut, the widest first."
    )


@dataclass
class Cluster:
    """One novelty. middle: float64 [SIZE], mean look. judged: a person has spoken, so it joins no other by itself."""

    middle: Looks
    members: int
    judged: bool = False


@dataclass
class Clustering:
    """All sightings, one by one. clusters: by their id, which stays when they grow; of two that become one the older
    id stays. left: sightings that belong to none. Not thread-safe."""

    config: ClusterConfig = field(default_factory=ClusterConfig)
    clusters: dict[str, Cluster] = field(default_factory=dict)
    left: dict[Any, Looks] = field(default_factory=dict)
    next_number: int = 1
    home: dict[Any, str] = field(default_factory=dict)
    """What was decided of sightings since this object was made."""
    merged: dict[str, str] = field(default_factory=dict)
    """Ids that became another's."""

    def add(self, sightings: Mapping[Any, Looks]) -> None:
        """Those near to a novelty join it; the others are left."""
        for sighting, look in sightings.items():
            key = self._nearest(look)
            if key is None:
                self.left[sighting] = look
            else:
                self._join(key, sighting, look)

    def settle(self) -> None:
        """Find new novelties in what is left, and let those become one that are one."""
        if len(self.left) < self.config.least:
            return
        names, looks = list(self.left), np.stack([np.asarray(look, dtype=np.float64) for look in self.left.values()])
        for group in grouped(looks, self.config):
            key = self._same_goods(looks[group].mean(axis=0)) or self._new()
            for row in group:
                self._join(key, names[row], looks[row])
                del self.left[names[row]]
        self._merge()
        again, self.left = self.left, {}
        self.add(again)

    def forget(self, sighting: Any, look: Looks) -> None:
        """It was no sighting after all. Raises KeyError for one that was never added."""
        if self.left.pop(sighting, None) is not None:
            return
        cluster = self.clusters[self.where(self.home.pop(sighting))]
        cluster.members -= 1
        cluster.middle = cluster.middle - (look - cluster.middle) / max(cluster.members, 1)

    def where(self, key: str) -> str:
        """The id that ``key`` has become."""
        while key in self.merged:
            key = self.merged[key]
        return key

    def merge(self, kept: str, gone: str) -> None:
        """``gone`` becomes a part of ``kept``. Raises KeyError."""
        one, other = self.clusters[kept], self.clusters.pop(gone)
        members = one.members + other.members
        one.middle = (one.members * one.middle + other.members * other.middle) / max(members, 1)
        one.members, one.judged = members, one.judged or other.judged
        self.merged[gone] = kept

    def _new(self) -> str:
        key = _NAME.format(self.next_number)
        self.next_number += 1
        self.clusters[key] = Cluster(np.zeros(0), 0)
        return key

    def _join(self, key: str, sighting: Any, look: Looks) -> None:
        cluster = self.clusters[key]
        cluster.members += 1
        old = cluster.middle if cluster.members > 1 else np.asarray(look, dtype=np.float64)
        cluster.middle = old + (look - old) / cluster.members
        self.home[sighting] = key

    def _nearest(self, look: Looks) -> str | None:
        """Of few sightings the middle itself is unsure: it lies off by a share of their spread."""
        keys, apart = self._apart(look)
        if not keys:
            return None
        apart = apart / np.sqrt([1 + 1 / self.clusters[key].members for key in keys])
        best = int(np.argmin(apart))
        return keys[best] if apart[best] <= self.config.same_look else None

    def _same_goods(self, middle: Looks) -> str | None:
        keys, apart = self._apart(middle)
        best = int(np.argmin(apart)) if keys else 0
        return keys[best] if keys and apart[best] <= self.config.same_middle else None

    def _apart(self, look: Looks) -> tuple[list[str], NDArray[np.float64]]:
        keys = sorted(key for key, cluster in self.clusters.items() if cluster.members)
        if not keys:
            return [], np.zeros(0)
        middles = np.stack([self.clusters[key].middle for key in keys])
        return keys, np.linalg.norm(middles - look, axis=1) / np.linalg.norm(look)

    def _merge(self) -> None:
        while (pair := self._closest_pair()) is not None:
            self.merge(*pair)

    def _closest_pair(self) -> tuple[str, str] | None:
        """The two nearest novelties that are one, the one that stays first: a judged one, else the older. Two that
        persons have judged stay two."""
        keys = sorted(key for key, cluster in self.clusters.items() if cluster.members)
        if len(keys) < 2:
            return None
        middles = np.stack([self.clusters[key].middle for key in keys])
        judged = np.array([self.clusters[key].judged for key in keys])
        apart = np.linalg.norm(middles[:, None] - middles[None], axis=2) / np.linalg.norm(middles, axis=1)
        apart[np.tril_indices(len(keys))] = np.inf
        apart[np.outer(judged, judged)] = np.inf
        one, other = np.unravel_index(int(apart.argmin()), apart.shape)
        if apart[one, other] > self.config.same_middle:
            return None
        return (keys[other], keys[one]) if judged[other] else (keys[one], keys[other])


def grouped(looks: Looks, config: ClusterConfig) -> Iterator[NDArray[np.intp]]:
    """Rows of ``looks`` [n, SIZE] that are of one look each; no row is in two groups.

    HDBSCAN's tree (Campello, Moulavi, Sander 2013) is cut at several heights, the widest first, and what is tight
    enough to be views of one thing is a group. Its own choice of clusters finds none where there is one among noise.
    """
    from sklearn.cluster import HDBSCAN

    length = float(np.linalg.norm(looks, axis=1).mean())
    tree = HDBSCAN(min_cluster_size=config.least, min_samples=2, copy=True).fit(looks)
    free = np.ones(len(looks), dtype=bool)
    for cut in config.cuts:
        labels = tree.dbscan_clustering(cut * length, min_cluster_size=config.least)
        for label in range(int(labels.max()) + 1):
            rows = np.flatnonzero((labels == label) & free)
            if len(rows) >= config.least and spread(looks[rows]) <= config.tight * length:
                free[rows] = False
                yield rows


def spread(looks: Looks) -> float:
    """Root mean square distance from the middle."""
    return float(np.sqrt(((looks - looks.mean(axis=0)) ** 2).sum(axis=1).mean()))


def next_number(keys: Iterable[str]) -> int:
    """One more than the highest number that an id has."""
    return 1 + max((int(key.rpartition("-")[2]) for key in keys), default=0)
