"""Where film stands that the depth camera looks through, as a smooth face of each instance."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from robin_perception.core.config import StrictConfig
from robin_perception.core.scene import CLASSES, FILM_TERMS, Instance
from robin_perception.segmentation.decode import Decoded
from robin_perception.segmentation.view import Box, View

Floats = NDArray[np.float64]
FILM_CLASS = "poly_bag"
_LEAST_CELLS = 12  # of the detail grid
_SHOWS_FILM = 0.5  # P(film) of a cell
_LEAST_RISE = 0.05  # of a ray to the belt; flatter ones say nothing of depth
_BEHIND_M, _MOST_BEHIND = 0.02, 0.2  # film stands before what is seen: so far behind, on such a share, it is none
_STIFFNESS = 1e-3  # of the curved terms, as a share of the cells


class FilmConfig(StrictConfig):
    """Which instances get the film's face in place of the depth that is seen."""

    enabled: bool = Field(True, description="Tell where film stands that the depth camera looks through.")
    most_depth: float = Field(
        0.93, ge=0, le=1, description="Share of valid depth in a mask from which on its depth is taken as it is seen."
    )
    least_film: float = Field(0.6, ge=0, le=1, description="Least mean P(film) in a mask.")
    least_class: float = Field(
        0.1,
        ge=0,
        le=1,
        description="Least probability of poly_bag, the class that film was taught on; 0: of any class.",
    )


def maybe_film(
    decoded: Decoded, view: View, config: FilmConfig, class_names: tuple[str, ...] = CLASSES
) -> frozenset[int]:
    """Ids of the instances whose masks have less than ``most_depth`` valid depth and that are of FILM_CLASS with
    ``least_class``, where it is one of ``class_names``. Masks are in pixels of ``view``."""
    row = class_names.index(FILM_CLASS) if FILM_CLASS in class_names else None
    depth = view.frame.depth[view.window]

    def lacks_depth(one: Instance) -> bool:
        x0, y0, x1, y1 = one.bbox
        mine = decoded.labels[y0:y1, x0:x1] == one.id
        return bool(((depth[y0:y1, x0:x1] > 0) & mine).sum() < config.most_depth * mine.sum())

    likely = [one for one in decoded.instances if row is None or one.class_probabilities[row] >= config.least_class]
    return frozenset(one.id for one in likely if lacks_depth(one))


def with_film(
    decoded: Decoded, film: NDArray[np.float32], view: View, config: FilmConfig, wanted: frozenset[int]
) -> Decoded:
    """The instances with ``Instance.film_depth``, where their id is ``wanted`` and the network tells film. What shows
    film of all others counts as covered: their visible fraction is less by that share. film: as ``FilmReader.read``
    gives it for ``view``."""
    at, depth = _cells(film[0], view)
    labels, odds = decoded.labels[at[1], at[0]], film[1].reshape(-1)
    seen = view.frame.depth[view.window][at[1], at[0]]

    def told(one: Instance) -> Instance:
        mine = (labels == one.id) & np.isfinite(depth)
        if mine.sum() < _LEAST_CELLS:
            return one
        if odds[mine].mean() < config.least_film:
            return replace(one, visible_fraction=one.visible_fraction * float((odds[mine] <= _SHOWS_FILM).mean()))
        return fitted(one, mine) if one.id in wanted else one

    def fitted(one: Instance, mine: NDArray[np.bool_]) -> Instance:
        terms = film_design(at[0, mine].astype(np.float64), at[1, mine].astype(np.float64), one.bbox)
        stiff = np.diag([0.0, 0.0, 0.0, *[_STIFFNESS * mine.sum()] * 3]) + 1e-9 * np.eye(FILM_TERMS)
        face = np.linalg.solve(terms.T @ terms + stiff, terms.T @ depth[mine])
        known = seen[mine] > 0
        if known.any() and ((terms @ face - seen[mine])[known] > _BEHIND_M).mean() > _MOST_BEHIND:
            return one
        return replace(one, film_depth=tuple(face.astype(np.float32).tolist()))

    return replace(decoded, instances=tuple(told(one) for one in decoded.instances))


def film_design(x: Floats, y: Floats, box: Box) -> Floats:
    """Rows of the terms that ``Instance.film_depth`` are the coefficients of, [N, 6], for pixels x, y [N]."""
    u = (2.0 * x - box[0] - box[2] + 1) / (box[2] - box[0])
    v = (2.0 * y - box[1] - box[3] + 1) / (box[3] - box[1])
    return np.stack((np.ones_like(u), u, v, u * u, u * v, v * v), axis=1)


def _cells(height: NDArray[np.float32], view: View) -> tuple[NDArray[np.int64], Floats]:
    """Of all cells of the grid: pixels of the view, int64 [2, N], and depth, metres, [N], NaN where there is none."""
    rows, columns = height.shape
    stride = view.box.network_size[0] // columns
    y, x = np.mgrid[:rows, :columns].reshape(2, -1) * stride + (stride - 1) / 2
    fx, fy, cx, cy = view.geometry["intrinsics"].astype(np.float64)
    nx, ny, nz, offset = view.geometry["belt_plane"].astype(np.float64)
    rise = nx * (x - cx) / fx + ny * (y - cy) / fy + nz
    depth = np.where(rise < -_LEAST_RISE, (height.reshape(-1) - offset) / np.minimum(rise, -_LEAST_RISE), np.nan)
    pixels = view.box.to_frame(np.stack((x, y), axis=1)).round().astype(np.int64)
    last = np.array(view.box.frame_size) - 1
    beside = ((pixels < 0) | (pixels > last)).any(axis=1)
    return pixels.clip(0, last).T, np.where(beside | (depth <= 0), np.nan, depth / view.scale)
