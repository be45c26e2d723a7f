"""Samples handed out to persons who label, as COCO or for Label Studio, and their labels taken back."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from edge_adapt.annotations.coco import is_coco, read_coco
from edge_adapt.annotations.coco_write import CocoWriter
from edge_adapt.annotations.label_studio import is_label_studio, read_label_studio
from edge_adapt.annotations.label_studio_write import labelling_config, region, task
from edge_adapt.annotations.picture import ANNOTATION_BYTES, IGNORED_NAMES, AnnotatedPicture, Mask, Parcel, invalid
from robin_fleet.annotation.prefill import IGNORED, prefilled, runs, stored
from robin_fleet.ledger.core import Ledger
from robin_fleet.ledger.events import add_event
from robin_fleet.ledger.labels import PERSON, Label, labelled_samples, labels_of, replace_labels
from robin_fleet.ledger.samples import SampleRow
from robin_fleet.objects.interface import Objects
from robin_perception.core.bounded import parse_json, read_plain_bytes
from robin_perception.core.disk import make_folder, write_atomic, write_error
from robin_perception.core.errors import Code, RobinError
from robin_perception.core.image_folder import CAMERA_FILE, COLOR_FILE, CameraFile, write_png

KINDS = ("coco", "label-studio")
COCO_FILE, STUDIO_FILE, STUDIO_CONFIG = "annotations.json", "tasks.json", "labels.xml"
_NAME_LENGTH = 16  # letters of a sample's hash that name its picture
_SAME_IOU = 0.98  # outlines are rounded to pixels on the way
_UNTOLD = "parcel"


@dataclass
class Exchanged:
    """samples; labels of them, by origin as they stand afterwards; kept: came back as they were handed out."""

    samples: int = 0
    labels: int = 0
    kept: int = 0


def ensure_labels(ledger: Ledger, objects: Objects, rows: Sequence[SampleRow]) -> dict[str, tuple[Label, ...]]:
    """Labels of samples; those that have none are filled in and kept. Raises RobinError LEDGER_*, OBJECTS_*."""
    with ledger.read() as connection:
        known = {row.sample: labels_of(connection, row.sample) for row in rows}
    missing = [row for row in rows if not known[row.sample]]
    for filled in prefilled(ledger, objects, missing):
        with ledger.write() as connection:
            for sample, labels in filled.items():
                if not labels_of(connection, sample):  # a person may have labelled it meanwhile
                    replace_labels(connection, sample, labels)
                known[sample] = labels_of(connection, sample)
    return {sample: labels for sample, labels in known.items() if labels}


def hand_out(ledger: Ledger, objects: Objects, rows: Sequence[SampleRow], out: Path, kind: str) -> Exchanged:
    """Write pictures with depth and camera, and labels to correct, into the new folder ``out``. kind: one of KINDS.
    Raises RobinError OPTION_INVALID, DISK_FULL, LEDGER_*, OBJECTS_*."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise RobinError(Code.OPTION_INVALID, f"{out}: exists already; a new folder is needed")
    labels = ensure_labels(ledger, objects, rows)
    make_folder(out)
    coco, tasks, done = CocoWriter(), [], Exchanged()
    for row in rows:
        if row.sample not in labels:
            continue
        mine = labels[row.sample]
        name = _write_picture(objects, row.sample, out)
        if kind == "coco":
            _add_coco(coco, done.samples + 1, name, row, mine)
        else:
            tasks.append(_studio_task(name, row, mine))
        done.samples += 1
        done.labels += len(mine)
    if kind == "coco":
        coco.save(out / COCO_FILE)
    else:
        write_atomic(out / STUDIO_FILE, json.dumps(tasks).encode())
        names = sorted({_shown(one) for mine in labels.values() for one in mine} | {IGNORED, _UNTOLD})
        write_atomic(out / STUDIO_CONFIG, labelling_config(names).encode())
    return done


def take_back(ledger: Ledger, path: Path, by: str) -> Exchanged:
    """Labels of ``path``, all or none: one that came back as it was keeps its origin, all others are a person's. A
    picture without any label in the file stays as it is. Raises RobinError ANNOTATION_INVALID, ANNOTATION_FOREIGN."""
    done, now_s = Exchanged(), time.time()
    with ledger.write() as connection:
        known = {sample[:_NAME_LENGTH]: sample for sample in labelled_samples(connection)}
        for picture in _pictures(path):
            sample = known.get(picture.color.stem)
            if sample is None:
                text = f"{picture.source}: '{picture.color.name}' is of no sample that was handed out here"
                raise RobinError(Code.ANNOTATION_FOREIGN, text)
            before = labels_of(connection, sample)
            if picture.size != (before[0].width, before[0].height):
                size = "x".join(map(str, picture.size))
                raise RobinError(Code.ANNOTATION_FOREIGN, f"{picture.source}: {size} is not the size of {sample}")
            after = _corrected(sample, before, picture.parcels, by, now_s)
            replace_labels(connection, sample, after)
            done.samples += 1
            done.labels += len(after)
            done.kept += sum(one.origin != PERSON for one in after)
        if not done.samples:
            raise invalid(str(path), "no picture in it has a label")
        add_event(connection, now_s, "labelled", f"{done.samples} samples by {by}", data=vars(done))
    return done


def correct(
    ledger: Ledger, sample: str, before: Sequence[Label], parcels: Sequence[Parcel], by: str
) -> tuple[Label, ...]:
    """The labels of one sample as a person leaves them. before: as the person found them; one that stayed as it was
    keeps its origin. Raises RobinError LEDGER_*."""
    now_s = time.time()
    after = _corrected(sample, before, parcels, by, now_s)
    with ledger.write() as connection:
        replace_labels(connection, sample, after)
        add_event(connection, now_s, "labelled", f"1 samples by {by}", data={"sample": sample, "labels": len(after)})
    return after


def _corrected(
    sample: str, before: Sequence[Label], parcels: Sequence[Parcel], by: str, now_s: float
) -> tuple[Label, ...]:
    masks = [(one, one.mask()) for one in before]
    return tuple(_returned(sample, n, one, masks, by, now_s) for n, one in enumerate(parcels, 1))


def _returned(
    sample: str, number: int, parcel: Parcel, before: Sequence[tuple[Label, Mask]], by: str, now_s: float
) -> Label:
    name = IGNORED if parcel.name.strip().lower() in IGNORED_NAMES else parcel.name or _UNTOLD
    for one, mask in before:
        if _shown(one) == name and iou(mask, parcel.mask) >= _SAME_IOU:
            return one._replace(number=number, checked_by=by, at_s=now_s)
    height, width = parcel.mask.shape
    kind = "" if name == _UNTOLD else name
    return Label(sample, number, kind, PERSON, 1.0, width, height, runs(parcel.mask), by, now_s)


def iou(one: Mask, other: Mask) -> float:
    """Intersection over union; 1 of two empty masks."""
    union = int((one | other).sum())
    return float((one & other).sum()) / union if union else 1.0


def _pictures(path: Path) -> Iterator[AnnotatedPicture]:
    values: Any = parse_json(read_plain_bytes(path, ANNOTATION_BYTES), str(path), Code.ANNOTATION_INVALID)
    if is_coco(values):
        return read_coco(path, values)
    if is_label_studio(values):
        return read_label_studio(path, values)
    raise invalid(str(path), "neither COCO (images, annotations) nor Label Studio (list of data)")


def _write_picture(objects: Objects, sample: str, out: Path) -> str:
    """NAME/NAME.png, NAME/NAME_depth.png and camera.json; returns NAME."""
    name, whole = sample[:_NAME_LENGTH], stored(objects, sample)
    folder = out / name
    make_folder(folder)
    try:
        (folder / f"{name}.png").write_bytes(whole.file(COLOR_FILE))
        write_png(folder / f"{name}_depth.png", whole.depth_units())
        (folder / CAMERA_FILE).write_text(CameraFile.model_validate(whole.record.camera).to_text())
    except OSError as exc:
        raise write_error(folder, exc) from None
    return name


def _add_coco(coco: CocoWriter, number: int, name: str, row: SampleRow, labels: Sequence[Label]) -> None:
    size = labels[0].width, labels[0].height
    told = {"sample": row.sample, "site": row.site, "station": row.station, "decision_id": row.decision_id}
    coco.image(number, f"{name}/{name}.png", size, f"{name}/{name}_depth.png", **told)
    for one in labels:
        mask = one.mask()
        x, y, width, height = cv2.boundingRect(mask.astype(np.uint8))
        box, area = (x, y, x + width, y + height), int(mask.sum())
        meta = {"origin": one.origin, "confidence": round(one.confidence, 4), "number": one.number}
        coco.mask(number, _shown(one), one.counts, size, box, area, crowd=one.class_name == IGNORED, told=meta)


def _studio_task(name: str, row: SampleRow, labels: Sequence[Label]) -> dict[str, Any]:
    size = labels[0].width, labels[0].height
    regions = [
        region(
            f"{name[:6]}{one.number:04d}",
            _shown(one),
            one.mask(),
            round(one.confidence, 4),
            {"origin": one.origin, "confidence": round(one.confidence, 4)},
        )
        for one in labels
    ]
    address = f"/data/local-files/?d={name}/{name}.png"
    return task(address, size, regions, row.model, {"sample": row.sample, "site": row.site, "station": row.station})


def _shown(label: Label) -> str:
    return label.class_name or _UNTOLD
