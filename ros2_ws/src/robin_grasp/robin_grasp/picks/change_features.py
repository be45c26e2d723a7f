"""What the frames before and after a pick tell: what sank and what looks different, in the target's mask, in its
neighbours' and outside every mask."""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from robin_grasp.plan import Grasp
from robin_perception.core.frame import Frame
from robin_perception.core.scene import Instance, Scene

CHANGE_M = 0.010  # depth change that is no noise, beyond NOISE_PER_M Z²
NOISE_PER_M = 0.012
COLOUR_CHANGE = 24.0  # mean change of the three channels, of 255, that is neither noise nor shadow
LEAST_PX = 60  # pixels with depth in both frames, below which a mask is not judged
GONE_SHARE = 0.6  # of a mask that changed: as a whole
SAME_POSE_M, SAME_POSE_RAD, SAME_K_PX = 1e-3, 1e-3, 0.5  # within which two frames show the same pixels

CHANGE_FEATURES: dict[str, str] = {
    "target_sunk": "share of the target's mask that sank",
    "target_changed": "share of the target's mask that sank or shows another colour",
    "target_kept": "share of the target's mask where neither depth nor colour changed",
    "target_drop_m": "median fall of the target's mask, m",
    "target_sunk_l": "volume above what is left in the target's mask, litres",
    "sunk_ratio": "ln(volume that is gone from the whole picture / volume expected of the target)",
    "target_blind": "share of the target's mask that had no depth before, as film has",
    "target_regained": "share of the target's mask that had no depth before and has it after",
    "target_colour": "median change of colour in the target's mask, less that outside all masks, of 255",
    "neighbour_sunk": "largest share of another mask that sank",
    "neighbour_changed": "largest share of another mask that sank or shows another colour",
    "neighbours_gone_dm2": "area of other masks that changed as a whole, dm²",
    "neighbours_sunk_l": "volume that is gone from all other masks, litres",
    "touching_sunk": "largest share of a mask that touches the target's that sank",
    "touching_changed": "largest share of a mask that touches the target's that sank or shows another colour",
    "touching_gone_dm2": "area of masks that touch the target's and changed as a whole, dm²",
    "outside_sunk_l": "volume that is gone outside every mask, litres",
    "risen_l": "volume that came elsewhere: a parcel that fell or was pushed, litres",
    "net_sunk_l": "volume that is gone from the whole picture, less what came, litres",
}
NAN = math.nan


@dataclass(frozen=True)
class Change:
    """features: CHANGE_FEATURES. changed_share: by instance id, NaN for a mask that is too small to be judged. gone:
    ids of other masks that changed as a whole."""

    features: dict[str, float]
    changed_share: dict[int, float]
    gone: tuple[int, ...]


def frame_misfit(before: Frame, after: Frame) -> str:
    """Why the two frames cannot be compared pixel by pixel, in one line; empty if they can."""
    if after.camera_id != before.camera_id:
        return f"the frame after the pick is of camera '{after.camera_id}', the one before of '{before.camera_id}'"
    if after.depth.shape != before.depth.shape or after.rgb.shape != before.rgb.shape:
        return (
            f"the frame after the pick is {after.width}x{after.height}, the one before {before.width}x{before.height}"
        )
    if np.abs(after.K - before.K).max() > SAME_K_PX:
        return "the intrinsics of the frames before and after the pick differ"
    apart = np.linalg.inv(before.T_base_camera) @ after.T_base_camera
    angle = math.acos(float(np.clip((np.trace(apart[:3, :3]) - 1) / 2, -1.0, 1.0)))
    moved_m = float(np.linalg.norm(apart[:3, 3]))
    if moved_m > SAME_POSE_M or angle > SAME_POSE_RAD:
        return f"the camera moved by {1e3 * moved_m:.1f} mm and {math.degrees(angle):.2f} degrees in the pick"
    return ""


def change_features(grasp: Grasp, scene: Scene, target: Instance, before: Frame, after: Frame) -> Change:
    """Of two frames that ``frame_misfit`` found comparable."""
    z0, z1 = before.depth, after.depth
    known = (z0 > 0) & (z1 > 0)
    limit = CHANGE_M + NOISE_PER_M * np.maximum(z0, z1) ** 2
    fall = np.where(known, z1 - z0, 0.0)
    sunk, risen = fall > limit, fall < -limit
    red, green, blue = cv2.split(cv2.absdiff(after.rgb, before.rgb))
    colour = red.astype(np.uint16) + green + blue
    apart = colour > 3 * COLOUR_CHANGE
    changed = sunk | apart
    litres = 1e3 * np.abs(fall) * _pixel_m2(before, np.where(known, z0, 1.0))
    size = int(max(scene.labels.max(), max((i.id for i in scene.instances), default=0))) + 1
    flat = scene.labels.ravel()

    def count(where: NDArray[np.bool_]) -> NDArray[np.float64]:
        return np.bincount(scene.labels[where], minlength=size).astype(np.float64)

    def by_mask(values: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(np.bincount(flat, values.ravel(), size), dtype=np.float64)

    pixels, seen = np.bincount(flat, minlength=size), count(known)
    sunk_share = np.where(seen >= LEAST_PX, count(sunk) / np.maximum(seen, 1), NAN)
    changed_share = np.where(pixels >= LEAST_PX, count(changed) / np.maximum(pixels, 1), NAN)
    sunk_l, risen_l = by_mask(litres * sunk), by_mask(litres * risen)
    area_dm2 = by_mask(1e2 * _pixel_m2(before, np.where(z0 > 0, z0, 0.0)))
    others = np.array([i.id for i in scene.instances if i.id != target.id], dtype=np.int64)
    touching = _touching(scene, target, others)
    mine = scene.labels == target.id
    mine_known, blind = mine & known, mine & (z0 <= 0)
    ground = colour[scene.labels == 0]
    gone = others[np.nan_to_num(changed_share[others]) > GONE_SHARE]
    net_l = float(sunk_l.sum() - risen_l.sum())
    expected_l = _expected_l(grasp, area_dm2[target.id])
    features = {
        "target_sunk": float(sunk_share[target.id]),
        "target_changed": float(changed_share[target.id]),
        "target_kept": float((~changed & (np.abs(fall) < limit / 2))[mine_known].mean()) if mine_known.any() else NAN,
        "target_drop_m": float(np.median(fall[mine_known])) if mine_known.any() else NAN,
        "target_sunk_l": float(sunk_l[target.id]),
        "sunk_ratio": math.log(max(net_l, 0.01) / expected_l) if expected_l > 0 else NAN,
        "target_blind": float(np.count_nonzero(blind) / max(pixels[target.id], 1)),
        "target_regained": float(np.count_nonzero(blind & (z1 > 0)) / max(pixels[target.id], 1)),
        "target_colour": _median(colour[mine]) - _median(ground) if len(ground) else NAN,
        "neighbour_sunk": _largest(sunk_share[others]),
        "neighbour_changed": _largest(changed_share[others]),
        "neighbours_gone_dm2": float(area_dm2[gone].sum()),
        "neighbours_sunk_l": float(sunk_l[others].sum()),
        "touching_sunk": _largest(sunk_share[touching]),
        "touching_changed": _largest(changed_share[touching]),
        "touching_gone_dm2": float(area_dm2[np.intersect1d(touching, gone)].sum()),
        "outside_sunk_l": float(sunk_l[0]),
        "risen_l": float(risen_l.sum()),
        "net_sunk_l": net_l,
    }
    shares = {i.id: float(changed_share[i.id]) for i in scene.instances}
    return Change(features, shares, tuple(gone.tolist()))


def _pixel_m2(frame: Frame, z: NDArray[np.floating]) -> NDArray[np.float64]:
    """What a pixel covers at a distance along the optical axis, square to it."""
    return np.asarray(z.astype(np.float64) ** 2 / (frame.K[0, 0] * frame.K[1, 1]))


def _touching(scene: Scene, target: Instance, others: NDArray[np.int64]) -> NDArray[np.int64]:
    """Ids of masks that come within a few pixels of the target's."""
    x0, y0, x1, y1 = target.bbox
    reach = max(3, scene.labels.shape[1] // 100)
    box = np.s_[max(y0 - reach, 0) : y1 + reach, max(x0 - reach, 0) : x1 + reach]
    labels = scene.labels[box]
    near = labels == target.id
    for _ in range(reach):
        grown = near.copy()
        grown[1:] |= near[:-1]
        grown[:-1] |= near[1:]
        grown[:, 1:] |= near[:, :-1]
        grown[:, :-1] |= near[:, 1:]
        near = grown
    return np.intersect1d(np.unique(labels[near]), others).astype(np.int64)


def _median(colour: NDArray[np.uint16]) -> float:
    """Of the mean change of the three channels."""
    return float(np.median(colour)) / 3.0 if len(colour) else 0.0


def _largest(shares: NDArray[np.float64]) -> float:
    """0 where there is no other mask that can be judged."""
    return float(np.nan_to_num(shares).max()) if len(shares) else 0.0


def _expected_l(grasp: Grasp, area_dm2: float) -> float:
    """Mask times the thickness that the planner expects, litres; 0: it told none."""
    return float(area_dm2 * 10.0 * grasp.terms.get("thickness_m", 0.0))
