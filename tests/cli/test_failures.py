"""Whatever ends a command is one numbered line: bugs, closed and strange terminals, useless names."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.cli_helpers import Robin, colours, pickable_folder
from helpers.decision_samples import record_samples

ROBIN = (sys.executable, "-m", "robin_cli.main")


@pytest.fixture
def robin(capsys: pytest.CaptureFixture[str]) -> Robin:
    return Robin(capsys)


def shell(script: str, *arguments: object, **environment: str) -> subprocess.CompletedProcess[bytes]:
    """A shell's redirections around ``robin``, which stands for "$@"'s first word."""
    command = ["sh", "-c", script, "sh", *ROBIN, *(os.fsencode(str(a)) for a in arguments)]
    return subprocess.run(command, capture_output=True, timeout=120, check=False, env={**os.environ, **environment})


def broken_doctor(monkeypatch: pytest.MonkeyPatch, exc: Exception) -> None:
    def fail(*_: object) -> None:
        raise exc

    monkeypatch.setattr("robin_cli.doctor.checks.all_checks", fail)


@pytest.mark.parametrize(
    "raised",
    [
        ZeroDivisionError("two\nlines"),
        AttributeError(),
        RecursionError("too deep"),
        ImportError("cannot import name 'x'", name="robin_sim.cell"),
        FileNotFoundError(2, "No such file or directory", "inner.bin"),
    ],
)
def test_a_bug_is_one_line_and_its_traceback_is_in_a_file(
    robin: Robin, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, raised: Exception
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    broken_doctor(monkeypatch, raised)
    done = robin("doctor", "--model", tmp_path / "none")
    assert done.status == 70
    assert done.error_line.startswith(f"error E602 INTERNAL_ERROR: {type(raised).__name__}")
    (named,) = re.findall(r"its traceback: (.*)\)$", done.error_line)
    saved = Path(named).read_text()
    assert "in fail" in saved and type(raised).__name__ in saved and saved.startswith("robin doctor --model ")


def test_a_traceback_that_cannot_be_saved_is_printed(
    robin: Robin, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "gone"))
    broken_doctor(monkeypatch, ZeroDivisionError("a bug"))
    done = robin("doctor")
    assert done.status == 70 and "in fail" in done.err and done.err.splitlines()[-1].startswith("error E602 ")


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&-", ">&- 2>&- <&-"])
def test_closed_streams_are_no_failure(tmp_path: Path, closed: str) -> None:
    folder, model = pickable_folder(tmp_path / "scene"), colours(tmp_path / "models/colours")
    done = shell(f'"$@" {closed}', "plan", "--folder", folder, "--model", model, "--out", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert b"Traceback" not in done.stderr and (tmp_path / "out/plan.json").stat().st_size > 100


@pytest.mark.parametrize("command", [("ros", "params"), ("--version",)])
def test_a_reader_that_went_away_ends_the_command_quietly(command: tuple[str, ...]) -> None:
    done = shell('{ sleep 0.2; "$@"; echo $? >&2; } | true', *command)
    assert done.stderr.strip() == b"1"


def test_full_standard_output_is_one_line() -> None:
    done = shell('"$@" >/dev/full', "ros", "params")
    assert done.returncode == 1
    assert done.stderr.startswith(b"error E501 DISK_FULL: ") and done.stderr.count(b"\n") == 1


def test_an_encoding_that_lacks_a_character_is_no_failure(tmp_path: Path) -> None:
    record_samples(tmp_path)
    for command in (("trace", "--run", tmp_path), ("ros", "params"), ("--help",)):
        done = shell('"$@"', *command, PYTHONIOENCODING="ascii")
        assert done.returncode == 0 and done.stdout.isascii(), done.stderr


def test_a_deleted_folder_is_told(tmp_path: Path) -> None:
    script = f"mkdir '{tmp_path}/gone'; cd '{tmp_path}/gone'; rmdir '{tmp_path}/gone'; exec \"$@\""
    done = shell(script, "plan", "--folder", "x")
    assert done.returncode == 2 and b"Traceback" not in done.stderr
    done = shell(script, "trace", "--run", tmp_path)
    assert done.returncode == 2 and done.stderr.startswith(b"error E")


@pytest.mark.parametrize(
    ("environment", "red"),
    [({}, True), ({"NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False), ({"NO_COLOR": ""}, True)],
)
def test_colour_only_where_it_is_wanted(environment: dict[str, str], red: bool) -> None:
    first, second = pty.openpty()
    environ = {**os.environ, "TERM": "xterm", **environment}
    if "NO_COLOR" not in environment:
        environ.pop("NO_COLOR", None)
    subprocess.run([*ROBIN, "plan"], stderr=second, stdout=subprocess.DEVNULL, env=environ, timeout=60, check=False)
    os.close(second)
    said = os.read(first, 10_000)
    os.close(first)
    assert b"error E405" in said and (b"\033[31m" in said) == red


LONG = "a" * 300
NAMES = {
    "folder": ("plan", "--folder", LONG),
    "model": ("plan", "--folder", "{scene}", "--model", LONG),
    "json": ("plan", "--folder", "{scene}", "--json", LONG),
    "out": ("plan", "--folder", "{scene}", "--model", "{model}", "--out", LONG),
    "cell": ("plan", "--folder", "{scene}", "--model", "{model}", "--cell", LONG),
    "run": ("trace", "--run", LONG),
    "bag": ("replay", LONG),
    "data": ("eval", "seg", "--data", LONG, "--model", "{model}"),
    "scenario": ("sim", "run", "--scenario", LONG, "--masks", "oracle"),
    "new bag": ("record", "--out", LONG, "--picks", "1"),
    "set": ("dataset", "make", "--scenes", "1", "--out", LONG),
    "parameters": ("ros", "params", "--out", LONG),
}


@pytest.mark.parametrize("name", NAMES)
def test_a_name_that_is_too_long_is_one_line(robin: Robin, tmp_path: Path, name: str) -> None:
    places = {"scene": pickable_folder(tmp_path / "scene"), "model": colours(tmp_path / "models/colours")}
    done = robin(*(part.format(**places) for part in NAMES[name]))
    assert done.status == 2 and LONG in done.error_line
    assert done.error_line.startswith(("error E1", "error E2", "error E4", "error E5"))
