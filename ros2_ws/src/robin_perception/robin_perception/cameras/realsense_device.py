"""The RealSense SDK's devices: which there are, which streams they offer, setting their options."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module, metadata
from typing import Any

from robin_perception.cameras.realsense_config import RealSenseConfig, RealSenseSensorConfig
from robin_perception.core.errors import Code, RobinError


@dataclass(frozen=True)
class RealSenseInfo:
    """What a camera says about itself; empty text where it says nothing. usb: the bus it runs on, "3.2" or "2.1"."""

    serial: str
    name: str
    firmware: str
    recommended_firmware: str
    usb: str

    @property
    def on_usb2(self) -> bool:
        return self.usb.startswith("2")


def sdk() -> Any:
    """The module pyrealsense2, imported on first use. Raises RobinError DEPENDENCY_MISSING with what to do."""
    try:
        return import_module("pyrealsense2")
    except ImportError as exc:
        text = str(exc).splitlines()[0]
        remedy = "apt install libusb-1.0-0" if "libusb" in text else "pip install 'robin-edge[realsense]'"
        raise RobinError(Code.DEPENDENCY_MISSING, f"pyrealsense2 does not load ({text}): {remedy}") from None


def sdk_version() -> str:
    """Version of the installed package. Raises RobinError DEPENDENCY_MISSING."""
    try:
        return metadata.version("pyrealsense2")
    except metadata.PackageNotFoundError:
        return str(getattr(sdk(), "__version__", "unknown"))


def device_info(device: Any) -> RealSenseInfo:
    """Facts of one SDK device."""
    keys = sdk().camera_info

    def get(key: Any) -> str:
        try:
            return str(device.get_info(key)) if device.supports(key) else ""
        except RuntimeError:  # unplugged between the two calls
            return ""

    return RealSenseInfo(
        get(keys.serial_number),
        get(keys.name),
        get(keys.firmware_version),
        get(keys.recommended_firmware_version),
        get(keys.usb_type_descriptor),
    )


def list_devices(context: Any = None) -> list[RealSenseInfo]:
    """Cameras that are plugged in and may be opened. Raises RobinError DEPENDENCY_MISSING, CAMERA_FAILED."""
    rs = sdk()
    try:
        return [device_info(device) for device in (context or rs.context()).query_devices()]
    except RuntimeError as exc:
        raise RobinError(Code.CAMERA_FAILED, f"looking for RealSense cameras: {_one_line(exc)}") from None


def find_device(context: Any, serial: str) -> Any:
    """The SDK device with this serial number, or the only one. Raises RobinError CAMERA_NOT_FOUND, CAMERA_FAILED."""
    try:
        devices = list(context.query_devices())
    except RuntimeError as exc:
        raise RobinError(Code.CAMERA_FAILED, f"looking for RealSense cameras: {_one_line(exc)}") from None
    found = [(device_info(device), device) for device in devices]
    names = ", ".join(f"{info.name} {info.serial}" for info, _ in found) or "none"
    if serial:
        for info, device in found:
            if info.serial == serial:
                return device
        raise RobinError(Code.CAMERA_NOT_FOUND, f"no RealSense camera with serial number {serial}; found: {names}")
    if not found:
        raise RobinError(Code.CAMERA_NOT_FOUND, "no RealSense camera found; `robin doctor` says what may be missing")
    if len(found) > 1:
        raise RobinError(Code.CAMERA_NOT_FOUND, f"several RealSense cameras, name one by its serial number: {names}")
    return found[0][1]


def check_profiles(device: Any, config: RealSenseConfig) -> None:
    """Raise RobinError CAMERA_PROFILE_UNSUPPORTED, with what there is, unless the device offers both streams."""
    rs = sdk()
    wanted = (
        (rs.stream.color, rs.format.rgb8, config.color_width, config.color_height),
        (rs.stream.depth, rs.format.z16, config.depth_width, config.depth_height),
    )
    for stream, pixel, width, height in wanted:
        offered = {
            (video.width(), video.height(), video.fps())
            for profile in _profiles(device)
            if profile.stream_type() == stream and profile.format() == pixel
            for video in (profile.as_video_stream_profile(),)
        }
        if (width, height, config.fps) not in offered:
            name = str(stream).rsplit(".", 1)[-1]
            listed = ", ".join(f"{w}x{h}@{fps}" for w, h, fps in sorted(offered)) or "none"
            text = f"no {name} stream {width}x{height}@{config.fps} on this camera; offered: {listed}"
            usb = " (it runs on USB 2, which offers fewer)" if device_info(device).on_usb2 else ""
            raise RobinError(Code.CAMERA_PROFILE_UNSUPPORTED, text + usb)


def set_global_time(device: Any, enabled: bool) -> None:
    """Stamps in the host's clock, for every sensor that can."""
    option = sdk().option.global_time_enabled
    for sensor in device.query_sensors():
        if sensor.supports(option) and not sensor.is_option_read_only(option):
            sensor.set_option(option, float(enabled))


def set_options(depth: Any, color: Any, config: RealSenseSensorConfig) -> dict[str, float]:
    """Set what ``config`` does not leave alone on the two sensors; returns name -> value as set, in the SDK's units.

    Raises RobinError CAMERA_PROFILE_UNSUPPORTED where a sensor lacks the option or refuses the value.
    """
    done: dict[str, float] = {}
    for sensor, name, option, value in _wanted_options(depth, color, config):
        done[name] = _set(sensor, name, option, value)
    return done


def sensor_with(device: Any, stream: Any) -> Any:
    """The sensor that offers ``stream``. Raises RobinError CAMERA_PROFILE_UNSUPPORTED."""
    for sensor in device.query_sensors():
        if any(profile.stream_type() == stream for profile in sensor.get_stream_profiles()):
            return sensor
    name = str(stream).rsplit(".", 1)[-1]
    raise RobinError(Code.CAMERA_PROFILE_UNSUPPORTED, f"{device_info(device).name}: no {name} sensor")


def _wanted_options(depth: Any, color: Any, config: RealSenseSensorConfig) -> Iterator[tuple[Any, str, Any, float]]:
    """Presets first, because they set the others; automatics before the value that they would govern."""
    option = sdk().option
    if config.visual_preset != "leave":
        preset = getattr(sdk().rs400_visual_preset, config.visual_preset)
        yield depth, "visual_preset", option.visual_preset, float(preset)
    if config.emitter != "leave":
        yield depth, "emitter", option.emitter_enabled, float(("off", "laser", "auto").index(config.emitter))
    if config.laser_power_mw >= 0:
        yield depth, "laser_power_mw", option.laser_power, config.laser_power_mw
    exposures = (
        (depth, "depth", config.depth_auto_exposure, config.depth_exposure_us),
        (color, "color", config.color_auto_exposure, config.color_exposure_us / 100),
    )
    for sensor, name, switch, value in exposures:
        if value >= 0 or switch != "leave":
            automatic = float(switch == "on" and value < 0)
            yield sensor, f"{name}_auto_exposure", option.enable_auto_exposure, automatic
        if value >= 0:
            yield sensor, f"{name}_exposure", option.exposure, value
    for sensor, name, gain in ((depth, "depth_gain", config.depth_gain), (color, "color_gain", config.color_gain)):
        if gain >= 0:
            yield sensor, name, option.gain, gain
    white = config.color_white_balance_k
    if white >= 0 or config.color_auto_white_balance != "leave":
        automatic = float(config.color_auto_white_balance == "on")
        yield color, "color_auto_white_balance", option.enable_auto_white_balance, automatic
    if white >= 0:
        yield color, "color_white_balance_k", option.white_balance, white


def _set(sensor: Any, name: str, option: Any, value: float) -> float:
    if not sensor.supports(option) or sensor.is_option_read_only(option):
        raise RobinError(Code.CAMERA_PROFILE_UNSUPPORTED, f"this camera has no settable option {name}")
    allowed = sensor.get_option_range(option)
    if not allowed.min <= value <= allowed.max:
        raise RobinError(
            Code.CAMERA_PROFILE_UNSUPPORTED,
            f"{name}: {value:g} is outside this camera's {allowed.min:g} to {allowed.max:g}, steps of {allowed.step:g}",
        )
    try:
        sensor.set_option(option, value)
        return float(sensor.get_option(option))
    except RuntimeError as exc:
        raise RobinError(Code.CAMERA_PROFILE_UNSUPPORTED, f"{name}: {value:g} refused: {_one_line(exc)}") from None


def _profiles(device: Any) -> list[Any]:
    return [profile for sensor in device.query_sensors() for profile in sensor.get_stream_profiles()]


def _one_line(exc: Exception) -> str:
    return (str(exc) or type(exc).__name__).splitlines()[0]
