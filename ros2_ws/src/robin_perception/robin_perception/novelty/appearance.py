"""What a parcel's skin looks like, as histograms of its pixels: lightness, colour, detail at three scales, depth.

The network's own features say what shape a thing has and nearly nothing of its skin: it was taught to see a carton in
every print and light. So looks are measured in the picture, at the network's size, whatever the camera's.
"""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from robin_perception.core.scene import Scene
from robin_perception.segmentation.view import View

Bytes = NDArray[np.uint8]
Floats = NDArray[np.float32]

_STEP = 2  # every second pixel of every second row is counted
_SCALES = 3
_LIGHT, _COLOUR, _DETAIL, _EDGE, _SPOT, _TINT, _RELIEF = 16, 64, 8, 10, 10, 8, 10
_BINS = (_LIGHT, _COLOUR, *((_DETAIL, _DETAIL, _EDGE) * _SCALES), _SPOT, _SPOT, _TINT, _RELIEF)
_WHITE_AT = 12.0 / _LIGHT  # the frame's bright level stands at this share of the lightness axis
_BRIGHT_SHARE = 0.95
_DARKEST_WHITE = 20.0
_NO_DEPTH = _RELIEF - 1  # the last bin of relief holds pixels that have no depth
SIZE = sum(_BINS)
"""Length of an appearance: ``SIZE`` shares, those of each histogram adding up to 1."""


def appearance(maps: Bytes, view: View, scene: Scene) -> Floats:
    """Square roots of the histograms' shares (Hellinger's embedding), float32 [instances, SIZE], in the order of
    ``scene.instances``. Instances without a counted pixel give zeros. maps: ``skin_maps`` of the same view."""
    labels = _labels(view, scene.labels).ravel()
    at = np.flatnonzero(labels)
    index = maps.take(at, axis=1) + labels[at].astype(np.intp) * SIZE
    counts = np.bincount(index.ravel(), minlength=(len(scene.instances) + 1) * SIZE)
    counts = counts.reshape(-1, SIZE)[[instance.id for instance in scene.instances]]
    total = np.maximum(counts[:, :_LIGHT].sum(axis=1, keepdims=True), 1)
    return np.sqrt(counts / total).astype(np.float32)


def skin_maps(view: View) -> Bytes:
    """For each histogram the bin of every counted pixel, uint8 [histograms, pixels], numbered through from 0 to SIZE.

    It needs no masks, so it can be made while the network runs.
    """
    maps = np.stack(_maps(view.images["rgb"], view.images["depth"]))
    maps += np.cumsum((0, *_BINS[:-1])).astype(np.uint8)[:, None, None]
    return maps.reshape(len(_BINS), -1)


def _labels(view: View, labels: NDArray[np.uint16]) -> NDArray[np.uint16]:
    """Ids under the counted pixels of the network's image, 0 on outlines, where two skins mix."""
    width, height = view.box.network_size
    columns = np.arange(0, width, _STEP, dtype=np.float64)
    rows = np.arange(0, height, _STEP, dtype=np.float64)
    x = np.rint(view.box.to_frame(np.stack([columns, np.zeros_like(columns)], axis=1))[:, 0]).astype(np.intp)
    y = np.rint(view.box.to_frame(np.stack([np.zeros_like(rows), rows], axis=1))[:, 1]).astype(np.intp)
    (h, w) = labels.shape
    small = labels[np.clip(y, 0, h - 1)[:, None], np.clip(x, 0, w - 1)]
    small[(y < 0) | (y >= h)] = 0
    small[:, (x < 0) | (x >= w)] = 0
    kernel = np.ones((3, 3), dtype=np.uint8)
    small[cv2.morphologyEx(small, cv2.MORPH_GRADIENT, kernel) > 0] = 0
    return small


def _maps(rgb: Bytes, depth: Floats) -> list[Bytes]:
    """Bins, uint8 [h, w] each, in the order of ``_BINS``."""
    light, red, yellow = (np.asarray(c, dtype=np.uint8) for c in cv2.split(cv2.cvtColor(rgb, cv2.COLOR_RGB2LAB)))
    red, yellow = np.ascontiguousarray(red[::_STEP, ::_STEP]), np.ascontiguousarray(yellow[::_STEP, ::_STEP])
    size = red.shape[1], red.shape[0]
    small = np.ascontiguousarray(light[::_STEP, ::_STEP])
    maps = [_binned(small, _light_bins(small)), _binned(red, _chroma_bins(8)) + _binned(yellow, _chroma_bins(1))]
    level = light
    for _ in range(_SCALES):
        maps += [_sampled(found, size) for found in _details(level)]
        half = level.shape[1] // 2, level.shape[0] // 2
        level = np.asarray(cv2.resize(level, half, interpolation=cv2.INTER_AREA), dtype=np.uint8)
    wide = np.ones((5, 5), dtype=np.uint8)
    for operation in (cv2.MORPH_TOPHAT, cv2.MORPH_BLACKHAT):
        spots = np.asarray(cv2.morphologyEx(light, operation, wide), dtype=np.uint8)
        maps.append(_binned(_sampled(spots, size), _log_bins(_SPOT)))
    tint = np.asarray(cv2.add(_gradient(red), _gradient(yellow)), dtype=np.uint8)
    return [*maps, _binned(tint, _log_bins(_TINT)), _relief(np.ascontiguousarray(depth[::_STEP, ::_STEP]))]


def _details(level: Bytes) -> tuple[Bytes, Bytes, Bytes]:
    """Bins of how much lighter, how much darker than its surroundings a pixel is, and of the step across it."""
    blurred = cv2.blur(level, (3, 3))
    lighter, darker = (np.asarray(cv2.subtract(*pair), dtype=np.uint8) for pair in ((level, blurred), (blurred, level)))
    fine = _log_bins(_DETAIL)
    return _binned(lighter, fine), _binned(darker, fine), _binned(_gradient(level), _log_bins(_EDGE))


def _binned(level: Bytes, table: Bytes) -> Bytes:
    return np.asarray(cv2.LUT(level, table), dtype=np.uint8)


def _gradient(level: Bytes) -> Bytes:
    return np.asarray(cv2.morphologyEx(level, cv2.MORPH_GRADIENT, np.ones((3, 3), dtype=np.uint8)), dtype=np.uint8)


def _sampled(level: Bytes, size: tuple[int, int]) -> Bytes:
    """At the counted pixels: every second one of a full map, repeated ones of a coarse one."""
    if level.shape[1] == size[0]:
        return level
    if level.shape[1] > size[0]:
        return np.ascontiguousarray(level[::_STEP, ::_STEP])
    return np.asarray(cv2.resize(level, size, interpolation=cv2.INTER_NEAREST))


def _relief(depth: Floats) -> Bytes:
    """Bins of the depth's unevenness, by half millimetres on a log scale; the last one is for no depth."""
    valid = (depth > 0).astype(np.uint8)
    uneven = np.abs(cv2.Laplacian(depth, cv2.CV_32F)) * 2000
    bins = _binned(np.minimum(uneven, 255).astype(np.uint8), _log_bins(_RELIEF - 1))
    bins[cv2.erode(valid, np.ones((3, 3), dtype=np.uint8)) == 0] = _NO_DEPTH
    return bins


@lru_cache(maxsize=8)
def _log_bins(bins: int) -> Bytes:
    """Table [256] of bins that are evenly spaced in log(1 + value); the last is open."""
    table = np.log1p(np.arange(256)) * (bins / np.log1p(96.0))
    return np.minimum(table, bins - 1).astype(np.uint8)


@lru_cache(maxsize=2)
def _chroma_bins(stride: int) -> Bytes:
    """Table [256] of eight bins of a colour axis of CIELAB, ten levels each, times ``stride``."""
    table = np.clip((np.arange(256) - 128.0) / 10 + 4, 0, 7.99).astype(np.uint8)
    return np.asarray(table * np.uint8(stride))


def _light_bins(light: Bytes) -> Bytes:
    """Table [256] of bins of lightness against what is bright in this frame: exposure is no property of the goods."""
    counts = np.cumsum(np.bincount(light.ravel(), minlength=256))
    white = max(float(np.searchsorted(counts, _BRIGHT_SHARE * counts[-1])), _DARKEST_WHITE)
    return np.clip(np.arange(256) * (_WHITE_AT * _LIGHT / white), 0, _LIGHT - 1).astype(np.uint8)
