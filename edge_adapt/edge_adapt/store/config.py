"""Settings of the store."""

from __future__ import annotations

from pydantic import Field, model_validator

from robin_perception.core.config import StrictConfig

BALANCED, FAILURE, NOVELTY, CORE = "balanced", "failure", "novelty", "core"
SHARES = (NOVELTY, FAILURE, CORE, BALANCED)
"""In the order in which samples are offered to the fleet."""


class StoreConfig(StrictConfig):
    """How much is kept, and of what. The shares add up to 1; what one of them does not need, the others use."""

    budget_mb: float = Field(20_000, gt=0, le=1e8, description="All samples together, 1e6 bytes.")
    least_free_mb: float = Field(2_000, ge=0, le=1e8, description="Samples go while the disk has less room, 1e6 bytes.")
    balanced: float = Field(0.4, gt=0, lt=1, description="Share of the budget for whatever was picked cleanly.")
    failure: float = Field(0.3, gt=0, lt=1, description="Share for picks that went wrong, and for no grasp found.")
    novelty: float = Field(0.2, gt=0, lt=1, description="Share for goods that nobody taught.")
    core: float = Field(
        0.1, gt=0, lt=1, description="Share that is never removed; also the odds of a sample to come into it."
    )
    core_per_stratum: int = Field(
        200, ge=0, le=1_000_000, description="Samples of one kind and result in the core, at most."
    )
    block_h: float = Field(24.0, gt=0, le=8760, description="Length of a time block, h: all blocks weigh the same.")
    grace_h: float = Field(
        24.0,
        ge=0,
        le=8760,
        description="So long after the fleet has a sample it is asked again, h; until then it is not safe.",
    )
    station: str = Field("", max_length=128, description="Name of the station in each sample.")

    @model_validator(mode="after")
    def _shares_make_a_whole(self) -> StoreConfig:
        total = self.balanced + self.failure + self.novelty + self.core
        if abs(total - 1.0) > 1e-6:
            raise ValueError(f"balanced, failure, novelty and core add up to {total:g}, not 1")
        return self

    @property
    def budget_bytes(self) -> int:
        return int(self.budget_mb * 1e6)

    def fraction(self, share: str) -> float:
        """Of the budget that ``share`` is meant to have."""
        return {BALANCED: self.balanced, FAILURE: self.failure, NOVELTY: self.novelty, CORE: self.core}[share]
