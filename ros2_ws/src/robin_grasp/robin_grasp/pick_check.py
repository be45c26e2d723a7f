"""Was it a clean pick? A judgement from what a robot can measure: vacuum, weight, and the frames before and after."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from robin_grasp.outcome import PickOutcome, PickResult
from robin_grasp.plan import Grasp
from robin_grasp.tool import CellConfig, mask_to_cups
from robin_grasp.wrench import GRAVITY_MPS2
from robin_perception.config import StrictConfig
from robin_perception.frame import Frame
from robin_perception.scene import Scene


class PickCheckConfig(StrictConfig):
    """Thresholds of the judgement."""

    held_pressure_share: float = Field(0.10, ge=0, le=1, description="of the pump's vacuum: the cup holds something")
    least_weight_n: float = Field(0.25, ge=0, le=10)
    change_m: float = Field(0.010, gt=0, le=0.2, description="depth change that is no noise, beyond noise_share * Z^2")
    noise_share_pm: float = Field(0.012, ge=0, le=0.1, description="depth change explained by noise, per Z^2")
    gone_share: float = Field(0.5, ge=0, le=1, description="of the target's mask must have sunk")
    neighbour_gone_share: float = Field(0.6, ge=0, le=1, description="of another mask that sank as a whole")
    heavy_factor: float = Field(
        3.0, ge=1, le=20, description="weight over the expected weight that suggests two parcels"
    )


@dataclass(frozen=True)
class PickJudgement:
    """result: the likeliest; probability of it, a rough degree of belief in 0..1, not calibrated. reasons: short
    texts. target_ gone, neighbours_gone: share of the target's mask that sank, and ids of other masks that sank as a
    whole."""

    result: PickResult
    probability: float
    reasons: tuple[str, ...]
    target_gone: float
    neighbours_gone: tuple[int, ...]


def sunk(before: Frame, after: Frame, config: PickCheckConfig) -> NDArray[np.float32]:
    """float32 [H, W]: 1 where the surface sank beyond noise, 0 where it did not, NaN where either frame has no
    depth."""
    z0, z1 = before.depth, after.depth
    limit = config.change_m + config.noise_share_pm * np.maximum(z0, z1) ** 2
    result = (z1 - z0 > limit).astype(np.float32)
    result[(z0 <= 0) | (z1 <= 0)] = np.nan
    return result


def judge_pick(
    grasp: Grasp,
    scene: Scene,
    before: Frame,
    after: Frame | None,
    outcome: PickOutcome,
    cell: CellConfig,
    config: PickCheckConfig | None = None,
) -> PickJudgement:
    """Judge one pick. Uses ``outcome.vacuum_pa`` and ``lifted_weight_n`` only, never its result or truth. ``after``
    is None when no frame could be taken: then the sensors of the tool decide alone."""
    config = config or PickCheckConfig()
    held = [
        c for c in mask_to_cups(grasp.cups) if outcome.vacuum_pa[c] > config.held_pressure_share * cell.tool.vacuum_pa
    ]
    lifted = bool(held) and outcome.lifted_weight_n > config.least_weight_n
    gone, others = _what_sank(grasp, scene, before, after, config)
    expected = grasp.terms.get("mass_kg", 0.0) * GRAVITY_MPS2
    heavy = expected > 0 and outcome.lifted_weight_n > config.heavy_factor * expected
    reasons = [
        f"{len(held)} of {len(mask_to_cups(grasp.cups))} cups hold",
        f"{outcome.lifted_weight_n:.1f} N on the tool",
    ]
    if gone is not None:
        reasons.append(f"{gone:.0%} of the target's mask sank")
    if others:
        reasons.append(f"parcels {', '.join(map(str, others))} are gone too")
    result, probability = _verdict(lifted, gone, bool(others), heavy, config)
    return PickJudgement(result, probability, tuple(reasons), gone if gone is not None else float("nan"), others)


def _verdict(
    lifted: bool, gone: float | None, others: bool, heavy: bool, config: PickCheckConfig
) -> tuple[PickResult, float]:
    if not lifted:
        if gone is not None and gone > config.gone_share:
            return PickResult.DROP, 0.6
        return PickResult.MISS, 0.95 if gone is not None and gone < 0.2 else 0.8
    if others:
        return PickResult.MULTI, 0.8 if heavy else 0.65
    if gone is None:
        return (PickResult.MULTI, 0.5) if heavy else (PickResult.CLEAN, 0.8)
    if gone >= config.gone_share:
        return (PickResult.MULTI, 0.5) if heavy else (PickResult.CLEAN, 0.95)
    return PickResult.WRONG, 0.5


def _what_sank(
    grasp: Grasp, scene: Scene, before: Frame, after: Frame | None, config: PickCheckConfig
) -> tuple[float | None, tuple[int, ...]]:
    """Share of the target's mask that sank, None when unknown, and ids of other masks that sank as a whole."""
    if after is None or after.depth.shape != before.depth.shape:
        return None, ()
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
