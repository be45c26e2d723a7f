"""Typed settings of the RealSense sources: streams, sensor options, filters, lens, time. Units are in the names.

Where an option has a value for "leave it as the camera has it", that is ``"leave"`` or -1, and the default.
"""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field, model_validator

from robin_perception.cameras.source import SourceConfig
from robin_perception.core.config import StrictConfig

Switch = Literal["leave", "on", "off"]


class DecimationConfig(StrictConfig):
    """Fewer depth pixels, each the median of several: less noise, less detail. Off: parcels' edges matter here."""

    enabled: bool = Field(False, description="Use this filter.")
    magnitude: int = Field(2, ge=2, le=8, description="pixels per side that become one")


class ThresholdConfig(StrictConfig):
    """Depth outside the range becomes invalid (0)."""

    enabled: bool = Field(False, description="Use this filter.")
    min_m: float = Field(0.15, ge=0, le=16, description="Nearer depth becomes invalid, m.")
    max_m: float = Field(4.0, gt=0, le=16, description="Farther depth becomes invalid, m.")

    @model_validator(mode="after")
    def _ordered(self) -> ThresholdConfig:
        if self.min_m >= self.max_m:
            raise ValueError(f"min_m {self.min_m:g} must be less than max_m {self.max_m:g}")
        return self


class SpatialConfig(StrictConfig):
    """Edge-preserving smoothing in the image (domain transform). delta is in disparity (1/32 pixel) where ``disparity``
    is on, else in depth units. Off: the models learn from depth that is not smoothed, and it costs far more than the
    alignment (docs/realsense.md)."""

    enabled: bool = Field(False, description="Use this filter.")
    magnitude: int = Field(2, ge=1, le=5, description="passes")
    alpha: float = Field(0.5, ge=0.25, le=1, description="1 = no smoothing")
    delta: int = Field(20, ge=1, le=50, description="steps larger than this are edges and stay")
    holes_fill: int = Field(0, ge=0, le=5, description="0 none, 1 to 4: 2, 4, 8, 16 pixels, 5 without limit")


class TemporalConfig(StrictConfig):
    """Smoothing over frames. Off: after a pick it would show depth of the parcel that is gone."""

    enabled: bool = Field(False, description="Use this filter.")
    alpha: float = Field(0.4, ge=0, le=1, description="1 = no smoothing")
    delta: int = Field(
        20,
        ge=1,
        le=100,
        description="Steps larger than this are another surface and stay; "
        "in disparity (1/32 pixel) where disparity is on, else in depth units.",
    )
    persistency: int = Field(3, ge=0, le=8, description="the SDK's rule for filling holes from past frames, 0 = never")


class HoleFillingConfig(StrictConfig):
    """Invents depth where the camera saw none. Off: a cup must not be planned on a guess."""

    enabled: bool = Field(False, description="Use this filter.")
    mode: Literal["left", "farthest", "nearest"] = Field(
        "farthest", description="Which neighbour's depth an invalid pixel takes."
    )


class FilterConfig(StrictConfig):
    """The SDK's filters on depth, in the order in which they are applied, all before the alignment to colour."""

    decimation: DecimationConfig = DecimationConfig()
    threshold: ThresholdConfig = ThresholdConfig()
    disparity: bool = Field(
        True, description="Spatial and temporal filter work on 1/depth, where a stereo camera's noise is even."
    )
    spatial: SpatialConfig = SpatialConfig()
    temporal: TemporalConfig = TemporalConfig()
    hole_filling: HoleFillingConfig = HoleFillingConfig()


class LensConfig(StrictConfig):
    """Frames are pinhole images. What the colour camera's distortion moves by at most ``ignore_px`` pixels is taken as
    it is, up to ``max_px`` the frame is undistorted, beyond (a wrong calibration) it is refused."""

    ignore_px: float = Field(
        0.3, ge=0, le=5, description="Distortion that moves no corner by more is taken as none, pixels."
    )
    max_px: float = Field(
        80.0,
        ge=0,
        le=2000,
        description="Up to here frames are undistorted; beyond, the calibration is taken for wrong, pixels.",
    )


class RealSenseSensorConfig(StrictConfig):
    """Options of the sensors, set in this order when the camera is opened. Refused where the camera lacks one that is
    asked for or does not take the value; the text then has the camera's own range."""

    visual_preset: Literal["leave", "default", "hand", "high_accuracy", "high_density", "medium_density"] = Field(
        "leave", description="Set of depth settings made by the vendor."
    )
    emitter: Literal["leave", "off", "laser", "auto"] = Field("leave", description="Projector of the depth sensor.")
    laser_power_mw: float = Field(-1, ge=-1, le=500, description="Power of the projector, mW; -1: leave.")
    depth_auto_exposure: Switch = Field("leave", description="Automatic exposure of the depth sensor.")
    depth_exposure_us: float = Field(
        -1, ge=-1, le=200_000, description="Exposure of the depth sensor, microseconds; -1: leave."
    )
    depth_gain: float = Field(-1, ge=-1, le=1000, description="the camera's own steps")
    color_auto_exposure: Switch = Field("leave", description="Automatic exposure of the colour sensor.")
    color_exposure_us: float = Field(-1, ge=-1, le=1_000_000, description="the camera takes steps of 100 us")
    color_gain: float = Field(-1, ge=-1, le=1000, description="the camera's own steps")
    color_auto_white_balance: Switch = Field("leave", description="Automatic white balance of the colour sensor.")
    color_white_balance_k: float = Field(
        -1, ge=-1, le=10_000, description="White balance of the colour sensor, K; -1: leave."
    )

    @model_validator(mode="after")
    def _one_master(self) -> RealSenseSensorConfig:
        for switch, value in (
            ("depth_auto_exposure", "depth_exposure_us"),
            ("color_auto_exposure", "color_exposure_us"),
            ("color_auto_white_balance", "color_white_balance_k"),
        ):
            if getattr(self, switch) == "on" and getattr(self, value) >= 0:
                raise ValueError(f"{switch} is on, so {value} must be left at -1")
        return self


class ProcessingConfig(StrictConfig):
    """From a set of raw frames to one registered frame."""

    filters: FilterConfig = FilterConfig()
    lens: LensConfig = LensConfig()
    max_skew_ms: float = Field(
        25.0, gt=0, le=1000, description="A set whose colour and depth are further apart in time is incomplete, ms."
    )
    stamp: Literal["camera", "arrival"] = Field(
        "camera",
        description="camera: time of the exposure where the camera tells it in the host's clock, "
        "else of arrival; arrival: always the latter.",
    )


class RealSenseConfig(SourceConfig):
    """A camera on USB."""

    kind: ClassVar[str] = "realsense"

    serial: str = Field("", max_length=40, description="Serial number; empty = the only camera that is plugged in.")
    color_width: int = Field(1280, ge=160, le=4096, description="Width of colour, pixels.")
    color_height: int = Field(720, ge=100, le=3072, description="Height of colour, pixels.")
    depth_width: int = Field(848, ge=160, le=1920, description="Width of depth, pixels.")
    depth_height: int = Field(480, ge=100, le=1200, description="Height of depth, pixels.")
    fps: int = Field(30, ge=1, le=90, description="of both streams")
    warm_up_frames: int = Field(
        15, ge=0, le=300, description="Frames thrown away after the start, while auto exposure settles."
    )
    start_timeout_s: float = Field(5.0, gt=0, le=60, description="How long the first frame may take, s.")
    max_silence_s: float = Field(
        3.0, gt=0, le=60, description="A camera that is plugged in and silent for longer has failed, s."
    )
    global_time: bool = Field(True, description="Translate the camera's clock to the host's.")
    sensor: RealSenseSensorConfig = RealSenseSensorConfig()
    processing: ProcessingConfig = ProcessingConfig()


class RealSenseBagConfig(SourceConfig):
    """A recording of the RealSense Viewer or SDK: .bag, or .db3 from newer versions of the SDK."""

    kind: ClassVar[str] = "realsense_bag"

    path: str = Field("", max_length=4096, description="The recording, .bag or .db3.")
    repeat: bool = Field(False, description="Start again at the end.")
    real_time: bool = Field(
        False,
        description="Play at the recorded pace and drop what is not read in time; "
        "else every frame, as fast as it is read.",
    )
    processing: ProcessingConfig = ProcessingConfig()
