"""The axes along which scenes of any cell differ, with what each is drawn from."""

from __future__ import annotations

from pydantic import Field, field_validator

from robin_perception.core.config import StrictConfig
from robin_sim.parcels import BASE_TRAINING_MIX, ParcelMix

Range = tuple[float, float]
PLACES = ("belt", "pallet", "shelf", "table", "tote")
LAYOUTS = ("grid", "pile", "standing")
DEPTH_CAMERAS = ("clean", "stereo", "structured_light", "time_of_flight")


class AnyCellConfig(StrictConfig):
    """Shares are of scenes. Lengths are drawn log-uniformly, angles uniformly, weights by name.

    places: where the goods stand. layouts: ``pile`` fell under physics, ``grid`` is flush rows and layers of one or a
    few designs, ``standing`` are single objects upright or flat, some on each other. depth_cameras: see ``depth.py``.
    """

    distance_m: Range = Field((0.35, 2.5), description="camera to the middle of the goods")
    goods_m: Range = Field((0.03, 0.8), description="longest edge of the median of the goods")
    hfov_rad: Range = Field((0.55, 1.60), description="horizontal field of view")
    tilt_rad: Range = Field((0.0, 1.22), description="camera from straight down; shelves have their own")
    goods_share: Range = Field((0.055, 0.5), description="longest edge of the median of the goods over the picture's")
    places: dict[str, float] = Field(
        default_factory=lambda: {"table": 0.36, "tote": 0.22, "belt": 0.16, "pallet": 0.1, "shelf": 0.16}
    )
    layouts: dict[str, float] = Field(default_factory=lambda: {"grid": 0.3, "pile": 0.25, "standing": 0.45})
    depth_cameras: dict[str, float] = Field(
        default_factory=lambda: {"stereo": 0.4, "structured_light": 0.25, "time_of_flight": 0.15, "clean": 0.2}
    )
    things_share: float = Field(0.55, ge=0, le=1, description="scenes with things that are no parcels among the goods")
    clutter_share: float = Field(0.6, ge=0, le=1, description="tables with furniture and boxes on the floor behind")
    reflecting_share: float = Field(0.3, ge=0, le=1, description="places with a floor or wall that mirrors")
    frosted_share: float = Field(0.15, ge=0, le=1, description="bags that let 10 to 40 % of the light through")
    beyond_range_share: float = Field(0.35, ge=0, le=1, description="no depth a little behind the goods")
    cropped_share: float = Field(0.2, ge=0, le=1, description="depth on support and goods only")
    border_share: float = Field(0.3, ge=0, le=1, description="no depth in margins of up to a fifth of the picture")
    patches_share: float = Field(0.35, ge=0, le=1, description="no depth in patches of the background")
    plane_error_share: float = Field(0.5, ge=0, le=1, description="plane told wrong by plane_error_rad, plane_error_m")
    plane_error_rad: float = Field(0.03, ge=0, le=0.2, description="sigma")
    plane_error_m: float = Field(0.012, ge=0, le=0.2, description="sigma, at a distance of one metre")
    plane_elsewhere_share: float = Field(
        0.12, ge=0, le=1, description="the plane is that of the goods' tops, or in a shelf its back wall"
    )
    mix: ParcelMix = BASE_TRAINING_MIX

    @field_validator("distance_m", "goods_m", "hfov_rad", "tilt_rad", "goods_share")
    @classmethod
    def _ordered(cls, value: Range) -> Range:
        if not 0 <= value[0] <= value[1]:
            raise ValueError(f"[{value[0]:g}, {value[1]:g}] must be ascending from 0")
        return value

    @field_validator("places", "layouts", "depth_cameras")
    @classmethod
    def _known(cls, value: dict[str, float]) -> dict[str, float]:
        known = (*PLACES, *LAYOUTS, *DEPTH_CAMERAS)
        if any(name not in known for name in value):
            raise ValueError(f"known names are {', '.join(known)}")
        if any(weight < 0 for weight in value.values()) or not sum(value.values()) > 0:
            raise ValueError("weights must be >= 0 and not all 0")
        return value
