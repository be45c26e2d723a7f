"""What lies on the annotator's desk: pictures with masks that are there already, drafts, and where labels go."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edge_adapt.annotations.picture import Parcel
from edge_adapt.decision import Decision
from edge_adapt.evidence import Evidence, frame_of
from edge_adapt.recording import DEPTH_SCALE_M
from robin_perception.core.disk import make_folder, sync_folder, sync_tree, write_error
from robin_perception.core.errors import Code, RobinError
from robin_perception.core.frame import Frame
from robin_perception.core.image_folder import IGNORE_LABEL, SCENE_FILE, save_frame
from robin_view.annotate.drafts import IGNORE, Draft, Drafts, MaskEntry, draft_of
from robin_view.annotate.prefill import entry, of_frame, with_picks
from robin_view.archive.archive import Archive
from robin_view.archive.frames import FrameEvidence, FrameReader
from robin_view.archive.readers import RunReader, SampleReader
from robin_view.decision.worker import Worker

if TYPE_CHECKING:
    from robin_fleet.folder import Fleet
    from robin_fleet.ledger.labels import Label

FOLDER, DRAFTS, DONE = "annotations", "drafts", "labels"
_ON_ROBOT = (RunReader, SampleReader, FrameReader)
_SAME_IOU = 0.5


@dataclass(frozen=True)
class Opened:
    """One picture on the desk. sample: of the aggregator's ledger, empty elsewhere.
    classes: names that the parcels may be given, those of the model first."""

    decision: Decision
    frame: Frame
    folder: Path
    draft: Draft
    classes: tuple[str, ...]
    sample: str = ""


class Desk:
    """Safe to use from several threads."""

    def __init__(self, archive: Archive, fleet: Fleet | None, worker: Worker, model: Path | None) -> None:
        """model: bundle that looks at pictures which nobody has looked at; None: they begin empty."""
        self._archive, self._fleet, self._worker, self._model = archive, fleet, worker, model

    def state(self, decision_id: str) -> str:
        """Of its labels, as ``Drafts.state``."""
        return Drafts(self._place(decision_id)[0] / DRAFTS).state(decision_id)

    def open(self, decision_id: str) -> Opened:
        """Raises RobinError VIEW_UNKNOWN, INPUT_MISSING where its picture was not kept, ANNOTATION_INVALID."""
        evidence = self._archive.evidence(decision_id)
        decision, frame = evidence.decision, frame_of(evidence)
        if frame is None:
            raise RobinError(Code.INPUT_MISSING, f"{decision_id}: its picture was not kept")
        folder, sample = self._place(decision_id)
        draft = Drafts(folder / DRAFTS).load(decision_id, decision.frame.digest)
        draft = draft or self._first(decision_id, evidence, frame, sample)
        named = [mask.class_name for mask in draft.masks if mask.class_name != IGNORE]
        classes = tuple(name for name in dict.fromkeys((*decision.class_names, *self._goods(), *named)) if name)
        return Opened(decision, frame, folder, draft, classes, sample)

    def save(self, opened: Opened, draft: Draft, by: str) -> Draft:
        """Raises RobinError ANNOTATION_STALE, ANNOTATION_INVALID for labels of another picture, DISK_FULL."""
        known = opened.draft
        if any(getattr(draft, name) != getattr(known, name) for name in ("key", "picture", "width", "height")):
            raise RobinError(Code.ANNOTATION_INVALID, f"{known.key}: these labels are of another picture")
        return Drafts(opened.folder / DRAFTS).save(draft, by)

    def hand_over(self, opened: Opened, by: str) -> Path | None:
        """The draft becomes labels: those of the ledger, or an image folder that ``robin adapt teach`` reads. Returns
        that folder. Raises RobinError DISK_FULL, LEDGER_*."""
        draft = opened.draft
        if opened.sample and self._fleet is not None:
            _into_ledger(self._fleet, opened, by)
            return None
        folder = opened.folder / DONE / draft.key
        _write_folder(folder, opened, by)
        return folder

    def where(self) -> str:
        """Where labels go, for people."""
        folders = {str(one.folder / FOLDER / DONE) for one in self._archive.readers if isinstance(one, _ON_ROBOT)}
        ledger = ["the aggregator's ledger"] if self._fleet is not None else []
        return " and ".join([*sorted(folders), *ledger])

    def _place(self, decision_id: str) -> tuple[Path, str]:
        """The folder of its source's annotations; and of the aggregator's decisions the sample."""
        index = self._archive.index
        row = index.row(decision_id)
        if row is None:
            raise RobinError(Code.VIEW_UNKNOWN, f"there is no decision '{decision_id[:128]}' here")
        place = index.place(row)
        reader = self._archive.readers[place.source]
        if isinstance(reader, _ON_ROBOT):
            return reader.folder / FOLDER, ""
        assert self._fleet is not None
        return self._fleet.folder / FOLDER, place.blob

    def _first(self, key: str, evidence: Evidence, frame: Frame, sample: str) -> Draft:
        decision, seen = evidence.decision, evidence.labels()
        if seen is None or seen.shape != frame.depth.shape:
            seen = np.zeros(frame.depth.shape, dtype=np.uint16)
        if sample and self._fleet is not None:
            labels, told = _painted(_labels_of(self._fleet, sample), seen, decision)
        elif isinstance(evidence, FrameEvidence):
            labels, told = of_frame(evidence, self._worker, self._model)
        else:
            proposed = [entry(one.id, decision) for one in decision.instances if one.id > 0]
            place = self._archive.index.place(self._archive.index.row(key) or 0)
            labels, told = with_picks((seen, proposed), self._archive, place, key, self._worker)
        return draft_of(key, decision.frame.digest, labels, told)

    def _goods(self) -> Sequence[str]:
        """What persons call the goods that nobody taught."""
        if self._fleet is None:
            return ()
        from robin_fleet.ledger.novelties import novelties

        with self._fleet.ledger.read() as connection:
            return [row.name for row in novelties(connection).values() if row.name and row.merged_into is None]


def _labels_of(fleet: Fleet, sample: str) -> tuple[Label, ...]:
    """Those of the ledger; where nobody has filled any in, what picks and proposals tell. Nothing is written."""
    from robin_fleet.annotation.prefill import prefilled
    from robin_fleet.ledger.labels import labels_of
    from robin_fleet.ledger.samples import find_sample

    with fleet.ledger.read() as connection:
        known = labels_of(connection, sample)
        row = find_sample(connection, sample)
    if known or row is None:
        return known
    return tuple(label for filled in prefilled(fleet.ledger, fleet.objects, [row]) for label in filled.get(sample, ()))


def _painted(
    given: Sequence[Label], seen: NDArray[np.uint16], decision: Decision
) -> tuple[NDArray[np.uint16], list[MaskEntry]]:
    """One picture of the ledger's labels, where later ones lie on earlier ones."""
    labels, told = np.zeros(seen.shape, dtype=np.uint16), []
    visible = {one.id: min(max(one.visible_fraction, 0.0), 1.0) for one in decision.instances}
    for label in given:
        mask = label.mask()
        ignored = label.class_name == IGNORE
        number = IGNORE_LABEL if ignored else label.number
        labels[mask] = number
        share = None if ignored else visible.get(_same(mask, seen))
        entry = {"class_name": label.class_name[:80], "origin": label.origin, "confidence": label.confidence}
        told.append(MaskEntry(id=number, visible_fraction=share, counts="", **entry))
    return labels, told


def _same(mask: NDArray[np.bool_], seen: NDArray[np.uint16]) -> int:
    """The proposal that is nearly this mask; 0: none."""
    counts = np.bincount(seen[mask], minlength=1)
    counts[0] = 0
    number = int(counts.argmax())
    union = int(mask.sum()) + int((seen == number).sum()) - int(counts[number])
    return number if number and counts[number] > _SAME_IOU * union else 0


def _into_ledger(fleet: Fleet, opened: Opened, by: str) -> None:
    from robin_fleet.annotation.exchange import correct

    labels = opened.draft.labels()
    parcels = [Parcel(mask.class_name, labels == mask.id) for mask in _ignored_first(opened.draft.masks)]
    correct(fleet.ledger, opened.sample, _labels_of(fleet, opened.sample), parcels, by)


def _ignored_first(masks: Sequence[MaskEntry]) -> list[MaskEntry]:
    return sorted(masks, key=lambda mask: (mask.id != IGNORE_LABEL, mask.id))


def _write_folder(folder: Path, opened: Opened, by: str) -> None:
    """Aside, then in place of what was there before."""
    draft, aside = opened.draft, folder.with_name(f".{folder.name}.tmp")
    told = [_scene_entry(mask) for mask in draft.masks if mask.id != IGNORE_LABEL]
    from edge_adapt.learn.lessons import pile_of  # with all of SciPy

    info = {"source": draft.key, "pile": pile_of(draft.key), "checked_by": by, "instances": told}
    make_folder(folder.parent)
    try:
        shutil.rmtree(aside, ignore_errors=True)
        save_frame(aside, opened.frame, draft.labels(), DEPTH_SCALE_M)
        (aside / SCENE_FILE).write_text(json.dumps(info, indent=1) + "\n")
        sync_tree(aside)
        shutil.rmtree(folder, ignore_errors=True)
        aside.rename(folder)
        sync_folder(folder.parent)
    except OSError as exc:
        raise write_error(folder, exc) from None
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _scene_entry(mask: MaskEntry) -> dict[str, Any]:
    values: dict[str, Any] = {"id": mask.id, "origin": mask.origin, "confidence": mask.confidence}
    if mask.class_name:
        values["kind"] = mask.class_name
    if mask.visible_fraction is not None:
        values["visible_fraction"] = mask.visible_fraction
    return values
