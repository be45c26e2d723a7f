"""What the monitors tell at stations that are not plain: black belts, dirt over dark floors, few marks, odd frames."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from helpers.station_frames import HEALTHY, Cell, Spoilt, station_frame

from robin_perception.core.frame import Frame
from robin_perception.core.scene import Scene
from robin_perception.monitors.baseline import StationBaseline, take_baseline
from robin_perception.monitors.cause import Usual
from robin_perception.monitors.config import MonitorsConfig
from robin_perception.monitors.motion import Motion, together
from robin_perception.monitors.station import StationMonitor

MM_PER_PX = 1e3 * 1.2 / 600.0
PLAIN = Cell()


@pytest.fixture(scope="module")
def baseline() -> StationBaseline:
    return take_baseline(station_frame(seed) for seed in range(30))


def value_of(monitor: StationMonitor, name: str) -> float:
    return next(reading.value for reading in monitor.readings() if reading.name == name)


def after(baseline: StationBaseline, spoilt: Spoilt, frames: int = 5, cell: Cell = PLAIN) -> StationMonitor:
    monitor = StationMonitor(MonitorsConfig(), baseline)
    for i in range(100, 100 + frames):
        monitor.observe(*station_frame(i, spoilt, float(i), cell=cell))
    return monitor


def names(monitor: StationMonitor) -> list[str]:
    return [condition.name for condition in monitor.conditions]


def test_noise_on_a_black_belt_is_no_light() -> None:
    black = Cell(belt=0.002)
    baseline = take_baseline(station_frame(seed, cell=black) for seed in range(30))
    assert names(after(baseline, HEALTHY, cell=black)) == []
    assert names(after(baseline, Spoilt(light=0.2), cell=black)) == ["dark"]


@pytest.mark.parametrize("moved_px", [3.0, 5.0, 9.0])
def test_a_move_is_told_by_what_it_is(baseline: StationBaseline, moved_px: float) -> None:
    monitor = after(baseline, Spoilt(moved_px=moved_px))
    assert value_of(monitor, "camera_moved") == pytest.approx(moved_px * MM_PER_PX, abs=1.0)
    assert (names(monitor) == ["camera_moved"]) == (moved_px * MM_PER_PX > 6.0)


def test_frames_before_a_move_do_not_hide_it(baseline: StationBaseline) -> None:
    monitor = after(baseline, HEALTHY)
    for i in range(105, 108):
        monitor.observe(*station_frame(i, Spoilt(moved_px=5.0), float(i)))
    assert names(monitor) == ["camera_moved"]


def test_what_was_usual_of_a_distance_is_not_added_to_what_is_tolerated(baseline: StationBaseline) -> None:
    usual = {**baseline.usual, "camera_moved": Usual(3.0, 0.5)}
    moved = after(replace(baseline, usual=usual), Spoilt(moved_px=4.0))
    (reading,) = (reading for reading in moved.readings() if reading.name == "camera_moved")
    assert (reading.usual, reading.limit) == (0.0, pytest.approx(6.0)) and names(moved) == ["camera_moved"]


def test_frames_together_are_surer_than_one_but_not_without_end() -> None:
    seen = np.diag([1e6] * 3 + [1e7] * 3)
    motions = [Motion(np.array([1e-3 * k, 0, 0, 0, 0, 0]), seen) for k in (1, 3)]
    assert not motions[0].contradicts(motions[1])
    both, many = together(motions), together(motions * 50)
    assert both.twist[0] == pytest.approx(2e-3) and many.twist == pytest.approx(both.twist)
    here = np.array([[0.0, 0.0, 1.0]])
    one, two, all_of_them = (np.trace(motion.shift_of(here)[1][0]) for motion in (motions[0], both, many))
    assert two == pytest.approx(0.625 * one) and 0.25 * one < all_of_them < 0.26 * one


def test_a_shift_turns_with_the_camera_and_what_nothing_tells_is_no_shift() -> None:
    turned = Motion(np.array([0.0, 0, 0, 0, 0, 0.1]), np.diag([0.0, 0, 0, 0, 0, 1e6]))
    shifts, covariances = turned.shift_of(np.array([[1.0, 0.0, 2.0], [0.0, 3.0, 1.0]]))
    assert shifts == pytest.approx(np.array([[0.0, 0.1, 0.0], [-0.3, 0.0, 0.0]]))
    assert covariances[0] == pytest.approx(np.diag([0.0, 1e-6, 0.0])), "nothing is told of the rest, and nothing is off"


def test_motions_that_differ_by_more_than_their_errors_contradict_each_other() -> None:
    seen = np.diag([1e6] * 3 + [1e7] * 3)
    here, there = Motion(np.zeros(6), seen), Motion(np.array([0.012, 0, 0, 0, 0, 0]), seen)
    assert here.contradicts(there) and there.contradicts(here)
    unseen = Motion(np.zeros(6), np.diag([0.0, 1e6, 1e6, 1e7, 1e7, 1e7]))
    assert not unseen.contradicts(there), "along the belt it says nothing"


def dark_floor(seed: int, dirt: bool) -> tuple[Frame, Scene]:
    """Nearly black, with two bright parcels over most of it; dirt over the plain edge of the floor, a little brighter
    than that and far darker than the goods."""
    frame, scene = station_frame(seed, stamp_s=float(seed), cell=Cell(belt=0.004))
    rgb, depth, labels = frame.rgb.copy(), frame.depth.copy(), np.zeros_like(scene.labels)
    goods = np.random.default_rng(seed)
    for number, left in enumerate((130, 345) if seed >= 100 else (), 1):
        box = np.s_[62:418, left : left + 215]
        rgb[box], depth[box], labels[box] = goods.integers(180, 200), 1.1, number
    for place, grey, there in ((np.s_[150:360, 570:640], 20, True), (np.s_[180:330, 575:640], 38, dirt)):
        if there:
            rgb[place] = (grey + goods.integers(0, 3, rgb[place].shape[:2])[..., None]).astype(np.uint8)
            depth[place] = 1.2 if grey == 20 else 0.0
    return replace(frame, rgb=rgb, depth=depth), replace(scene, labels=labels)


def test_dirt_over_a_dark_floor_is_seen_beside_bright_goods() -> None:
    baseline = take_baseline(dark_floor(seed, dirt=False) for seed in range(30))
    for dirt, expected in ((False, 0.0), (True, 0.008)):
        monitor = StationMonitor(MonitorsConfig(), baseline)
        for i in range(100, 105):
            monitor.observe(*dark_floor(i, dirt))
        found = value_of(monitor, "dirty_lens")
        assert (found > expected and names(monitor) == ["dirty_lens"]) if dirt else found == expected


def printed_parcel_without_mask(seed: int, blur_px: float) -> tuple[Frame, Scene]:
    """As when a blurred picture is segmented badly: something with strong print lies on a rail, and no mask says so."""
    frame, scene = station_frame(seed, Spoilt(blur_px=blur_px), float(seed))
    rgb = frame.rgb.copy()
    rgb[30:60, :300] = np.where(np.arange(300) // 8 % 2, 130, 200)[None, :, None]
    return replace(frame, rgb=rgb), scene


def test_goods_without_a_mask_hide_no_blur(baseline: StationBaseline) -> None:
    monitor = StationMonitor(MonitorsConfig(), baseline)
    for i in range(100, 105):
        monitor.observe(*printed_parcel_without_mask(i, blur_px=2.0))
    assert "blur" in names(monitor)


def test_dirt_over_most_edges_is_no_blur(baseline: StationBaseline) -> None:
    """A veil takes sharpness as blur does, and depth, which blur does not."""
    monitor = StationMonitor(MonitorsConfig(), baseline)
    for i in range(100, 105):
        frame, scene = station_frame(i, stamp_s=float(i))
        rgb, depth = frame.rgb.copy(), frame.depth.copy()
        rgb[:460] = 0.7 * rgb[:460].mean(axis=(0, 1)) + 0.3 * rgb[:460]
        depth[:460] = 0.0
        monitor.observe(replace(frame, rgb=rgb, depth=depth), scene)
    assert "dirty_lens" in names(monitor) and "blur" not in names(monitor)


def named_beside_goods(baseline: StationBaseline, place: tuple[slice, slice], grey: int, goods_px: int) -> list[str]:
    """What 16 frames name in which a place is plain and has no depth, and no mask says what it is. goods_px: width of
    the picture that a parcel hides, so that few edges of the cell are left."""
    monitor, found = StationMonitor(MonitorsConfig(), baseline), set()
    for i in range(100, 116):
        frame, scene = station_frame(i, stamp_s=float(i))
        rgb, depth, labels = frame.rgb.copy(), frame.depth.copy(), scene.labels.copy()
        rgb[place], depth[place] = grey, 0.0
        labels[:, :goods_px] = 1
        monitor.observe(replace(frame, rgb=rgb, depth=depth), replace(scene, labels=labels))
        found.update(names(monitor))
    return sorted(found)


def test_a_black_bag_without_a_mask_is_no_dirt(baseline: StationBaseline) -> None:
    """It takes edges and their depth as dirt does, but dirt scatters light."""
    place = np.s_[100:300, 490:560]
    assert named_beside_goods(baseline, place, grey=12, goods_px=0) == []
    assert named_beside_goods(baseline, place, grey=150, goods_px=0) == ["dirty_lens"]


def test_one_edge_that_has_gone_is_no_dirt(baseline: StationBaseline) -> None:
    assert named_beside_goods(baseline, np.s_[124:148, 508:532], grey=118, goods_px=500) == []


def test_dirt_is_named_where_the_camera_may_have_moved(baseline: StationBaseline) -> None:
    """A shift on its way to its limit: edges say nothing then, what stays in the same pixels does."""
    monitor = after(baseline, Spoilt(dirt=True, moved_px=2.4), frames=6)
    moved = next(reading for reading in monitor.readings() if reading.name == "camera_moved")
    assert 0.6 * moved.limit < moved.value < moved.limit
    assert names(monitor) == ["dirty_lens"]
