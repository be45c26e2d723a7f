"""Label Studio's JSON export: a list of tasks, polygons in per cent of the picture, brush strokes as packed run lengths
(labelstud.io/guide/export, labelstud.io/tags/brushlabels).

The packing is that of rle-pack on npm, of a picture of four channels: 32 bits number of values, 5 bits their size,
four times 4 bits the sizes of counts, then runs: 1 bit repeated or not, 2 bits which size, count less one, values.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import parse_qs, unquote, urlparse

import numpy as np
from numpy.typing import NDArray
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
from robin_perception.core.config import first_fault
from robin_perception.core.errors import RobinError

_CHANNELS = 4
_UPLOAD_PREFIX = 9  # eight hexadecimal digits and a dash that an upload gets


class StudioValue(ForeignModel):
    points: list[tuple[float, float]] | None = None
    polygonlabels: tuple[str, ...] = ()
    format: str | None = None
    rle: list[Annotated[int, Field(ge=0, le=255)]] | None = None
    brushlabels: tuple[str, ...] = ()


class StudioRegion(ForeignModel):
    type: str
    value: StudioValue
    original_width: int = Field(gt=0, le=20_000)
    original_height: int = Field(gt=0, le=20_000)


class StudioResult(ForeignModel):
    result: list[dict[str, Any]]
    was_cancelled: bool = False


class StudioTask(ForeignModel):
    data: dict[str, Any]
    annotations: list[StudioResult]


def is_label_studio(values: Any) -> bool:
    return isinstance(values, list) and all(isinstance(v, dict) and "data" in v for v in values)


def read_label_studio(path: Path, values: Any) -> Iterator[AnnotatedPicture]:
    """Pictures of the tasks that have an annotation; of several the last one counts. values: the parsed file. Raises
    RobinError ANNOTATION_INVALID naming file and key."""
    for number, task in enumerate(values):
        source = f"{path}: {number}"
        try:
            parsed = StudioTask.model_validate(task)
            done = [one for one in parsed.annotations if not one.was_cancelled]
            regions = [StudioRegion.model_validate(r) for r in (done[-1].result if done else ()) if "value" in r]
        except ValidationError as exc:
            raise invalid(source, first_fault(exc)) from None
        if not regions:
            continue
        sizes = {(region.original_width, region.original_height) for region in regions}
        if len(sizes) > 1:
            raise invalid(source, f"regions of pictures of {len(sizes)} sizes")
        parcels = tuple(_parcel(region, f"{source}.result.{at}") for at, region in enumerate(regions))
        yield AnnotatedPicture(source, _picture(path.parent, parsed, source), None, sizes.pop(), parcels)


def _picture(folder: Path, task: StudioTask, source: str) -> Path:
    """The file behind the task's address: a local file's path, or an upload with or without its prefix."""
    address = next((str(task.data[key]) for key in ("image", "img", "picture") if key in task.data), None)
    if address is None:
        raise invalid(f"{source}.data", "no 'image'")
    parts = urlparse(address)
    local = parse_qs(parts.query).get("d")
    name = local[0] if local else unquote(parts.path).lstrip("/")
    try:
        return picture_file(folder, name, f"{source}.data.image")
    except RobinError:
        return picture_file(folder, Path(name).name[_UPLOAD_PREFIX:] or name, f"{source}.data.image")


def _parcel(region: StudioRegion, source: str) -> Parcel:
    size, value = (region.original_width, region.original_height), region.value
    if region.type == "polygonlabels" and value.points is not None:
        points = [(x * size[0] / 100, y * size[1] / 100) for x, y in value.points]
        return Parcel(next(iter(value.polygonlabels), ""), polygon_mask([points], size, source))
    if region.type == "brushlabels" and value.format == "rle" and value.rle is not None:
        return Parcel(next(iter(value.brushlabels), ""), brush_mask(value.rle, size, f"{source}.value.rle"))
    raise invalid(source, f"'type' {region.type}; polygonlabels and brushlabels (rle) are read")


def brush_mask(packed: list[int], size: tuple[int, int], source: str) -> Mask:
    """bool [H, W]: where the last of four channels is not zero. Raises RobinError ANNOTATION_INVALID."""
    values = _unpacked(_Bits(packed), size[0] * size[1] * _CHANNELS, source)
    return np.ascontiguousarray(values.reshape(size[1], size[0], _CHANNELS)[:, :, -1] > 0)


class _Bits:
    """Numbers of a stream of bits, the highest first."""

    def __init__(self, data: list[int]) -> None:
        self._bits = np.unpackbits(np.array(data, dtype=np.uint8))
        self._at = 0

    def read(self, count: int) -> int:
        """Raises ValueError at the end."""
        end = self._at + count
        if end > len(self._bits):
            raise ValueError("ends in the middle of a run")
        number = int.from_bytes(np.packbits(self._bits[self._at : end]).tobytes(), "big") >> (-count % 8)
        self._at = end
        return number


def _unpacked(bits: _Bits, count: int, source: str) -> NDArray[np.uint8]:
    try:
        found, width = bits.read(32), bits.read(5) + 1
        if found != count or width > 8:
            raise ValueError(f"holds {found} values of {width} bits, {count} of 8 are needed")
        sizes = [bits.read(4) + 1 for _ in range(4)]
        values = np.zeros(count, dtype=np.uint8)
        at = 0
        while at < count:
            repeated = bits.read(1)
            end = at + 1 + bits.read(sizes[bits.read(2)])
            if end > count:
                raise ValueError("a run reaches beyond the picture")
            if repeated:
                values[at:end] = bits.read(width)
            else:
                values[at:end] = [bits.read(width) for _ in range(end - at)]
            at = end
    except ValueError as exc:
        raise invalid(source, str(exc)) from None
    return values
