"""The command line as a whole: help, exit status, interruption, the commands that need no model."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from helpers.cli_helpers import Robin, colours
from helpers.decision_samples import record_samples

from robin_cli import failures, options, terminal
from robin_cli.main import app
from robin_grasp.planner.registry import planner_names
from robin_perception.core.errors import Code, RobinError


def _commands(group: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from _commands(command, (*path, name))
        else:
            yield (*path, name), command


COMMANDS = dict(_commands(typer.main.get_command(app)))
NO_RESULT = {
    ("card",),
    ("view",),
    ("sim", "list"),
    ("ros", "up"),
    ("ros", "acceptance"),
    ("ros", "params"),
    ("ros", "policy"),
}
"""Commands without --json: they write files of their own, or only show what there is."""


@pytest.fixture
def robin(capsys: pytest.CaptureFixture[str]) -> Robin:
    return Robin(capsys)


def test_the_commands_of_the_handbook_are_there() -> None:
    wanted = "demo, plan, train, export, trace, record, replay, doctor, calibrate, card, sim run, sim list, eval seg, "
    wanted += "eval planners, dataset make, engine build, engine verify, engine list, bench pipeline"
    assert {tuple(name.split()) for name in wanted.split(", ")} <= set(COMMANDS)


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_and_option_explains_itself(robin: Robin, command: tuple[str, ...]) -> None:
    done = robin(*command, "--help")
    assert done.status == 0
    assert "Usage: robin " + " ".join(command) in done.out
    found = COMMANDS[command]
    assert len(found.help or "") > 20
    assert [p.name for p in found.params if not p.help] == []
    assert ("--json" in {o for p in found.params for o in p.opts}) == (command not in NO_RESULT)


def test_help_names_every_planner() -> None:
    assert set(options.PLANNERS.split(", ")) == set(planner_names())


def test_a_comparison_of_no_planners_is_refused(robin: Robin) -> None:
    done = robin("eval", "planners", "--planners", " , ")
    assert done.status == 2
    assert done.error_line.startswith("error E405 ") and "geometric" in done.error_line


def test_help_is_quick_and_loads_no_library() -> None:
    code = (
        "import sys\nfrom robin_cli.main import main\nmain(['--help'])\n"
        "heavy = ('numpy', 'cv2', 'torch', 'mujoco', 'open3d', 'onnxruntime', 'scipy', 'pydantic')\n"
        "print([m for m in heavy if m in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stderr.strip() == "[]"
    assert "demo" in done.stdout and "doctor" in done.stdout


def test_no_command_shows_the_help(robin: Robin) -> None:
    assert "Usage: robin" in "".join(robin("sim").__dict__[k] for k in ("out", "err"))


def test_version(robin: Robin) -> None:
    assert robin("--version").out.startswith("robin ")


def test_exit_status_follows_the_code() -> None:
    for code in (Code.INPUT_MISSING, Code.CONFIG_UNKNOWN_KEY, Code.SCENARIO_UNKNOWN, Code.MODEL_HASH_MISMATCH):
        assert failures.exit_status(code) == 2
    for code in (Code.ENGINE_FAILED, Code.NO_GRASP, Code.DISK_FULL, Code.DEPENDENCY_MISSING):
        assert failures.exit_status(code) == 1


@pytest.mark.parametrize(
    ("raised", "status", "text"),
    [
        (RobinError(Code.ENGINE_FAILED, "net: two\nlines"), 1, "error E206 ENGINE_FAILED: net: two\\nlines"),
        (OSError(errno.ENOSPC, "No space left on device", "f.bin"), 1, "error E501 DISK_FULL: f.bin"),
        (PermissionError(errno.EACCES, "Permission denied", "g.bin"), 2, "error E405 OPTION_INVALID: g.bin"),
        (OSError(errno.ENAMETOOLONG, "File name too long", "aaa"), 2, "error E102 INPUT_UNREADABLE: aaa"),
        (OSError(errno.EROFS, "Read-only file system", "h.bin"), 2, "error E405 OPTION_INVALID: h.bin"),
        (ModuleNotFoundError("No module named 'jinja2'", name="jinja2"), 1, "error E503 DEPENDENCY_MISSING: jinja2 is"),
        (ImportError("libGL.so.1: cannot open shared object file"), 1, "E503 DEPENDENCY_MISSING: libGL.so.1: cannot"),
        (KeyboardInterrupt(), 130, "interrupted"),
    ],
)
def test_failures_end_in_one_line(
    robin: Robin, monkeypatch: pytest.MonkeyPatch, raised: BaseException, status: int, text: str
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise raised

    monkeypatch.setattr("robin_cli.doctor.checks.all_checks", fail)
    done = robin("doctor")
    assert done.status == status
    assert text in done.err and "Traceback" not in done.err


def test_json_is_strict(tmp_path: Path) -> None:
    import numpy as np

    values = {"a": np.float32(1.5), "b": float("nan"), "c": np.arange(3), 4: (tmp_path, None, True)}
    terminal.write_json(tmp_path / "deep/x.json", values)
    assert json.loads((tmp_path / "deep/x.json").read_text()) == {
        "a": 1.5,
        "b": None,
        "c": [0, 1, 2],
        "4": [str(tmp_path), None, True],
    }


def test_doctor_with_a_model_says_the_demo_can_run(robin: Robin, tmp_path: Path) -> None:
    done = robin("doctor", "--model", colours(tmp_path / "colours"), "--json", tmp_path / "doctor.json")
    assert done.status == 0, done.out
    assert "make demo" in done.out
    found = {check["name"]: check for check in json.loads((tmp_path / "doctor.json").read_text())["checks"]}
    assert found["model bundle"]["found"].startswith("colours-")
    assert found["open3d"]["ok"] and found["mujoco"]["ok"]


def test_doctor_without_a_model_names_it(robin: Robin, tmp_path: Path) -> None:
    done = robin("doctor", "--model", tmp_path / "none")
    assert done.status == 1
    assert "MISSING" in done.out and "none" in done.out


def test_doctor_only_looks_for_what_is_optional(robin: Robin, tmp_path: Path) -> None:
    before = set(sys.modules)
    robin("doctor", "--model", tmp_path / "none")
    assert not {"rclpy", "tensorrt", "pyrealsense2"} & (set(sys.modules) - before)


def test_scenarios_are_listed_with_descriptions(robin: Robin) -> None:
    done = robin("sim", "list")
    assert done.status == 0
    lines = {line.split()[0]: line for line in done.out.splitlines()}
    assert "mixed" in lines and len(lines["mixed"].split()) > 2


def test_trace_without_a_run_says_how_to_get_one(robin: Robin, tmp_path: Path) -> None:
    done = robin("trace", "--run", tmp_path / "none")
    assert done.status == 2
    assert "none" in done.error_line and "robin demo" in done.error_line


def test_a_log_gets_a_line_of_progress_now_and_then(capsys: pytest.CaptureFixture[str]) -> None:
    """Hours of rendering under nohup must not be silent, nor fill the disk with lines."""
    now = 0.0
    lines = terminal.ProgressLines("rendering", "scenes", lambda: now)
    for second in range(3600):
        now = float(second)
        lines.advance(second, 7200, "")
    printed = capsys.readouterr().err.splitlines()
    assert printed[0] == "rendering: 10 of 7200 scenes in 10 s, about 2.0 h left"
    assert printed[1].startswith("rendering: 20 of 7200 scenes in 20 s")
    assert 40 < len(printed) < 120


def test_the_next_part_of_the_work_is_timed_by_itself(capsys: pytest.CaptureFixture[str]) -> None:
    now = 0.0
    lines = terminal.ProgressLines("teaching", "steps", lambda: now)
    lines.advance(0, 200)
    now = 1000.0
    lines.advance(200, 200)
    lines.advance(0, 60)
    now = 1020.0
    lines.advance(30, 60)
    assert capsys.readouterr().err.splitlines()[-1] == "teaching: 30 of 60 steps in 20 s, about 20 s left"


def test_output_that_is_no_terminal_is_told_of_progress(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(terminal, "LEAST_PAUSE_S", 0.0)
    with terminal.progress_bar("picking", "picks") as advance:
        advance(0, 30, "")
        advance(3, 30, "clean")
    assert "picking: 3 of 30 picks in 0 s, about 0 s left" in capsys.readouterr().err


def test_trace_lists_and_explains(robin: Robin, tmp_path: Path) -> None:
    decisions = record_samples(tmp_path)
    listed = robin("trace", "--run", tmp_path)
    assert listed.status == 0
    assert all(decision.decision_id in listed.out for decision in decisions)
    one = robin("trace", decisions[0].decision_id, "--run", tmp_path, "--json", tmp_path / "one.json")
    assert one.status == 0
    assert decisions[0].decision_id in one.out and "Why" in one.out
    assert json.loads((tmp_path / "one.json").read_text())["decision_id"] == decisions[0].decision_id


def test_a_run_that_broke_off_still_has_its_report(robin: Robin, tmp_path: Path) -> None:
    decisions = record_samples(tmp_path)
    records = tmp_path / "decisions.jsonl"
    records.write_bytes(records.read_bytes()[:-20])
    done = robin("trace", "--run", tmp_path, "--report", tmp_path / "page.html")
    assert done.status == 0 and "page.html" in done.err and "cut short" in done.err
    page = (tmp_path / "page.html").read_text()
    assert decisions[0].decision_id in page and decisions[-1].decision_id not in page
    assert robin("trace", "--run", tmp_path, "--report", tmp_path / "new" / "page.html").status == 0


def test_dataset_make_continues_where_it_stopped(robin: Robin, tmp_path: Path) -> None:
    config = tmp_path / "small.yaml"
    config.write_text("parcels_min: 5\nparcels_max: 6\nviews_per_pile: 1\nimage_sizes: [[256, 192, 1.0]]\n")
    common = ("dataset", "make", "--out", tmp_path / "set", "--workers", 1, "--config", config)
    assert robin(*common, "--scenes", 1).status == 0
    done = robin(*common, "--scenes", 2, "--json", tmp_path / "made.json")
    assert done.status == 0
    assert json.loads((tmp_path / "made.json").read_text())["made"] == 1
    assert (tmp_path / "set/000001/labels.png").is_file()


@pytest.mark.slow
def test_interruption_ends_with_130_and_no_traceback(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "robin_cli.main", "dataset", "make", "--scenes", "500", "--workers", "1"]
    process = subprocess.Popen(
        [*command, "--out", str(tmp_path / "set")], stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    deadline = time.monotonic() + 120
    while not list((tmp_path / "set").glob("0*")) and time.monotonic() < deadline:
        time.sleep(0.2)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to the whole group
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in err
    assert not list((tmp_path / "set").glob("*.tmp"))
