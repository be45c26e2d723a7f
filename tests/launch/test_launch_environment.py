"""Variables of ROS that no node can start with are refused in one line, before a process is started."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from robin_bringup.environment import require_usable_environment
from robin_perception.core.errors import Code, RobinError


@pytest.mark.parametrize("domain", ["", "0", "7", " 42 ", "232"])
def test_domains_that_have_ports(domain: str) -> None:
    require_usable_environment({"ROS_DOMAIN_ID": domain})
    require_usable_environment({})


@pytest.mark.parametrize("domain", ["abc", "-1", "233", "300", "1.5", "٣", "9" * 5000])
def test_domains_that_have_none(domain: str) -> None:
    with pytest.raises(RobinError) as caught:
        require_usable_environment({"ROS_DOMAIN_ID": domain})
    assert (caught.value.code is Code.CONFIG_OUT_OF_RANGE and "0 to 232" in str(caught.value)) or len(domain) > 1000


def test_a_middleware_that_is_not_there() -> None:
    pytest.importorskip("rclpy", reason="ROS 2 is not installed here")
    with pytest.raises(RobinError) as caught:
        require_usable_environment({**os.environ, "RMW_IMPLEMENTATION": "rmw_of_nobody_cpp"})
    assert caught.value.code is Code.DEPENDENCY_MISSING
    assert (
        caught.value.text.startswith("RMW_IMPLEMENTATION=rmw_of_nobody_cpp: ") and "instead found" in caught.value.text
    )


@pytest.mark.parametrize("variable", ["ROS_DOMAIN_ID=abc", "RMW_IMPLEMENTATION=rmw_of_nobody_cpp"])
def test_a_station_is_refused_at_once(variable: str) -> None:
    pytest.importorskip("robin_msgs", reason="the ROS 2 workspace is not built here")
    name, _, value = variable.partition("=")
    command = [sys.executable, "-m", "robin_cli.main", "ros", "up", "--station", "sim", "--once"]
    environ = {**os.environ, name: value}
    done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode in (1, 2) and "Traceback" not in done.stderr
    (line,) = done.stderr.splitlines()
    assert line.startswith("error E") and variable in line


def test_a_bug_in_a_nodes_process_is_one_line_and_a_file(tmp_path: Path) -> None:
    (tmp_path / "broken_node.py").write_text("def main():\n    raise KeyError('a bug')\n")
    environ = {**os.environ, "TMPDIR": str(tmp_path)}
    environ["PYTHONPATH"] = f"{tmp_path}{os.pathsep}{environ.get('PYTHONPATH', '')}"
    command = [sys.executable, "-m", "robin_bringup.child", "broken_node", str(os.getpid())]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 70 and done.stderr.startswith("error E602 INTERNAL_ERROR: KeyError: 'a bug' (a bug")
    (saved,) = tmp_path.glob("robin-traceback-*.txt")
    assert str(saved) in done.stderr and "in main" in saved.read_text()
