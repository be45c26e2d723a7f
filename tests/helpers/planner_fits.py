"""Planner configurations for tests: the shipped ones with some figures of the fit replaced."""

from __future__ import annotations

from typing import Any

from robin_grasp.planner.config import PlannerConfig


def with_fit(config: PlannerConfig | None = None, **sections: dict[str, float]) -> PlannerConfig:
    """``with_fit(rank={"odds_power": 0.1})``."""
    config = config or PlannerConfig()
    changed: dict[str, Any] = {
        name: getattr(config.fit, name).model_copy(update=values) for name, values in sections.items()
    }
    return config.model_copy(update={"fit": config.fit.model_copy(update=changed)})


def with_all_classes(config: PlannerConfig | None = None, **figures: float) -> PlannerConfig:
    """The same figures for every class: ``with_all_classes(density_kgpm3=4000.0)``."""
    config = config or PlannerConfig()
    classes = {name: kind.model_copy(update=figures) for name, kind in config.fit.classes.items()}
    return config.model_copy(update={"fit": config.fit.model_copy(update={"classes": classes})})
