"""LabelMe: one JSON file per picture, beside it (github.com/wkentaro/labelme).

Polygons, rectangles and masks are read; shapes with the same ``group_id`` are one parcel.
"""

from __future__ import annotations

import base64
import binascii
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field, ValidationError

from edge_adapt.annotations.picture import (
    AnnotatedPicture,
    ForeignModel,
    Mask,
    Parcel,
    invalid,
    picture_file,
    polygon_mask,
)
from robin_perception.core.bounded_arrays import decode_image
from robin_perception.core.config import first_fault
from robin_perception.core.errors import RobinError


class LabelMeShape(ForeignModel):
    label: str
    points: list[tuple[float, float]]
    shape_type: str = "polygon"
    group_id: int | None = None
    mask: str | None = None


class LabelMeFile(ForeignModel):
    shapes: list[LabelMeShape]
    imagePath: str
    imageHeight: int = Field(gt=0, le=20_000)
    imageWidth: int = Field(gt=0, le=20_000)


def is_labelme(values: Any) -> bool:
    return isinstance(values, dict) and "shapes" in values


def read_labelme(path: Path, values: Any) -> AnnotatedPicture:
    """values: the parsed file. Raises RobinError ANNOTATION_INVALID naming file and key."""
    try:
        file = LabelMeFile.model_validate(values)
    except ValidationError as exc:
        raise invalid(str(path), first_fault(exc)) from None
    size = (file.imageWidth, file.imageHeight)
    groups: dict[tuple[str, int], Parcel] = {}
    for number, shape in enumerate(file.shapes):
        mask = _mask(shape, size, f"{path}: shapes.{number}")
        key = (shape.label, -1 - number if shape.group_id is None else shape.group_id)
        groups[key] = Parcel(shape.label, mask | groups[key].mask if key in groups else mask)
    color = picture_file(path.parent, file.imagePath, f"{path}: imagePath")
    return AnnotatedPicture(str(path), color, None, size, tuple(groups.values()))


def _mask(shape: LabelMeShape, size: tuple[int, int], source: str) -> Mask:
    if shape.shape_type == "polygon":
        return polygon_mask([shape.points], size, source)
    if shape.shape_type not in ("rectangle", "mask") or len(shape.points) != 2:
        text = f"'shape_type' {shape.shape_type} with {len(shape.points)} points; polygon, rectangle and mask are read"
        raise invalid(source, text)
    (x0, y0), (x1, y1) = shape.points
    if shape.shape_type == "rectangle":
        return polygon_mask([[(x0, y0), (x1, y0), (x1, y1), (x0, y1)]], size, source)
    try:
        image = decode_image(base64.b64decode(shape.mask or "", validate=True), f"{source}.mask")
    except (binascii.Error, RobinError) as exc:
        raise invalid(f"{source}.mask", getattr(exc, "text", str(exc))) from None
    left, top = round(x0), round(y0)
    height, width = image.shape[:2]
    if image.ndim != 2 or not (0 <= left <= size[0] - width and 0 <= top <= size[1] - height):
        raise invalid(f"{source}.mask", f"does not fit the {size[0]}x{size[1]} picture")
    mask = np.zeros(size[::-1], dtype=bool)
    mask[top : top + height, left : left + width] = image > 0
    return mask
