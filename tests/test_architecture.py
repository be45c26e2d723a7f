"""The rules that hold the rooms apart, read from the source of every module."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
ROOMS = {
    "robin_perception": ROOT / "ros2_ws/src/robin_perception/robin_perception",
    "robin_grasp": ROOT / "ros2_ws/src/robin_grasp/robin_grasp",
    "edge_adapt": ROOT / "edge_adapt/edge_adapt",
    "robin_fleet": ROOT / "fleet/robin_fleet",
    "robin_view": ROOT / "view/robin_view",
    "robin_sim": ROOT / "sim/robin_sim",
    "robin_cli": ROOT / "cli/robin_cli",
    "robin_bringup": ROOT / "launch/robin_bringup",
}
MAY_IMPORT = {
    "robin_perception": set(),
    "robin_grasp": {"robin_perception"},
    "edge_adapt": {"robin_perception", "robin_grasp"},
    "robin_fleet": {"robin_perception", "robin_grasp", "edge_adapt"},
    "robin_view": {"robin_perception", "robin_grasp", "edge_adapt", "robin_fleet"},
    "robin_sim": {"robin_perception", "robin_grasp", "edge_adapt"},
    "robin_cli": {
        "robin_perception",
        "robin_grasp",
        "edge_adapt",
        "robin_fleet",
        "robin_view",
        "robin_sim",
        "robin_bringup",
    },
    "robin_bringup": {"robin_perception", "robin_grasp", "edge_adapt", "robin_sim"},
}
LONGEST_FILE = 400
PICK_PATH = (
    "robin_perception.segmentation.segmenter",
    "robin_perception.engines.ort.engine",
    "robin_grasp.planner.registry",
    "robin_grasp.planner.planner",
    "robin_cli.commands.plan_run",
)
ROS = re.compile(r"rclpy|tf2_ros|cv_bridge|builtin_interfaces|rcl_interfaces|\w+_(msgs|srvs)")
MACHINE_PATH = re.compile(r"(?<![\w.])/(?:work|home/\w|root|Users|tmp/\w)")


def modules() -> Iterator[tuple[str, Path]]:
    for room, folder in ROOMS.items():
        for path in sorted(folder.rglob("*.py")):
            yield room, path


def imported(path: Path) -> set[str]:
    """Every module that ``path`` imports anywhere, also inside functions; relative imports count as the own room."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            names.add(node.module)
    return names


def test_rooms_import_in_one_direction() -> None:
    wrong = []
    for room, path in modules():
        others = {name.split(".")[0] for name in imported(path)} & (set(ROOMS) - {room})
        wrong += [f"{path.relative_to(ROOT)} imports {other}" for other in others - MAY_IMPORT[room]]
    assert wrong == []


def imported_modules(path: Path, known: Mapping[str, Path]) -> set[str]:
    """Our modules that ``path`` imports: of "from package import name" the module of that name, else the package."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            members = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= members & known.keys() or {node.module}
    return found & known.keys()


def test_modules_do_not_import_in_circles() -> None:
    """Neither at the top nor inside functions."""
    known = {}
    for room, path in modules():
        parts = path.relative_to(ROOMS[room]).with_suffix("").parts
        known[".".join((room, *parts)).removesuffix(".__init__")] = path
    graph = {name: imported_modules(path, known) - {name} for name, path in known.items()}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as exc:
        pytest.fail(" imports ".join(reversed(exc.args[1])))


def test_only_nodes_import_ros() -> None:
    wrong = [
        str(path.relative_to(ROOT))
        for _, path in modules()
        if "nodes" not in path.parts and any(ROS.fullmatch(name.split(".")[0]) for name in imported(path))
    ]
    assert wrong == []


def test_only_training_and_its_tests_import_torch() -> None:
    training = ROOMS["edge_adapt"] / "training"
    wrong = [
        str(path.relative_to(ROOT))
        for _, path in modules()
        if training not in path.parents and any(name.split(".")[0] == "torch" for name in imported(path))
    ]
    assert wrong == []


def test_pick_path_loads_neither_torch_nor_the_simulator() -> None:
    """In a fresh process: what a pick needs, and nothing that belongs to training or simulation."""
    forbidden = ("torch", "mujoco", "open3d", "robin_sim", "edge_adapt.training", "rclpy")
    code = f"import sys, {', '.join(PICK_PATH)}\nprint([m for m in {forbidden!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.strip() == "[]"


def test_no_pickle() -> None:
    """Models and records are data: nothing may be able to run code when it is read."""
    wrong = [
        f"{path.relative_to(ROOT)} imports {name}"
        for _, path in modules()
        for name in imported(path)
        if name.split(".")[0] in ("pickle", "cloudpickle", "dill", "joblib", "shelve", "marshal")
    ]
    assert wrong == []


def tracked_text() -> list[Path]:
    listed = subprocess.run(["git", "-C", str(ROOT), "ls-files"], capture_output=True, text=True, check=False)
    if listed.returncode != 0:
        pytest.skip("not a git checkout")
    endings = {".py", ".sh", ".md", ".toml", ".yaml", ".yml", ".xml", ".cfg", ".json", ".txt", ".j2", ""}
    paths = (ROOT / line for line in listed.stdout.splitlines())
    return [path for path in paths if path.suffix in endings and path.is_file()]


def test_no_paths_of_one_machine() -> None:
    found = []
    for path in tracked_text():
        if path.resolve() == Path(__file__).resolve():
            continue
        for number, line in enumerate(path.read_text(errors="replace").splitlines(), start=1):
            if MACHINE_PATH.search(line):
                found.append(f"{path.relative_to(ROOT)}:{number}: {line.strip()[:100]}")
    assert found == []


def test_files_fit_the_head() -> None:
    long = {str(p.relative_to(ROOT)): n for _, p in modules() if (n := len(p.read_text().splitlines())) > LONGEST_FILE}
    assert long == {}


def test_every_room_is_a_colcon_package() -> None:
    for room, folder in ROOMS.items():
        package = folder.parent
        assert f"<name>{room}</name>" in (package / "package.xml").read_text()
        assert (package / "resource" / room).is_file()
        assert f'NAME = "{room}"' in (package / "setup.py").read_text()
        assert f"lib/{room}" in (package / "setup.cfg").read_text()
