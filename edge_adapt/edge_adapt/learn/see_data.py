"""The frames that a lesson is made of: one numbered folder of image folders, and which of them are kept for judging."""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from edge_adapt.annotations.read import LabelledFrame, labelled_frames
from robin_perception.core.disk import sync_tree, write_error
from robin_perception.core.errors import Code, RobinError
from robin_perception.core.image_folder import SCENE_FILE, save_frame

LEAST_FRAMES = 2
LEAST_TO_HOLD_OUT = 24
_HELD_SHARE = 0.25
_MOST_FOLDS = 4
_DEPTH_SCALE_M = 0.0001
_TAUGHT, _JUDGED = "taught", "judged"


@dataclass(frozen=True)
class Fold:
    """Rows to learn from, rows to judge on."""

    learn: tuple[int, ...]
    judge: tuple[int, ...]


@dataclass(frozen=True)
class Split:
    """folds: one where frames are held out, several where all are judged in turn. how: in words."""

    folds: tuple[Fold, ...]
    how: str

    @property
    def crossed(self) -> bool:
        return len(self.folds) > 1


@dataclass(frozen=True)
class TaughtSet:
    """folder: image folders 000000, 000001, ...; judged: another such folder, of frames given for judging alone.
    digest: of all of them. foreign: names of labels that the model does not tell apart."""

    folder: Path
    frames: int
    parcels: int
    digest: str
    foreign: tuple[str, ...]
    judged: Path | None = None


def split_by_order(frames: int) -> Split:
    """Of 24 frames or more the last quarter is held out; of fewer every one is judged by a model that was taught on
    others, in blocks of their order. Raises RobinError TAUGHT_TOO_LITTLE."""
    if frames < LEAST_FRAMES:
        raise RobinError(Code.TAUGHT_TOO_LITTLE, f"{frames} labelled frame, at least {LEAST_FRAMES} are needed")
    rows = tuple(range(frames))
    if frames >= LEAST_TO_HOLD_OUT:
        held = math.ceil(frames * _HELD_SHARE)
        how = f"taught on the first {frames - held} frames, judged on the last {held}"
        return Split((Fold(rows[:-held], rows[-held:]),), how)
    count = min(frames, _MOST_FOLDS)
    edges = [round(frames * i / count) for i in range(count + 1)]
    folds = tuple(Fold(rows[:a] + rows[b:], rows[a:b]) for a, b in itertools.pairwise(edges))
    return Split(folds, f"taught on all {frames} frames; judged by {count} models, each on frames it was not taught")


def gather(data: Sequence[Path], judge: Sequence[Path], work: Path, classes: tuple[str, ...]) -> TaughtSet:
    """Read all ``data`` into ``work``, whole or not at all. judge: frames to judge on and not to learn from. classes:
    what the model tells apart. Raises RobinError as ``labelled_frames``, TAUGHT_TOO_LITTLE, DISK_FULL."""
    digest = hashlib.sha256()
    foreign: set[str] = set()
    counts = {}
    for name, sources in ((_TAUGHT, data), (_JUDGED, judge)):
        if sources:
            read = (frame for source in sources for frame in labelled_frames(source))
            counts[name] = _write(work / name, read, classes, foreign, digest)
    frames, parcels = counts[_TAUGHT]
    if not parcels:
        raise RobinError(Code.TAUGHT_TOO_LITTLE, f"{data[0]}: no parcel is labelled in its {frames} frames")
    judged = work / _JUDGED if judge else None
    return TaughtSet(work / _TAUGHT, frames, parcels, digest.hexdigest(), tuple(sorted(foreign)), judged)


def _write(
    folder: Path, frames: Iterable[LabelledFrame], classes: tuple[str, ...], foreign: set[str], digest: hashlib._Hash
) -> tuple[int, int]:
    """Frames and parcels written."""
    aside = folder.with_name(f".{folder.name}.tmp")
    count = parcels = 0
    try:
        shutil.rmtree(aside, ignore_errors=True)
        for count, frame in enumerate(frames, start=1):
            _write_frame(aside / f"{count - 1:06d}", frame, classes)
            foreign |= {name for name in frame.names.values() if name and name not in classes}
            parcels += len(frame.names)
            for array in (frame.frame.rgb, frame.frame.depth, frame.labels):
                digest.update(array.tobytes())
        shutil.rmtree(folder, ignore_errors=True)
        aside.rename(folder)
    except OSError as exc:
        raise write_error(folder, exc) from None
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return count, parcels


def _write_frame(folder: Path, frame: LabelledFrame, classes: tuple[str, ...]) -> None:
    save_frame(folder, frame.frame, frame.labels, _DEPTH_SCALE_M)
    instances = []
    for number, name in frame.names.items():
        kind = {"kind": name} if name in classes else {}
        seen = {"visible_fraction": frame.visible[number]} if number in frame.visible else {}
        instances.append({"id": number, **kind, **seen})
    info = {"source": frame.source, "pile": frame.pile, "instances": instances}
    (folder / SCENE_FILE).write_text(json.dumps(info, indent=1) + "\n")
    sync_tree(folder)
