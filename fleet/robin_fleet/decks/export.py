"""A deck's samples as other code reads them: image folders of this project, or WebDataset shards. Same deck, same
bytes."""

from __future__ import annotations

import io
import json
import shutil
import tarfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from robin_fleet.annotation.prefill import stored
from robin_fleet.decks.juxtapose import Labelled, juxtaposed
from robin_fleet.decks.manifest import HELD, PARTS, TRAIN, Manifest, Member, label_image, parse_labels
from robin_fleet.ledger.labels import PSEUDO, Label
from robin_fleet.objects.interface import Objects
from robin_perception.core.disk import make_folder, sync_tree, write_error
from robin_perception.core.errors import Code, RobinError
from robin_perception.core.frame import Frame, depth_units
from robin_perception.core.image_folder import (
    CAMERA_FILE,
    COLOR_FILE,
    DEPTH_FILE,
    LABELS_FILE,
    SCENE_FILE,
    CameraFile,
)
from robin_perception.core.scene import CLASSES

FORMATS = ("folders", "webdataset")
SHARD_SAMPLES = 256
MANIFEST_FILE = "deck.json"
_DEPTH_SCALE_M = 0.0001
_SOURCES = 24  # pictures that parcels are cut out of, in memory at a time
_GONE = (Code.OBJECT_MISSING, Code.OBJECT_DAMAGED, Code.RECORD_INVALID)

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Scene:
    """One labelled picture of a deck, as bytes of files by name. juxtaposed: parcels were laid into it."""

    files: dict[str, bytes]
    juxtaposed: bool = False


def export_deck(
    objects: Objects, deck: Manifest, out: Path, kind: str, progress: Progress = lambda done, total: None
) -> dict[str, int]:
    """Write both parts into the new folder ``out``: train/ and held/ of image folders, or train-N.tar and held-N.tar.
    Returns scenes by part. Raises RobinError OPTION_INVALID, DECK_DAMAGED, DISK_FULL, OBJECTS_UNREACHABLE."""
    if kind not in FORMATS:
        raise RobinError(Code.OPTION_INVALID, f"format '{kind}': {' or '.join(FORMATS)}")
    if out.exists():
        raise RobinError(Code.OPTION_INVALID, f"{out}: exists already; a new folder is needed")
    aside = out.with_name(f".{out.name}.tmp")
    shutil.rmtree(aside, ignore_errors=True)
    make_folder(aside)
    counts, done = dict.fromkeys(PARTS, 0), 0
    try:
        with ExitStack() as stack:
            writers = {part: _open(kind, aside, part, stack) for part in PARTS}
            for part, scene in scenes(objects, deck):
                writers[part].write(counts[part], scene)
                counts[part] += 1
                done += not scene.juxtaposed
                progress(done, len(deck.members))
        (aside / MANIFEST_FILE).write_bytes(deck.to_bytes())
        sync_tree(aside)
        aside.rename(out)
    except OSError as exc:
        raise write_error(out, exc) from None
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return counts


def scenes(objects: Objects, deck: Manifest) -> Iterator[tuple[str, Scene]]:
    """(part, scene): all members in order, then the juxtaposed ones. Raises as ``export_deck``."""
    for member in deck.members:
        one, known = labelled(objects, deck, member)
        yield member.part, _scene(one, {number: _told(label) for number, label in known.items()}, member)
    yield from ((TRAIN, scene) for scene in juxtaposed_scenes(objects, deck))


def labelled(objects: Objects, deck: Manifest, member: Member) -> tuple[Labelled, dict[int, Label]]:
    """A member's frame with its label image. Raises RobinError DECK_DAMAGED, OBJECTS_UNREACHABLE."""
    try:
        labels = parse_labels(objects.get(member.labels), member.labels)
        frame = stored(objects, member.sample).frame()
        image, known = label_image(labels, deck.config)
    except RobinError as exc:
        if exc.code not in _GONE and int(exc.code) >= 200:
            raise
        raise RobinError(Code.DECK_DAMAGED, f"{deck.deck}:{deck.version}: {member.sample[:16]}: {exc.text}") from None
    if image.shape != frame.depth.shape:
        text = f"{deck.deck}:{deck.version}: labels of {member.sample[:16]} are of another size"
        raise RobinError(Code.DECK_DAMAGED, text)
    return Labelled(frame, image), known


def juxtaposed_scenes(objects: Objects, deck: Manifest) -> Iterator[Scene]:
    """Parcels of whole sight that a pick or a person vouches for, laid into pictures of other piles."""
    config, train = deck.config.juxtapose, deck.part(TRAIN)
    rng = np.random.default_rng([config.seed, deck.version])
    count = round(config.per_frame * len(train))
    chosen = [train[int(at)] for at in rng.integers(len(train), size=count)]
    for start in range(0, count, _SOURCES):
        offered = [train[int(at)] for at in rng.permutation(len(train))[:_SOURCES]]
        sources = {n: (one, *labelled(objects, deck, one)) for n, one in enumerate(offered)}
        for member in chosen[start : start + _SOURCES]:
            into, known = labelled(objects, deck, member)
            fit = {
                n: _vouched(one, labels) for n, (from_, one, labels) in sources.items() if from_.block != member.block
            }
            if not fit:
                continue
            made, laid = juxtaposed(into, fit, rng, config)
            told = {number: _told(label) for number, label in known.items()}
            told |= {new: {**_told(sources[n][2][number]), "juxtaposed": True} for new, (n, number) in laid.items()}
            if laid:
                yield _scene(made, told, member, juxtaposed=True)


def _vouched(one: Labelled, labels: dict[int, Label]) -> Labelled:
    """Only parcels that more than the model vouches for may be cut out."""
    sure = [number for number, label in labels.items() if label.origin != PSEUDO or label.checked_by]
    return Labelled(one.frame, np.where(np.isin(one.labels, sure), one.labels, 0).astype(np.uint16), one.belt_z_m)


def _told(label: Label) -> dict[str, Any]:
    """Of a parcel, as scene.json has it. A name that is no class of the network's teaches the mask alone."""
    name = {"kind": label.class_name} if label.class_name in CLASSES else {"goods": label.class_name}
    return {**name, "origin": label.origin, "confidence": round(label.confidence, 4)}


def _scene(one: Labelled, told: dict[int, dict[str, Any]], member: Member, *, juxtaposed: bool = False) -> Scene:
    numbers = [int(n) for n in np.unique(one.labels) if int(n) in told]
    place = {"source": member.sample, "pile": member.block, "site": member.site, "station": member.station}
    info = {
        **place,
        "stratum": member.stratum,
        "juxtaposed": juxtaposed,
        "instances": [{"id": number, **told[number]} for number in numbers],
    }
    frame: Frame = one.frame
    files = {
        COLOR_FILE: _png(frame.rgb[:, :, ::-1]),
        DEPTH_FILE: _png(depth_units(frame.depth, _DEPTH_SCALE_M)),
        LABELS_FILE: _png(one.labels),
        CAMERA_FILE: CameraFile.of(frame, _DEPTH_SCALE_M).to_text().encode(),
        SCENE_FILE: (json.dumps(info, sort_keys=True) + "\n").encode(),
    }
    return Scene(files, juxtaposed)


def _png(image: NDArray[Any]) -> bytes:
    return bytes(cv2.imencode(".png", image, [cv2.IMWRITE_PNG_COMPRESSION, 3])[1].tobytes())


def _open(kind: str, out: Path, part: str, stack: ExitStack) -> _Folders | _Shards:
    return _Folders(out / part) if kind == "folders" else stack.enter_context(_Shards(out, part))


class _Folders:
    """``000000/`` and so on, as ``robin adapt teach`` and ``robin train`` read them."""

    def __init__(self, out: Path) -> None:
        self._out = out
        out.mkdir()

    def write(self, number: int, scene: Scene) -> None:
        folder = self._out / f"{number:06d}"
        folder.mkdir()
        for name, data in scene.files.items():
            (folder / name).write_bytes(data)
        sync_tree(folder)


class _Shards:
    """``part-000000.tar`` with ``000000.color.png`` and so on, no times, no owners."""

    def __init__(self, out: Path, part: str) -> None:
        self._out, self._part = out, part
        self._stack = ExitStack()
        self._tar: tarfile.TarFile | None = None

    def write(self, number: int, scene: Scene) -> None:
        if self._tar is None or number % SHARD_SAMPLES == 0:
            self._stack.close()
            path = self._out / f"{self._part}-{number // SHARD_SAMPLES:06d}.tar"
            self._tar = self._stack.enter_context(tarfile.TarFile(path, "w", format=tarfile.USTAR_FORMAT))
        for name, data in sorted(scene.files.items()):
            entry = tarfile.TarInfo(f"{number:06d}.{name}")
            entry.size = len(data)
            self._tar.addfile(entry, io.BytesIO(data))

    def __enter__(self) -> _Shards:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()


def held_groups(deck: Manifest) -> dict[str, list[int]]:
    """Places of held-out scenes among the exported ones, by what the gate judges alone: site, stratum, goods."""
    found: dict[str, list[int]] = {}
    for at, member in enumerate(deck.part(HELD)):
        result, _, goods = member.stratum.partition("/")
        for name in (f"site {member.site}", f"stratum {result}", f"packaging {goods}"):
            found.setdefault(name, []).append(at)
    return found
