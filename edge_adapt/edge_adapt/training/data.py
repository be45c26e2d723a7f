"""Image folders packed once into flat binary files that training maps into memory: decoding PNGs costs a core.

``<dataset>/packed/`` holds rgb.bin (uint8), depth.bin and film.bin (uint16, quarter millimetres; in film.bin 65535 =
unknown), labels.bin (uint8, 255 = ignore), all at the network's size, and index.jsonl with one line per scene. A line
is written when its data is on the disk, so a broken run leaves at most a tail without a line, which the next pass
overwrites. Packing again picks up scenes added since, and all of them where a file is missing.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_adapt.training.geometry import NETWORK_HEIGHT, NETWORK_WIDTH
from robin_perception.core.disk import make_folder, write_error
from robin_perception.core.errors import Code, RobinError
from robin_perception.core.image_folder import (
    CAMERA_FILE,
    FILM_FILE,
    FILM_UNIT_M,
    IGNORE_LABEL,
    SCENE_FILE,
    load_camera,
    load_film,
    load_frame,
    load_labels,
    load_scene_info,
    read_json,
)
from robin_perception.core.output import locked
from robin_perception.core.scene import CLASSES

IGNORE = 255
_FILM_UNKNOWN = 65535  # in film.bin
_SHAPE = (NETWORK_HEIGHT, NETWORK_WIDTH)
_PIXELS = NETWORK_HEIGHT * NETWORK_WIDTH
_SYNCED_TOGETHER = 64


@dataclass(frozen=True)
class SceneInstance:
    """One labelled parcel: id in ``labels``, visible fraction (NaN: not told), "kind/variant". Its kind is the name of
    its class, empty where it is not told."""

    id: int
    visible_fraction: float
    variant: str

    @property
    def kind(self) -> str:
        return self.variant.partition("/")[0]


@dataclass(frozen=True)
class TrainingScene:
    """Arrays at network size: rgb uint8 [384,512,3]; depth float32 [384,512] m; labels uint8 [384,512], 255 = ignore;
    film float32 [384,512] m: true depth where a pixel shows film, 0 where it does not, -1 where nobody knows;
    intrinsics float32 [4] fx fy cx cy; belt_plane float32 [4] (n, d)."""

    rgb: NDArray[np.uint8]
    depth: NDArray[np.float32]
    labels: NDArray[np.uint8]
    film: NDArray[np.float32]
    intrinsics: NDArray[np.float32]
    belt_plane: NDArray[np.float32]
    instances: tuple[SceneInstance, ...]


def letterbox_geometry(width: int, height: int) -> tuple[float, int, int, int, int]:
    """Scale, new width, new height, left and top padding that fit a width x height image into the network's size."""
    scale = min(NETWORK_WIDTH / width, NETWORK_HEIGHT / height)
    new_width, new_height = round(width * scale), round(height * scale)
    return scale, new_width, new_height, (NETWORK_WIDTH - new_width) // 2, (NETWORK_HEIGHT - new_height) // 2


def read_scene(folder: Path) -> TrainingScene:
    """Decode one labelled image folder and letterbox it.

    What ``robin plan`` refuses is refused here: RobinError naming the file at fault.
    """
    if load_camera(folder / CAMERA_FILE).T_base_camera is None:
        raise RobinError(Code.POSE_INVALID, f"{folder / CAMERA_FILE}: T_base_camera is missing")
    frame, labels_wide = load_frame(folder), load_labels(folder)
    if labels_wide.shape != frame.depth.shape:
        raise RobinError(Code.INPUT_SIZE_MISMATCH, f"{folder}: picture and labels differ in size")
    try:
        instances = tuple(_instance(entry) for entry in load_scene_info(folder)["instances"])
    except (KeyError, ValueError, TypeError) as exc:
        text = f"{folder / SCENE_FILE}: lacks or misstates {exc}"
        raise RobinError(Code.INPUT_UNREADABLE, text) from None
    rgb, depth = frame.rgb, frame.depth
    film = _film(folder, depth.shape)
    fx, fy, cx, cy = frame.K[0, 0], frame.K[1, 1], frame.K[0, 2], frame.K[1, 2]
    labels = np.where(labels_wide == IGNORE_LABEL, IGNORE, np.minimum(labels_wide, IGNORE)).astype(np.uint8)
    scale, new_width, new_height, left, top = letterbox_geometry(frame.width, frame.height)
    if (new_width, new_height, left, top) != (frame.width, frame.height, 0, 0):
        rgb = _fit(rgb, new_width, new_height, left, top, cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
        depth = _fit(depth, new_width, new_height, left, top, cv2.INTER_NEAREST)
        labels = _fit(labels, new_width, new_height, left, top, cv2.INTER_NEAREST)
        film = _fit(film, new_width, new_height, left, top, cv2.INTER_NEAREST)
    intrinsics = [fx * scale, fy * scale, (cx + 0.5) * scale - 0.5 + left, (cy + 0.5) * scale - 0.5 + top]
    K = np.array(intrinsics, dtype=np.float32)
    return TrainingScene(rgb, depth, labels, film, K, frame.belt_plane(), instances)


def _film(folder: Path, shape: tuple[int, ...]) -> NDArray[np.float32]:
    film = load_film(folder)
    if film is None:
        return np.full(shape, -1, dtype=np.float32)
    if film.shape != shape:
        raise RobinError(Code.INPUT_SIZE_MISMATCH, f"{folder / FILM_FILE}: picture and film differ in size")
    return film


def _fit(image: NDArray[Any], width: int, height: int, left: int, top: int, interpolation: int) -> NDArray[Any]:
    canvas = np.zeros((*_SHAPE, *image.shape[2:]), dtype=image.dtype)
    canvas[top : top + height, left : left + width] = cv2.resize(image, (width, height), interpolation=interpolation)
    return canvas


def _instance(entry: dict[str, Any]) -> SceneInstance:
    variant = f"{entry.get('kind', '')}/{entry.get('variant', '')}"
    return SceneInstance(int(entry["id"]), float(entry.get("visible_fraction", math.nan)), variant)


def dataset_classes(datasets: Sequence[Path]) -> tuple[str, ...]:
    """What a network that learns from ``datasets`` tells apart: the classes that each one's dataset.json names, in that
    order; those of the shipped bundle where it names none. Raises RobinError INPUT_UNREADABLE, CONFIG_UNREADABLE."""
    found: dict[str, None] = {}
    for dataset in datasets:
        path = dataset / "dataset.json"
        values = read_json(path) if path.is_file() else {}
        names = values.get("classes", CLASSES) if isinstance(values, dict) else None
        if not isinstance(names, (list, tuple)) or not all(isinstance(name, str) and name for name in names):
            raise RobinError(Code.INPUT_UNREADABLE, f"{path}: 'classes' must be a list of names")
        found |= dict.fromkeys(names)
    return tuple(found)


def scene_folders(dataset: Path) -> list[Path]:
    """Finished scene folders by name; temporary ones (a dot or .tmp in the name) are left out."""
    if not dataset.is_dir():
        raise RobinError(Code.INPUT_MISSING, f"{dataset}: no such dataset folder")
    return sorted(p for p in dataset.iterdir() if p.name.isdigit() and (p / "scene.json").is_file())


_Maps = tuple[NDArray[np.uint8], NDArray[np.uint16], NDArray[np.uint8], NDArray[np.uint16]]
_FILES = (("rgb.bin", 3), ("depth.bin", 2), ("labels.bin", 1), ("film.bin", 2))
"""Name and bytes of a pixel."""


class PackedDataset:
    """Scenes of one dataset folder in memory-mapped files. One process at a time packs; reading meanwhile is safe."""

    def __init__(self, dataset: Path) -> None:
        self.dataset = dataset
        self.folder = dataset / "packed"
        self.index: list[dict[str, Any]] = []
        self._index_bytes = 0
        self._maps: _Maps | None = None
        if self.folder.is_dir():
            self._load()

    def __len__(self) -> int:
        return len(self.index)

    @property
    def kinds(self) -> tuple[str, ...]:
        """Kinds of parcels in its scenes, by name."""
        return tuple(sorted({SceneInstance(*row).kind for entry in self.index for row in _rows(entry)} - {""}))

    def pack(self, limit: int | None = None) -> Iterator[int]:
        """Append every finished scene that is not in yet; yields the count packed so far. ``limit`` caps this pass.

        A folder that cannot be decoded raises RobinError; so does another process that packs at the time, and a folder
        that cannot be written (OPTION_INVALID). Call ``refresh`` afterwards to read the new scenes.
        """
        folders = scene_folders(self.dataset)
        make_folder(self.folder)
        try:
            with locked(self.folder):
                self._load()
                known = {entry["name"] for entry in self.index}
                yield from self._append([folder for folder in folders if folder.name not in known][:limit])
        except OSError as exc:
            raise write_error(self.folder, exc) from None

    def _append(self, fresh: list[Path]) -> Iterator[int]:
        if not fresh:
            return
        with (
            _positioned(self.folder / "rgb.bin", len(self) * _PIXELS * 3) as rgb_file,
            _positioned(self.folder / "depth.bin", len(self) * _PIXELS * 2) as depth_file,
            _positioned(self.folder / "labels.bin", len(self) * _PIXELS) as labels_file,
            _positioned(self.folder / "film.bin", len(self) * _PIXELS * 2) as film_file,
            _positioned(self.folder / "index.jsonl", self._index_bytes) as index_file,
        ):
            lines: list[bytes] = []
            files = (rgb_file, depth_file, labels_file, film_file)
            try:
                for count, folder in enumerate(fresh, start=1):
                    scene = read_scene(folder)
                    rgb_file.write(scene.rgb.tobytes())
                    depth_file.write(_quarter_mm(scene.depth).tobytes())
                    labels_file.write(scene.labels.tobytes())
                    film_file.write(_film_units(scene.film).tobytes())
                    lines.append((json.dumps(_index_entry(folder.name, scene)) + "\n").encode())
                    if len(lines) == _SYNCED_TOGETHER:
                        _commit(files, index_file, lines)
                    yield count
            finally:
                _commit(files, index_file, lines)

    def refresh(self) -> int:
        """Read the index again and map the files at their present size; returns the number of scenes."""
        self._load()
        return len(self)

    def _load(self) -> None:
        path = self.folder / "index.jsonl"
        if not path.is_file():
            self.index, self._maps, self._index_bytes = [], None, 0
            return
        data = path.read_bytes()
        lines = data[: data.rfind(b"\n") + 1].splitlines(keepends=True)[: self._scenes_with_data()]
        self._index_bytes = sum(map(len, lines))
        self.index = [json.loads(line) for line in lines]
        self._maps = None

    def _scenes_with_data(self) -> int:
        """How many scenes the files hold in full, whatever the index says."""
        sizes = ((self.folder / name, _PIXELS * width) for name, width in _FILES)
        return min(path.stat().st_size // size if path.is_file() else 0 for path, size in sizes)

    def _mapped(self) -> _Maps:
        if self._maps is None:
            count = len(self)
            self._maps = (
                np.memmap(self.folder / "rgb.bin", np.uint8, "r", shape=(count, *_SHAPE, 3)),
                np.memmap(self.folder / "depth.bin", np.uint16, "r", shape=(count, *_SHAPE)),
                np.memmap(self.folder / "labels.bin", np.uint8, "r", shape=(count, *_SHAPE)),
                np.memmap(self.folder / "film.bin", np.uint16, "r", shape=(count, *_SHAPE)),
            )
        return self._maps

    def scene(self, position: int) -> TrainingScene:
        """The packed scene at ``position`` (0 .. len - 1), in arrays of its own."""
        rgb, depth, labels, film = self._mapped()
        entry, unit = self.index[position], np.float32(FILM_UNIT_M)
        seen = film[position]
        return TrainingScene(
            rgb=np.array(rgb[position]),
            depth=depth[position] * unit,
            labels=np.array(labels[position]),
            film=np.where(seen == _FILM_UNKNOWN, np.float32(-1), seen * unit),
            intrinsics=np.array(entry["intrinsics"], dtype=np.float32),
            belt_plane=np.array(entry["belt_plane"], dtype=np.float32),
            instances=tuple(SceneInstance(*row) for row in _rows(entry)),
        )


def _quarter_mm(depth: NDArray[np.float32]) -> NDArray[np.uint16]:
    return np.clip(np.rint(depth / FILM_UNIT_M), 0, _FILM_UNKNOWN - 1).astype(np.uint16)


def _film_units(film: NDArray[np.float32]) -> NDArray[np.uint16]:
    return np.where(film < 0, np.uint16(_FILM_UNKNOWN), _quarter_mm(np.maximum(film, 0)))


def _rows(entry: dict[str, Any]) -> list[tuple[int, float, str]]:
    """id, visible fraction and variant of an entry's parcels; older ones hold a class index between the first two."""
    return [(row[0], row[-2], row[-1]) for row in entry["instances"]]


def _positioned(path: Path, offset: int) -> BinaryIO:
    """Open for appending at ``offset``, dropping whatever a broken run left behind it."""
    path.touch()
    os.truncate(path, offset)
    return path.open("ab")


def _commit(data: Sequence[BinaryIO], index: BinaryIO, lines: list[bytes]) -> None:
    """Data first, then the lines that say it is there; each on the disk before what follows."""
    for file in data:
        file.flush()
        os.fsync(file.fileno())
    index.write(b"".join(lines))
    index.flush()
    os.fsync(index.fileno())
    lines.clear()


def _index_entry(name: str, scene: TrainingScene) -> dict[str, Any]:
    return {
        "name": name,
        "intrinsics": [round(float(v), 6) for v in scene.intrinsics],
        "belt_plane": [round(float(v), 8) for v in scene.belt_plane],
        "instances": [[i.id, round(i.visible_fraction, 4), i.variant] for i in scene.instances],
    }
