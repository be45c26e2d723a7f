"""What ``robin doctor`` finds out about RealSense cameras and ROS 2. Neither is needed for the demo."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from robin_cli.doctor.check import MachineCheck
from robin_cli.doctor.child import how_it_ended
from robin_perception.cameras.realsense_device import RealSenseInfo, list_devices, sdk, sdk_version
from robin_perception.core.errors import RobinError

USB_DEVICES = Path("/sys/bus/usb/devices")
UDEV_FOLDERS = (Path("/etc/udev/rules.d"), Path("/usr/lib/udev/rules.d"), Path("/lib/udev/rules.d"))
_RULES = "put 99-realsense-libusb.rules of librealsense's config folder into /etc/udev/rules.d, then plug in again"
_INTEL = "8086"
_ROS_TIMEOUT_S = 30.0

# Runs in a process of its own: only nodes import ROS, and a broken ROS must not take the doctor with it.
_ASK_ROS = """
import json
found = {}
try:
    import rclpy
    from rclpy.utilities import get_rmw_implementation_identifier
    found["rmw"] = get_rmw_implementation_identifier()
except BaseException as exc:
    found["rclpy_error"] = (str(exc) or type(exc).__name__).splitlines()[0]
try:
    import robin_msgs.msg
except BaseException as exc:
    found["robin_msgs_error"] = (str(exc) or type(exc).__name__).splitlines()[0]
try:
    import launch_ros
    found["launch_ros"] = True
except BaseException:
    found["launch_ros"] = False
print(json.dumps(found))
"""


def realsense_checks(context: Any = None, usb: Path = USB_DEVICES) -> list[MachineCheck]:
    """The SDK, then one line per camera. context: an rs.context to look in (None: this machine's USB)."""
    try:
        sdk()
    except RobinError as exc:
        text, _, remedy = exc.text.rpartition(": ")
        return [MachineCheck("RealSense SDK", False, False, text, remedy)]
    package = MachineCheck("RealSense SDK", True, False, f"pyrealsense2 {sdk_version()}")
    try:
        devices = list_devices(context)
    except RobinError as exc:
        return [package, MachineCheck("RealSense camera", False, False, exc.text, _RULES)]
    if devices:
        return [package, *(_camera(device) for device in devices)]
    return [package, _no_camera(usb)]


def ros_checks() -> list[MachineCheck]:
    """rclpy with its middleware and domain, our messages, launch_ros."""
    if find_spec("rclpy") is None:
        remedy = "make ros (wheels), or install ROS 2 Jazzy and source its setup.bash"
        return [MachineCheck("ROS 2", False, False, "not installed (not needed for the demo)", remedy)]
    found = _ask_ros()
    if "rclpy_error" in found:
        remedy = "make ros, or source the setup.bash of your ROS 2"
        return [MachineCheck("ROS 2", False, False, f"rclpy does not load: {found['rclpy_error']}", remedy)]
    distribution = os.environ.get("ROS_DISTRO", "jazzy, by wheels" if _from_wheels() else "unknown distribution")
    discovery = os.environ.get("ROS_AUTOMATIC_DISCOVERY_RANGE", "SUBNET")
    domain = os.environ.get("ROS_DOMAIN_ID", "0")
    ros = MachineCheck("ROS 2", True, False, f"{distribution}; {found['rmw']}; domain {domain}; discovery {discovery}")
    return [ros, _messages(found), _launch(found)]


def _camera(device: RealSenseInfo) -> MachineCheck:
    usb = f"USB {device.usb}" if device.usb else "bus unknown"
    firmware = f"firmware {device.firmware or 'unknown'}"
    advice = []
    if device.on_usb2:
        advice.append("USB 2 offers lower resolutions and rates only: use a USB 3 port and cable")
    if device.recommended_firmware and _version(device.firmware) < _version(device.recommended_firmware):
        firmware += f" (recommended {device.recommended_firmware})"
        advice.append("update the firmware with rs-fw-update or the RealSense Viewer")
    return MachineCheck(
        "RealSense camera", True, False, f"{device.name} {device.serial}, {firmware}, {usb}", "; ".join(advice)
    )


def _no_camera(usb: Path) -> MachineCheck:
    """Tells a camera that is not there from one that this user may not open."""
    seen = _on_usb(usb)
    if not seen:
        return MachineCheck("RealSense camera", False, False, "none plugged in (not needed)")
    ruled = any(any(folder.glob("*realsense*.rules")) for folder in UDEV_FOLDERS)
    remedy = "unplug it and plug it in again; is another program using it?" if ruled else _RULES
    return MachineCheck("RealSense camera", False, False, f"{seen} is on USB, but the SDK cannot open it", remedy)


def _on_usb(usb: Path) -> str:
    """Product name of the first RealSense camera that the kernel lists."""
    for vendor in sorted(usb.glob("*/idVendor")):
        try:
            product = (vendor.parent / "product").read_text().strip()
            if vendor.read_text().strip() == _INTEL and "realsense" in product.lower():
                return product
        except OSError:
            continue
    return ""


def _ask_ros() -> dict[str, Any]:
    try:
        done = subprocess.run(
            [sys.executable, "-c", _ASK_ROS], capture_output=True, timeout=_ROS_TIMEOUT_S, check=False
        )
        answer = json.loads(done.stdout.splitlines()[-1])
        assert isinstance(answer, dict)
        return answer
    except subprocess.TimeoutExpired:
        return {"rclpy_error": f"no answer within {_ROS_TIMEOUT_S:g} s"}
    except OSError as exc:
        return {"rclpy_error": f"no process could be started: {exc.strerror}"}
    except (ValueError, IndexError, AssertionError):
        return {"rclpy_error": how_it_ended(done.returncode, done.stderr) or "it gave no answer"}


def _from_wheels() -> bool:
    """Whether rclpy is a wheel in this virtual environment rather than a system's ROS."""
    spec = find_spec("rclpy")
    return spec is not None and spec.origin is not None and Path(spec.origin).is_relative_to(sys.prefix)


def _messages(found: dict[str, Any]) -> MachineCheck:
    error = found.get("robin_msgs_error")
    if error is None:
        return MachineCheck("robin_msgs", True, False, "built")
    remedy = "make ros, or colcon build and source install/setup.bash"
    return MachineCheck("robin_msgs", False, False, f"cannot be imported: {error}", remedy)


def _launch(found: dict[str, Any]) -> MachineCheck:
    if found["launch_ros"]:
        return MachineCheck("launch_ros", True, False, "present")
    return MachineCheck(
        "launch_ros", False, False, "not installed", "comes with ROS 2 itself; nodes also start without it"
    )


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(".") if part.isdigit())
