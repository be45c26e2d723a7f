"""All that ``robin doctor`` looks at, in the order in which it is shown."""

from __future__ import annotations

from pathlib import Path

from robin_cli.doctor.check import MachineCheck
from robin_cli.doctor.child import checks_in_child
from robin_cli.doctor.devices import ros_checks
from robin_cli.doctor.libraries import library_checks
from robin_cli.doctor.machine import own_checks


def all_checks(bundle: Path) -> list[MachineCheck]:
    """Whatever loads a library or opens a driver does so in a process of its own."""
    return [
        *own_checks(),
        *library_checks(),
        *_in_child("engines:bundle_checks", "model bundle", "sh scripts/system_packages.sh", True, str(bundle)),
        *_in_child("engines:engine_checks", "engine auto", "sh scripts/system_packages.sh", False, str(bundle)),
        *_in_child("devices:realsense_checks", "RealSense SDK", "reinstall pyrealsense2", False),
        *ros_checks(),
    ]


def _in_child(function: str, name: str, remedy: str, needed: bool, *arguments: str) -> list[MachineCheck]:
    found, ended = checks_in_child(f"robin_cli.doctor.{function}", *arguments)
    return [*found, MachineCheck(name, False, needed, ended, remedy)] if ended else found
