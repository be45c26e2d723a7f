"""The environment monitors: each fault is named, and by its own name; what is healthy is left alone."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path

import cv2
import numpy as np
import pytest
from helpers.station_frames import HEALTHY, Cell, Spoilt, frozen, station_frame

from robin_perception.core.condition import Condition, Family, PickingEffect
from robin_perception.core.errors import Code, RobinError
from robin_perception.core.frame import Frame
from robin_perception.core.scene import Scene
from robin_perception.monitors.baseline import StationBaseline, load_baseline, take_baseline
from robin_perception.monitors.cause import Surroundings
from robin_perception.monitors.config import MonitorsConfig
from robin_perception.monitors.look import Look, look_at, thinned_size
from robin_perception.monitors.optics import Blur
from robin_perception.monitors.reference import make_reference
from robin_perception.monitors.registration import ColourDepthApart
from robin_perception.monitors.registry import CAUSES
from robin_perception.monitors.sequential import SequentialTest, average_run_length, slack_for
from robin_perception.monitors.station import StationMonitor

FAULTS = {
    "dark": (Spoilt(light=0.2), Code.LIGHT_LOW),
    "over_exposed": (Spoilt(light=4.0), Code.LIGHT_EXCESSIVE),
    "blur": (Spoilt(blur_px=2.0), Code.PICTURE_BLURRED),
    "dirty_lens": (Spoilt(dirt=True), Code.LENS_DIRTY),
    "depth_holes": (Spoilt(holes=0.3), Code.DEPTH_HOLES),
    "camera_moved": (Spoilt(moved_px=9.0), Code.CAMERA_MOVED),
    "colour_depth_apart": (Spoilt(apart_px=8), Code.COLOUR_DEPTH_APART),
    "depth_unit": (Spoilt(unit=4.0), Code.DEPTH_UNIT_SUSPECT),
}


@cache
def baseline() -> StationBaseline:
    return take_baseline(station_frame(seed) for seed in range(30))


def watched(spoilt: Spoilt, frames: int = 5, monitor: StationMonitor | None = None, first: int = 100) -> StationMonitor:
    monitor = monitor or StationMonitor(MonitorsConfig(), baseline())
    for i in range(first, first + frames):
        monitor.observe(*station_frame(i, spoilt, stamp_s=float(i)))
    return monitor


def names(conditions: tuple[Condition, ...]) -> list[str]:
    return [condition.name for condition in conditions]


@pytest.mark.parametrize("name", FAULTS)
def test_each_fault_is_named_within_five_frames_and_nothing_else_is(name: str) -> None:
    spoilt, code = FAULTS[name]
    (condition,) = watched(spoilt).conditions
    assert (condition.name, condition.code, condition.family) == (name, code, Family.ENVIRONMENT)
    assert condition.value > condition.limit and condition.unit and condition.since_s == 100.0


@pytest.mark.parametrize(
    ("spoilt", "expected"),
    [
        (Spoilt(light=0.02), ["dark"]),
        (Spoilt(light=0.02, holes=0.4), ["dark", "depth_holes"]),
        (Spoilt(light=0.02, holes=0.95), ["dark", "depth_holes"]),
        (Spoilt(light=0.02, dirt=True), ["dark"]),
    ],
)
def test_where_it_is_too_dark_to_see_dirt_holes_are_what_comes_and_goes(spoilt: Spoilt, expected: list[str]) -> None:
    assert names(watched(spoilt).conditions) == expected


def named_at(cell: Cell, spoilt: Spoilt) -> list[str]:
    """By the end of five frames, at a station that was commissioned with these surroundings."""
    monitor = StationMonitor(MonitorsConfig(), take_baseline(station_frame(seed, cell=cell) for seed in range(30)))
    for i in range(100, 105):
        monitor.observe(*station_frame(i, spoilt, float(i), cell=cell))
    return names(monitor.conditions)


@pytest.mark.parametrize("cell", [Cell(), Cell(patterned=True)])
def test_a_dead_projector_is_no_dirt_on_a_plain_belt_nor_under_plain_goods(cell: Cell) -> None:
    assert named_at(cell, HEALTHY) == []
    assert named_at(cell, Spoilt(no_projector=True)) == ["depth_holes"]


def test_the_rim_of_dirt_is_no_hole_in_depth() -> None:
    assert named_at(Cell(), Spoilt(dirt=True, dirt_rim_px=40)) == ["dirty_lens"]


def test_a_white_belt_hides_no_excess_of_light() -> None:
    white = Cell(belt=0.8)
    assert named_at(white, HEALTHY) == []
    assert named_at(white, Spoilt(light=4.0)) == ["over_exposed"]


def belt_of_equal_brightness(shift_px: int, blur_px: float = 0.0) -> Frame:
    """Green goods on a reddish belt of the same grey between long lines, depth beside the colour."""
    rng = np.random.default_rng(5)
    frame = station_frame(0)[0]
    rgb = np.full_like(frame.rgb, (180, 90, 90))
    rgb[40:48], rgb[430:438], rgb[::24] = 30, 240, 150
    depth = np.full(frame.depth.shape, 1.2, dtype=np.float32)
    for x, y, w, h in rng.integers([100, 80, 60, 50], [480, 340, 110, 90], (5, 4)):
        rgb[y : y + h, x : x + w], depth[y : y + h, x : x + w] = (60, 150, 90), 1.12
    noisy = np.clip(rgb + rng.normal(0, 3, rgb.shape), 0, 255).astype(np.uint8)
    if blur_px:
        noisy = np.asarray(cv2.GaussianBlur(noisy, (0, 0), blur_px), dtype=np.uint8)
    depth = (np.roll(depth, shift_px, axis=1) + rng.normal(0, 0.002, depth.shape)).astype(np.float32)
    return replace(frame, rgb=noisy, depth=depth)


@pytest.mark.parametrize(("shift_px", "blur_px"), [(0, 0.0), (8, 0.0), (16, 0.0), (16, 2.5)])
def test_colour_alone_and_long_lines_tell_how_far_depth_lies_beside_it(shift_px: int, blur_px: float) -> None:
    cause, frame = ColourDepthApart(MonitorsConfig()), belt_of_equal_brightness(shift_px, blur_px)
    value = cause.measure(look_at(frame, np.zeros(frame.depth.shape, np.uint16)), Surroundings())
    assert value is not None and abs(value - shift_px) < 2.0


def unrelated(seed: int) -> Frame:
    """Rectangles in colour, and others in depth."""
    rng = np.random.default_rng([11, seed])
    frame = station_frame(0)[0]
    rgb, depth = np.full_like(frame.rgb, 90), np.full(frame.depth.shape, 1.2, dtype=np.float32)
    for x, y, w, h in rng.integers([40, 40, 40, 40], [520, 360, 110, 110], (6, 4)):
        rgb[y : y + h, x : x + w] = rng.integers(0, 255, 3)
    for x, y, w, h in rng.integers([40, 40, 40, 40], [520, 360, 110, 110], (3, 4)):
        depth[y : y + h, x : x + w] -= 0.06
    noisy = np.clip(rgb + rng.normal(0, 3, rgb.shape), 0, 255).astype(np.uint8)
    return replace(frame, rgb=noisy, depth=depth)


def test_outlines_that_fit_no_edges_tell_no_shift() -> None:
    """Rectangles fit each other by chance now and then: one of twelve does."""
    looks = [look_at(unrelated(seed), np.zeros((480, 640), np.uint16)) for seed in range(12)]
    told = [ColourDepthApart(MonitorsConfig()).measure(look, Surroundings()) for look in looks]
    assert told.count(None) >= 11


def picture_with_noisy_bright_half(seed: int, blur_px: float = 0.0) -> Frame:
    """Sharp marks on the dark half; the bright one is flat, and noisier than any blur could make it."""
    rng = np.random.default_rng(seed)
    grey = np.full((480, 640), 60.0, dtype=np.float32)
    grey[:, 320:] = 190
    grey[100:400:100, 20:300] = 150
    if blur_px:
        grey = np.asarray(cv2.GaussianBlur(grey, (0, 0), blur_px), dtype=np.float32)
    noise = rng.normal(size=grey.shape) * np.where(np.arange(640) < 320, 1.0, 4.0)
    rgb = np.repeat(np.clip(grey + noise, 0, 255).astype(np.uint8)[..., None], 3, axis=2)
    return replace(station_frame(0)[0], rgb=rgb)


def test_noise_of_bright_places_hides_no_blur() -> None:
    def look(seed: int, blur_px: float = 0.0) -> Look:
        return look_at(picture_with_noisy_bright_half(seed, blur_px), np.zeros((480, 640), np.uint16))

    cause, around = Blur(MonitorsConfig()), Surroundings(make_reference([look(seed) for seed in range(6)]))
    healthy, blurred = cause.measure(look(7), around), cause.measure(look(8, 1.2), around)
    assert healthy is not None and blurred is not None
    assert abs(healthy) < 0.2 and blurred > 0.5


def test_a_healthy_station_has_no_alarm() -> None:
    monitor = watched(HEALTHY, 40)
    assert monitor.conditions == () and monitor.learning_allowed


def test_a_frozen_camera_is_named_and_goes_on_after_it() -> None:
    monitor = watched(HEALTHY, 2)
    frame, scene = station_frame(7)
    for i in range(200, 208):
        found = monitor.observe(frozen(frame, float(i)), scene)
    assert names(found) == ["frozen"] and found[0].effect == PickingEffect.STOP
    assert watched(HEALTHY, 5, monitor, 300).conditions == ()


def test_two_faults_at_once_are_both_named() -> None:
    assert names(watched(Spoilt(dirt=True, holes=0.4)).conditions) == ["dirty_lens", "depth_holes"]
    assert names(watched(Spoilt(blur_px=2.0, holes=0.4)).conditions) == ["blur", "depth_holes"]


def test_one_odd_frame_is_no_alarm_and_an_alarm_ends_with_its_cause() -> None:
    monitor = watched(HEALTHY, 3)
    assert watched(FAULTS["dark"][0], 1, monitor, 103).conditions == ()
    assert watched(HEALTHY, 3, monitor, 104).conditions == ()
    assert names(watched(FAULTS["dark"][0], 4, monitor, 110).conditions) == ["dark"]
    assert not monitor.learning_allowed
    assert watched(HEALTHY, 4, monitor, 120).conditions == () and monitor.learning_allowed


def test_a_moved_camera_is_told_with_direction_and_size_and_stops_picking() -> None:
    (condition,) = watched(Spoilt(moved_px=9.0)).conditions
    shift_mm = 1e3 * 9.0 / 600.0 * 1.2
    assert condition.effect == PickingEffect.STOP and condition.value == pytest.approx(shift_mm, abs=3)
    assert f"{-shift_mm:+.0f}" in condition.text or f"{shift_mm:+.0f}" in condition.text
    assert "degrees" in condition.text


def test_a_small_move_slows_down_and_does_not_stop() -> None:
    (condition,) = watched(Spoilt(moved_px=5.0)).conditions
    assert condition.name == "camera_moved" and condition.effect == PickingEffect.SLOW_DOWN


def test_the_same_frame_twice_counts_once() -> None:
    monitor = StationMonitor(MonitorsConfig(), baseline())
    frame, scene = station_frame(1, FAULTS["dark"][0], stamp_s=1.0)
    for _ in range(10):
        assert monitor.observe(frame, scene) == ()


def test_a_clock_that_jumps_back_starts_anew() -> None:
    monitor = watched(FAULTS["dark"][0], 4)
    assert names(monitor.conditions) == ["dark"]
    assert watched(HEALTHY, 1, monitor, 0).conditions == ()


def test_a_frame_of_another_size_runs_on_defaults_and_says_so() -> None:
    monitor = watched(HEALTHY, 1)
    frame, scene = station_frame(1, stamp_s=500.0)
    small = type(frame)(
        frame.rgb[:240],
        frame.depth[:240],
        frame.K - np.array([[0, 0, 0], [0, 0, 120], [0, 0, 0]]),
        frame.T_base_camera,
        500.0,
        "cell",
    )
    found = monitor.observe(small, type(scene)(500.0, "test", scene.labels[:240], (), scene.boundary))
    assert [condition.code for condition in found] == [Code.BASELINE_FOREIGN] and "640x240" in found[0].text


def test_a_baseline_of_another_camera_or_pose_is_told_and_defaults_hold() -> None:
    monitor = StationMonitor(MonitorsConfig(), baseline())
    for i in range(5):
        found = monitor.observe(*station_frame(i, Spoilt(unit=4.0), float(i), camera_id="other"))
    assert names(found) == ["baseline", "depth_unit"]
    assert found[0].code == Code.BASELINE_FOREIGN and "'other'" in found[0].text and found[0].since_s == 0.0
    frame, scene = station_frame(1, stamp_s=9.0)
    frame.T_base_camera[2, 3] += 0.01
    assert "calibrated anew" in StationMonitor(MonitorsConfig(), baseline()).observe(frame, scene)[0].text


def test_a_damaged_or_missing_baseline_is_told_and_defaults_hold(tmp_path: Path) -> None:
    path = tmp_path / "cell.baseline"
    for content, code in ((b"", Code.BASELINE_DAMAGED), (None, Code.INPUT_MISSING)):
        path.unlink(missing_ok=True)
        if content is not None:
            path.write_bytes(content)
        found = StationMonitor.of(MonitorsConfig(baseline=path)).observe(*station_frame(1))
        assert [condition.code for condition in found] == [code] and "defaults" in found[0].text


def test_a_frame_that_the_gate_refuses_counts_for_its_cause() -> None:
    monitor = watched(HEALTHY, 2)
    for i in range(4):
        found = monitor.refused(Code.DEPTH_UNIT_SUSPECT, 200.0 + i)
    assert names(found) == ["depth_unit"] and found[0].since_s == 200.0
    assert monitor.refused(Code.DEPTH_EMPTY, 205.0) == found


def test_monitors_can_be_switched_off() -> None:
    assert StationMonitor(MonitorsConfig(enabled=False)).observe(*station_frame(1, FAULTS["dark"][0])) == ()


def test_readings_tell_every_cause() -> None:
    readings = watched(HEALTHY, 3).readings()
    assert [reading.name for reading in readings] == [cause.name for cause in CAUSES]
    assert all(reading.limit > reading.usual for reading in readings)


def test_a_baseline_comes_back_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "cell.baseline"
    baseline().save(path)
    read = load_baseline(path)
    assert read.to_bytes() == baseline().to_bytes()
    assert read.usual == baseline().usual and read.frames == 30
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("at", [20, 3000, -40])
def test_a_changed_byte_is_found(tmp_path: Path, at: int) -> None:
    data = bytearray(baseline().to_bytes())
    data[at] ^= 0x11
    (tmp_path / "cell.baseline").write_bytes(bytes(data))
    with pytest.raises(RobinError) as caught:
        load_baseline(tmp_path / "cell.baseline")
    assert caught.value.code == Code.BASELINE_DAMAGED


def test_a_baseline_needs_enough_frames_of_one_camera_that_show_the_cell() -> None:
    with pytest.raises(RobinError, match="5 frames were given, 30 are needed") as caught:
        take_baseline(station_frame(i) for i in range(5))
    assert caught.value.code == Code.BASELINE_TOO_SHORT
    with pytest.raises(RobinError) as caught:
        take_baseline(station_frame(i, camera_id=f"camera{i // 20}") for i in range(30))
    assert caught.value.code == Code.BASELINE_FOREIGN
    covered = [
        (frame, type(scene)(0.0, "test", np.ones_like(scene.labels), (), scene.boundary))
        for frame, scene in (station_frame(i) for i in range(30))
    ]
    with pytest.raises(RobinError, match="goods hide"):
        take_baseline(covered)


def test_the_slack_keeps_the_stated_false_alarm_rate() -> None:
    slack = slack_for(20_000.0, 10, 3)
    assert average_run_length(slack, 1 / 3, 10) * 10 == pytest.approx(20_000.0, rel=0.01)
    assert slack_for(200_000.0, 10, 3) > slack > slack_for(2_000.0, 10, 3)
    rng = np.random.default_rng(0)
    scenes = rng.standard_t(10, size=20_000)
    test, alarms, standing = SequentialTest(slack_for(2_000.0, 10, 3), 3), 0, False
    for deviation in scenes:
        for _ in range(10):
            test.update(deviation, 0.0)
            alarms += test.alarm and not standing
            standing = test.alarm
    assert 50 < alarms < 200  # 100 are expected of 200,000 frames


def test_no_alarm_comes_before_the_least_number_of_frames() -> None:
    test = SequentialTest(4.0, 3)
    told = []
    for stamp in range(4):
        test.update(1e6, float(stamp))
        told.append(test.alarm)
    assert told == [False, False, True, True] and test.since_s == 0.0


def test_a_setting_of_one_cause_leaves_its_others_as_they_are() -> None:
    config = MonitorsConfig.model_validate({"camera_moved": {"tolerated": 9.0}})
    usual = MonitorsConfig().camera_moved
    assert config.camera_moved.tolerated == 9.0
    assert (config.camera_moved.effect, config.camera_moved.stop_beyond) == (usual.effect, usual.stop_beyond)
    with pytest.raises(ValueError, match="tolerate"):
        MonitorsConfig.model_validate({"dark": {"tolerate": 1.0}})


@pytest.mark.parametrize("size", [(1280, 720), (320, 240), (848, 480)])
def test_frames_of_any_size_are_watched(size: tuple[int, int]) -> None:
    def resized(seed: int, spoilt: Spoilt, stamp_s: float) -> tuple[Frame, Scene]:
        frame, scene = station_frame(seed, spoilt, stamp_s)
        rgb = np.asarray(cv2.resize(frame.rgb, size, interpolation=cv2.INTER_NEAREST), dtype=np.uint8)
        depth, labels = (cv2.resize(i, size, interpolation=cv2.INTER_NEAREST) for i in (frame.depth, scene.labels))
        scale = np.diag((size[0] / 640, size[1] / 480, 1.0))
        frame = replace(frame, rgb=rgb, depth=np.asarray(depth, dtype=np.float32), K=scale @ frame.K)
        return frame, replace(scene, labels=np.asarray(labels, dtype=np.uint16))

    monitor = StationMonitor(MonitorsConfig(), take_baseline(resized(seed, HEALTHY, float(seed)) for seed in range(30)))
    for i in range(100, 105):
        assert monitor.observe(*resized(i, HEALTHY, float(i))) == ()
    for i in range(105, 110):
        found = monitor.observe(*resized(i, Spoilt(light=0.2), float(i)))
    assert names(found) == ["dark"]


def test_a_camera_that_sees_none_of_its_marks_is_moved() -> None:
    monitor = StationMonitor(MonitorsConfig(), baseline())
    noise = np.random.default_rng(1).integers(0, 225, (60, 80, 3)).astype(np.uint8)
    elsewhere = np.asarray(cv2.resize(noise, (640, 480)), dtype=np.uint8)
    for i in range(4):
        frame, scene = station_frame(i, stamp_s=float(i))
        grain = np.random.default_rng(i).integers(0, 4, elsewhere.shape).astype(np.uint8)
        found = monitor.observe(replace(frame, rgb=elsewhere + grain), scene)
    (condition,) = (c for c in found if c.name == "camera_moved")
    assert condition.effect == PickingEffect.STOP and "nowhere near" in condition.text


@pytest.mark.parametrize("size", [(640, 480), (848, 480), (1280, 720), (1920, 1080)])
def test_a_picture_of_any_size_is_thinned_to_the_means_of_its_pixels(size: tuple[int, int]) -> None:
    frame, _ = station_frame(100)
    rgb = cv2.resize(frame.rgb, size, interpolation=cv2.INTER_AREA)
    K = np.diag((size[0] / frame.width, size[1] / frame.height, 1.0)) @ frame.K
    wide = Frame(rgb, np.full(size[::-1], 1.2, np.float32), K, frame.T_base_camera)
    look = look_at(wide, np.zeros(size[::-1], np.uint16))
    means = cv2.resize(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY), look.grey.shape[::-1], interpolation=cv2.INTER_AREA)
    off = np.abs(look.grey - means)
    assert off.mean() < 1.0 and off.max() < 40  # rails are 100 brighter than the belt; half a row may go to the next
    assert look.grey.shape == thinned_size(*size)[::-1] and look.fine.shape == look.cell_free.shape
    rails = look.coarse.max(axis=1) > 10 * np.median(look.coarse)
    assert rails.any() and not rails.all()
