"""Pixel by pixel: is what was seen before a pick gone in the frame after?

Log odds from depth that fell, colour that changed and texture that is lost. Each is measured against the noise of the
same two frames, taken from pixels where nothing is thought to happen. Colour counts by what light cannot change: its
direction in RGB, less its length, so that a shadow that comes or goes is not a parcel. Exposure and white balance are
aligned first, by the median gain of each channel.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from robin_perception.core.frame import Frame

Floats = NDArray[np.float32]
Mask = NDArray[np.bool_]

REACH_M = 0.3  # falls and rises are taken to be as likely up to here
LEAST_DEPTH_NOISE = 0.0008  # of the filtered fall, per m of distance squared, 1/m
LEAST_COLOUR_NOISE = 1.0  # of 255
DEPTH_LIMIT, COLOUR_LIMIT, LIGHT_LIMIT, TEXTURE_LIMIT = 4.0, 3.0, 0.6, 1.5  # log odds that each can give
SHADOW = 0.25  # relative change of brightness that a shadow makes at ease
WINDOW_PX = 7
CONTRAST = 3.0  # standard deviation in the window, of 255, from which texture tells something


def gone_evidence(before: Frame, after: Frame, quiet: Mask, core: Mask | None = None) -> Floats:
    """Log odds, float32 [H, W], that what ``before`` shows at a pixel is gone in ``after``; 0 where nothing is known.

    quiet: where nothing is thought to change, bool [H, W]. core: pixels of what was picked, whose median fall then says
    how thick it is; None: anything is as likely.
    """
    depth = depth_evidence(before.depth, after.depth, quiet, core)
    seen, now = _smooth(before), _smooth(after)
    now *= _gains(seen, now, quiet)
    odds = depth + colour_evidence(seen, now, quiet) + texture_evidence(seen, now)
    return np.asarray(cv2.GaussianBlur(odds, (0, 0), 1.0), dtype=np.float32)


def depth_evidence(z0: Floats, z1: Floats, quiet: Mask, core: Mask | None) -> Floats:
    """From depth before and after, m; 0 where either is missing. Kept: normal noise with a share of outliers. Gone: any
    fall up to REACH_M, or one like that of ``core``."""
    known = (z0 > 0) & (z1 > 0)
    fall = cv2.medianBlur(np.where(known, z1 - z0, 0).astype(np.float32), 5)
    scale = np.maximum(z0, z1) ** 2
    per_m2 = max(_spread(fall[quiet & known] / scale[quiet & known]), LEAST_DEPTH_NOISE)
    sigma = per_m2 * np.where(known, scale, 1.0)
    u, reach = fall / sigma, REACH_M / sigma
    kept = 0.97 * _normal(u) + 0.03 / (2 * reach)
    gone = 0.9 * ndtr(u) / reach + 0.1 / (2 * reach)
    if core is not None and (core & known).any():
        usual = max(float(np.quantile(u[core & known], 0.75)), 0.0)
        width = 1 + usual / 2
        gone = (gone + _normal((u - usual) / width) / width) / 2
    odds = np.clip(np.log(gone / kept), -DEPTH_LIMIT, DEPTH_LIMIT)
    return np.where(known, odds, 0).astype(np.float32)


def colour_evidence(seen: Floats, now: Floats, quiet: Mask) -> Floats:
    """From aligned smooth colours before and after, float32 [H, W, 3] of 255."""
    change = now - seen
    length2 = np.maximum((seen * seen).sum(axis=2), 100.0)
    lighter = (change * seen).sum(axis=2) / length2
    hue = np.linalg.norm(change - lighter[..., None] * seen, axis=2)
    sigma = max(float(np.median(hue[quiet])) / 1.18 if quiet.any() else 0.0, LEAST_COLOUR_NOISE)  # Rayleigh
    from_hue = np.clip(0.4 * (hue / sigma) ** 2 - 1.2, -1.0, COLOUR_LIMIT)
    from_light = np.clip((lighter / SHADOW) ** 2 - 0.3, -0.3, LIGHT_LIMIT)
    return np.asarray(from_hue + from_light, dtype=np.float32)


def texture_evidence(seen: Floats, now: Floats) -> Floats:
    """Normalised correlation of brightness in a small window, which neither gain nor offset changes."""
    a, b = seen.mean(axis=2), now.mean(axis=2)

    def mean(values: Floats) -> Floats:
        return np.asarray(cv2.boxFilter(values, -1, (WINDOW_PX, WINDOW_PX)))

    spread_a, spread_b = mean(a * a) - mean(a) ** 2, mean(b * b) - mean(b) ** 2
    both = np.sqrt(np.maximum(spread_a, 0.1) * np.maximum(spread_b, 0.1))
    alike = np.clip((mean(a * b) - mean(a) * mean(b)) / both, -1, 1)
    tells = np.clip(np.maximum(spread_a, spread_b) / CONTRAST**2 - 1, 0, 1)
    return np.asarray(tells * np.clip(3.0 * (0.7 - alike), -TEXTURE_LIMIT, TEXTURE_LIMIT), dtype=np.float32)


def _smooth(frame: Frame) -> Floats:
    return np.asarray(cv2.GaussianBlur(frame.rgb.astype(np.float32), (0, 0), 1.0), dtype=np.float32)


def _gains(seen: Floats, now: Floats, quiet: Mask) -> Floats:
    """Median ratio of each channel over quiet pixels that are neither dark nor burnt out."""
    fit = quiet & (seen.min(axis=2) > 20) & (seen.max(axis=2) < 245) & (now.min(axis=2) > 10) & (now.max(axis=2) < 245)
    if fit.sum() < 100:
        return np.ones(3, dtype=np.float32)
    return np.asarray(np.median(seen[fit] / now[fit], axis=0), dtype=np.float32)


def _spread(values: Floats) -> float:
    """Standard deviation from the median absolute value; 0 of nothing."""
    return 1.4826 * float(np.median(np.abs(values))) if values.size else 0.0


def _normal(u: NDArray[np.floating]) -> Floats:
    return np.asarray(np.exp(-0.5 * u * u) / np.sqrt(2 * np.pi), dtype=np.float32)
