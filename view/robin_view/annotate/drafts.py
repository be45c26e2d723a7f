"""Labels as a person has them at this moment: kept with every change, and never overwritten by an older page."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, ValidationError, model_validator

from edge_adapt.store.runs import decode_labels, encode_labels
from robin_perception.core.bounded import read_plain_bytes
from robin_perception.core.bounded_arrays import MOST_PIXELS
from robin_perception.core.config import StrictConfig, first_fault
from robin_perception.core.disk import make_folder, write_atomic
from robin_perception.core.errors import Code, RobinError
from robin_perception.core.ids import PlainId
from robin_perception.core.image_folder import IGNORE_LABEL
from robin_perception.core.output import locked

IGNORE = "ignore"
DRAFT_BYTES = 8_000_000
MOST_MASKS = 254
_WAIT_S = 5.0
Origin = Literal["pick", "earlier", "pseudo", "person"]


class MaskEntry(StrictConfig):
    """One mask. id: of it in the picture, 65535 for pixels that say nothing. counts: run lengths, as COCO writes them.
    visible_fraction: seen share of the parcel, None where nobody says."""

    id: int = Field(ge=1, le=IGNORE_LABEL)
    class_name: str = Field("", max_length=80)
    visible_fraction: float | None = Field(None, ge=0, le=1)
    origin: Origin = "person"
    confidence: float = Field(1.0, ge=0, le=1)
    counts: str = Field(max_length=2_000_000)


class Draft(StrictConfig):
    """Labels of one picture. version: 0 is what they began with; each change is one more. picture: digest of the frame
    that they are drawn on. by, at_s: who changed them last, and when. done: handed over as labels."""

    key: PlainId
    picture: str = Field(pattern="^[0-9a-f]{64}$")
    version: int = Field(0, ge=0, le=1_000_000_000)
    width: int = Field(ge=1, le=65_535)
    height: int = Field(ge=1, le=65_535)
    masks: tuple[MaskEntry, ...] = Field((), max_length=MOST_MASKS + 1)
    by: str = Field("", max_length=80)
    at_s: float = 0.0
    done: bool = False

    @model_validator(mode="after")
    def _masks_fit(self) -> Draft:
        if len({mask.id for mask in self.masks}) != len(self.masks):
            raise ValueError("'masks': one id is given twice")
        if self.width * self.height > MOST_PIXELS:
            raise ValueError(f"a picture of {self.width}x{self.height}")
        self.labels()
        return self

    def labels(self) -> NDArray[np.uint16]:
        """uint16 [H, W], 0 background. Raises RobinError RECORD_INVALID for run lengths that do not fit."""
        return decode_labels(self.height, self.width, {mask.id: mask.counts for mask in self.masks})


def parse_draft(data: bytes, source: str) -> Draft:
    """Raises RobinError ANNOTATION_INVALID."""
    try:
        return Draft.model_validate_json(data)
    except ValidationError as exc:
        raise RobinError(Code.ANNOTATION_INVALID, f"{source}: {first_fault(exc)}") from None
    except RobinError as exc:
        raise RobinError(Code.ANNOTATION_INVALID, f"{source}: {exc.text}") from None


def draft_of(key: str, picture: str, labels: NDArray[np.uint16], told: Sequence[MaskEntry]) -> Draft:
    """A first version. told: what is known of each id of ``labels``, whose counts are replaced."""
    known, (height, width) = {entry.id: entry for entry in told}, labels.shape
    masks = tuple(
        known[number].model_copy(update={"counts": counts})
        for number, counts in encode_labels(labels).items()
        if number in known
    )
    return Draft(key=key, picture=picture, width=width, height=height, masks=masks)


class Drafts:
    """One file a picture in a folder. Safe to use from several threads and processes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def load(self, key: str, picture: str) -> Draft | None:
        """None where there is none, or one of another picture of the same name. Raises RobinError
        ANNOTATION_INVALID."""
        path = self._path(key)
        if not path.is_file():
            return None
        draft = parse_draft(read_plain_bytes(path, DRAFT_BYTES), str(path))
        return draft if draft.picture == picture else None

    def save(self, draft: Draft, by: str) -> Draft:
        """The next version, durable when it returns. Raises RobinError ANNOTATION_STALE where somebody saved since,
        DISK_FULL."""
        make_folder(self.folder)
        with locked(self.folder, _WAIT_S):
            before = self.load(draft.key, draft.picture)
            now = 0 if before is None else before.version
            if now != draft.version:
                who = "" if before is None else f" by {before.by}"
                raise RobinError(Code.ANNOTATION_STALE, f"{draft.key}: changed{who} meanwhile; load it again")
            kept = draft.model_copy(update={"version": now + 1, "by": by, "at_s": time.time()})
            write_atomic(self._path(draft.key), kept.model_dump_json().encode())
        return kept

    def state(self, key: str) -> str:
        """ "done", "begun", or empty for one that nobody has touched or that cannot be read."""
        path = self._path(key)
        if not path.is_file():
            return ""
        try:
            draft = parse_draft(read_plain_bytes(path, DRAFT_BYTES), str(path))
        except RobinError:
            return ""
        return "done" if draft.done else "begun"

    def _path(self, key: str) -> Path:
        return self.folder / f"{key}.json"
