"""Every kind of bad input ends in one line that names the file or key, a non-zero exit, and nothing half-written."""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from helpers.cli_helpers import HEIGHT, WIDTH, Robin, colours, left_over, pickable_folder
from helpers.decision_samples import record_samples

from robin_perception.core.image_folder import load_frame

Harm = Callable[[Path], None]


@pytest.fixture
def robin(capsys: pytest.CaptureFixture[str]) -> Robin:
    return Robin(capsys)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return pickable_folder(tmp_path / "scene")


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return colours(tmp_path / "models/colours")


def remove(name: str) -> Harm:
    return lambda folder: (folder / name).unlink()


def replace(name: str, data: bytes) -> Harm:
    return lambda folder: _ignore((folder / name).write_bytes(data))


def _ignore(_: Any) -> None:
    return None


def cut_in_half(name: str) -> Harm:
    def harm(folder: Path) -> None:
        data = (folder / name).read_bytes()
        (folder / name).write_bytes(data[: len(data) // 2])

    return harm


def image(name: str, values: np.ndarray) -> Harm:
    return lambda folder: _ignore(cv2.imwrite(str(folder / name), values))


def changed(name: str, **changes: Any) -> Harm:
    """Other values for keys of a JSON file."""

    def harm(folder: Path) -> None:
        values = json.loads((folder / name).read_text())
        values.update(changes)
        (folder / name).write_text(json.dumps(values))

    return harm


def camera(**changes: Any) -> Harm:
    return changed("camera.json", **changes)


SKEWED = [[2.0, 0, 0, 0.75], [0, -1, 0, 0], [0, 0, -1, 1.2], [0, 0, 0, 1]]
PICTURES: dict[str, tuple[Harm, str, str]] = {
    "colour missing": (remove("color.png"), "E101", "color.png"),
    "depth missing": (remove("depth.png"), "E101", "depth.png"),
    "camera missing": (remove("camera.json"), "E101", "camera.json"),
    "colour is no image": (replace("color.png", b"not an image"), "E102", "color.png"),
    "colour is empty": (replace("color.png", b""), "E102", "color.png"),
    "colour is cut short": (cut_in_half("color.png"), "E102", "color.png"),
    "depth is cut short": (cut_in_half("depth.png"), "E102", "depth.png"),
    "depth has 8 bit": (image("depth.png", np.ones((HEIGHT, WIDTH), np.uint8)), "E102", "depth.png"),
    "sizes differ": (image("depth.png", np.ones((240, 320), np.uint16)), "E103", "depth.png"),
    "depth is all zero": (image("depth.png", np.zeros((HEIGHT, WIDTH), np.uint16)), "E104", "depth.png"),
    "camera is no JSON": (replace("camera.json", b"{fx: 1"), "E401", "camera.json"),
    "camera has an unknown key": (camera(focal=3), "E402", "focal"),
    "camera lacks a key's type": (camera(fx="wide"), "E403", "fx"),
    "camera holds NaN": (camera(fx=float("nan")), "E403", "fx"),
    "depth scale out of range": (camera(depth_scale=5), "E403", "depth_scale"),
    "focal length not positive": (camera(fx=0), "E106", "camera.json"),
    "focal length in millimetres": (camera(fx=1.93, fy=1.93), "E106", "camera.json"),
    "principal point outside": (camera(cx=5000), "E106", "camera.json"),
    "intrinsics of another size": (camera(width=1280, height=720), "E103", "camera.json"),
    "pose is not rigid": (camera(T_base_camera=SKEWED), "E107", "camera.json"),
}


@pytest.mark.parametrize("name", PICTURES)
def test_bad_pictures(robin: Robin, folder: Path, model: Path, tmp_path: Path, name: str) -> None:
    harm, code, named = PICTURES[name]
    harm(folder)
    before = left_over(tmp_path)
    done = robin("plan", "--folder", folder, "--model", model, "--out", tmp_path / "out")
    assert done.status == 2
    assert done.error_line.startswith(f"error {code} ") and named in done.error_line
    assert left_over(tmp_path) == before


@pytest.mark.parametrize("value", [np.nan, np.inf, -1.0, 1e-40, 6.5535])
def test_depth_that_is_no_measurement_gives_the_plan_of_a_hole(
    robin: Robin, folder: Path, model: Path, tmp_path: Path, value: float
) -> None:
    depth = load_frame(folder).depth
    plans = []
    for hole in (0.0, value):
        depth[:40, :50] = hole
        np.save(folder / "depth.npy", depth)
        files = ("--color", folder / "color.png", "--depth", folder / "depth.npy", "--camera", folder / "camera.json")
        done = robin("plan", *files, "--model", model, "--out", tmp_path / "out", "--json", tmp_path / "plan.json")
        assert done.status == 0, done.err
        plans.append(json.loads((tmp_path / "plan.json").read_text()))
    assert plans[0]["grasps"] == plans[1]["grasps"] != []
    assert plans[0]["frame"]["depth_removed_px"] == {}
    assert list(plans[1]["frame"]["depth_removed_px"].values()) == [40 * 50] and "2000 px" in done.err


def test_the_range_of_depth_is_read_from_a_file(robin: Robin, folder: Path, model: Path, tmp_path: Path) -> None:
    (tmp_path / "gate.yaml").write_text("depth_max_m: 1.198\n")
    options = ("--folder", folder, "--model", model, "--out", tmp_path / "out", "--gate", tmp_path / "gate.yaml")
    done = robin("plan", *options)
    assert done.status == 0 and "too far count as no depth" in done.err
    (tmp_path / "gate.yaml").write_text("depth_max: 1.15\n")
    assert "unknown key 'depth_max'" in robin("plan", *options).error_line


def test_picture_without_any_plane(robin: Robin, folder: Path, model: Path, tmp_path: Path) -> None:
    camera_file = json.loads((folder / "camera.json").read_text())
    del camera_file["T_base_camera"]
    (folder / "camera.json").write_text(json.dumps(camera_file))
    noise = np.random.default_rng(3).integers(400, 4000, (HEIGHT, WIDTH)).astype(np.uint16)
    cv2.imwrite(str(folder / "depth.png"), noise)
    done = robin("plan", "--folder", folder, "--model", model, "--out", tmp_path / "out")
    assert done.status == 2
    assert done.error_line.startswith("error E108 ")


def test_missing_folder(robin: Robin, model: Path, tmp_path: Path) -> None:
    done = robin("plan", "--folder", tmp_path / "none", "--model", model)
    assert (done.status, "E101" in done.error_line, "none" in done.error_line) == (2, True, True)


def drop_tensor(model: Path) -> None:
    """A head without one of its tensors, with the manifest's hash renewed, so that only the tensor is missing."""
    import hashlib

    from safetensors.numpy import save

    data = save({"head.other.weight": np.ones(3, dtype=np.float32)})
    (model / "head.safetensors").write_bytes(data)
    manifest = json.loads((model / "manifest.json").read_text())
    manifest["files"]["head.safetensors"] = hashlib.sha256(data).hexdigest()
    (model / "manifest.json").write_text(json.dumps(manifest))


def flip(name: str) -> Harm:
    def harm(model: Path) -> None:
        data = bytearray((model / name).read_bytes())
        data[len(data) // 2] ^= 1
        (model / name).write_bytes(bytes(data))

    return harm


def manifest_key(**changes: Any) -> Harm:
    return changed("manifest.json", **changes)


BUNDLES: dict[str, tuple[Harm, str, str]] = {
    "no bundle": (lambda model: shutil.rmtree(model), "E201", "colours"),
    "no network": (remove("network.onnx"), "E201", "network.onnx"),
    "no manifest": (remove("manifest.json"), "E201", "manifest.json"),
    "network changed": (flip("network.onnx"), "E202", "network.onnx"),
    "head changed": (flip("head.safetensors"), "E202", "head.safetensors"),
    "tensor missing": (drop_tensor, "E203", "head.detect.weight"),
    "manifest is no JSON": (replace("manifest.json", b"{"), "E204", "manifest.json"),
    "unknown key in the manifest": (manifest_key(flavour=1), "E204", "flavour"),
    "value out of range": (manifest_key(thresholds={"detection": 7}), "E204", "thresholds.detection"),
}


@pytest.mark.parametrize("name", BUNDLES)
def test_bad_bundles(robin: Robin, folder: Path, model: Path, tmp_path: Path, name: str) -> None:
    harm, code, named = BUNDLES[name]
    harm(model)
    done = robin("plan", "--folder", folder, "--model", model, "--out", tmp_path / "out")
    assert done.status == 2
    assert done.error_line.startswith(f"error {code} ") and named in done.error_line
    assert not (tmp_path / "out").exists()


CELLS = {
    "unknown key": ("tool: {cup_radius: 0.01}", "E402", "tool.cup_radius"),
    "unknown section": ("gripper: {}", "E402", "gripper"),
    "too large": ("tool: {vacuum_pa: 500000}", "E403", "tool.vacuum_pa"),
    "not a number": ("motion: {lift_m: high}", "E403", "motion.lift_m"),
    "seven cups": ("tool: {cup_centres_m: [[0,0],[0,0],[0,0],[0,0],[0,0],[0,0],[0,0]]}", "E403", "tool"),
    "no mapping": ("- 1", "E401", "cell.yaml"),
    "no YAML": ("tool: [", "E401", "cell.yaml"),
    "binary": ("\x00\x01", "E401", "cell.yaml"),
}


@pytest.mark.parametrize("name", CELLS)
def test_bad_cell_files(robin: Robin, folder: Path, model: Path, tmp_path: Path, name: str) -> None:
    text, code, named = CELLS[name]
    cell = tmp_path / "cell.yaml"
    cell.write_text(text)
    for command in (("plan", "--folder", folder, "--out", tmp_path / "out"), ("sim", "run", "--picks", 1)):
        done = robin(*command, "--model", model, "--cell", cell)
        assert done.status == 2
        assert done.error_line.startswith(f"error {code} ") and named in done.error_line
    assert not (tmp_path / "out").exists()


def test_unknown_names_list_the_known_ones(robin: Robin, folder: Path, model: Path, tmp_path: Path) -> None:
    picture = ("plan", "--folder", folder, "--model", model, "--out", tmp_path / "out")
    cases = (
        (("sim", "run", "--scenario", "moonbase", "--picks", 1, "--masks", "oracle"), "E404", "moonbase", "mixed"),
        (("sim", "run", "--masks", "guessed", "--picks", 1), "E405", "guessed", "oracle"),
        ((*picture, "--planner", "lucky"), "E405", "lucky", "geometric"),
        ((*picture, "--engine", "abacus"), "E205", "abacus", "onnxruntime"),
        (("eval", "planners", "--planners", "geometric,lucky"), "E405", "lucky", "geometric"),
        (("eval", "seg", "--data", tmp_path, "--method", "magic"), "E405", "magic", "classical"),
    )
    for command, code, given, known in cases:
        done = robin(*command)
        assert done.status == 2
        assert done.error_line.startswith(f"error {code} ")
        assert given in done.error_line and known in done.error_line


def test_bad_options(robin: Robin, folder: Path, tmp_path: Path) -> None:
    for command, named in (
        (("plan",), "--folder"),
        (("plan", "--folder", folder, "--depth", folder / "depth.png"), "--folder"),
        (("plan", "--colour", "x.png"), "--colour"),
        (("sim", "run", "--picks", 0), "--picks"),
        (("sim", "run", "--picks", "many"), "--picks"),
        (("demo", "--seed", -1), "--seed"),
        (("dataset", "make", "--out", tmp_path / "d"), "--scenes"),
        (("fly",), "fly"),
        (("train", "--data", tmp_path, "--validation", tmp_path, "--out", tmp_path / "t"), "--steps"),
        (("dataset", "make", "--scenes", 1, "--out", tmp_path / "d", "--json", tmp_path), str(tmp_path)),
    ):
        done = robin(*command)
        assert done.status == 2
        assert done.error_line.startswith("error E405 ") and named in done.error_line
    assert left_over(tmp_path) == left_over_of_scene(folder, tmp_path)


def left_over_of_scene(folder: Path, tmp_path: Path) -> list[str]:
    return sorted([folder.name, *(str(path.relative_to(tmp_path)) for path in folder.rglob("*"))])


def test_bad_data_and_records(robin: Robin, tmp_path: Path, model: Path) -> None:
    (tmp_path / "decisions.jsonl").write_text('{"hello": 1}\n')
    (tmp_path / "config.yaml").write_text("parcel_max: 3")
    record_samples(tmp_path / "samples")
    dataset = ("dataset", "make", "--scenes", 1, "--out", tmp_path / "set")
    for command, code, named in (
        (("eval", "seg", "--data", tmp_path / "none", "--model", model), "E101", "none"),
        (("eval", "seg", "--data", model, "--model", model), "E101", "colours"),
        (("calibrate", "--data", tmp_path / "none", "--model", model), "E101", "none"),
        (("trace", "--run", tmp_path / "none"), "E101", "none"),
        (("trace", "--run", tmp_path), "E502", "decisions.jsonl:1"),
        ((*dataset, "--config", tmp_path / "config.yaml"), "E402", "parcel_max"),
        ((*dataset, "--config", tmp_path / "none.yaml"), "E101", "none.yaml"),
        (("export", "--checkpoint", tmp_path / "none", "--out", tmp_path / "b"), "E101", "none"),
        (("export", "--checkpoint", tmp_path, "--out", tmp_path / "b", "--share", 0.5), "E405", "--from"),
    ):
        done = robin(*command)
        assert done.status == 2, (command, done.err)
        assert done.error_line.startswith(f"error {code} ") and named in done.error_line
    assert not any((tmp_path / name).exists() for name in ("set", "b", "r.npz"))


def test_unknown_decision(robin: Robin, tmp_path: Path) -> None:
    record_samples(tmp_path)
    done = robin("trace", "nonesuch", "--run", tmp_path)
    assert done.status == 2
    assert done.error_line.startswith("error E502 ") and "nonesuch" in done.error_line


def run_with_little_space(arguments: list[str], largest_file: int) -> subprocess.CompletedProcess[str]:
    """``robin`` in a process whose files may not grow beyond ``largest_file`` bytes: the kernel refuses the write."""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file, largest_file))

    command = [sys.executable, "-B", "-m", "robin_cli.main", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=240, preexec_fn=limit, check=False)


def assert_disk_full(done: subprocess.CompletedProcess[str], named: str) -> None:
    assert done.returncode == 1, done.stderr
    errors = [line for line in done.stderr.splitlines() if line.startswith("error E501 DISK_FULL: ")]
    assert len(errors) == 1 and named in errors[0], done.stderr
    assert "Traceback" not in done.stderr


def test_full_disk_while_a_plan_is_written(folder: Path, model: Path, tmp_path: Path) -> None:
    out = tmp_path / "results/out"
    arguments = ["plan", "--folder", str(folder), "--model", str(model), "--out", str(out), "--planner", "geometric"]
    assert_disk_full(run_with_little_space(arguments, 4000), "out")
    assert left_over(tmp_path / "results") == []


def test_full_disk_while_a_result_file_is_written(tmp_path: Path) -> None:
    record_samples(tmp_path / "run")
    target = tmp_path / "results/trace.json"
    target.parent.mkdir()
    target.write_text("{}")
    done = run_with_little_space(["trace", "--run", str(tmp_path / "run"), "--json", str(target)], 100)
    assert_disk_full(done, "trace.json")
    assert left_over(target.parent) == ["trace.json"] and target.read_text() == "{}"


def test_full_disk_while_scenes_are_rendered(tmp_path: Path) -> None:
    out = tmp_path / "set"
    done = run_with_little_space(["dataset", "make", "--scenes", "1", "--workers", "1", "--out", str(out)], 20_000)
    assert_disk_full(done, "set")
    assert left_over(out) in ([], ["dataset.json"])


@pytest.mark.slow
def test_full_disk_while_picks_are_recorded(tmp_path: Path) -> None:
    out = tmp_path / "run"
    arguments = ["sim", "run", "--masks", "oracle", "--picks", "1", "--workers", "1", "--planner", "geometric"]
    assert_disk_full(run_with_little_space([*arguments, "--out", str(out)], 20_000), "run")
    assert not (out / "report.html").exists() and not (out / "results.json").exists()
    assert (out / "decisions.jsonl").read_bytes() == b""
    assert not [name for name in left_over(out) if name.endswith(".tmp")]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 kB, where this machine lets us mount one."""
    mount = tmp_path / "disk"
    mount.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(mount)]
    if os.geteuid() != 0 or subprocess.run(command, capture_output=True, check=False).returncode != 0:
        pytest.skip("needs the right to mount a tmpfs")
    yield mount
    subprocess.run(["umount", str(mount)], check=True)


def test_a_disk_that_is_really_full(robin: Robin, folder: Path, model: Path, small_disk: Path) -> None:
    (small_disk / "ballast").write_bytes(b"x" * 56_000)
    done = robin("plan", "--folder", folder, "--model", model, "--out", small_disk / "out", "--planner", "geometric")
    assert done.status == 1
    assert done.error_line.startswith("error E501 DISK_FULL: ")
    assert left_over(small_disk) == ["ballast"]


def test_a_folder_that_must_not_be_written(robin: Robin, folder: Path, model: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    done = robin("plan", "--folder", folder, "--model", model, "--out", tmp_path / "file/out")
    assert done.status == 2
    assert done.error_line.startswith("error E405 ") and "file" in done.error_line
