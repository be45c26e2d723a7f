"""Other scores of novelty, to compare with: they are fitted where they are compared, and nothing ships them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]
Score = Callable[[Floats, NDArray[np.intp], Floats], Floats]

_SHRINK = 0.1
_NEIGHBOURS = 10


def relative_mahalanobis(known: Floats, classes: NDArray[np.intp], seen: Floats) -> Floats:
    """Least distance to a class less the distance to all known ones (Ren et al., 2021). known [n, D] with their
    ``classes`` [n], seen [m, D]; returns [m]."""
    return _to_classes(known, classes, seen) - _distances(known, known.mean(axis=0, keepdims=True), seen)[:, 0]


def mahalanobis_normalised(known: Floats, classes: NDArray[np.intp], seen: Floats) -> Floats:
    """Least Mahalanobis distance to a class, of features of unit length (MDS++; Mueller and Hein, 2025)."""
    unit = [values / np.maximum(np.linalg.norm(values, axis=1, keepdims=True), 1e-9) for values in (known, seen)]
    return _to_classes(unit[0], classes, unit[1])


def nearest_neighbours(known: Floats, classes: NDArray[np.intp], seen: Floats) -> Floats:
    """Distance to the tenth nearest known one, of features of unit length (Sun et al., 2022)."""
    del classes
    near, far = (values / np.maximum(np.linalg.norm(values, axis=1, keepdims=True), 1e-9) for values in (known, seen))
    squared = 2 - 2 * far @ near.T
    rank = min(_NEIGHBOURS, near.shape[0]) - 1
    return np.asarray(np.partition(squared, rank, axis=1)[:, rank])


METHODS: dict[str, Score] = {
    "relative_mahalanobis": relative_mahalanobis,
    "mds_plus_plus": mahalanobis_normalised,
    "knn": nearest_neighbours,
}


def _to_classes(known: Floats, classes: NDArray[np.intp], seen: Floats) -> Floats:
    present, members = np.unique(classes, return_inverse=True)
    means = np.stack([known[members == k].mean(axis=0) for k in range(len(present))])
    return np.asarray(_distances(known - means[members], means, seen).min(axis=1))


def _distances(residuals: Floats, means: Floats, seen: Floats) -> Floats:
    """Squared Mahalanobis distances [m, K] of seen to each mean, by the covariance of the residuals."""
    covariance = np.cov((residuals - residuals.mean(axis=0)).T)
    diagonal = np.diag(np.diag(covariance))
    floor = 1e-9 * np.trace(diagonal) * np.eye(len(covariance))
    precision = np.linalg.inv((1 - _SHRINK) * covariance + _SHRINK * diagonal + floor)
    return np.stack([np.einsum("ij,ij->i", (seen - mean) @ precision, seen - mean) for mean in means], axis=1)
