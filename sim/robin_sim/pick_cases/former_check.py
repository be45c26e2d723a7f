"""The judge of picks by hand-set thresholds, to compare with: vacuum and weight after the lift, and what sank in the
frames before and after. Nothing but the evaluation of the pick check uses it."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from robin_grasp.picks.outcome import PickOutcome, PickResult
from robin_grasp.plan import Grasp
from robin_grasp.tool import GRAVITY_MPS2, CellConfig, mask_to_cups
from robin_perception.core.config import StrictConfig
from robin_perception.core.frame import Frame
from robin_perception.core.scene import Scene


class FormerConfig(StrictConfig):
    """Thresholds of the judgement."""

    held_pressure_share: float = Field(0.10, ge=0, le=1, description="of the pump's vacuum: the cup holds something")
    least_weight_n: float = Field(0.25, ge=0, le=10, description="Less lifted weight is nothing, N.")
    change_m: float = Field(0.010, gt=0, le=0.2, description="depth change that is no noise, beyond noise_share * Z^2")
    noise_share_pm: float = Field(0.012, ge=0, le=0.1, description="depth change explained by noise, per Z^2")
    gone_share: float = Field(0.5, ge=0, le=1, description="of the target's mask must have sunk")
    colour_change: float = Field(
        24.0, gt=0, le=255, description="mean change of the three channels, of 255, that is neither noise nor shadow"
    )
    neighbour_gone_share: float = Field(0.6, ge=0, le=1, description="of another mask that sank as a whole")
    heavy_factor: float = Field(
        3.0, ge=1, le=20, description="weight over the expected weight that suggests two parcels"
    )
    neighbour_weight_factor: float = Field(
        2.0,
        ge=1,
        le=20,
        description="weight over the expected weight from which a neighbour that sank was lifted; else it settled",
    )


def sunk(before: Frame, after: Frame, config: FormerConfig) -> NDArray[np.float32]:
    """float32 [H, W]: 1 where the surface sank beyond noise, 0 where it did not, NaN where either frame has no
    depth."""
    z0, z1 = before.depth, after.depth
    limit = config.change_m + config.noise_share_pm * np.maximum(z0, z1) ** 2
    result = (z1 - z0 > limit).astype(np.float32)
    result[(z0 <= 0) | (z1 <= 0)] = np.nan
    return result


def judged_formerly(
    grasp: Grasp, scene: Scene, before: Frame, after: Frame, outcome: PickOutcome, cell: CellConfig
) -> tuple[PickResult, float]:
    """The result, and a rough degree of belief in it."""
    config = FormerConfig()
    held = [
        c for c in mask_to_cups(grasp.cups) if outcome.vacuum_pa[c] > config.held_pressure_share * cell.tool.vacuum_pa
    ]
    lifted = bool(held) and outcome.lifted_weight_n > config.least_weight_n
    gone, others = _what_sank(grasp, scene, before, after, config)
    changed = None if gone is None else _changed(grasp, scene, before, after, config)
    expected = grasp.terms.get("mass_kg", 0.0) * GRAVITY_MPS2
    load = outcome.lifted_weight_n / expected if expected > 0 else math.inf
    heavy = expected > 0 and load > config.heavy_factor
    both = bool(others) and load > config.neighbour_weight_factor
    return _verdict(lifted, gone, changed, both, heavy or bool(others), config)


def _verdict(
    lifted: bool,
    gone: float | None,
    changed: float | None,
    neighbours_lifted: bool,
    doubtful: bool,
    config: FormerConfig,
) -> tuple[PickResult, float]:
    """doubtful: heavier than expected, or neighbours sank: neither alone means that they were lifted, for masses are
    guessed and what leaned on the target settles."""
    if not lifted:
        if gone is not None and gone > config.gone_share:
            return PickResult.DROP, 0.6
        return PickResult.MISS, 0.95 if gone is not None and gone < 0.2 else 0.8
    if neighbours_lifted:
        return PickResult.MULTI, 0.65
    if gone is None or changed is None:
        return (PickResult.MULTI, 0.5) if doubtful else (PickResult.CLEAN, 0.8)
    if max(gone, changed) >= config.gone_share:  # a flat mailer is thinner than what depth can tell: its colour goes
        return PickResult.CLEAN, 0.7 if doubtful else 0.95
    return PickResult.WRONG, 0.5


def _changed(grasp: Grasp, scene: Scene, before: Frame, after: Frame, config: FormerConfig) -> float:
    """Share of the target's mask that sank or shows another colour."""
    target = next(i for i in scene.instances if i.id == grasp.instance_id)
    x0, y0, x1, y1 = target.bbox
    window = np.s_[y0:y1, x0:x1]
    apart = np.abs(after.rgb[window].astype(np.int16) - before.rgb[window]).mean(axis=2) > config.colour_change
    return float((apart | (sunk(before, after, config)[window] == 1))[scene.crop(target)].mean())


def _what_sank(
    grasp: Grasp, scene: Scene, before: Frame, after: Frame, config: FormerConfig
) -> tuple[float | None, tuple[int, ...]]:
    """Share of the target's mask that sank, None when unknown, and ids of other masks that sank as a whole."""
    change = sunk(before, after, config)
    target: float | None = None
    others = []
    for instance in scene.instances:
        x0, y0, x1, y1 = instance.bbox
        seen = change[y0:y1, x0:x1][scene.crop(instance)]
        seen = seen[~np.isnan(seen)]
        if len(seen) < 20:
            continue
        share = float(seen.mean())
        if instance.id == grasp.instance_id:
            target = share
        elif share > config.neighbour_gone_share:
            others.append(instance.id)
    return target, tuple(others)
