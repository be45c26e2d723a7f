"""The RGB-D sensor model: published error laws and the effect of every fault."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from robin_grasp.tool import WorkspaceConfig
from robin_perception.core.frame import Frame
from robin_sim.cameras import CameraView, intrinsics, look_at
from robin_sim.faults import NO_FAULTS, CameraShift, Faults
from robin_sim.model import RenderedView
from robin_sim.sensor import ColourConfig, SensorModelConfig, StereoConfig, draw_sensor, spoil
from robin_sim.stereo import correlated_noise, half_occluded, measure_depth

SHAPE = (192, 256)


def camera() -> CameraView:
    pose = look_at(np.array([*WorkspaceConfig().centre_m, 0.0]), 1.0, 0.0, 0.0, 0.0)
    return CameraView(SHAPE[1], SHAPE[0], intrinsics(SHAPE[1], SHAPE[0], 1.0), pose)


def flat_view(depth_m: float, reflectance: float = 0.4, light: float = 0.4) -> RenderedView:
    """A plane that faces the camera."""

    def full(value: float) -> NDArray[np.float32]:
        return np.full(SHAPE, value, dtype=np.float32)

    normals = np.zeros((*SHAPE, 3), dtype=np.float32)
    normals[..., 2] = -1.0
    rng = np.random.default_rng(0)
    texture = light * (1.0 + 0.3 * rng.random((*SHAPE, 3), dtype=np.float32))
    return RenderedView(
        rgb=np.zeros((*SHAPE, 3), dtype=np.uint8),
        depth=full(depth_m),
        labels=np.zeros(SHAPE, dtype=np.uint16),
        normals=normals,
        visible_fraction=np.zeros(0, dtype=np.float32),
        extras={
            "linear_rgb": texture,
            "reflectance": full(reflectance),
            "gloss": full(0.0),
            "highlight": full(0.0),
            "transmission": full(0.0),
            "behind_depth": full(depth_m),
        },
    )


QUIET = StereoConfig(disparity_noise_px=0.0, speckle=0.0, dropout=0.0)


@pytest.mark.parametrize(("depth_m", "noise_px"), [(0.8, 0.08), (1.2, 0.08), (1.6, 0.08), (1.2, 0.16)])
def test_depth_error_follows_the_stereo_law(depth_m: float, noise_px: float) -> None:
    config = StereoConfig(disparity_noise_px=noise_px, speckle=0.0, dropout=0.0)
    errors = []
    for seed in range(4):
        depth = measure_depth(flat_view(depth_m), camera(), np.random.default_rng(seed), config, NO_FAULTS)
        errors.append(depth[depth > 0] - depth_m)
    expected = depth_m**2 * noise_px / (config.depth_focal_px * config.baseline_m)
    assert np.concatenate(errors).std() == pytest.approx(expected, rel=0.15)


def test_correlated_noise_has_unit_variance_at_any_size() -> None:
    small, large = (correlated_noise(np.random.default_rng(1), shape, 8.0) for shape in ((96, 128), (384, 512)))
    assert small.std() == pytest.approx(1.0, abs=0.02) and large.std() == pytest.approx(1.0, abs=0.02)


def test_disparity_is_quantised() -> None:
    depth = measure_depth(flat_view(1.234), camera(), np.random.default_rng(0), QUIET, NO_FAULTS)
    fb = QUIET.depth_focal_px * QUIET.baseline_m
    step = np.round(fb / 1.234 * QUIET.subpixel_steps) / QUIET.subpixel_steps
    assert np.unique(depth[depth > 0]) == pytest.approx(np.round(fb / step, 3), abs=1e-6)


def test_holes_lie_left_of_a_foreground_edge() -> None:
    disparity = np.full((4, 100), 10.0, dtype=np.float32)
    disparity[:, 40:60] = 25.0
    hidden = half_occluded(disparity)
    assert hidden[:, 26:39].all()
    assert not hidden[:, :24].any() and not hidden[:, 40:].any()


def test_box_on_a_belt_loses_a_strip_on_its_left() -> None:
    view = flat_view(1.0)
    view.depth[60:130, 100:160] = 0.6
    depth = measure_depth(view, camera(), np.random.default_rng(2), QUIET, NO_FAULTS)
    strip = (camera().K[0, 0] * QUIET.baseline_m) * (1 / 0.6 - 1 / 1.0)
    left, right = depth[70:120, 100 - int(strip) : 97], depth[70:120, 164 : 160 + int(strip)]
    assert (left == 0).mean() > 0.6
    assert (right == 0).mean() < 0.1


@pytest.mark.parametrize("key", ["dark", "grazing", "highlight", "film"])
def test_difficult_surfaces_lose_depth(key: str) -> None:
    view = flat_view(1.0)
    half = np.s_[:, : SHAPE[1] // 2]
    if key == "dark":
        view.extras["reflectance"][half] = 0.005
    elif key == "grazing":
        view.normals[half] = [0.995, 0.0, -0.1]
    elif key == "highlight":
        view.extras["highlight"][half] = 2.0
    else:
        view.extras["transmission"][half] = 0.8
        view.extras["behind_depth"][half] = 1.2
    depth = measure_depth(view, camera(), np.random.default_rng(3), StereoConfig(speckle=0.0), NO_FAULTS)
    lost_hard = (depth[half] == 0).mean()
    lost_easy = (depth[:, SHAPE[1] // 2 + 12 :] == 0).mean()
    assert lost_hard > lost_easy + 0.1
    if key == "film":
        assert (np.abs(depth[half] - 1.2) < 0.05).mean() > 0.1


def test_range_limits_hold() -> None:
    config = StereoConfig(range_max_m=1.1)
    assert not measure_depth(flat_view(1.5), camera(), np.random.default_rng(0), config, NO_FAULTS).any()


def frame_with(faults: Faults, seed: int = 5) -> Frame:
    return spoil(flat_view(1.0), camera(), np.random.default_rng(seed), SensorModelConfig(), faults)


def test_frame_is_valid_and_deterministic() -> None:
    first, second = frame_with(NO_FAULTS), frame_with(NO_FAULTS)
    first.validated()
    assert np.array_equal(first.rgb, second.rgb) and np.array_equal(first.depth, second.depth)
    assert first.depth.dtype == np.float32 and first.rgb.dtype == np.uint8


def test_dark_darkens_and_thins_depth_out() -> None:
    healthy, dark = frame_with(NO_FAULTS), frame_with(Faults(dark=0.9))
    assert dark.rgb.mean() < 0.55 * healthy.rgb.mean()
    assert (dark.depth > 0).mean() <= (healthy.depth > 0).mean()


def test_blur_takes_detail_out_of_colour() -> None:
    detail = [np.abs(np.diff(frame_with(f).rgb.astype(int), axis=1)).mean() for f in (NO_FAULTS, Faults(blur=1.0))]
    assert detail[1] < 0.5 * detail[0]


def test_dirty_lens_spoils_colour_and_depth() -> None:
    healthy, dirty = frame_with(NO_FAULTS), frame_with(Faults(dirty_lens=1.0))
    assert (dirty.depth == 0).mean() > (healthy.depth == 0).mean() + 0.1
    assert np.abs(dirty.rgb.astype(int) - healthy.rgb).mean() > 1.0


@pytest.mark.parametrize("severity", [0.3, 1.0])
def test_depth_holes_take_their_share(severity: float) -> None:
    healthy, holed = frame_with(NO_FAULTS), frame_with(Faults(depth_holes=severity))
    assert (holed.depth == 0).mean() - (healthy.depth == 0).mean() == pytest.approx(0.6 * severity, abs=0.06)
    assert np.array_equal(holed.rgb.shape, healthy.rgb.shape)


def test_reported_pose_is_the_believed_one() -> None:
    frame = frame_with(Faults(camera_shift=CameraShift(translation_m=(0.02, 0.0, 0.0))))
    assert np.array_equal(frame.T_base_camera, camera().T_base_camera)


def test_jpeg_keeps_the_picture() -> None:
    view = flat_view(1.0)
    plain = spoil(view, camera(), np.random.default_rng(1), SensorModelConfig())
    packed = spoil(view, camera(), np.random.default_rng(1), SensorModelConfig(colour=ColourConfig(jpeg_quality=90)))
    assert 0.0 < np.abs(plain.rgb.astype(int) - packed.rgb).mean() < 6.0


def test_drawn_cameras_differ_and_follow_the_generator() -> None:
    drawn = [draw_sensor(np.random.default_rng(seed)) for seed in (0, 0, 1)]
    assert drawn[0] == drawn[1] != drawn[2]
