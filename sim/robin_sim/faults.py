"""Faults of the simulated cell that can be switched on. The planner is never told of any of them."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, field_validator

from robin_grasp.tool import MAX_CUPS, ToolConfig
from robin_perception.core.config import StrictConfig
from robin_perception.core.errors import Code, RobinError

CupIndex = Annotated[int, Field(ge=0, lt=MAX_CUPS)]
Severity = Annotated[float, Field(ge=0.0, le=1.0)]


class CameraShift(StrictConfig):
    """How far the real camera stands from where the cell believes it stands (a bracket that was knocked).

    The image is taken from the shifted pose while ``Frame.T_base_camera`` keeps the calibrated one. Translation,
    metres, and rotation vector, radians, are in the camera's optical frame.
    """

    translation_m: tuple[float, float, float] = (0.0, 0.0, 0.0)
    rotation_rad: tuple[float, float, float] = (0.0, 0.0, 0.0)

    @field_validator("translation_m")
    @classmethod
    def _near(cls, value: tuple[float, float, float]) -> tuple[float, float, float]:
        if any(abs(v) > 0.5 for v in value):
            raise ValueError("each component must lie within ±0.5 m")
        return value

    @field_validator("rotation_rad")
    @classmethod
    def _small(cls, value: tuple[float, float, float]) -> tuple[float, float, float]:
        if any(abs(v) > 0.5 for v in value):
            raise ValueError("each component must lie within ±0.5 rad")
        return value

    @property
    def active(self) -> bool:
        return any(self.translation_m) or any(self.rotation_rad)


class Faults(StrictConfig):
    """What is wrong with the cell. Severities run from 0 (healthy) to 1 (as bad as it gets and still produces images).

    blocked_cups: cups whose line is clogged: the valve opens, the lip never gets a vacuum.
    torn_cups: cups with a torn lip: they leak, so they reach and hold only a small part of the vacuum.
    dark: light failing; 1 leaves a few per cent of the light (dark, noisy colour image, fewer infrared matches).
    blur: defocus or vibration; 1 is a kernel of about 15 pixels at 640 columns.
    dirty_lens: smears and dust on the glass of the colour camera and the left imager; 1 is opaque blotches over a third
        of the image.
    camera_shift: the camera was moved after its calibration.
    depth_holes: share of the depth image lost in extra blobs; 1 loses about 60 % of the pixels.
    unseen_packaging: share of parcels drawn from packaging that base training never shows (ParcelMix's unseen flag).
    over_exposed: too much light for the exposure; 1 is eight times as much.
    dead_projector: the infrared pattern fades; at 1 depth comes only from what the goods and the belt themselves show.
    colour_depth_apart: depth is registered beside the colour; 1 is 24 pixels at 640 columns, down and to the right.
    depth_unit: the depth that is reported over the true one: 1 healthy, 0.1 or 10 for a wrong ``depth_scale``.
    frozen: the camera sends its first picture for ever.
    """

    blocked_cups: tuple[CupIndex, ...] = ()
    torn_cups: tuple[CupIndex, ...] = ()
    dark: Severity = 0.0
    blur: Severity = 0.0
    dirty_lens: Severity = 0.0
    camera_shift: CameraShift = CameraShift()
    depth_holes: Severity = 0.0
    unseen_packaging: Severity = 0.0
    over_exposed: Severity = 0.0
    dead_projector: Severity = 0.0
    colour_depth_apart: Severity = 0.0
    depth_unit: float = Field(1.0, ge=0.01, le=100)
    frozen: bool = False

    def require_cups(self, tool: ToolConfig) -> None:
        """Raises RobinError CONFIG_OUT_OF_RANGE where a fault names a cup that the tool lacks."""
        for name in ("blocked_cups", "torn_cups"):
            for cup in getattr(self, name):
                if cup >= tool.cup_count:
                    text = f"faults.{name} names cup {cup}, the cell's tool has cups 0 to {tool.cup_count - 1}"
                    raise RobinError(Code.CONFIG_OUT_OF_RANGE, text)

    @property
    def active(self) -> tuple[str, ...]:
        """Names of the faults that are switched on, in field order."""
        names = []
        for name in type(self).model_fields:
            value = getattr(self, name)
            if value.active if isinstance(value, CameraShift) else value != type(self).model_fields[name].default:
                names.append(name)
        return tuple(names)


NO_FAULTS = Faults()
