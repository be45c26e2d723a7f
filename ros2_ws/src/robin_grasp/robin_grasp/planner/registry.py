"""Planners by name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from robin_grasp.plan import Planner
from robin_grasp.planner.config import PlannerConfig
from robin_grasp.tool import CellConfig
from robin_perception.core.errors import Code, RobinError

DEFAULT_PLANNER = "geometric"

Factory = Callable[[CellConfig, PlannerConfig, Path | None, np.random.Generator | None], Planner]

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
    ranker_path: Path | None = None,
    config: PlannerConfig | None = None,
    rng: np.random.Generator | None = None,
) -> Planner:
    """Build a planner. ranker_path: the learned ranker's file (None: the one that is shipped). rng: for exploring only.

    Raises RobinError OPTION_INVALID for an unknown name. A missing or damaged ranker file is not fatal: the planner
    ranks geometrically and says so in its ``flags``.
    """
    if name not in _FACTORIES:
        raise RobinError(Code.OPTION_INVALID, f"unknown planner '{name}'; known: {', '.join(_FACTORIES)}")
    return _FACTORIES[name][1](cell, config or PlannerConfig(), ranker_path, rng)


@register("learned", "ours: geometry, wrench, order, and a ranker learned from outcomes")
def _learned(
    cell: CellConfig, config: PlannerConfig, ranker_path: Path | None, rng: np.random.Generator | None
) -> Planner:
    from robin_grasp.planner.learned_ranker import load_ranker_or_none
    from robin_grasp.planner.planner import SuctionPlanner

    ranker, flags = load_ranker_or_none(ranker_path)
    return SuctionPlanner(cell, config, ranker, "learned", rng, flags)


@register("geometric", "ours without the learned ranker")
def _geometric(
    cell: CellConfig, config: PlannerConfig, ranker_path: Path | None, rng: np.random.Generator | None
) -> Planner:
    from robin_grasp.planner.planner import SuctionPlanner

    return SuctionPlanner(cell, config, None, "geometric", rng)


@register("no_order", "geometric, blind to who rests on whom")
def _no_order(
    cell: CellConfig, config: PlannerConfig, ranker_path: Path | None, rng: np.random.Generator | None
) -> Planner:
    from robin_grasp.planner.planner import SuctionPlanner

    order = config.order.model_copy(update={"enabled": False})
    return SuctionPlanner(cell, config.model_copy(update={"order": order}), None, "no_order", rng)


@register("no_wrench", "geometric, any sealed cup counts as holding")
def _no_wrench(
    cell: CellConfig, config: PlannerConfig, ranker_path: Path | None, rng: np.random.Generator | None
) -> Planner:
    from robin_grasp.planner.planner import SuctionPlanner

    wrench = config.wrench.model_copy(update={"enabled": False})
    return SuctionPlanner(cell, config.model_copy(update={"wrench": wrench}), None, "no_wrench", rng)


@register("centroid", "baseline: mask centroid, all eight cups")
def _centroid(
    cell: CellConfig, config: PlannerConfig, ranker_path: Path | None, rng: np.random.Generator | None
) -> Planner:
    from robin_grasp.planner.baselines import CentroidPlanner

    return CentroidPlanner(cell, config)


@register("flattest", "baseline: flattest point by the spread of surface normals, all cups on the mask")
def _flattest(
    cell: CellConfig, config: PlannerConfig, ranker_path: Path | None, rng: np.random.Generator | None
) -> Planner:
    from robin_grasp.planner.baselines import FlattestPlanner

    return FlattestPlanner(cell, config)


@register("single_cup", "baseline: the single cup with the best seal")
def _single_cup(
    cell: CellConfig, config: PlannerConfig, ranker_path: Path | None, rng: np.random.Generator | None
) -> Planner:
    from robin_grasp.planner.baselines import SingleCupPlanner

    return SingleCupPlanner(cell, config)
