"""What every format comes down to: one picture, and the outlines or masks that people drew on it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from robin_perception.core.errors import Code, RobinError
from robin_perception.core.image_folder import IGNORE_LABEL

ANNOTATION_BYTES = 200_000_000
IGNORED_NAMES = frozenset({"ignore", "ignored", "void"})
"""A mask of such a label says nothing about its pixels."""
MOST_PARCELS = 254
_LEAST_CORNERS = 3

Mask = NDArray[np.bool_]
Polygon = Sequence[tuple[float, float]]


class ForeignModel(BaseModel):
    """What is read of another tool's file; what else stands in it is left alone."""

    model_config = ConfigDict(extra="ignore", frozen=True, allow_inf_nan=False)


@dataclass(frozen=True)
class Parcel:
    """name: the label that was given, as it was written. mask: bool [H, W]."""

    name: str
    mask: Mask


@dataclass(frozen=True)
class AnnotatedPicture:
    """source: file and key, for messages. depth: the depth picture, where the file names one. size: (width, height)
    that the file tells."""

    source: str
    color: Path
    depth: Path | None
    size: tuple[int, int]
    parcels: tuple[Parcel, ...]

    def labels(self) -> tuple[NDArray[np.uint16], dict[int, str]]:
        """Label image [H, W], 0 background, 65535 ignore, and the name of each id. Where masks overlap, the later one
        lies on top. Raises RobinError ANNOTATION_INVALID for too many parcels."""
        labels = np.zeros(self.size[::-1], dtype=np.uint16)
        names: dict[int, str] = {}
        for parcel in self.parcels:
            ignored = parcel.name.strip().lower() in IGNORED_NAMES
            if not ignored:
                names[len(names) + 1] = parcel.name
            labels[parcel.mask] = IGNORE_LABEL if ignored else len(names)
        if len(names) > MOST_PARCELS:
            raise invalid(self.source, f"{len(names)} parcels, at most {MOST_PARCELS} fit a picture")
        return labels, names


def invalid(source: str, text: str) -> RobinError:
    return RobinError(Code.ANNOTATION_INVALID, f"{source}: {text}")


def polygon_mask(polygons: Sequence[Polygon], size: tuple[int, int], source: str) -> Mask:
    """bool [H, W] of one parcel's outlines, pixels. Raises RobinError ANNOTATION_INVALID."""
    mask = np.zeros(size[::-1], dtype=np.uint8)
    limit = 4.0 * max(size)
    for polygon in polygons:
        points = np.array(polygon, dtype=np.float64).reshape(-1, 2)
        if len(points) < _LEAST_CORNERS:
            raise invalid(source, f"an outline of {len(points)} points, at least {_LEAST_CORNERS} are needed")
        if not (np.abs(points) <= limit).all():
            raise invalid(source, f"an outline far outside of the {size[0]}x{size[1]} picture")
        own = np.zeros_like(mask)
        cv2.fillPoly(own, [np.rint(points).astype(np.int32)], 1)
        mask |= own
    return mask > 0


def flat_polygon(values: Sequence[float], source: str) -> Polygon:
    """x, y, x, y, ... as points. Raises RobinError ANNOTATION_INVALID."""
    if len(values) % 2:
        raise invalid(source, f"an outline of {len(values)} numbers, an even count is needed")
    return list(zip(values[0::2], values[1::2], strict=True))


def picture_file(folder: Path, name: str, source: str) -> Path:
    """The picture that a file in ``folder`` calls ``name``: there, or in its ``images`` folder, also by its last part.

    Raises RobinError ANNOTATION_INVALID where there is none, and for a name that leads out of the folder.
    """
    last = Path(name.replace("\\", "/")).name
    for candidate in (folder / name, folder / "images" / name, folder / last, folder / "images" / last):
        try:
            if candidate.is_file() and candidate.resolve().is_relative_to(folder.resolve()):
                return candidate
        except (OSError, ValueError):
            continue
    raise invalid(source, f"no picture '{name}' in {folder}")
