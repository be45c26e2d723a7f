"""The one table of budgets, budgets.yaml, that every part of `robin bench` reads."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from pydantic import model_validator

from robin_perception.core.config import StrictConfig, load_config
from robin_perception.core.errors import Code, RobinError

BUDGETS_FILE = Path(__file__).with_name("budgets.yaml")


class Budget(StrictConfig):
    """What a figure may be: exactly one of the two limits."""

    at_most: float | None = None
    at_least: float | None = None

    @model_validator(mode="after")
    def _one_limit(self) -> Budget:
        if (self.at_most is None) == (self.at_least is None):
            raise ValueError("needs at_most or at_least, and not both")
        return self

    @property
    def limit(self) -> float:
        limit = self.at_most if self.at_most is not None else self.at_least
        assert limit is not None
        return limit

    def met_by(self, value: float) -> bool:
        """Whether ``value`` keeps the budget. NaN, which is what was not measured, keeps none."""
        return bool(value <= self.limit if self.at_most is not None else value >= self.limit)

    def __str__(self) -> str:
        return f"≤ {self.at_most:g}" if self.at_most is not None else f"≥ {self.at_least:g}"


class Budgets(StrictConfig):
    """The file: part -> figure -> budget."""

    pipeline: dict[str, Budget]
    engine: dict[str, Budget]
    supervision: dict[str, Budget]
    ros: dict[str, Budget]
    store: dict[str, Budget]
    learning: dict[str, Budget]
    fleet: dict[str, Budget]
    uplink: dict[str, Budget]
    view: dict[str, Budget]


@cache
def budgets() -> Budgets:
    """Raises RobinError CONFIG_* naming the key at fault."""
    return load_config(Budgets, BUDGETS_FILE)


def budget(key: str) -> Budget:
    """The budget under ``part.figure``. Raises RobinError CONFIG_UNKNOWN_KEY."""
    part, _, figure = key.partition(".")
    table: dict[str, Budget] = getattr(budgets(), part, {})
    if figure not in table:
        raise RobinError(Code.CONFIG_UNKNOWN_KEY, f"{BUDGETS_FILE}: no budget '{key}'")
    return table[figure]
