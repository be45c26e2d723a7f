"""Planners by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from robin_grasp.holding import Holding
from robin_grasp.plan import Planner
from robin_grasp.planner.config import PlannerConfig
from robin_grasp.tool import CellConfig
from robin_perception.core.errors import Code, RobinError
from robin_perception.core.helper_thread import HelperThread

DEFAULT_PLANNER = "geometric"


@dataclass(frozen=True)
class PlannerParts:
    """What a planner is made of; see ``make_planner``."""

    cell: CellConfig
    config: PlannerConfig
    rng: np.random.Generator | None
    helper: HelperThread
    holding: Holding | None = None


Factory = Callable[[PlannerParts], Planner]

_FACTORIES: dict[str, tuple[str, Factory]] = {}


def register(name: str, description: str) -> Callable[[Factory], Factory]:
    """Decorator: make a planner known under ``name``. Raises ValueError for a name that is taken."""

    def add(factory: Factory) -> Factory:
        if name in _FACTORIES:
            raise ValueError(f"planner {name!r} is registered twice")
        _FACTORIES[name] = (description, factory)
        return factory

    return add


def planner_names() -> dict[str, str]:
    """Name -> one line of description, in order of registration."""
    return {name: description for name, (description, _) in _FACTORIES.items()}


def make_planner(
    name: str,
    cell: CellConfig,
    config: PlannerConfig | None = None,
    rng: np.random.Generator | None = None,
    helper: HelperThread | None = None,
    holding: Holding | None = None,
) -> Planner:
    """Build a planner. rng: for exploring only. helper: the segmenter's (None: one of its own). holding: what was
    learned of holding; baselines know nothing of it. Raises RobinError OPTION_INVALID for an unknown name."""
    if name not in _FACTORIES:
        raise RobinError(Code.OPTION_INVALID, f"unknown planner '{name}'; known: {', '.join(_FACTORIES)}")
    parts = PlannerParts(cell, config or PlannerConfig(), rng, helper or HelperThread(), holding)
    return _FACTORIES[name][1](parts)


@register("geometric", "ours: geometry, wrench and order")
def _geometric(parts: PlannerParts) -> Planner:
    return _suction(parts, parts.config, "geometric")


@register("no_order", "geometric, blind to who rests on whom")
def _no_order(parts: PlannerParts) -> Planner:
    order = parts.config.order.model_copy(update={"enabled": False})
    return _suction(parts, parts.config.model_copy(update={"order": order}), "no_order")


@register("no_wrench", "geometric, any sealed cup counts as holding")
def _no_wrench(parts: PlannerParts) -> Planner:
    wrench = parts.config.wrench.model_copy(update={"enabled": False})
    return _suction(parts, parts.config.model_copy(update={"wrench": wrench}), "no_wrench")


@register("centroid", "baseline: mask centroid, all cups")
def _centroid(parts: PlannerParts) -> Planner:
    from robin_grasp.planner.baselines import CentroidPlanner

    return CentroidPlanner(parts.cell, parts.config, parts.helper)


@register("flattest", "baseline: flattest point by the spread of surface normals, all cups on the mask")
def _flattest(parts: PlannerParts) -> Planner:
    from robin_grasp.planner.baselines import FlattestPlanner

    return FlattestPlanner(parts.cell, parts.config, parts.helper)


@register("single_cup", "baseline: the single cup with the best seal")
def _single_cup(parts: PlannerParts) -> Planner:
    from robin_grasp.planner.baselines import SingleCupPlanner

    return SingleCupPlanner(parts.cell, parts.config, parts.helper)


def _suction(parts: PlannerParts, config: PlannerConfig, name: str) -> Planner:
    from robin_grasp.planner.planner import SuctionPlanner

    return SuctionPlanner(parts.cell, config, name, parts.rng, parts.helper, parts.holding)
