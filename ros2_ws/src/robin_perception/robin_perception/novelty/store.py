"""Unfamiliar looks on disk: one file of counts, a few pictures of each. Bounded, atomic, read again after a restart."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robin_perception.core.bounded import parse_json, read_plain_text
from robin_perception.core.disk import make_folder, write_atomic
from robin_perception.core.errors import Code, RobinError
from robin_perception.novelty.appearance import SIZE

STORE_FILE = "novelties.json"
_MOST_BYTES = 20_000_000
_LEARN = 0.2  # share that a new sighting has in a look's middle, at least


@dataclass
class Look:
    """Goods of one look. key: never changes; name: "novel-NN" from when it recurs, else empty. middle: float32 [SIZE]
    mean appearance. count: sightings. first_s, last_s: stamps. pictures: file names, oldest first."""

    key: str
    middle: NDArray[np.float32]
    first_s: float
    last_s: float
    count: int = 0
    name: str = ""
    pictures: list[str] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        values = {name: getattr(self, name) for name in ("key", "first_s", "last_s", "count", "name", "pictures")}
        return {**values, "middle": [round(float(v), 5) for v in self.middle]}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Look:
        """Raises KeyError, TypeError, ValueError for what cannot be one."""
        middle = np.array(values["middle"], dtype=np.float32)
        key, name, pictures = str(values["key"]), str(values["name"]), [str(p) for p in values["pictures"]]
        if middle.shape != (SIZE,) or not np.isfinite(middle).all():
            raise ValueError(f"'middle' of {key} has {middle.size} figures, needs {SIZE}")
        if not key.isalnum() or any(Path(p).name != p or not p.endswith(".jpg") for p in pictures):
            raise ValueError(f"'{key}' is no key, or a picture of it no file name")
        return cls(key, middle, float(values["first_s"]), float(values["last_s"]), int(values["count"]), name, pictures)


class NoveltyStore:
    """Looks by key. With ``folder`` None nothing is written. A write that fails is told by ``fault``, and tried again
    with the next one; a file that cannot be read is put aside, and ``fault`` says so until the next write works."""

    def __init__(self, folder: Path | None, most_looks: int, most_pictures: int) -> None:
        self.looks: dict[str, Look] = {}
        self.fault: RobinError | None = None
        self._folder = folder
        self._most_looks = most_looks
        self._most_pictures = most_pictures
        self._next_key = self._next_name = 1
        self._changed = False
        if folder is not None and (folder / STORE_FILE).exists():
            self._read(folder / STORE_FILE)

    def nearest(self, seen: NDArray[np.float32], within: float) -> Look | None:
        """The look that is nearest to an appearance, if within that share of the appearance's length."""
        if not self.looks:
            return None
        looks = list(self.looks.values())
        distances = np.linalg.norm(np.stack([look.middle for look in looks]) - seen, axis=1) / np.linalg.norm(seen)
        best = int(np.argmin(distances))
        return looks[best] if distances[best] <= within else None

    def add(self, seen: NDArray[np.float32], stamp_s: float) -> Look:
        """A new look; the stalest one without a name goes where there are too many, else the stalest."""
        if len(self.looks) >= self._most_looks:
            self._remove(min(self.looks.values(), key=lambda look: (bool(look.name), look.last_s)))
        look = Look(f"look{self._next_key:06d}", seen.copy(), stamp_s, stamp_s)
        self._next_key += 1
        self.looks[look.key] = look
        return look

    def count(self, look: Look, seen: NDArray[np.float32], stamp_s: float, picture: bytes) -> None:
        """One more sighting of ``look``, with its picture (JPEG)."""
        look.count += 1
        look.last_s = stamp_s
        look.middle += (seen - look.middle) * max(_LEARN, 1 / look.count)
        self._changed = True
        self._keep(look, picture)

    def give_name(self, look: Look) -> None:
        if not look.name:
            look.name = f"novel-{self._next_name:02d}"
            self._next_name += 1
            self._changed = True

    def save(self) -> None:
        """Write what changed; never raises."""
        if self._folder is None or not self._changed:
            return
        values = {
            "format": 1,
            "next_key": self._next_key,
            "next_name": self._next_name,
            "looks": [look.to_json() for look in self.looks.values()],
        }
        try:
            make_folder(self._folder)
            write_atomic(self._folder / STORE_FILE, (json.dumps(values) + "\n").encode())
        except RobinError as exc:
            self.fault = exc
            return
        self._changed, self.fault = False, None

    def _keep(self, look: Look, picture: bytes) -> None:
        """The first picture stays; of the others the latest."""
        if self._folder is None or self._most_pictures == 0:
            return
        folder, name = self._folder / look.key, f"{look.count:06d}.jpg"
        try:
            make_folder(folder)
            write_atomic(folder / name, picture)
        except RobinError as exc:
            self.fault = exc
            return
        look.pictures.append(name)
        while len(look.pictures) > self._most_pictures:
            gone = look.pictures.pop(1 if len(look.pictures) > 1 and self._most_pictures > 1 else 0)
            with contextlib.suppress(OSError):
                (folder / gone).unlink()

    def _remove(self, look: Look) -> None:
        del self.looks[look.key]
        self._changed = True
        if self._folder is not None:
            shutil.rmtree(self._folder / look.key, ignore_errors=True)

    def _read(self, path: Path) -> None:
        try:
            values = parse_json(read_plain_text(path, _MOST_BYTES, Code.NOVELTY_STORE_DAMAGED), str(path))
            looks = [Look.from_json(each) for each in values["looks"]]
            self._next_key, self._next_name = int(values["next_key"]), int(values["next_name"])
            self.looks = {look.key: look for look in looks}
        except (RobinError, KeyError, TypeError, ValueError) as exc:
            text = exc.text if isinstance(exc, RobinError) else str(exc)
            self.fault = RobinError(Code.NOVELTY_STORE_DAMAGED, f"{path}: {text}")
            with contextlib.suppress(OSError):
                os.replace(path, path.with_suffix(".damaged.json"))


def require_store(path: Path) -> None:
    """Raises RobinError INPUT_MISSING where nothing was kept."""
    if not path.is_file():
        raise RobinError(Code.INPUT_MISSING, f"{path}: no unfamiliar goods were kept there")
