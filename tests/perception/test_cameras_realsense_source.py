"""The RealSense sources from open to close, on recordings that the SDK's recorder made of a software device.

For the camera, such a recording is loaded into an rs.context: there it is a device with a serial number that is listed,
streams at its recorded pace, and can be unplugged (unloaded) and plugged in again, with the SDK's own notification.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

rs = pytest.importorskip("pyrealsense2", reason="pyrealsense2 is not installed")

from helpers.realsense_software import COLOR_SIZE, DEPTH_SIZE, SERIAL, record  # noqa: E402

from robin_cli.doctor.devices import realsense_checks  # noqa: E402
from robin_perception.cameras.realsense import RealSenseBagSource, RealSenseSource  # noqa: E402
from robin_perception.cameras.realsense_config import (  # noqa: E402
    ProcessingConfig,
    RealSenseBagConfig,
    RealSenseConfig,
)
from robin_perception.cameras.source import RECONNECT_CODES, make_source, source_config  # noqa: E402
from robin_perception.core.errors import Code, RobinError  # noqa: E402

FRAMES = 12
STREAMS: dict[str, Any] = {"color_width": 640, "color_height": 480, "depth_width": 424, "depth_height": 240}


def color(number: int) -> NDArray[np.uint8]:
    """Tells its number: a bar of red at column 40 * number."""
    image = np.zeros((COLOR_SIZE[1], COLOR_SIZE[0], 3), np.uint8)
    image[:, 40 * number : 40 * number + 10] = (200, 0, 0)
    return image


def number_of(rgb: NDArray[np.uint8]) -> int:
    return int(np.argmax(rgb[240, :, 0])) // 40


def depth(number: int) -> NDArray[np.uint16]:
    image = np.full((DEPTH_SIZE[1], DEPTH_SIZE[0]), 700 + number, np.uint16)
    image[:4] += 1  # depth of one value is refused
    return image


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("rs") / "both.db3"
    record(path, lambda k: (color(k), depth(k)), FRAMES)
    return path


@pytest.fixture(scope="module")
def usb2_recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("rs") / "usb2.db3"
    record(path, lambda k: (color(k), depth(k)), 2, serial="SW0002", usb="2.1")
    return path


class Usb:
    """A context without the machine's own cameras, in which recordings are plugged in and unplugged."""

    def __init__(self) -> None:
        self.context = rs.context('{"device-mask": 0}')
        self._plugged: dict[Path, Any] = {}

    def plug(self, path: Path) -> None:
        self._plugged[path] = self.context.load_device(str(path))

    def unplug(self, path: Path) -> None:
        self.context.unload_device(str(path))
        del self._plugged[path]


@pytest.fixture
def usb(recording: Path) -> Iterator[Usb]:
    usb = Usb()
    usb.plug(recording)
    yield usb


def camera(usb: Usb, **values: Any) -> RealSenseSource:
    settings = {**STREAMS, "warm_up_frames": 1, "max_silence_s": 1.0, **values}
    source = RealSenseSource(RealSenseConfig(**settings), context=usb.context)
    return source


def fails(code: Code, call: Any, *args: Any) -> str:
    with pytest.raises(RobinError) as caught:
        call(*args)
    assert caught.value.code == code, caught.value
    return caught.value.text


def test_camera_gives_frames_and_says_what_it_is(usb: Usb) -> None:
    pose = np.eye(4)
    pose[:3, 3] = (0.5, 0.1, 1.2)
    source = camera(usb, serial=SERIAL)
    assert not source.pose_known
    source.set_pose(pose)
    with source:
        frame = source.read(2.0).validated()
        facts = source.describe()
    assert frame.rgb.shape == (480, 640, 3) and frame.camera_id == SERIAL
    number = number_of(frame.rgb)
    assert 1 < number <= FRAMES  # the first went into the warm-up
    assert frame.depth[240, 320] == pytest.approx(0.7 + number / 1000, abs=1e-4)  # colour and depth of one moment
    assert (frame.T_base_camera == pose).all()
    assert facts["serial"] == SERIAL and facts["usb"] == "3.2" and facts["stamps"] == "global_time"
    assert facts["frames"] == 1 and facts["opened"] == 1 and facts["open"] and facts["pose_known"]


def test_unplugged_is_noticed_at_once_and_plugged_in_again_it_goes_on(usb: Usb, recording: Path) -> None:
    source = camera(usb, serial=SERIAL)
    source.open()
    source.read(2.0)
    usb.unplug(recording)
    started = time.monotonic()
    with pytest.raises(RobinError) as caught:
        for _ in range(FRAMES):
            source.read(2.0)
    assert caught.value.code == Code.CAMERA_UNPLUGGED and caught.value.code in RECONNECT_CODES
    assert time.monotonic() - started < 1.5
    assert SERIAL in fails(Code.CAMERA_NOT_FOUND, source.reopen)
    assert not source.is_open
    usb.plug(recording)
    source.reopen()
    assert source.read(2.0).depth.any()
    assert source.counters.opened == 2 and source.counters.failures == 1
    source.close()
    fails(Code.SOURCE_NOT_OPEN, source.read, 0.1)


def test_a_silent_camera_times_out_and_then_has_failed(usb: Usb) -> None:
    with camera(usb, max_silence_s=0.8) as source:
        codes = []
        for _ in range(60):
            try:
                source.read(0.3)
            except RobinError as exc:
                codes.append(exc.code)
                if exc.code != Code.FRAME_TIMEOUT:
                    break
        assert codes[0] == Code.FRAME_TIMEOUT and codes[-1] == Code.CAMERA_FAILED
        assert source.counters.timeouts == len(codes) - 1


def test_a_late_reader_gets_the_newest_frame_and_the_rest_is_counted(usb: Usb) -> None:
    with camera(usb, warm_up_frames=0) as source:
        first = number_of(source.read(2.0).rgb)
        time.sleep(0.6)
        second = number_of(source.read(2.0).rgb)
    assert second - first > 1
    assert source.counters.dropped == second - first - 1


def test_what_cannot_be_opened_says_what_there_is(usb: Usb, usb2_recording: Path) -> None:
    assert f"found: Software D435 {SERIAL}" in fails(Code.CAMERA_NOT_FOUND, camera(usb, serial="123").open)
    wrong = camera(usb, depth_width=1280, depth_height=720)
    text = fails(Code.CAMERA_PROFILE_UNSUPPORTED, wrong.open)
    assert "no depth stream 1280x720@30" in text and "offered: 424x240@30" in text
    assert "emitter" in fails(Code.CAMERA_PROFILE_UNSUPPORTED, camera(usb, sensor={"emitter": "laser"}).open)
    usb.plug(usb2_recording)
    assert "several" in fails(Code.CAMERA_NOT_FOUND, camera(usb).open)
    slow = camera(usb, serial="SW0002", fps=60)
    assert "USB 2" in fails(Code.CAMERA_PROFILE_UNSUPPORTED, slow.open)
    assert "doctor" in fails(Code.CAMERA_NOT_FOUND, camera(Usb()).open)


def test_without_the_sdk_the_text_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyrealsense2", None)
    source = make_source(source_config("realsense", {}))
    assert "robin-edge[realsense]" in fails(Code.DEPENDENCY_MISSING, source.open)
    check = realsense_checks()[0]
    assert not check.ok and not check.needed and "pip install" in check.remedy


def test_doctor_lists_cameras_with_firmware_and_usb_speed(usb: Usb, usb2_recording: Path, tmp_path: Path) -> None:
    usb.plug(usb2_recording)
    sdk, *cameras = realsense_checks(usb.context)
    assert sdk.ok and "pyrealsense2 2." in sdk.found
    fast, slow = sorted(cameras, key=lambda check: check.found)
    assert f"{SERIAL}, firmware 5.16.0.1 (recommended 5.17.0.9), USB 3.2" in fast.found
    assert "firmware" in fast.remedy and "USB 2" not in fast.remedy
    assert "USB 2.1" in slow.found and "use a USB 3 port" in slow.remedy

    none = realsense_checks(Usb().context, tmp_path)[1]
    assert not none.ok and "none plugged in" in none.found
    (tmp_path / "2-1").mkdir()
    (tmp_path / "2-1" / "idVendor").write_text("8086\n")
    (tmp_path / "2-1" / "product").write_text("Intel(R) RealSense(TM) Depth Camera 435\n")
    locked = realsense_checks(Usb().context, tmp_path)[1]
    assert "cannot open it" in locked.found and locked.remedy


def test_recording_gives_every_frame_in_order_even_to_a_slow_reader(recording: Path) -> None:
    source = make_source(source_config("realsense_bag", {"path": str(recording)}))
    seen, stamps = [], []
    with source:
        with pytest.raises(RobinError) as caught:
            while True:
                frame = source.read(5.0)
                seen.append(number_of(frame.rgb))
                stamps.append(frame.stamp_s)
                assert frame.depth[240, 320] == pytest.approx(0.7 + seen[-1] / 1000, abs=1e-4)
                time.sleep(0.05)
        assert caught.value.code == Code.END_OF_SOURCE
        fails(Code.END_OF_SOURCE, source.read, 0.2)
        assert source.describe()["camera"] == "Software D435"
    # While it starts, the SDK's syncer may give colour and depth of one moment as two sets: incomplete, but not lost.
    assert seen == sorted(set(seen)) and seen[-1] == FRAMES and len(seen) > FRAMES / 2
    np.testing.assert_allclose(np.diff(stamps), np.diff(seen) / 30, atol=1e-6)
    assert source.counters.frames == len(seen) and source.counters.dropped == 0


def test_recording_can_be_played_over_and_over_with_fresh_stamps(recording: Path) -> None:
    config = RealSenseBagConfig(path=str(recording), repeat=True, processing=ProcessingConfig(stamp="arrival"))
    with RealSenseBagSource(config) as source:
        stamps = [source.read(5.0).stamp_s for _ in range(2 * FRAMES)]
    assert (np.diff(stamps) > 0).all() and abs(stamps[-1] - time.time()) < 60


def test_colour_whose_depth_stays_away_is_named(tmp_path: Path) -> None:
    path = tmp_path / "no_depth_later.db3"
    record(path, lambda k: (color(k), depth(k) if k <= 3 else None), FRAMES)
    with RealSenseBagSource(RealSenseBagConfig(path=str(path))) as source:
        texts = []
        while not texts or texts[-1].code not in (Code.END_OF_SOURCE,):
            try:
                source.read(0.5)
            except RobinError as exc:
                texts.append(exc)
        assert source.counters.frames <= 3
        assert source.counters.incomplete >= FRAMES - 5


def test_recordings_that_cannot_be_used(tmp_path: Path, recording: Path) -> None:
    def opened(path: Path) -> Any:
        return RealSenseBagSource(RealSenseBagConfig(path=str(path))).open

    fails(Code.INPUT_MISSING, opened(tmp_path / "none.db3"))
    foreign = tmp_path / "foreign.bag"
    foreign.write_bytes(b"not a recording at all" * 100)
    assert "foreign.bag" in fails(Code.INPUT_UNREADABLE, opened(foreign))
    cut = tmp_path / "cut.db3"
    cut.write_bytes(recording.read_bytes()[:6000])
    assert "cut.db3" in fails(Code.INPUT_UNREADABLE, opened(cut))
