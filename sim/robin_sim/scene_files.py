"""One labelled scene on disk: whole under its name, or not there."""

from __future__ import annotations

import json
import shutil
import zlib
from pathlib import Path

from robin_perception.core.bounded import parse_json, read_plain_bytes
from robin_perception.core.disk import sync_folder, sync_tree
from robin_perception.core.errors import RobinError
from robin_perception.core.image_folder import (
    CAMERA_FILE,
    COLOR_FILE,
    DEPTH_FILE,
    FILM_FILE,
    LABELS_FILE,
    SCENE_FILE,
    save_film,
    save_frame,
)
from robin_sim.training_scenes import LabelledScene

_PICTURES = (COLOR_FILE, DEPTH_FILE, LABELS_FILE, FILM_FILE)
_TEXTS = (CAMERA_FILE, SCENE_FILE)
_MOST_BYTES = 256 << 20
_PNG = b"\x89PNG\r\n\x1a\n"


def write_scene(folder: Path, scene: LabelledScene) -> None:
    """Write aside, wait for the disk, then rename; what was there under that name goes. Raises OSError."""
    aside = folder.with_name(f".{folder.name}.tmp")
    shutil.rmtree(aside, ignore_errors=True)
    try:
        save_frame(aside, scene.frame, scene.labels)
        save_film(aside, scene.film)
        (aside / SCENE_FILE).write_text(json.dumps(scene.info) + "\n")
        sync_tree(aside)
        shutil.rmtree(folder, ignore_errors=True)
        aside.rename(folder)
        sync_folder(folder.parent)
    finally:  # an interruption leaves nothing half-written either
        shutil.rmtree(aside, ignore_errors=True)


def is_whole(folder: Path) -> bool:
    """Whether every file of the scene is there and sound: each chunk of a picture against its own checksum."""
    try:
        texts = [parse_json(read_plain_bytes(folder / name, _MOST_BYTES), name) for name in _TEXTS]
        pictures = [_is_whole_png(read_plain_bytes(folder / name, _MOST_BYTES)) for name in _PICTURES]
    except RobinError:
        return False
    return all(pictures) and all(isinstance(text, dict) for text in texts)


def _is_whole_png(data: bytes) -> bool:
    """Chunks are length (4 bytes), type (4), data, CRC-32 of type and data (4); the last one is IEND (PNG
    specification, section 5.3)."""
    at = len(_PNG)
    while data.startswith(_PNG) and at + 12 <= len(data):
        end = at + 12 + int.from_bytes(data[at : at + 4], "big")
        if end > len(data) or zlib.crc32(data[at + 4 : end - 4]) != int.from_bytes(data[end - 4 : end], "big"):
            return False
        if data[at + 4 : at + 8] == b"IEND":
            return end == len(data)
        at = end
    return False
