"""What commands write over: their own earlier results, and nothing else; and never two of them in one folder."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from helpers.cli_helpers import Robin, colours, pickable_folder
from helpers.decision_samples import record_samples

ROBIN = (sys.executable, "-m", "robin_cli.main")
PATIENCE_S = 120


@pytest.fixture
def robin(capsys: pytest.CaptureFixture[str]) -> Robin:
    return Robin(capsys)


@pytest.fixture
def scene(tmp_path: Path) -> Path:
    return pickable_folder(tmp_path / "scene")


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return colours(tmp_path / "models/colours")


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.mark.parametrize("by_link", [False, True])
def test_a_plan_never_lands_among_its_inputs(robin: Robin, scene: Path, model: Path, by_link: bool) -> None:
    out = scene
    if by_link:
        out = scene.with_name("link")
        out.symlink_to(scene)
    before = contents(scene)
    done = robin("plan", "--folder", scene, "--model", model, "--out", out)
    assert done.status == 2 and done.error_line.startswith("error E405 ") and "inputs" in done.error_line
    assert contents(scene) == before


def test_a_plan_never_lands_in_another_image_folder(robin: Robin, scene: Path, model: Path, tmp_path: Path) -> None:
    other = pickable_folder(tmp_path / "other")
    before = contents(other)
    done = robin("plan", "--folder", scene, "--model", model, "--out", other)
    assert done.status == 2 and "depth.png" in done.error_line and contents(other) == before


def test_a_plan_replaces_an_earlier_plan(robin: Robin, scene: Path, model: Path, tmp_path: Path) -> None:
    for _ in range(2):
        assert robin("plan", "--folder", scene, "--model", model, "--out", tmp_path / "out").status == 0
    assert sorted(contents(tmp_path / "out")) == ["depth.png", "masks.png", "overlay.png", "plan.json"]
    (tmp_path / "out/masks.png").unlink()
    (tmp_path / "out/masks.png").symlink_to("/dev/null")
    done = robin("plan", "--folder", scene, "--model", model, "--out", tmp_path / "out")
    assert done.status == 2 and "masks.png" in done.error_line and (tmp_path / "out/masks.png").is_symlink()


@pytest.mark.parametrize("name", ["depth.png", "camera.json"])
def test_json_never_replaces_an_input(robin: Robin, scene: Path, model: Path, tmp_path: Path, name: str) -> None:
    before = contents(scene)
    command = ("plan", "--folder", scene, "--model", model, "--out", tmp_path / "out", "--json", scene / name)
    done = robin(*command)
    assert done.status == 2 and done.error_line.startswith("error E405 ") and name in done.error_line
    assert contents(scene) == before and not (tmp_path / "out").exists()


def test_json_goes_into_a_device_and_into_standard_output(scene: Path, model: Path, tmp_path: Path) -> None:
    command = [*ROBIN, "plan", "--folder", str(scene), "--model", str(model), "--out", str(tmp_path / "out")]
    (tmp_path / "null").symlink_to("/dev/null")
    assert subprocess.run([*command, "--json", str(tmp_path / "null")], check=False).returncode == 0
    assert (tmp_path / "null").is_char_device() and (tmp_path / "null").is_symlink()
    done = subprocess.run([*command, "--json", "/dev/stdout"], capture_output=True, text=True, check=True)
    values, _ = json.JSONDecoder().raw_decode(done.stdout)
    assert values["grasps"] and "rank" in done.stdout


def test_a_report_replaces_reports_only(robin: Robin, tmp_path: Path) -> None:
    record_samples(tmp_path)
    for _ in range(2):
        assert robin("trace", "--run", tmp_path, "--report", tmp_path / "report.html").status == 0
    before = contents(tmp_path)
    for option in ("--report", "--json"):
        done = robin("trace", "--run", tmp_path, option, tmp_path / "decisions.jsonl")
        assert done.status == 2 and "decisions.jsonl" in done.error_line
    assert contents(tmp_path) == before


def test_two_results_are_compared_and_stay(robin: Robin, tmp_path: Path) -> None:
    for name in ("a.json", "b.json"):
        (tmp_path / name).write_text("{}")
    done = robin("bench", "compare", tmp_path / "a.json", tmp_path / "b.json", "--json", tmp_path / "b.json")
    assert done.status == 2 and "is an input" in done.error_line and (tmp_path / "b.json").read_text() == "{}"


def test_what_is_to_be_told_is_told_before_an_error(
    robin: Robin, scene: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = json.loads((scene / "camera.json").read_text())
    del values["T_base_camera"]
    (scene / "camera.json").write_text(json.dumps(values))

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    done = robin("plan", "--folder", scene, "--model", model, "--out", tmp_path / "out")
    assert done.status == 1 and done.error_line.startswith("error E501 ")
    assert "no T_base_camera" in done.err and not (tmp_path / "out").exists()


SLOW_COMMANDS = {
    "simulation": ("sim", "run", "--masks", "oracle", "--picks", "500", "--workers", "1", "--no-report"),
    "data set": ("dataset", "make", "--scenes", "500", "--workers", "1"),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", SLOW_COMMANDS)
def test_a_second_command_in_the_same_folder_is_refused(robin: Robin, tmp_path: Path, name: str) -> None:
    command = (*SLOW_COMMANDS[name], "--out", str(tmp_path / "out"))
    first = subprocess.Popen([*ROBIN, *command], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_for(lambda: (tmp_path / "out").is_dir() and any((tmp_path / "out").iterdir()))
        done = robin(*command)
        assert done.status == 2 and done.error_line.startswith("error E405 ") and "another process" in done.error_line
        assert first.poll() is None
    finally:
        first.kill()
        first.wait()


@pytest.mark.slow
@pytest.mark.parametrize("name", SLOW_COMMANDS)
def test_a_worker_that_is_killed_is_one_line(tmp_path: Path, name: str) -> None:
    command = [*ROBIN, *SLOW_COMMANDS[name], "--workers", "2", "--out", str(tmp_path / "out")]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    try:
        workers = wait_for(lambda: spawned(process.pid))
        workers[0].kill()
        _, err = process.communicate(timeout=PATIENCE_S)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 1 and "Traceback" not in err
    assert err.splitlines()[-1].startswith("error E206 ENGINE_FAILED: a worker process ended")


@pytest.mark.slow
@pytest.mark.parametrize("name", SLOW_COMMANDS)
def test_without_shared_memory_one_process_works_or_is_asked_for(tmp_path: Path, name: str) -> None:
    """A module in front of the real one: locks between processes cannot be made."""
    (tmp_path / "sitecustomize.py").write_text(
        "import multiprocessing.synchronize as s\n"
        "def fail(*_, **__): raise OSError(30, 'Read-only file system')\n"
        "s.SemLock.__init__ = fail\n"
    )
    environ = {**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"}
    few = [part.replace("500", "4") for part in SLOW_COMMANDS[name]]
    command = [*ROBIN, *few, "--out", str(tmp_path / "out")]
    two = subprocess.run([*command, "--workers", "2"], env=environ, capture_output=True, text=True, check=False)
    assert two.returncode == 1 and two.stderr.splitlines()[-1].startswith("error E503 DEPENDENCY_MISSING: worker")
    chosen = subprocess.run([*command, "--workers", "0"], env=environ, capture_output=True, text=True, check=False)
    assert chosen.returncode == 0 and "one process" in chosen.stderr, chosen.stderr


def spawned(parent: int) -> list[psutil.Process]:
    children = [p for p in psutil.Process(parent).children() if "spawn_main" in " ".join(p.cmdline())]
    return children if len(children) == 2 else []


def wait_for(found):  # type: ignore[no-untyped-def]
    ending = time.monotonic() + PATIENCE_S
    while time.monotonic() < ending:
        if answer := found():
            return answer
        time.sleep(0.1)
    raise AssertionError("timed out")
