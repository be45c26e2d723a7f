"""What the doctor says about ROS 2, whatever state it is in on this machine."""

from __future__ import annotations

from pathlib import Path

import pytest

from robin_cli.doctor import devices as machine_devices
from robin_cli.doctor.devices import ros_checks


def broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, package: str, text: str) -> None:
    """Put a package in front of the real one, in the process that the doctor asks."""
    (tmp_path / package).mkdir()
    (tmp_path / package / "__init__.py").write_text(text)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))


def test_ros_that_is_not_there_is_one_line_with_a_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine_devices, "find_spec", lambda name: None)
    (check,) = ros_checks()
    assert not check.ok and not check.needed and "make ros" in check.remedy


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("raise ImportError('librcl.so: cannot open shared object file')", "librcl.so: cannot open shared object file"),
        ("import os; os._exit(3)", "ended the process"),
    ],
)
def test_ros_that_does_not_load_is_told_in_its_own_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, words: str
) -> None:
    broken(tmp_path, monkeypatch, "rclpy", text)
    monkeypatch.setattr(machine_devices, "find_spec", lambda name: object())
    (check,) = ros_checks()
    assert not check.ok and words in check.found and check.remedy


def test_ros_that_works_shows_middleware_and_domain_and_messages_that_are_not_built(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("rclpy", reason="ROS 2 is not installed here")
    monkeypatch.setenv("ROS_DOMAIN_ID", "37")
    monkeypatch.setenv("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    broken(tmp_path, monkeypatch, "robin_msgs", "raise ImportError('not built')")
    ros, messages, launch = ros_checks()
    assert ros.ok and "rmw_" in ros.found and "domain 37; discovery LOCALHOST" in ros.found
    assert not messages.ok and "not built" in messages.found and "make ros" in messages.remedy
    assert launch.name == "launch_ros" and (launch.ok or launch.remedy)
