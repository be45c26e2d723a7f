"""Settings of the monitors: what each cause tolerates, and what it does to picking."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_validator

from robin_perception.core.condition import PickingEffect
from robin_perception.core.config import StrictConfig

Effect = Literal["go_on", "look_again", "slow_down", "stop"]


class CauseConfig(StrictConfig):
    """One cause. Units of what is tolerated are those of the cause (docs/monitors.md)."""

    tolerated: float = Field(
        gt=0, le=1000, description="A deviation from the usual that is none of anybody's business, in the cause's unit."
    )
    effect: Effect = Field(description="What an alarm does to picking.")
    stop_beyond: float | None = Field(
        None, gt=0, le=1000, description="A deviation beyond which picking stops, in the cause's unit; unset = never."
    )

    def effect_of(self, deviation: float) -> PickingEffect:
        """deviation: from the usual, as it stands."""
        stops = self.stop_beyond is not None and deviation > self.stop_beyond
        return PickingEffect.STOP if stops else PickingEffect(self.effect)


def _cause(tolerated: float, effect: Effect, stop_beyond: float | None = None) -> CauseConfig:
    return CauseConfig(tolerated=tolerated, effect=effect, stop_beyond=stop_beyond)


class MonitorsConfig(StrictConfig):
    """The environment monitors of one camera."""

    enabled: bool = Field(True, description="Watch light, lens, depth and the camera's place.")
    baseline: Path | None = Field(
        None, description="What is usual at this station (`robin station baseline`); empty = stated defaults."
    )
    false_alarm_frames: float = Field(
        50_000.0,
        ge=100,
        le=1e9,
        description="Frames between two false alarms of one cause at a healthy station, on average.",
    )
    frames_per_scene: int = Field(
        10, ge=1, le=1000, description="Frames that see the same goods; what these do to a statistic lasts as long."
    )
    least_frames: int = Field(3, ge=2, le=100, description="No alarm comes before so many frames of it.")
    frozen_after: int = Field(
        1,
        ge=0,
        le=10_000,
        description="So many pictures in a row that equal the one before to the bit make a frame of a frozen camera; "
        "0 = never.",
    )
    dark: CauseConfig = _cause(0.9, "slow_down")
    over_exposed: CauseConfig = _cause(0.8, "slow_down")
    blur: CauseConfig = _cause(0.3, "look_again")
    dirty_lens: CauseConfig = _cause(0.008, "go_on")
    depth_holes: CauseConfig = _cause(0.08, "look_again")
    camera_moved: CauseConfig = _cause(6.0, "slow_down", 15.0)
    colour_depth_apart: CauseConfig = _cause(2.5, "slow_down", 6.0)
    depth_unit: CauseConfig = _cause(1.0, "stop")
    frozen: CauseConfig = _cause(0.5, "stop")

    @model_validator(mode="before")
    @classmethod
    def _the_rest_stays(cls, values: Any) -> Any:
        """What is not said of a cause stays as it is by default."""
        if not isinstance(values, dict):
            return values
        usual = {name: field.default for name, field in cls.model_fields.items()}
        return {
            name: {**usual[name].model_dump(), **given}
            if isinstance(usual.get(name), CauseConfig) and isinstance(given, dict)
            else given
            for name, given in values.items()
        }
