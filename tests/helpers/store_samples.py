"""Small samples for the store, and disks that forget what was not synced."""

from __future__ import annotations

import errno
import json
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from edge_adapt.store.blobs import Files
from edge_adapt.store.config import StoreConfig
from edge_adapt.store.index import Index
from edge_adapt.store.sample import Sample
from edge_adapt.store.store import SampleStore

SMALL = StoreConfig(budget_mb=0.05, least_free_mb=0, core_per_stratum=2)


def small_sample(
    number: int, size: int = 3000, *, name: str = "carton", result: str = "clean", novel: bool = False
) -> Sample:
    """``size`` bytes that no other number has, in two files."""
    data = np.random.default_rng(number).bytes(size)
    decision = json.dumps({"decision_id": f"d{number:06d}"})
    files = {"color.png": data[: size // 2], "after.png": data[size // 2 :]}
    return Sample(f"d{number:06d}", decision, name, result, novel, files=files)


@contextmanager
def quick_folder() -> Iterator[Path]:
    """In memory where there is such a file system: a sync costs nothing there."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as folder:
        yield Path(folder) / "store"


class PowerCut(BaseException):
    """Everything ends here."""


class Steps:
    """Counts the steps of a store and ends everything before one of them."""

    def __init__(self, cut_at: int | None = None) -> None:
        self.taken = 0
        self.cut_at = cut_at

    def take(self) -> None:
        if self.taken == self.cut_at:
            raise PowerCut
        self.taken += 1


class NoFiles(Files):
    """Blobs are nowhere; only the steps count."""

    def __init__(self, steps: Steps) -> None:
        self.steps = steps

    def write(self, path: Path, data: bytes) -> None:
        self.steps.take()

    def sync(self, path: Path) -> None:
        self.steps.take()

    def rename(self, path: Path, target: Path) -> None:
        self.steps.take()

    def make_folder(self, path: Path) -> None:
        self.steps.take()

    def sync_folder(self, path: Path) -> None:
        self.steps.take()

    def remove(self, path: Path) -> None:
        self.steps.take()


class ForgetfulFiles(Files):
    """A disk that keeps of what was not synced whatever it likes, once the power has failed."""

    def __init__(self, steps: Steps) -> None:
        self.steps = steps
        self.unsynced: dict[Path, int] = {}  # with the bytes of each that were synced before
        self.new_names: set[Path] = set()
        self.new_folders: set[Path] = set()
        self.removed: dict[Path, bytes] = {}

    def write(self, path: Path, data: bytes) -> None:
        self.steps.take()
        self.unsynced[path] = 0
        super().write(path, data)

    def append(self, path: Path, data: bytes) -> None:
        self.steps.take()
        if not path.exists():
            self.new_names.add(path)
        self.unsynced.setdefault(path, path.stat().st_size if path.exists() else 0)
        super().append(path, data)

    def cut(self, path: Path, length: int) -> None:
        self.steps.take()
        self.unsynced[path] = min(length, self.unsynced.get(path, length))
        super().cut(path, length)

    def sync(self, path: Path) -> None:
        self.steps.take()
        self.unsynced.pop(path, None)

    def rename(self, path: Path, target: Path) -> None:
        self.steps.take()
        if path in self.unsynced:
            self.unsynced[target] = self.unsynced.pop(path)
        self.new_names.add(target)
        super().rename(path, target)

    def make_folder(self, path: Path) -> None:
        self.steps.take()
        if not path.exists():
            self.new_folders.add(path)
            super().make_folder(path)

    def sync_folder(self, path: Path) -> None:
        self.steps.take()
        self.new_names = {name for name in self.new_names if name.parent != path}
        self.new_folders = {folder for folder in self.new_folders if folder.parent != path}
        self.removed = {name: data for name, data in self.removed.items() if name.parent != path}

    def remove(self, path: Path) -> None:
        self.steps.take()
        if path.exists():
            self.removed[path] = path.read_bytes()
        super().remove(path)

    def power_cut(self, rng: np.random.Generator) -> None:
        """What was synced is there; of the rest, chance decides."""
        for path, synced in self.unsynced.items():
            if path.exists() and rng.random() < 0.8:
                data = path.read_bytes()
                path.write_bytes(data[: int(rng.integers(synced, max(len(data), synced + 1)))])
        for path in self.new_names:
            if rng.random() < 0.5:
                shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
        for path, data in self.removed.items():
            if rng.random() < 0.5 and path.parent.exists():
                path.write_bytes(data)
        for folder in self.new_folders:
            if rng.random() < 0.5:
                shutil.rmtree(folder, ignore_errors=True)


class FullFiles(Files):
    """Takes ``room`` bytes and no more."""

    def __init__(self, room: int) -> None:
        self.room = room

    def write(self, path: Path, data: bytes) -> None:
        super().write(path, self._taken(path, data, path.write_bytes))

    def append(self, path: Path, data: bytes) -> None:
        super().append(path, self._taken(path, data, lambda part: super(FullFiles, self).append(path, part)))

    def _taken(self, path: Path, data: bytes, write_part: Callable[[bytes], object]) -> bytes:
        if len(data) > self.room:
            write_part(data[: self.room])
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        self.room -= len(data)
        return data


def counted_index(store: SampleStore, steps: Steps) -> None:
    """A step before and one behind each transaction of ``store``."""
    for name in ("insert", "pass_over", "remove", "forget"):
        setattr(store.index, name, _counted(getattr(store.index, name), steps))


def _counted(work, steps: Steps):  # type: ignore[no-untyped-def]
    def counted(*args, **more):  # type: ignore[no-untyped-def]
        steps.take()
        result = work(*args, **more)
        steps.take()
        return result

    return counted


def kept_ids(store: SampleStore) -> list[str]:
    return [row.decision for row in store.samples()]


def index_of(folder: Path) -> Index:
    return Index(folder / "index.sqlite", write=True)
