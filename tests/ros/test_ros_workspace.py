"""The colcon workspace: what its files promise, and that what was built can be used as on a robot."""

from __future__ import annotations

import ast
import os
import re
import runpy
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import setuptools
from helpers.ros_environment import ROOT, ROS_REASON, WORKSPACE, ros_domain, ros_environ

MSGS = ROOT / "ros2_ws/src/robin_msgs"
PACKAGES = {
    "robin_perception": ROOT / "ros2_ws/src/robin_perception",
    "robin_grasp": ROOT / "ros2_ws/src/robin_grasp",
    "edge_adapt": ROOT / "edge_adapt",
    "robin_sim": ROOT / "sim",
    "robin_bringup": ROOT / "launch",
}
ROS_PACKAGE = re.compile(r"rclpy|tf2_ros|launch|launch_ros|ament_index_python|\w+_(msgs|srvs|interfaces)")
needs_ros = pytest.mark.skipif(ROS_REASON is not None, reason=ROS_REASON or "")


def interfaces() -> list[Path]:
    return sorted([*MSGS.glob("msg/*.msg"), *MSGS.glob("srv/*.srv")])


def test_every_interface_is_built() -> None:
    listed = re.findall(r'"((?:msg|srv)/\w+\.(?:msg|srv))"', (MSGS / "CMakeLists.txt").read_text())
    assert sorted(listed) == sorted(str(path.relative_to(MSGS)) for path in interfaces())


def test_every_field_of_a_message_is_explained() -> None:
    """Only fields whose name says all, and constants, go without a comment."""
    plain = {"Instance[] instances", "Grasp[] grasps", "PickOutcome outcome", "string decision_id", "string plan_id"}
    plain |= {"RejectedCandidate[] rejected", "string model_id", "string planner", "float64 value"}
    bare = [
        f"{path.name}: {line}"
        for path in interfaces()
        for line in path.read_text().splitlines()
        if line and not line.startswith(("#", "-", " ")) and "#" not in line and "=" not in line
    ]
    assert [entry for entry in bare if entry.split(": ")[1].strip() not in plain] == []


def test_replies_carry_a_code_and_a_text() -> None:
    for path in MSGS.glob("srv/*.srv"):
        reply = path.read_text().split("---\n")[1].splitlines()
        assert [line.split("#")[0].split() for line in reply[:2]] == [["uint16", "code"], ["string", "text"]], path.name


@pytest.mark.parametrize("name", PACKAGES)
def test_packages_declare_the_ros_packages_they_import(name: str) -> None:
    description = (PACKAGES[name] / "package.xml").read_text()
    declared = set(re.findall(r"<(?:exec_)?depend>([^<]+)<", description))
    imported = set()
    for path in (PACKAGES[name] / name).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [node.module] if isinstance(node, ast.ImportFrom) and node.module and not node.level else []
            imported |= {n.split(".")[0] for n in names if ROS_PACKAGE.fullmatch(n.split(".")[0])}
    assert imported <= declared


@pytest.mark.parametrize("name", PACKAGES)
def test_executables_have_a_main(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every entry point leads to a function, and every node has an entry point."""
    given: dict[str, Any] = {}
    monkeypatch.setattr(setuptools, "setup", lambda **values: given.update(values))
    monkeypatch.chdir(PACKAGES[name])
    runpy.run_path("setup.py")
    scripts = given["entry_points"]["console_scripts"]
    declared = dict(re.fullmatch(r"(\w+) = ([\w.]+):main", script).groups() for script in scripts)  # type: ignore[union-attr]
    for module in declared.values():
        path = (PACKAGES[name] / module.replace(".", "/")).with_suffix(".py")
        assert "\ndef main(" in path.read_text(), path
    mains = {p.stem for p in (PACKAGES[name] / name / "nodes").glob("*_node.py") if "\ndef main(" in p.read_text()}
    assert mains <= set(declared)


def test_ros_versions_are_locked_once() -> None:
    """pyproject's extra names versions that constraints-ros.txt has, and neither file pins a package twice."""
    wanted = re.findall(r'"([\w-]+)(?:\[\w+\])?==([\w.]+); sys_platform', (ROOT / "pyproject.toml").read_text())
    pins = re.findall(r"^([\w.-]+)==(\S+)", (ROOT / "constraints-ros.txt").read_text(), re.MULTILINE)
    others = set(re.findall(r"^([\w.-]+)==", (ROOT / "constraints.txt").read_text(), re.MULTILINE))
    assert len(wanted) > 10 and set(wanted) <= set(pins)
    assert {name for name, _ in pins} & others == set()


def test_make_ros_says_where_there_are_no_wheels(tmp_path: Path) -> None:
    """One line and status 3, which `make test` takes for a reason to skip."""
    shutil.copytree(ROOT / "scripts", tmp_path / "scripts")
    fake = tmp_path / "python3"
    patch = "import platform, sys; platform.machine = lambda: 'riscv64'; exec(sys.stdin.read())"
    fake.write_text(f'#!/bin/sh\nexec {sys.executable} -c "{patch}"\n')
    fake.chmod(0o755)
    environment = {key: value for key, value in os.environ.items() if key != "ROS_DISTRO"} | {"PYTHON": str(fake)}
    command = ["sh", str(tmp_path / "scripts/ros.sh"), "check"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 3
    assert (
        done.stderr.count("\n") == 1 and "Linux x86_64 with CPython 3.10 to 3.13, not for Linux riscv64" in done.stderr
    )


@needs_ros
def test_a_bare_shell_finds_the_workspace(tmp_path: Path) -> None:
    """From another folder, with nothing else set: messages and packages are found after sourcing one file."""
    code = (
        "import rclpy, robin_msgs.msg\n"
        "from ament_index_python.packages import get_package_share_directory as share\n"
        "print(share('robin_msgs'), share('robin_bringup'), sep='\\n')"
    )
    script = f'. {ROOT}/scripts/ros_env.sh && python3 -c "$CODE"'
    bare = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "CODE": code}
    done = subprocess.run(["bash", "-c", script], env=bare, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    found = [Path(line) for line in done.stdout.splitlines()]
    assert all((path / "package.xml").is_file() and path.is_relative_to(WORKSPACE) for path in found)


@needs_ros
@pytest.mark.parametrize("name", PACKAGES)
def test_executables_are_installed_where_ros_looks(name: str) -> None:
    setup = (PACKAGES[name] / "setup.py").read_text()
    installed = WORKSPACE / name / "lib" / name
    for executable in re.findall(r'"(\w+) = ', setup):
        path = installed / executable
        assert os.access(path, os.X_OK), f"{path}: run make ros"
        shebang = path.read_text().split("\n")[0]
        assert shebang == "#!/usr/bin/env python3" or Path(shebang[2:]).resolve() == Path(sys.executable).resolve()


@needs_ros
@pytest.mark.slow
def test_an_installed_node_starts(tmp_path: Path) -> None:
    """The colcon-built executable, not the module that pip installed, in the workspace's environment."""
    from helpers.ros_client import RosClient

    assert ros_domain() == int(ros_environ()["ROS_DOMAIN_ID"])
    executable = WORKSPACE / "robin_perception/lib/robin_perception/segmentation_node"
    with (tmp_path / "log").open("wb") as log, RosClient() as client:
        process = subprocess.Popen([str(executable)], env=ros_environ(), stdout=log, stderr=log, cwd=tmp_path)
        try:
            assert client.state("segmentation") == "unconfigured"
            process.send_signal(signal.SIGINT)
            assert process.wait(60) == 0, (tmp_path / "log").read_text()
        finally:
            process.kill()
            process.wait()
