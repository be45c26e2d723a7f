"""COCO instances: one JSON file with ``images``, ``annotations`` and ``categories`` (cocodataset.org/#format-data).

Outlines, run lengths as numbers and run lengths as text are read; ``iscrowd`` masks are ignored pixels. A picture may
name its depth: ``depth_file_name``.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field, ValidationError

from edge_adapt.annotations.picture import (
    AnnotatedPicture,
    ForeignModel,
    Mask,
    Parcel,
    flat_polygon,
    invalid,
    picture_file,
    polygon_mask,
)
from edge_adapt.store.runs import decode_labels
from robin_perception.core.config import first_fault
from robin_perception.core.errors import RobinError


class CocoRuns(ForeignModel):
    size: tuple[int, int]
    counts: str | list[int]


class CocoImage(ForeignModel):
    id: int
    file_name: str
    width: int = Field(gt=0, le=20_000)
    height: int = Field(gt=0, le=20_000)
    depth_file_name: str | None = None


class CocoAnnotation(ForeignModel):
    image_id: int
    category_id: int | None = None
    segmentation: list[list[float]] | CocoRuns
    iscrowd: int = 0


class CocoCategory(ForeignModel):
    id: int
    name: str


class CocoFile(ForeignModel):
    images: list[CocoImage]
    annotations: list[CocoAnnotation]
    categories: tuple[CocoCategory, ...] = ()


def is_coco(values: Any) -> bool:
    return isinstance(values, dict) and "images" in values and "annotations" in values


def read_coco(path: Path, values: Any) -> Iterator[AnnotatedPicture]:
    """Pictures in the file's order; those without an annotation are left out. values: the parsed file. Raises
    RobinError ANNOTATION_INVALID naming file and key."""
    try:
        file = CocoFile.model_validate(values)
    except ValidationError as exc:
        raise invalid(str(path), first_fault(exc)) from None
    names = {category.id: category.name for category in file.categories}
    drawn: dict[int, list[tuple[int, CocoAnnotation]]] = defaultdict(list)
    known = {image.id for image in file.images}
    for number, annotation in enumerate(file.annotations):
        if annotation.image_id not in known:
            raise invalid(f"{path}: annotations.{number}", f"'image_id' {annotation.image_id} is of no image")
        drawn[annotation.image_id].append((number, annotation))
    for number, image in enumerate(file.images):
        if image.id not in drawn:
            continue
        size, source = (image.width, image.height), f"{path}: images.{number}"
        color = picture_file(path.parent, image.file_name, source)
        depth = image.depth_file_name and picture_file(path.parent, image.depth_file_name, source)
        parcels = tuple(
            Parcel(
                "ignore" if one.iscrowd else names.get(one.category_id or -1, ""),
                _mask(one, size, f"{path}: annotations.{at}.segmentation"),
            )
            for at, one in drawn[image.id]
        )
        yield AnnotatedPicture(source, color, depth or None, size, parcels)


def _mask(annotation: CocoAnnotation, size: tuple[int, int], source: str) -> Mask:
    drawn = annotation.segmentation
    if isinstance(drawn, list):
        return polygon_mask([flat_polygon(values, source) for values in drawn], size, source)
    if drawn.size != size[::-1]:
        raise invalid(source, f"'size' {list(drawn.size)} is not the picture's, {list(size[::-1])}")
    if isinstance(drawn.counts, str):
        try:
            return decode_labels(size[1], size[0], {1: drawn.counts}) > 0
        except RobinError as exc:
            raise invalid(source, exc.text) from None
    counts = np.array(drawn.counts, dtype=np.int64)
    if (counts < 0).any() or counts.sum() != size[0] * size[1]:
        raise invalid(source, f"'counts' make {counts.sum()} pixels of {size[0] * size[1]}")
    flat = np.repeat(np.arange(len(counts)) % 2 == 1, counts)
    return np.ascontiguousarray(flat.reshape(size).T)
