"""Samples for other tools: image folders as this project reads them, COCO, or a bag."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

from edge_adapt.annotations.coco_write import CocoWriter
from edge_adapt.decision import Decision
from edge_adapt.store.index import SampleRow
from edge_adapt.store.sample import AFTER, BEFORE, DEPTH_SUFFIX, LOAD, StoredSample
from edge_adapt.store.store import StoreReader
from robin_perception.core.disk import make_folder, write_error
from robin_perception.core.errors import Code, RobinError
from robin_perception.core.image_folder import (
    CAMERA_FILE,
    COLOR_FILE,
    DEPTH_FILE,
    LABELS_FILE,
    CameraFile,
    write_png,
)

FORMATS = ("folders", "coco", "mcap")
_DEPTHS = {BEFORE: DEPTH_FILE, AFTER: "after_depth.png", LOAD: "load_depth.png"}
_AFTER_S = 0.1  # between the frames of a pick
COCO_FILE = "annotations.json"
DECISION_FILE = "decision.json"
_GONE = frozenset({Code.STORE_BLOB_MISSING, Code.STORE_BLOB_DAMAGED, Code.RECORD_INVALID})


@dataclass
class Exported:
    """skipped: samples that are damaged, or that left the store meanwhile."""

    samples: int = 0
    skipped: int = 0


def export(
    store: StoreReader,
    out: Path,
    kind: str,
    *,
    share: str | None = None,
    result: str | None = None,
    limit: int = -1,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Exported:
    """Write the samples of a share and of a result, None for all, into the new folder ``out``.

    kind: one of FORMATS. Raises RobinError OPTION_INVALID for a folder that holds something, DISK_FULL.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise RobinError(Code.OPTION_INVALID, f"{out}: exists already; an export needs a new folder")
    rows = _chosen(store, share, result)[: None if limit < 0 else limit]
    writer = _open(kind, out)
    done = Exported()
    with closing(writer):
        for row in rows:
            try:
                sample = store.read(row)
                writer.write(row, sample, sample.decision())
                done.samples += 1
            except RobinError as exc:
                if exc.code not in _GONE:
                    raise
                done.skipped += 1
            except OSError as exc:
                raise write_error(out, exc) from None
            progress(done.samples + done.skipped, len(rows))
    return done


def _open(kind: str, out: Path) -> _Folders | _Coco | _Bag:
    if kind == "folders":
        return _Folders(out)
    return _Coco(out) if kind == "coco" else _Bag(out)


def _chosen(store: StoreReader, share: str | None, result: str | None) -> list[SampleRow]:
    strata = {s.id for s in store.strata() if share in (None, s.share) and result in (None, s.result)}
    return [row for row in store.samples() if row.stratum in strata]


class _Folders:
    """``<decision>/color.png depth.png camera.json labels.png decision.json`` and whatever else the sample has."""

    def __init__(self, out: Path) -> None:
        self._out = out
        make_folder(out)

    def write(self, row: SampleRow, sample: StoredSample, decision: Decision) -> None:
        files = {name: sample.file(name) for name in sample.names if not name.endswith(DEPTH_SUFFIX)}
        depths = {name: sample.depth_units(view) for view, name in _DEPTHS.items() if sample.has(view)}
        labels = sample.labels()
        folder = self._out / f"{row.seq:08d}-{decision.decision_id}"
        make_folder(folder)
        for name, data in files.items():
            (folder / name).write_bytes(data)
        for name, units in depths.items():
            write_png(folder / name, units)
        write_png(folder / LABELS_FILE, labels)
        (folder / CAMERA_FILE).write_text(CameraFile.model_validate(sample.record.camera).to_text())
        (folder / DECISION_FILE).write_text(decision.model_dump_json(indent=1) + "\n")

    def close(self) -> None:
        """Nothing is pending."""


class _Coco:
    """``images/N.png``, ``depth/N.png`` and annotations.json with run-length masks, as COCO and FiftyOne import it."""

    def __init__(self, out: Path) -> None:
        self._out = out
        self._coco = CocoWriter()
        make_folder(out / "images")
        make_folder(out / "depth")

    def write(self, row: SampleRow, sample: StoredSample, decision: Decision) -> None:
        picture, depth = f"images/{row.seq:08d}.png", f"depth/{row.seq:08d}.png"
        colour, units, record = sample.file(COLOR_FILE), sample.depth_units(), sample.record
        (self._out / picture).write_bytes(colour)
        write_png(self._out / depth, units)
        size = units.shape[1], units.shape[0]
        facts = {"decision_id": decision.decision_id, "share": record.share, "result": decision.result}
        scale = record.camera.get("depth_scale")
        self._coco.image(row.seq, picture, size, depth, depth_scale=scale, **facts)
        chosen = None if decision.chosen is None else decision.chosen.instance
        for one in decision.instances:
            counts = record.masks["counts"].get(str(one.id))
            if counts is not None:
                told = {"score": one.detection, "chosen": one.id == chosen}
                self._coco.mask(row.seq, one.class_name, counts, size, one.bbox, one.area_px, told=told)

    def close(self) -> None:
        self._coco.save(self._out / COCO_FILE)


class _Bag:
    """Frames before and after each pick and its decision, as ``robin record`` names the topics. Stamps say when the
    pick was stored: a cell's own clock may begin anew with every pile."""

    def __init__(self, out: Path) -> None:
        from edge_adapt.bag.messages import BagTopics
        from edge_adapt.bag.writer import BagWriter
        from robin_perception.bags.frames import ImageCoding

        self._topics, self._coding = BagTopics(), ImageCoding()
        self._bag = BagWriter(out, custom={"robin_source": "store"})
        frames, types = self._topics.frames, self._topics.types()
        for topic in (frames.color, frames.depth, frames.info, frames.tf_static, self._topics.decision):
            self._bag.add_topic(topic, *types[topic])

    def write(self, row: SampleRow, sample: StoredSample, decision: Decision) -> None:
        from edge_adapt.bag.messages import decision_message
        from robin_perception.bags.frames import encode_frame, stamp_ns

        views = [view for view in (BEFORE, AFTER) if sample.has(view)]
        frames = [replace(sample.frame(view), stamp_s=row.at_s + at * _AFTER_S) for at, view in enumerate(views)]
        for frame in frames:
            encoded, ns = encode_frame(frame, self._topics.frames, self._coding), stamp_ns(frame)
            self._bag.write(self._topics.frames.tf_static, encoded.pose, ns)
            for topic, (_, values) in encoded.messages.items():
                self._bag.write(topic, values, ns)
        ns = stamp_ns(frames[0])
        self._bag.write(self._topics.decision, decision_message(decision, decision.decision_id, ns), ns)

    def close(self) -> None:
        self._bag.close()
