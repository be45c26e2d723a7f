"""Worker processes do not outlive the command that started them."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    "arguments",
    [
        ("dataset", "make", "--scenes", "5000", "--out"),
        ("sim", "run", "--scenario", "mixed", "--masks", "oracle", "--picks", "5000", "--no-report", "--out"),
    ],
)
def test_workers_end_when_their_parent_is_killed(arguments: tuple[str, ...], tmp_path: Path) -> None:
    command = [sys.executable, "-m", "robin_cli.main", *arguments, str(tmp_path / "out"), "--workers", "2"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        workers = _wait_for(lambda: _workers(process.pid), 60)
    finally:
        process.kill()
        process.wait()
    _wait_for(lambda: not any(_runs(worker) for worker in workers), 30)


def _workers(parent: int) -> list[psutil.Process]:
    """The two spawned workers, once both have loaded the simulator (the resource tracker is a third child)."""
    children = [p for p in psutil.Process(parent).children() if "spawn_main" in _command(p)]
    return children if len(children) == 2 and all(_loaded(p) for p in children) else []


def _command(process: psutil.Process) -> str:
    """Empty of a process that ended meanwhile."""
    try:
        return " ".join(process.cmdline())
    except psutil.NoSuchProcess:  # a zombie's error is one of these
        return ""


def _runs(process: psutil.Process) -> bool:
    """Whether it does anything: a zombie only waits for somebody to ask how it ended."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _loaded(process: psutil.Process) -> bool:
    return process.memory_info().rss > 80 * 1024 * 1024


def _wait_for(found, seconds):  # type: ignore[no-untyped-def]
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if answer := found():
            return answer
        time.sleep(0.1)
    raise AssertionError("timed out")
