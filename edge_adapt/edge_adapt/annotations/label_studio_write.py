"""Label Studio's JSON, written: tasks whose masks are filled in as predictions, for a person to correct.

The packing of brush strokes is the one that ``label_studio`` reads, as their own converter has it.
"""

from __future__ import annotations

from typing import Any
from xml.sax.saxutils import quoteattr

import numpy as np
from numpy.typing import NDArray

from edge_adapt.annotations.picture import Mask

FROM, TO = "parcels", "picture"
_CHANNELS, _BITS = 4, 8
_SIZES = (3, 4, 8, 16)  # bits of a run's length
_LONGEST = 1 << _SIZES[-1]


def task(
    image: str, size: tuple[int, int], regions: list[dict[str, Any]], model: str, data: dict[str, Any]
) -> dict[str, Any]:
    """image: its address for Label Studio. size: (width, height). regions: of ``region``. data: more of the task."""
    scores = [one["score"] for one in regions]
    prediction = {"model_version": model, "score": float(np.mean(scores)) if scores else 0.0, "result": regions}
    return {"data": {"image": image, **data}, "predictions": [prediction], "annotations": []}


def region(key: str, name: str, mask: Mask, score: float, meta: dict[str, Any]) -> dict[str, Any]:
    """One parcel as brush strokes. meta: kept with the region."""
    height, width = mask.shape
    value = {"format": "rle", "rle": packed(mask), "brushlabels": [name]}
    where = {"from_name": FROM, "to_name": TO, "type": "brushlabels", "image_rotation": 0}
    return {
        "id": key,
        **where,
        "original_width": width,
        "original_height": height,
        "value": value,
        "score": score,
        "meta": meta,
    }


def labelling_config(names: list[str]) -> str:
    """The project's set-up, XML."""
    labels = "".join(f"<Label value={quoteattr(name)}/>" for name in names)
    brush = f'<BrushLabels name="{FROM}" toName="{TO}">{labels}</BrushLabels>'
    return f'<View><Image name="{TO}" value="$image" zoom="true"/>{brush}</View>\n'


def packed(mask: Mask) -> list[int]:
    """Run lengths of a picture of four channels, bool [H, W] as 0 and 255 in each: one byte a number."""
    flat = mask.ravel()
    edges = np.flatnonzero(np.diff(flat)) + 1
    starts = np.concatenate(([0], edges))
    lengths = _CHANNELS * np.diff(np.append(starts, flat.size))
    bits = [_bits(_CHANNELS * flat.size, 32), _bits(_BITS - 1, 5), *(_bits(size - 1, 4) for size in _SIZES)]
    for on, length in zip(flat[starts].tolist(), lengths.tolist(), strict=True):
        while length > 0:
            run = min(length, _LONGEST)
            at = next(n for n, size in enumerate(_SIZES) if run <= 1 << size)
            bits += [_bits(1, 1), _bits(at, 2), _bits(run - 1, _SIZES[at]), _bits(255 * on, _BITS)]
            length -= run
    found: list[int] = np.packbits(np.concatenate(bits)).tolist()
    return found


def _bits(number: int, count: int) -> NDArray[np.uint8]:
    """The highest first."""
    return np.array([number >> place & 1 for place in range(count - 1, -1, -1)], dtype=np.uint8)
