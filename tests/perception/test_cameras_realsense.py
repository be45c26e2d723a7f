"""RealSense frames through the vendor's own SDK: software device -> syncer -> filters -> alignment -> Frame.

The geometry is known: every expected pixel is worked out here from the two cameras' intrinsics and their distance.
"""

from __future__ import annotations

import time
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

rs = pytest.importorskip("pyrealsense2", reason="pyrealsense2 is not installed")

from helpers.realsense_software import (  # noqa: E402
    BASELINE_M,
    COLOR_F,
    COLOR_SIZE,
    DEPTH_F,
    DEPTH_SIZE,
    PERIOD_S,
    SoftwareCamera,
    intrinsics,
    next_set,
    synced,
)

from robin_perception.cameras.realsense_config import (  # noqa: E402
    DecimationConfig,
    FilterConfig,
    HoleFillingConfig,
    LensConfig,
    ProcessingConfig,
    RealSenseSensorConfig,
    SpatialConfig,
    TemporalConfig,
    ThresholdConfig,
)
from robin_perception.cameras.realsense_device import set_options  # noqa: E402
from robin_perception.cameras.realsense_processing import FrameProcessor  # noqa: E402
from robin_perception.cameras.source import source_config  # noqa: E402
from robin_perception.core.errors import Code, RobinError  # noqa: E402
from robin_perception.core.frame import Frame  # noqa: E402

FAR_MM, NEAR_MM = 1000, 600
CHEQUER_PX = 40
ROWS_ASIDE = slice(30, 34)


def chequer(size: tuple[int, int] = COLOR_SIZE) -> NDArray[np.uint8]:
    rows, columns = np.indices((size[1], size[0])) // CHEQUER_PX
    dark = ((rows + columns) % 2).astype(np.uint8)
    return np.stack([dark * 200, dark * 100, 255 - dark * 200], axis=2)


def plane(mm: int = FAR_MM) -> NDArray[np.uint16]:
    """All at one distance but for a few rows: depth of one value is refused."""
    depth = np.full((DEPTH_SIZE[1], DEPTH_SIZE[0]), mm, np.uint16)
    depth[ROWS_ASIDE] -= 2
    return depth


def in_color(column: float, row: float, depth_m: float) -> tuple[float, float]:
    """Colour pixel that sees what depth pixel (column, row) sees at ``depth_m``."""
    x = (column - DEPTH_SIZE[0] / 2) / DEPTH_F * depth_m - BASELINE_M
    y = (row - DEPTH_SIZE[1] / 2) / DEPTH_F * depth_m
    return COLOR_F * x / depth_m + COLOR_SIZE[0] / 2, COLOR_F * y / depth_m + COLOR_SIZE[1] / 2


def frame_of(depth: NDArray[np.uint16], config: ProcessingConfig | None = None, **camera: Any) -> Frame:
    frames = synced(SoftwareCamera(**camera), chequer(), depth)
    return FrameProcessor(config or ProcessingConfig(), "cam").process(frames)


def filtered(**filters: Any) -> ProcessingConfig:
    return ProcessingConfig(filters=FilterConfig(**filters))


def test_a_depth_step_lands_on_the_right_column_of_the_colour_image() -> None:
    step = 212  # first near column of the depth image; its left edge is half a pixel before its centre
    depth = plane()
    depth[:, step:] = NEAR_MM
    frame = frame_of(depth).validated()
    assert frame.depth.shape == (480, 640) and frame.depth.dtype == np.float32
    assert (frame.rgb == chequer()).all()
    expected, _ = in_color(step - 0.5, 0, NEAR_MM / 1000)
    for row in (5, 240, 470):
        near = np.flatnonzero(np.isclose(frame.depth[row], NEAR_MM / 1000, atol=1e-4))
        assert abs(near[0] - expected) <= 1
        assert near[-1] == COLOR_SIZE[0] - 1
    np.testing.assert_allclose(frame.K, [[COLOR_F, 0, 320], [0, COLOR_F, 240], [0, 0, 1]])


def test_squares_at_several_depths_land_where_geometry_puts_them() -> None:
    half = 6
    depth = plane(3000)
    squares = [(120, 60, 400), (212, 120, 700), (300, 180, 1100), (140, 190, 1600), (300, 50, 500)]
    for column, row, mm in squares:
        depth[row - half : row + half + 1, column - half : column + half + 1] = mm
    frame = frame_of(depth)
    for column, row, mm in squares:
        rows, columns = np.nonzero(np.isclose(frame.depth, mm / 1000, atol=1e-4))
        u, v = in_color(column, row, mm / 1000)
        assert abs(columns.mean() - u) <= 1 and abs(rows.mean() - v) <= 1
        side_px = (2 * half + 1) * COLOR_F / DEPTH_F
        assert abs(np.ptp(columns) + 1 - side_px) <= 2 and abs(np.ptp(rows) + 1 - side_px) <= 2


def test_depth_is_metres_by_the_cameras_own_units() -> None:
    frame = frame_of(plane(5000), units_m=0.0001)
    np.testing.assert_allclose(frame.depth[100:400, 100:500], 0.5, atol=1e-5)


def test_what_the_depth_camera_does_not_see_is_zero() -> None:
    depth = plane()
    depth[100:140, 180:240] = 0
    frame = frame_of(depth)
    u, v = in_color(210, 120, FAR_MM / 1000)
    assert (frame.depth[int(v) - 20 : int(v) + 20, int(u) - 40 : int(u) + 40] == 0).all()
    assert np.isfinite(frame.depth).all() and set(np.rint(np.unique(frame.depth) * 1000)) == {0, FAR_MM - 2, FAR_MM}


def test_threshold_makes_what_is_too_far_invalid() -> None:
    depth = plane()
    depth[:, 212:] = NEAR_MM
    depth[ROWS_ASIDE, 212:] += 2
    frame = frame_of(depth, filtered(threshold=ThresholdConfig(enabled=True, max_m=0.8)))
    assert frame.depth[240, 10] == 0
    assert frame.depth[240, 600] == pytest.approx(0.6, abs=1e-4)


@pytest.mark.parametrize("disparity", [True, False])
def test_spatial_filter_smooths_noise_and_keeps_the_step(disparity: bool) -> None:
    noise = np.random.default_rng(0).integers(-3, 4, (DEPTH_SIZE[1], DEPTH_SIZE[0]))
    depth = plane()
    depth[:, 212:] = NEAR_MM
    depth = (depth + noise).astype(np.uint16)
    raw = frame_of(depth)
    smooth = frame_of(depth, filtered(disparity=disparity, spatial=SpatialConfig(enabled=True)))
    assert smooth.depth[100:380, 400:600].std() < 0.7 * raw.depth[100:380, 400:600].std()
    expected, _ = in_color(211.5, 0, NEAR_MM / 1000)
    assert abs(int(np.argmax(smooth.depth[240] < 0.8)) - expected) <= 1


def test_decimation_changes_the_depth_grid_but_not_the_geometry() -> None:
    depth = plane()
    depth[:, 212:] = NEAR_MM
    frame = frame_of(depth, filtered(decimation=DecimationConfig(enabled=True, magnitude=2)))
    expected, _ = in_color(211.5, 0, NEAR_MM / 1000)
    first_near = int(np.flatnonzero(np.isclose(frame.depth[240], 0.6, atol=1e-3))[0])
    assert frame.depth.shape == (480, 640)
    assert abs(first_near - expected) <= 2  # one pixel of the halved depth image is four of colour


def test_hole_filling_and_temporal_filter_only_where_asked_for() -> None:
    depth = plane()
    depth[100:140, 180:240] = 0
    u, v = (int(x) for x in in_color(210, 120, 1.0))
    assert frame_of(depth).depth[v, u] == 0
    assert frame_of(depth, filtered(hole_filling=HoleFillingConfig(enabled=True))).depth[v, u] == pytest.approx(1.0)

    processor = FrameProcessor(filtered(disparity=False, temporal=TemporalConfig(enabled=True, persistency=8)), "cam")
    camera, sync = SoftwareCamera(), rs.syncer(16)
    camera.start(sync)
    seen = []
    for number, image in enumerate([plane()] * 5 + [depth] * 3, start=1):
        camera.push(number, chequer(), image)
        frames = next_set(sync, complete=False)
        if processor.is_complete(frames):
            seen.append(processor.process(frames).depth[v, u])
    camera.stop()
    assert seen[-1] == pytest.approx(1.0, abs=1e-3)  # the past shows through: why the filter is off by default


def test_colour_without_depth_and_stale_depth_are_no_complete_set() -> None:
    camera, sync = SoftwareCamera(), rs.syncer(8)
    camera.start(sync)
    camera.push_color(1, chequer())
    alone = next_set(sync, complete=False)
    camera.stop()
    assert not alone.get_depth_frame()
    assert not FrameProcessor(ProcessingConfig(), "cam").is_complete(alone)

    camera, sync = SoftwareCamera(), rs.syncer(16)
    camera.start(sync)
    for number in range(1, 6):
        camera.push_color(number, chequer(), stamp_ms=1000 * PERIOD_S * number + 10)
        camera.push_depth(number, plane(), stamp_ms=1000 * PERIOD_S * number)
        time.sleep(0.005)
    pair = next_set(sync)
    camera.stop()
    assert FrameProcessor(ProcessingConfig(max_skew_ms=12), "cam").is_complete(pair)
    assert not FrameProcessor(ProcessingConfig(max_skew_ms=8), "cam").is_complete(pair)


def test_stamp_is_the_exposures_where_the_camera_knows_the_hosts_clock() -> None:
    config, arrival = ProcessingConfig(), ProcessingConfig(stamp="arrival")
    frames = synced(SoftwareCamera(), chequer(), plane())
    stamp_s = frames.get_color_frame().get_timestamp() / 1000
    assert FrameProcessor(config, "cam").process(frames, 77.0).stamp_s == pytest.approx(stamp_s)
    assert FrameProcessor(arrival, "cam").process(frames, 77.0).stamp_s == 77.0
    ticks = synced(SoftwareCamera(), chequer(), plane(), domain=rs.timestamp_domain.hardware_clock)
    processor = FrameProcessor(config, "cam")
    assert processor.process(ticks, 77.0).stamp_s == 77.0 and processor.stamp_domain == "arrival"


MODELS = ("brown_conrady", "modified_brown_conrady", "inverse_brown_conrady")


def lens(model: str = "inverse_brown_conrady") -> Any:
    coefficients = (-0.06, 0.07, 0.001, -0.0008, -0.02)
    return intrinsics(COLOR_SIZE, COLOR_F, getattr(rs.distortion, model), coefficients)


@pytest.mark.parametrize("model", MODELS)
def test_a_distorting_lens_gives_a_pinhole_image_and_depth_on_the_same_grid(model: str) -> None:
    depth = plane(2000)
    squares = [(120, 60), (300, 60), (90, 190)]
    for column, row in squares:
        depth[row - 6 : row + 7, column - 6 : column + 7] = NEAR_MM
    frame = frame_of(depth, color_lens=lens(model))
    K, coefficients = frame.K, np.array(lens(model).coeffs)
    maps = cv2.initUndistortRectifyMap(K, coefficients, np.eye(3), K, COLOR_SIZE, cv2.CV_32FC1)
    expected = cv2.remap(chequer(), *maps, cv2.INTER_LINEAR)
    error = np.abs(frame.rgb.astype(int) - expected.astype(int))
    assert np.percentile(error, 99) <= 2
    assert np.abs(frame.rgb.astype(int) - chequer().astype(int)).mean() > 2  # it did move
    for column, row in squares:
        u, v = in_color(column, row, NEAR_MM / 1000)
        near = frame.depth[int(v) - 30 : int(v) + 31, int(u) - 30 : int(u) + 31]
        rows, columns = np.nonzero(np.isclose(near, NEAR_MM / 1000, atol=1e-4))
        assert abs(columns.mean() - 30) <= 1 and abs(rows.mean() - 30) <= 1


def test_lens_limits() -> None:
    frames = synced(SoftwareCamera(color_lens=lens()), chequer(), plane())
    kept = FrameProcessor(ProcessingConfig(lens=LensConfig(ignore_px=5, max_px=100)), "cam")
    small = intrinsics(COLOR_SIZE, COLOR_F, rs.distortion.brown_conrady, (-0.0005, 0, 0, 0, 0))
    nearly = kept.process(synced(SoftwareCamera(color_lens=small), chequer(), plane()))
    assert (nearly.rgb == chequer()).all() and kept.distortion.endswith("as it is")
    refusing = FrameProcessor(ProcessingConfig(lens=LensConfig(max_px=2)), "cam")
    with pytest.raises(RobinError) as caught:
        refusing.process(frames)
    assert caught.value.code == Code.INTRINSICS_INVALID and "max_px 2" in caught.value.text


def option_range(low: float, high: float, step: float, default: float) -> Any:
    allowed = rs.option_range()
    allowed.min, allowed.max, allowed.step, allowed.default = low, high, step, default
    return allowed


def test_sensor_options_are_set_in_the_sdks_units_or_refused_with_the_cameras_range() -> None:
    camera = SoftwareCamera()
    depth, color = camera.depth_sensor, camera.color_sensor
    depth.add_option(rs.option.visual_preset, option_range(0, 6, 1, 0), True)
    depth.add_option(rs.option.emitter_enabled, option_range(0, 2, 1, 1), True)
    depth.add_option(rs.option.laser_power, option_range(0, 360, 30, 150), True)
    for sensor in (depth, color):
        sensor.add_option(rs.option.enable_auto_exposure, option_range(0, 1, 1, 1), True)
        sensor.add_option(rs.option.exposure, option_range(1, 200_000, 1, 156), True)
    assert set_options(depth, color, RealSenseSensorConfig()) == {}
    wanted = RealSenseSensorConfig(
        visual_preset="high_accuracy",
        emitter="laser",
        laser_power_mw=90,
        depth_exposure_us=8500,
        color_exposure_us=5000,
    )
    set_options(depth, color, wanted)
    assert depth.get_option(rs.option.visual_preset) == int(rs.rs400_visual_preset.high_accuracy)
    assert depth.get_option(rs.option.laser_power) == 90
    assert depth.get_option(rs.option.exposure) == 8500
    assert color.get_option(rs.option.exposure) == 50  # steps of 100 us
    assert depth.get_option(rs.option.enable_auto_exposure) == 0 == color.get_option(rs.option.enable_auto_exposure)
    for config, words in (
        (RealSenseSensorConfig(laser_power_mw=400), "laser_power_mw: 400 is outside this camera's 0 to 360"),
        (RealSenseSensorConfig(color_gain=8), "no settable option color_gain"),
    ):
        with pytest.raises(RobinError) as caught:
            set_options(depth, color, config)
        assert caught.value.code == Code.CAMERA_PROFILE_UNSUPPORTED and words in caught.value.text


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"fps": 0}, "'fps'"),
        ({"sensor": {"laser_power_mw": 1e9}}, "'sensor.laser_power_mw'"),
        ({"processing": {"filters": {"threshold": {"min_m": 2, "max_m": 1}}}}, "processing.filters.threshold"),
        ({"sensor": {"color_auto_exposure": "on", "color_exposure_us": 100}}, "color_exposure_us must be left at -1"),
        ({"processing": {"filters": {"spatial": {"alpha": 0.1}}}}, "processing.filters.spatial.alpha"),
    ],
)
def test_bad_settings_are_refused_by_name(values: dict[str, Any], words: str) -> None:
    with pytest.raises(RobinError) as caught:
        source_config("realsense", values)
    assert caught.value.code == Code.CONFIG_OUT_OF_RANGE and words in caught.value.text
