"""Cuts in the process beside the page: the network runs there once a picture, and its view of it is kept a while."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from edge_adapt.store.runs import decode_labels, encode_labels
from robin_perception.core.frame import Frame

if TYPE_CHECKING:
    from robin_view.annotate.hints import Hints

_KEPT = 8
_hints: OrderedDict[tuple[str, Path | None], Hints] = OrderedDict()


class Cut(NamedTuple):
    """What a person asks for. kind: what is done, "look" makes ready for the others; ids: of the masks that it is done
    to; clicks: where; counts: all masks of the picture, by id."""

    kind: Literal["look", "split", "join", "add"]
    ids: tuple[int, ...]
    clicks: tuple[tuple[int, int], ...]
    counts: Mapping[int, str]


class Piece(NamedTuple):
    """A mask that comes of it; class and visible share where the network proposes them."""

    counts: str
    class_name: str = ""
    visible_fraction: float | None = None


def cut(frame: Frame, picture: str, model: Path | None, cell: Path | None, work: Cut) -> list[Piece]:
    """picture: digest of the frame. model: bundle whose view of it helps, None: depth and colour alone. cell: YAML file
    of the cell, None: built in. Raises RobinError RECORD_INVALID for masks that do not fit, MODEL_*, ENGINE_*."""
    from robin_view.annotate.cuts import grow, join, split  # the page itself needs no SciPy

    labels = decode_labels(frame.height, frame.width, work.counts)
    chosen = [np.asarray(labels == number) for number in work.ids]
    free = np.asarray(labels == 0)
    if work.kind == "join":
        return _pieces([join(chosen, free)]) if len(chosen) > 1 else []
    hints = _hints_of(frame, picture, model, cell)
    if work.kind == "split":
        return _pieces(split(hints, chosen[0], work.clicks)) if chosen else []
    if work.kind == "look" or not work.clicks or not free.any():
        return []
    mask, found = grow(hints, free, work.clicks[0])
    pieces = _pieces([mask])
    if found is None:
        return pieces
    return [piece._replace(class_name=found.class_name, visible_fraction=found.visible_fraction) for piece in pieces]


def _pieces(masks: list[NDArray[np.bool_]]) -> list[Piece]:
    return [Piece(encode_labels(mask.astype(np.uint16))[1]) for mask in masks if mask.any()]


def _hints_of(frame: Frame, picture: str, model: Path | None, cell: Path | None) -> Hints:
    key = picture, model
    if key not in _hints:
        _hints[key] = _made(frame, model, cell)
    _hints.move_to_end(key)
    while len(_hints) > _KEPT:
        _hints.popitem(last=False)
    return _hints[key]


def _made(frame: Frame, model: Path | None, cell: Path | None) -> Hints:
    from robin_view.annotate.hints import NetworkHints, PlainHints

    if model is None:
        return PlainHints(frame)
    from robin_view.decision.worker import segmenter_of

    return NetworkHints.of(frame, segmenter_of(model, cell))
