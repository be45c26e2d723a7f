"""A power cut or a kill at any step leaves a whole model to run, and nothing that was acknowledged is lost."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from helpers.model_samples import WHO, bundles, quick_load
from helpers.store_samples import ForgetfulFiles, PowerCut, Steps, quick_folder

from edge_adapt.models import registry as module
from edge_adapt.models.registry import ModelRegistry
from edge_adapt.store.blobs import Files
from robin_perception.core.errors import RobinError

Told = Callable[[int, int], object]
"""Called with the number of what was done, and the version that then runs."""


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return bundles(tmp_path_factory.mktemp("bundles"), 3)


@pytest.fixture(autouse=True)
def _quickly_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "load_bundle", quick_load)


def script(registry: ModelRegistry, paths: list[Path], told: Told) -> None:
    """A life of a registry: version 1, version 2, back, 2 pinned, 3 in its place, 1 removed."""
    steps: list[Callable[[], object]] = [
        lambda: registry.add(paths[1], WHO, ""),
        lambda: registry.activate(1, WHO, ""),
        lambda: registry.add(paths[2], WHO, ""),
        lambda: registry.activate(2, WHO, ""),
        lambda: registry.rollback(WHO, ""),
        lambda: registry.pin(WHO, "", 0),
        lambda: registry.unpin(WHO, ""),
        lambda: registry.add(paths[3], WHO, ""),
        lambda: registry.activate(2, WHO, ""),
        lambda: registry.activate(3, WHO, ""),
        lambda: registry.prune(0, WHO),
        lambda: registry.rollback(WHO, ""),
    ]
    for number, step in enumerate(steps):
        step()
        told(number, registry.state().active)


RUNS = (0, 1, 1, 2, 1, 0, 0, 0, 2, 3, 3, 2)
"""What runs after each step of the script."""


def looked_at(folder: Path, factory: Path, done: int) -> None:
    """``done`` steps were acknowledged; the next one may have happened, or not. Then everything goes on."""
    registry = ModelRegistry(folder, factory)
    loaded = registry.load()
    possible = {(0, *RUNS)[done], RUNS[min(done, len(RUNS) - 1)]}
    assert loaded.version in possible
    assert loaded.version == registry.state().active
    registry.refuse(WHO, "the next writer")
    story = registry.story()
    assert (story.problem, story.torn) == (None, None)
    assert {entry.event for entry in story.entries} <= {
        *("added", "active", "rolled_back", "pinned", "unpinned", "pruned", "refused"),
        *("interrupted", "journal_cut", "state_damaged"),
    }
    assert registry.load().version in possible
    assert registry.load().problem is None
    state = registry.state()
    kept = sorted(path.name for path in (folder / "versions").glob("*")) if (folder / "versions").is_dir() else []
    assert kept == [f"{version.number:06d}" for version in state.versions]
    for version in state.versions:
        registry.load_version(version.number)
    number = registry.add(factory, WHO, "once more")
    assert number > max((version.number for version in state.versions), default=0)


def test_the_script_runs_what_it_says(paths: list[Path]) -> None:
    with quick_folder() as folder:
        seen: list[int] = []
        script(ModelRegistry(folder, paths[0]), paths, lambda number, active: seen.append(active))
        assert tuple(seen) == RUNS


def test_a_power_cut_before_every_single_step(paths: list[Path]) -> None:
    with quick_folder() as folder:
        quiet = ForgetfulFiles(Steps())
        script(ModelRegistry(folder, paths[0], files=quiet), paths, lambda number, active: None)
    assert quiet.steps.taken > 100
    rng = np.random.default_rng(141604)
    for at in range(quiet.steps.taken):
        with quick_folder() as folder:
            files, done = ForgetfulFiles(Steps(at)), list[int]()
            with pytest.raises(PowerCut):
                script(ModelRegistry(folder, paths[0], files=files), paths, lambda number, _: done.append(number))  # noqa: B023
            files.power_cut(rng)
            looked_at(folder, paths[0], len(done))


def test_the_steps_are_told_apart_from_a_registry_that_does_not_sync(paths: list[Path]) -> None:
    """The check above can fail."""
    harmed = 0
    for seed in range(12):
        with quick_folder() as folder:
            files = ForgetfulFiles(Steps())
            files.sync = lambda path: None  # type: ignore[method-assign]
            script(ModelRegistry(folder, paths[0], files=files), paths, lambda number, active: None)
            files.power_cut(np.random.default_rng(seed))
            try:
                looked_at(folder, paths[0], len(RUNS))
            except (AssertionError, RobinError):
                harmed += 1
    assert harmed > 0


class KilledFiles(Files):
    """Ends its process, as the system does with SIGKILL, right before or in the middle of a step."""

    def __init__(self, at: int) -> None:
        self.at, self.taken = at, 0

    def _step(self, half: Callable[[], object] = lambda: None) -> None:
        if self.taken == self.at:
            half()
            os.kill(os.getpid(), signal.SIGKILL)
        self.taken += 1

    def write(self, path: Path, data: bytes) -> None:
        self._step(lambda: path.write_bytes(data[: len(data) // 2]))
        super().write(path, data)

    def append(self, path: Path, data: bytes) -> None:
        self._step(lambda: Files.append(self, path, data[: len(data) // 2]))
        super().append(path, data)

    def rename(self, path: Path, target: Path) -> None:
        self._step()
        super().rename(path, target)

    def sync_folder(self, path: Path) -> None:
        self._step()
        super().sync_folder(path)


def be_killed(at: int, factories: list[Path], folder: Path, pipe: int) -> None:
    """A byte into ``pipe`` for each step that was acknowledged."""
    status = 1
    try:
        script(ModelRegistry(folder, factories[0], files=KilledFiles(at)), factories, lambda *_: os.write(pipe, b"."))
        status = 0
    finally:
        os._exit(status)


def victims(factories: list[Path], folder: Path) -> Iterator[tuple[int, int]]:
    """Fork a process for every step and have it killed there; yields (step, acknowledged) until one runs to its end."""
    for at in range(1000):
        shutil.rmtree(folder, ignore_errors=True)
        reading, writing = os.pipe()
        pid = os.fork()
        if not pid:
            be_killed(at, factories, folder, writing)
        os.close(writing)
        with os.fdopen(reading, "rb") as stream:
            done = len(stream.read())
        status = os.waitpid(pid, 0)[1]
        yield at, done
        if not os.WIFSIGNALED(status):
            assert (status, done) == (0, len(RUNS))
            return


def test_a_kill_at_every_single_step(paths: list[Path], tmp_path: Path) -> None:
    """In a process of its own, which has no threads to fork with."""
    values = json.dumps([str(path) for path in paths])
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with quick_folder() as folder:
        command = [sys.executable, __file__, values, str(folder)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=280, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 60


if __name__ == "__main__":
    module.load_bundle = quick_load
    places = [Path(text) for text in json.loads(sys.argv[1])]
    count = 0
    for at, acknowledged in victims(places, Path(sys.argv[2])):
        try:
            looked_at(Path(sys.argv[2]), places[0], acknowledged)
        except AssertionError as exc:
            raise AssertionError(f"killed at step {at}") from exc
        count += 1
    print(count)
