"""How well the face of clear film is told, against its true depth (``film.png`` of a data set)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from robin_perception.core.errors import Code, RobinError
from robin_perception.core.frame import Frame
from robin_perception.core.image_folder import IGNORE_LABEL, load_film, load_frame, load_labels, scene_folders
from robin_perception.core.scene import Instance, Scene
from robin_perception.core.stats import rate
from robin_perception.segmentation.film import film_design

Floats = NDArray[np.float64]
LIP_M = 0.017
"""Radius of a lip, and how far from the mask's edge places are."""
RIGHT_M, RIGHT_RAD = 0.006, np.radians(15.0)
"""A place is told right where height and slope of a face through its lip are nearer to the truth than this."""
FACES = ("seen", "film")
_PLACES = 8  # of a parcel
_LEAST_PX = 400  # of a parcel
_IS_FILM, _IS_OPAQUE = 0.7, 0.05  # share of a parcel's pixels that show film
_SAME = 0.5  # IoU of a parcel and the instance that shows it
_LEAST_POINTS = 12


@dataclass
class FilmFigures:
    """errors: by face, (height metres, angle rad) of each place, NaN where the face has no points there."""

    film: int = 0
    told: int = 0
    opaque: int = 0
    wrongly_told: int = 0
    errors: dict[str, list[tuple[float, float]]] = field(default_factory=lambda: {name: [] for name in FACES})

    def to_json(self) -> dict[str, Any]:
        faces = {}
        for name, pairs in self.errors.items():
            error = np.array(pairs, dtype=np.float64).reshape(-1, 2)
            right = (np.abs(error[:, 0]) < RIGHT_M) & (error[:, 1] < RIGHT_RAD)
            known = error[np.isfinite(error[:, 0])]
            middle = np.median(np.abs(known), axis=0) if len(known) else None
            faces[name] = {
                "right": rate(int(right.sum()), len(error)),
                "known": round(len(known) / max(1, len(error)), 4),
                "height_mm_p50": None if middle is None else round(1e3 * float(middle[0]), 2),
                "angle_deg_p50": None if middle is None else round(float(np.degrees(middle[1])), 2),
            }
        return {
            "film_parcels": self.film,
            "told": rate(self.told, self.film),
            "opaque_parcels": self.opaque,
            "wrongly_told": rate(self.wrongly_told, self.opaque),
            "places": len(self.errors["film"]),
            "faces": faces,
        }


def evaluate_film(
    see: Callable[[Frame], Scene],
    data: Path,
    limit: int | None = None,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Figures of all scenes of ``data``, places drawn by ``seed``. Only parcels that an instance shows are counted.
    Raises RobinError INPUT_MISSING where no scene has a film.png."""
    folders = [folder for folder in scene_folders(data) if load_film(folder) is not None][:limit]
    if not folders:
        raise RobinError(Code.INPUT_MISSING, f"{data}: no scene with a film.png; make one with robin dataset make")
    figures, rng = FilmFigures(), np.random.default_rng(seed)
    for number, folder in enumerate(folders):
        frame, labels, film = load_frame(folder), load_labels(folder), load_film(folder)
        assert film is not None
        scene = see(frame)
        for mask, one in _shown(labels, scene):
            share = float((film[mask] > 0).mean())
            if share <= _IS_OPAQUE:
                figures.opaque += 1
                figures.wrongly_told += bool(one.film_depth)
            elif share >= _IS_FILM:
                figures.film += 1
                figures.told += bool(one.film_depth)
                told = _told(frame, one) if one.film_depth else frame.depth
                _compare(figures, frame, (film, {"seen": frame.depth, "film": told}), mask & (film > 0), rng)
        if progress is not None:
            progress(number + 1, len(folders))
    return {"scenes": len(folders), **figures.to_json()}


def _shown(labels: NDArray[np.uint16], scene: Scene) -> Iterator[tuple[NDArray[np.bool_], Instance]]:
    """Each labelled parcel's mask and the instance that shows it."""
    known = {one.id: one for one in scene.instances}
    for identity, area in zip(*np.unique(labels, return_counts=True), strict=True):
        if identity in (0, IGNORE_LABEL) or area < _LEAST_PX:
            continue
        mask = labels == identity
        found = np.bincount(scene.labels[mask], minlength=2)
        best = int(found[1:].argmax()) + 1
        if best in known and found[best] / (area + known[best].area_px - found[best]) >= _SAME:
            yield mask, known[best]


def _told(frame: Frame, one: Instance) -> NDArray[np.float32]:
    """The face of its film over the whole frame."""
    v, u = np.mgrid[: frame.height, : frame.width].reshape(2, -1).astype(np.float64)
    return (film_design(u, v, one.bbox) @ np.array(one.film_depth)).reshape(frame.depth.shape).astype(np.float32)


def _compare(
    figures: FilmFigures,
    frame: Frame,
    depths: tuple[NDArray[np.float32], dict[str, NDArray[np.float32]]],
    mask: NDArray[np.bool_],
    rng: np.random.Generator,
) -> None:
    """Add places on one parcel. depths: the truth, and by face."""
    truth, faces = depths
    v, u = np.nonzero(mask)
    footprint = float(np.median(truth[v, u])) / frame.K[0, 0]
    y0, x0 = v.min(), u.min()
    crop = np.pad(mask[y0 : v.max() + 1, x0 : u.max() + 1], 1).astype(np.uint8)
    inside = np.flatnonzero(cv2.distanceTransform(crop, cv2.DIST_L2, 5)[v - y0 + 1, u - x0 + 1] * footprint > LIP_M)
    if not len(inside):
        return
    true_points = _points(frame, truth, v, u)
    points = {name: _points(frame, depth, v, u) for name, depth in faces.items()}
    for place in rng.choice(inside, min(_PLACES, len(inside)), replace=False):
        centre = true_points[place, :2]
        near = np.hypot(*(true_points[:, :2] - centre).T) < LIP_M
        wanted = _face(true_points[near], centre)
        for name, of_face in points.items():
            figures.errors[name].append(_error(_face(of_face[near], centre), wanted))


def _points(frame: Frame, depth: NDArray[np.float32], v: NDArray[np.int64], u: NDArray[np.int64]) -> Floats:
    """Of those pixels, in base_link, metres, [N, 3]; NaN where there is no depth."""
    z = np.where(depth[v, u] > 0, depth[v, u], np.nan).astype(np.float64)
    x = (u - frame.K[0, 2]) / frame.K[0, 0] * z
    y = (v - frame.K[1, 2]) / frame.K[1, 1] * z
    return np.stack((x, y, z), axis=1) @ frame.T_base_camera[:3, :3].T + frame.T_base_camera[:3, 3]


def _face(points: Floats, centre: Floats) -> Floats | None:
    """Height at ``centre`` and slopes along x and y of the plane through points; None where too few are known."""
    known = np.isfinite(points[:, 2])
    if known.sum() < max(_LEAST_POINTS, len(points) / 2):
        return None
    terms = np.column_stack((np.ones(known.sum()), points[known, :2] - centre))
    return np.asarray(np.linalg.lstsq(terms, points[known, 2], rcond=None)[0])


def _error(face: Floats | None, truth: Floats | None) -> tuple[float, float]:
    if face is None or truth is None:
        return np.nan, np.nan
    normals = [np.array([-each[1], -each[2], 1.0]) for each in (face, truth)]
    cosine = normals[0] @ normals[1] / (np.linalg.norm(normals[0]) * np.linalg.norm(normals[1]))
    return float(face[0] - truth[0]), float(np.arccos(np.clip(cosine, -1.0, 1.0)))
