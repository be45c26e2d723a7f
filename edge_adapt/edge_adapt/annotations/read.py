"""One door for all of them: the labelled frames under a folder, or of one file, whichever tool wrote the labels.

A picture of another tool needs its depth and its camera: ``depth.png`` beside ``color.png``; of a picture ``NAME.*``,
``NAME_depth.png`` beside it or ``depth/NAME.png`` beside its folder or in it; or what the file names. ``camera.json``
lies in the picture's folder or in one above it, up to the folder that was given.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_adapt.annotations.coco import is_coco, read_coco
from edge_adapt.annotations.label_studio import is_label_studio, read_label_studio
from edge_adapt.annotations.labelme import is_labelme, read_labelme
from edge_adapt.annotations.picture import ANNOTATION_BYTES, MOST_PARCELS, AnnotatedPicture, invalid
from robin_perception.core.bounded import parse_json, read_plain_bytes
from robin_perception.core.errors import Code, RobinError
from robin_perception.core.frame import Frame
from robin_perception.core.image_folder import (
    CAMERA_FILE,
    COLOR_FILE,
    DEPTH_FILE,
    IGNORE_LABEL,
    LABELS_FILE,
    load_frame,
    load_frame_files,
    load_labels,
    load_scene_info,
)


@dataclass(frozen=True)
class LabelledFrame:
    """source: where it comes from. labels uint16 [H, W]: 0 background, 65535 ignore, else 1 .. 254. names: what each
    id was called, where it was. visible: the seen share of each parcel of which somebody told it. pile: frames of one
    pile are alike; empty: it is told of none."""

    source: str
    frame: Frame
    labels: NDArray[np.uint16]
    names: dict[int, str]
    pile: str = ""
    visible: Mapping[int, float] = field(default_factory=dict)


def labelled_frames(data: Path) -> Iterator[LabelledFrame]:
    """In the order of names, or of the file. Raises RobinError INPUT_MISSING where nothing is labelled,
    ANNOTATION_INVALID for what the labels' file gets wrong, and what ``load_frame`` raises."""
    found = 0
    for item in _items(data):
        yield _of_folder(item) if isinstance(item, Path) else _of_picture(item, data)
        found += 1
    if not found:
        text = f"{data}: nothing labelled; image folders, COCO, LabelMe and Label Studio JSON are read"
        raise RobinError(Code.INPUT_MISSING, text)


def _items(data: Path) -> Iterator[Path | AnnotatedPicture]:
    if data.is_file():
        yield from _pictures(data)
        return
    if not data.is_dir():
        raise RobinError(Code.INPUT_MISSING, f"{data}: no such folder or file")
    folders = sorted(p.parent for p in data.glob(f"*/{LABELS_FILE}") if not p.parent.name.startswith("."))
    if (data / LABELS_FILE).is_file():
        folders.insert(0, data)
    if folders:
        yield from folders
        return
    for path in sorted((*data.glob("*.json"), *data.glob("*/*.json"))):
        if path.name not in (CAMERA_FILE, "scene.json", "dataset.json") and not path.name.startswith("."):
            yield from _pictures(path)


def _pictures(path: Path) -> Iterator[AnnotatedPicture]:
    values: Any = parse_json(read_plain_bytes(path, ANNOTATION_BYTES), str(path), Code.ANNOTATION_INVALID)
    if is_coco(values):
        yield from read_coco(path, values)
    elif is_labelme(values):
        yield read_labelme(path, values)
    elif is_label_studio(values):
        yield from read_label_studio(path, values)
    else:
        raise invalid(str(path), "neither COCO (images, annotations), LabelMe (shapes) nor Label Studio (list of data)")


def _of_folder(folder: Path) -> LabelledFrame:
    frame, given, info = load_frame(folder), load_labels(folder), load_scene_info(folder)
    if given.shape != frame.depth.shape:
        raise RobinError(Code.INPUT_SIZE_MISMATCH, f"{folder}: {LABELS_FILE} and {COLOR_FILE} differ in size")
    ids = [int(i) for i in np.unique(given) if 0 < i < IGNORE_LABEL]
    if len(ids) > MOST_PARCELS:
        raise invalid(str(folder / LABELS_FILE), f"{len(ids)} parcels, at most {MOST_PARCELS} fit a picture")
    labels = np.where(given == IGNORE_LABEL, given, 0).astype(np.uint16)
    for new, old in enumerate(ids, start=1):
        labels[given == old] = new
    rows = info.get("instances", ())
    told = {row["id"]: row for row in rows if isinstance(row, dict) and "id" in row}
    names = {new: str(told.get(old, {}).get("kind", "")) for new, old in enumerate(ids, start=1)}
    shares = {new: told.get(old, {}).get("visible_fraction") for new, old in enumerate(ids, start=1)}
    visible = {new: float(v) for new, v in shares.items() if isinstance(v, (int, float)) and 0 <= v <= 1}
    return LabelledFrame(str(folder), frame, labels, names, str(info.get("pile", "")), visible)


def _of_picture(picture: AnnotatedPicture, data: Path) -> LabelledFrame:
    labels, names = picture.labels()
    depth = picture.depth or _beside(picture)
    frame = load_frame_files(picture.color, depth, _camera(picture, data), picture.color.stem)
    if labels.shape != frame.depth.shape:
        size = f"{frame.width}x{frame.height}"
        raise invalid(picture.source, f"says {picture.size[0]}x{picture.size[1]}, {picture.color} is {size}")
    return LabelledFrame(f"{picture.source} ({picture.color.name})", frame, labels, names)


def _beside(picture: AnnotatedPicture) -> Path:
    color = picture.color
    places = [
        color.with_name(f"{color.stem}_depth.png"),
        color.parent / "depth" / f"{color.stem}.png",
        color.parent.parent / "depth" / f"{color.stem}.png",
    ]
    if color.name == COLOR_FILE:
        places.insert(0, color.with_name(DEPTH_FILE))
    for place in places:
        if place.is_file():
            return place
    raise invalid(picture.source, f"no depth of {color}: looked for {', '.join(str(p) for p in places)}")


def _camera(picture: AnnotatedPicture, data: Path) -> Path:
    top = data if data.is_dir() else data.parent
    for folder in (picture.color.parent, *picture.color.parent.parents):
        if (folder / CAMERA_FILE).is_file():
            return folder / CAMERA_FILE
        if folder == top:
            break
    raise invalid(picture.source, f"no {CAMERA_FILE} beside {picture.color} or above it")
