"""Masks as run lengths, the way COCO writes them: column by column, counts of off and on in turn, as short text."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from robin_perception.core.errors import Code, RobinError

_MOST_GROUPS = 7  # of five bits: more than any count of a picture needs
_FIRST = 48  # "0"


def encode_labels(labels: NDArray[np.uint16]) -> dict[int, str]:
    """Instance id -> counts, of every id but 0 in ``labels`` uint16 [H, W]."""
    flat = np.ascontiguousarray(labels.T).ravel()
    starts = np.concatenate(([0], np.flatnonzero(flat[1:] != flat[:-1]) + 1))
    ends = np.append(starts[1:], flat.size)
    values = flat[starts]
    masks = {}
    for label in np.unique(values[values > 0]):
        own = values == label
        edges = np.stack([starts[own], ends[own]], axis=1).ravel()
        counts = np.diff(edges, prepend=0)
        rest = flat.size - edges[-1]
        masks[int(label)] = _text(np.append(counts, rest) if rest else counts)
    return masks


def decode_labels(height: int, width: int, masks: Mapping[int, str]) -> NDArray[np.uint16]:
    """uint16 [H, W]. Raises RobinError RECORD_INVALID for counts that are none of such a picture."""
    from robin_perception.core.bounded_arrays import MOST_PIXELS

    if height < 1 or width < 1 or height * width > MOST_PIXELS:
        raise RobinError(Code.RECORD_INVALID, f"masks of {width}x{height} pixels, {MOST_PIXELS:,} in all are allowed")
    flat = np.zeros(height * width, dtype=np.uint16)
    painted = 0
    for label, text in masks.items():
        edges = np.cumsum(_counts(text, label))
        if not len(edges) or edges[-1] > flat.size or (np.diff(edges, prepend=0) < 0).any():
            raise RobinError(Code.RECORD_INVALID, f"mask {label}: its runs do not fit {width}x{height} pixels")
        painted += int(np.diff(edges)[::2].sum())
        if painted > flat.size:  # no pixel is of two parcels
            raise RobinError(Code.RECORD_INVALID, f"mask {label}: more pixels than the picture has, with those before")
        for start, end in zip(edges[0::2], edges[1::2], strict=False):
            flat[start:end] = label
    return np.ascontiguousarray(flat.reshape(width, height).T)


def _text(counts: NDArray[np.int64]) -> str:
    """COCO's: from the fourth on, each count less the one before the last; five bits a letter, sign in the last."""
    left = counts.astype(np.int64)
    left[3:] = counts[3:] - counts[1:-2]
    letters = np.zeros((len(counts), _MOST_GROUPS), dtype=np.uint8)
    used = np.zeros(letters.shape, dtype=bool)
    going = np.ones(len(counts), dtype=bool)
    for group in range(_MOST_GROUPS):
        bits = left & 0x1F
        left = left >> 5
        more = np.where(bits & 0x10, left != -1, left != 0)
        letters[:, group] = _FIRST + (bits | (more << 5))
        used[:, group] = going
        going = going & more
    return letters[used].tobytes().decode("ascii")


def _counts(text: str, label: int) -> NDArray[np.int64]:
    letters = np.frombuffer(text.encode("latin-1", errors="replace"), dtype=np.uint8).astype(np.int64) - _FIRST
    last = np.flatnonzero((letters & 0x20) == 0)
    lengths = np.diff(last, prepend=-1)
    if not len(last) or last[-1] != len(letters) - 1 or letters.min() < 0 or letters.max() > 63:
        raise RobinError(Code.RECORD_INVALID, f"mask {label}: no run lengths")
    if lengths.max() > _MOST_GROUPS:
        raise RobinError(Code.RECORD_INVALID, f"mask {label}: a run of more bits than a picture has pixels")
    place = np.arange(len(letters)) - np.repeat(last - lengths + 1, lengths)
    values = np.add.reduceat((letters & 0x1F) << (5 * place), last - lengths + 1)
    counts = np.where(letters[last] & 0x10, values - (1 << (5 * lengths)), values)
    counts[1::2] = np.cumsum(counts[1::2])
    counts[2::2] = np.cumsum(counts[2::2])
    return counts
