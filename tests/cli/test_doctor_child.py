"""A library or driver that dies takes no doctor with it: its line says how it died, and the others are still asked."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from helpers.cli_helpers import Robin, colours

from robin_cli.doctor import child, libraries
from robin_cli.doctor.child import checks_in_child, how_it_ended
from robin_cli.doctor.libraries import library_checks

DEATHS = {
    "import os, signal; os.kill(os.getpid(), signal.SIGILL)": "SIGILL (an instruction that this processor lacks",
    "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)": "SIGSEGV",
    "import os; os._exit(3)": "status 3",
    "raise ImportError('libGL.so.1: cannot open shared object file')": "libGL.so.1: cannot open shared object file",
}


def in_front(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: str, text: str) -> None:
    """Put a module in front of the real one, in the processes that the doctor asks."""
    (tmp_path / f"{module}.py").write_text(text)
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")


@pytest.mark.parametrize("text", DEATHS)
def test_a_library_that_dies_has_its_line_and_the_next_ones_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    in_front(tmp_path, monkeypatch, "scipy", text)
    checks = {check.name: check for check in library_checks()}
    assert len(checks) == len(libraries._LIBRARIES)
    assert not checks["scipy"].ok and checks["scipy"].needed and DEATHS[text] in checks["scipy"].found
    assert checks["scipy"].remedy
    assert checks["numpy"].ok and checks["jinja2"].ok


def test_the_doctor_says_so_and_ends_with_1(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    in_front(tmp_path, monkeypatch, "mujoco", next(iter(DEATHS)))
    in_front(tmp_path, monkeypatch, "pyrealsense2", "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)")
    done = Robin(capsys)("doctor", "--model", colours(tmp_path / "colours"), "--json", tmp_path / "doctor.json")
    assert done.status == 1 and "MISSING" in done.out
    found = {check["name"]: check for check in json.loads((tmp_path / "doctor.json").read_text())["checks"]}
    assert "SIGILL" in found["mujoco"]["found"] and "SIGSEGV" in found["RealSense SDK"]["found"]
    assert found["open3d"]["ok"] and found["model bundle"]["ok"] and found["engine auto"]["ok"]


def test_a_library_that_hangs_is_not_waited_for_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    in_front(tmp_path, monkeypatch, "slow_checks", "def checks():\n    while True: pass\n")
    monkeypatch.setattr(child, "TIMEOUT_S", 0.5)
    assert checks_in_child("slow_checks:checks") == ([], "no answer within 0.5 s")


def test_what_a_library_prints_is_no_check(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    in_front(
        tmp_path,
        monkeypatch,
        "loud_checks",
        "from robin_cli.doctor.check import MachineCheck\nprint('{}')\n"
        "def checks(name):\n    yield MachineCheck(name, True, False, 'found')\n    raise KeyError('later')\n",
    )
    (check,), ended = checks_in_child("loud_checks:checks", "a name")
    assert (check.name, check.found) == ("a name", "found") and ended == "KeyError: 'later'"


def test_ends_in_words() -> None:
    assert how_it_ended(0, b"warning") == ""
    assert how_it_ended(-9, b"") == "loading it ended the process by SIGKILL"
    assert how_it_ended(1, b"Traceback\n  x\nValueError: y\n") == "ValueError: y"


def test_a_deleted_folder_is_a_line_of_the_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    done = Robin(capsys)("doctor")
    monkeypatch.chdir(tmp_path)
    assert done.status == 1 and "Traceback" not in done.err + done.out
    assert "the current folder is no use" in done.out


def test_a_user_without_a_home_has_no_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("ROBIN_ENGINE_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", "")
    (tmp_path / "sitecustomize.py").write_text(
        "import pathlib\ndef home(*_): raise RuntimeError\npathlib.Path.home = home\n"
    )
    in_front(tmp_path, monkeypatch, "unused", "")
    done = Robin(capsys)("doctor", "--model", colours(tmp_path / "colours"))
    assert done.status == 0 and "no home folder" in done.out and "ROBIN_ENGINE_CACHE" in done.out
