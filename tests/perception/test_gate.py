"""The gate: what is no measurement is no depth and counted, good pixels stay, and faults have their number."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from robin_perception.core.config import parse_config
from robin_perception.core.errors import Code, RobinError
from robin_perception.core.frame import Frame, RawDepth
from robin_perception.core.gate import CameraModel, FrozenWatch, GateConfig, make_frame

HEIGHT, WIDTH = 120, 160
K = np.array([[150.0, 0.0, 79.5], [0.0, 150.0, 59.5], [0.0, 0.0, 1.0]])
CAMERA = CameraModel(K, WIDTH, HEIGHT)
LOW, HIGH = np.float32(0.1), np.float32(10)


def looking_down(height_m: float) -> NDArray[np.float64]:
    pose = np.diag([1.0, -1.0, -1.0, 1.0])
    pose[2, 3] = height_m
    return pose


def colour() -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)


def pile_m(belt_m: float = 1.2) -> NDArray[np.float32]:
    """A belt and things on it, measured with noise; whole millimetres."""
    rng = np.random.default_rng(1)
    depth = belt_m + rng.normal(0, 0.002 * belt_m, (HEIGHT, WIDTH))
    depth[30:70, 40:100] -= 0.15 * belt_m
    return np.rint(depth * 1000).astype(np.float32) * np.float32(0.001)


def units(depth_m: NDArray[np.float32], unit_m: float = 0.001) -> RawDepth:
    return RawDepth(np.rint(depth_m / unit_m).astype(np.uint16), unit_m)


def refused(depth: NDArray[np.float32] | RawDepth, camera: CameraModel = CAMERA, **rest: object) -> RobinError:
    with pytest.raises(RobinError) as caught:
        make_frame(colour(), depth, camera, **rest)
    assert "\n" not in caught.value.text
    return caught.value


def test_a_good_frame_passes_untouched() -> None:
    depth = pile_m()
    depth[:10] = 0
    frame = make_frame(colour(), depth, CAMERA, looking_down(1.2), stamp_s=3.0, camera_id="c")
    assert frame.depth is depth and frame.gate.depth_removed == {} and frame.gate.warnings == ()
    raw = units(depth)
    kept = make_frame(colour(), raw, CAMERA, keep_units=True)
    assert kept.raw_depth is raw and np.array_equal(kept.depth, depth)
    assert make_frame(colour(), raw, CAMERA).raw_depth is None


@pytest.mark.parametrize(
    ("value", "cause"),
    [
        (np.nan, "not_finite"),
        (-np.nan, "not_finite"),
        (np.inf, "not_finite"),
        (-np.inf, "not_finite"),
        (-0.5, "negative"),
        (-1e-40, "negative"),
        (1e-40, "too_near"),
        (1e-30, "too_near"),
        (0.0999, "too_near"),
        (10.001, "too_far"),
        (1e30, "too_far"),
        (65.535, "saturated"),
        (6.5535, "saturated"),
        (float(np.float32(65535) * np.float32(0.0001)), "saturated"),
    ],
)
def test_what_is_no_measurement_is_no_depth_and_is_counted_by_its_cause(value: float, cause: str) -> None:
    depth, holes = pile_m(), pile_m()
    depth[5:9, 10:20], holes[5:9, 10:20] = value, 0
    frame = make_frame(colour(), depth, CAMERA)
    assert np.array_equal(frame.depth, holes) and frame.gate.depth_removed == {cause: 40}


def test_minus_zero_is_no_depth_like_zero() -> None:
    depth = pile_m()
    depth[0] = -0.0
    assert make_frame(colour(), depth, CAMERA).gate.depth_removed == {}


@given(st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=200))
def test_whatever_bits_come_depth_is_zero_or_in_range_and_every_pixel_is_accounted_for(
    values: list[int],
) -> None:
    depth = pile_m()
    depth.reshape(-1)[: len(values)] = np.array(values, dtype=np.uint32).view(np.float32)
    before = depth.copy()
    frame = make_frame(colour(), depth, CAMERA)
    assert np.array_equal(depth.view(np.uint32), before.view(np.uint32))  # the door's own array is left alone
    valid = frame.depth.view(np.uint32) != 0
    assert np.all((frame.depth[valid] >= LOW) & (frame.depth[valid] <= HIGH))
    assert np.array_equal(frame.depth[valid], before[valid])
    assert (
        np.count_nonzero(valid) + np.count_nonzero(before == 0) + sum(frame.gate.depth_removed.values()) == depth.size
    )


@pytest.mark.parametrize("unit_m", [0.001, 0.0001, 0.00025])
def test_holes_marked_65535_are_the_holes_marked_0(unit_m: float) -> None:
    marked, plain = units(pile_m(), unit_m), units(pile_m(), unit_m)
    marked.units[20:40, 20:60], plain.units[20:40, 20:60] = 65535, 0
    frame = make_frame(colour(), marked, CAMERA, keep_units=True)
    assert np.array_equal(frame.depth, make_frame(colour(), plain, CAMERA).depth)
    assert frame.gate.depth_removed == {"saturated": 800}
    assert frame.raw_depth is not None and np.array_equal(frame.raw_depth.units, plain.units)


def test_a_sensor_that_counts_with_fewer_bits_saturates_at_its_own_maximum() -> None:
    raw = units(pile_m())
    raw.units[:20] = 8191
    assert make_frame(colour(), raw, CAMERA).gate.depth_removed == {"saturated": 20 * WIDTH}
    alike = units(pile_m(4.09))
    alike.units[alike.units > 4095] = 4095  # a floor that happens to lie there: its neighbours measure nearly the same
    assert make_frame(colour(), alike, CAMERA).gate.depth_removed == {}


def test_depth_without_a_valid_pixel_says_what_there_was() -> None:
    assert refused(np.zeros((HEIGHT, WIDTH), np.float32)).code == Code.DEPTH_EMPTY
    error = refused(np.full((HEIGHT, WIDTH), np.nan, np.float32))
    assert error.code == Code.DEPTH_EMPTY and f"{HEIGHT * WIDTH} px not finite" in error.text
    error = refused(RawDepth(np.full((HEIGHT, WIDTH), 65535, np.uint16), 0.001))
    assert error.code == Code.DEPTH_EMPTY and "saturated" in error.text


def test_one_value_everywhere_is_refused_and_two_are_not() -> None:
    depth = np.full((HEIGHT, WIDTH), 1.3, np.float32)
    depth[:, ::2] = 0
    assert refused(depth).code == Code.DEPTH_CONSTANT
    depth[5, 5] = 1.301
    make_frame(colour(), depth, CAMERA)
    few = np.zeros((HEIGHT, WIDTH), np.float32)
    few[0, :3] = 1.3
    make_frame(colour(), few, CAMERA)  # hardly any depth: the scene's flag low_depth says so


@pytest.mark.parametrize(("factor", "asked"), [(10.0, "a tenth of"), (0.1, "ten times")])
def test_depth_that_would_fit_in_another_unit_is_asked_about(factor: float, asked: str) -> None:
    wrong = pile_m() * np.float32(factor)
    by_pose = refused(wrong, T_base_camera=looking_down(1.2))
    assert by_pose.code == Code.DEPTH_UNIT_SUSPECT
    assert asked in by_pose.text and "depth_scale" in by_pose.text
    half = pile_m(0.7) * np.float32(factor)  # 7 m or 70 mm: in range, or out of it as a whole
    if factor == 10.0:
        warned = make_frame(colour(), half, CAMERA).gate
        assert [w.code for w in warned.warnings] == [Code.DEPTH_UNIT_SUSPECT] and asked in warned.warnings[0].text
        assert warned.flags == ("depth_unit_suspect",)
    else:
        assert refused(half).code == Code.DEPTH_UNIT_SUSPECT


def test_a_far_camera_whose_pose_agrees_is_not_asked_about_its_unit() -> None:
    assert make_frame(colour(), pile_m(5.0), CAMERA, looking_down(5.0)).gate.warnings == ()
    assert make_frame(colour(), pile_m(5.0), CAMERA).gate.warnings != ()


def test_the_range_comes_from_the_configuration() -> None:
    near = GateConfig(depth_min_m=0.05, depth_max_m=1.0, usual_min_m=0.05)
    depth = pile_m(0.08)
    assert make_frame(colour(), depth, CAMERA, config=near).depth is depth
    assert refused(depth).code == Code.DEPTH_UNIT_SUSPECT
    with pytest.raises(RobinError, match="depth_min_m 2 must be less"):
        parse_config(GateConfig, {"depth_min_m": 2.0, "depth_max_m": 1.0}, "x")


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"width": 320, "height": 240}, Code.INPUT_SIZE_MISMATCH),
        ({"K": np.array([[150.0, 0, 159.5], [0, 150, 59.5], [0, 0, 1]])}, Code.INTRINSICS_INVALID),
        ({"K": np.array([[150.0, 0, 79.5], [0, 150, 100], [0, 0, 1]])}, Code.INTRINSICS_INVALID),
        ({"K": np.zeros((3, 3))}, Code.INTRINSICS_INVALID),
        ({"K": np.full((3, 3), np.nan)}, Code.INTRINSICS_INVALID),
        ({"binning": (2, 1)}, Code.INTRINSICS_INVALID),
        ({"roi": (80, 60)}, Code.INTRINSICS_INVALID),
        ({"distortion_model": "plumb_bob", "distortion": (-0.3, 0.12, 0, 0, 0)}, Code.INTRINSICS_INVALID),
        ({"distortion_model": "plumb_bob", "distortion": (np.nan, 0, 0, 0, 0)}, Code.INTRINSICS_INVALID),
        ({"distortion_model": "plumb_bob", "distortion": (0.1, 0.1, 0.1)}, Code.INTRINSICS_INVALID),
        ({"distortion_model": "equidistant", "distortion": (0, 0, 0, 0)}, Code.INTRINSICS_INVALID),
        ({"distortion_model": "equidistant", "distortion": (0.1, 0.02, 0, 0)}, Code.INTRINSICS_INVALID),
    ],
)
def test_a_camera_that_does_not_fit_is_refused(change: dict[str, object], code: Code) -> None:
    assert refused(pile_m(), replace(CAMERA, **change)).code == code


def test_a_small_distortion_and_the_whole_image_as_region_are_taken() -> None:
    camera = replace(CAMERA, distortion_model="plumb_bob", distortion=(0.001, 0, 0, 0, 0), roi=(WIDTH, HEIGHT))
    assert make_frame(colour(), pile_m(), camera, frame_ids=("a", "a", "a")).K is K
    strict = GateConfig(max_distortion_px=0.001)
    assert refused(pile_m(), camera, config=strict).code == Code.INTRINSICS_INVALID


@pytest.mark.parametrize("frame_ids", [("a", "b", "a"), ("a", "a", "b"), ("", "", "")])
def test_frame_ids_must_be_the_same_and_there(frame_ids: tuple[str, ...]) -> None:
    assert refused(pile_m(), frame_ids=frame_ids).code == Code.FRAME_ID_MISMATCH


def test_a_pose_that_is_none_is_refused() -> None:
    assert refused(pile_m(), T_base_camera=2 * np.eye(4)).code == Code.POSE_INVALID


def shown(number: int, stamp_s: float) -> Frame:
    depth = pile_m()
    depth[64, 64] += number * np.float32(0.001)
    return make_frame(colour(), depth, CAMERA, stamp_s=stamp_s)


def test_the_same_picture_again_and_again_is_a_frozen_camera() -> None:
    watch = FrozenWatch(GateConfig(frozen_after=3))
    for stamp in range(3):
        watch.check(shown(0, stamp))
    for stamp in (3, 4):
        with pytest.raises(RobinError, match="the same picture") as caught:
            watch.check(shown(0, stamp))
        assert caught.value.code == Code.PICTURE_FROZEN
    for stamp in range(5, 20):
        watch.check(shown(stamp, stamp))  # it goes on


def test_one_moment_that_is_looked_at_twice_is_not_frozen() -> None:
    watch = FrozenWatch(GateConfig(frozen_after=2))
    for _ in range(10):
        watch.check(shown(0, 1.0))


def test_a_camera_that_may_repeat_its_picture_is_not_watched() -> None:
    watch = FrozenWatch(GateConfig(frozen_after=0))
    for stamp in range(30):
        watch.check(shown(0, stamp))
