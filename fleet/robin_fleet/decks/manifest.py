"""The manifest of a deck: every member by its hash, what it is for, and where it comes from."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, TypeAdapter, ValidationError, field_validator

from edge_adapt.annotations.picture import MOST_PARCELS
from robin_fleet.annotation.prefill import IGNORED
from robin_fleet.decks.juxtapose import JuxtaposeConfig
from robin_fleet.ledger.labels import PSEUDO, Label
from robin_perception.core.config import StrictConfig, first_fault
from robin_perception.core.errors import Code, RobinError
from robin_perception.core.image_folder import IGNORE_LABEL
from robin_perception.core.wire import WireModel, known_fields, parse_wire

TRAIN, HELD = PARTS = ("train", "held")


class DeckConfig(StrictConfig):
    """What goes into a deck, and what of it is kept for judging."""

    least_confidence: float = Field(0.6, ge=0, le=1, description="Of a label; pixels of less sure ones are ignored.")
    least_proposal: float = Field(0.9, ge=0, le=1, description="Of what the model alone proposes.")
    held_share: float = Field(0.2, gt=0, lt=0.9, description="Of each station's piles: the latest are held out.")
    held_stations: tuple[str, ...] = Field(
        (), description="SITE/STATION that are held out whole; empty = one, where there are three or more."
    )
    near_duplicates: bool = Field(False, description="Also take samples that show nearly what an earlier one shows.")
    juxtapose: JuxtaposeConfig = JuxtaposeConfig()


class Member(WireModel):
    """One sample. sample: blob of its record, which names its files by their hashes. labels: blob of its labels. block:
    robot and pile. held_by: "station" or "time", empty in the part that is taught. origins: labels by origin."""

    sample: str
    labels: str
    robot: str
    site: str
    station: str
    block: str
    at_s: float
    stratum: str
    part: Literal["train", "held"]
    held_by: Literal["", "station", "time"] = ""
    origins: dict[str, int]


class Stratum(WireModel):
    """Result and goods. share: of the members that are taught."""

    train: int
    held: int
    share: float


class Manifest(WireModel):
    """All that a deck is. held_after_s: by station, from when its samples are held out. left_out: samples that were
    asked for and are not in it, by reason."""

    format: Literal["robin-deck-1"] = "robin-deck-1"
    deck: str
    version: int = Field(ge=1)
    licence: str
    origin: str
    config: DeckConfig
    held_stations: tuple[str, ...]
    held_after_s: dict[str, float]
    strata: dict[str, Stratum]
    left_out: dict[str, int]
    members: tuple[Member, ...]

    @field_validator("config", mode="before")
    @classmethod
    def _known_settings(cls, values: object) -> object:
        return known_fields(DeckConfig, values)

    @classmethod
    def parse(cls, data: bytes, source: str) -> Manifest:
        """Raises RobinError DECK_DAMAGED, FORMAT_NEWER."""
        return parse_wire(cls, data, source, Code.DECK_DAMAGED)

    def to_bytes(self) -> bytes:
        return (self.model_dump_json(indent=1) + "\n").encode()

    def part(self, part: str) -> tuple[Member, ...]:
        return tuple(one for one in self.members if one.part == part)


_LABELS = TypeAdapter(list[Label])


def labels_bytes(labels: Iterable[Label]) -> bytes:
    """Of one sample, as a deck keeps them; without the time at which they were booked."""
    return _LABELS.dump_json([one._replace(at_s=0.0) for one in labels]) + b"\n"


def parse_labels(data: bytes, source: str) -> list[Label]:
    """Raises RobinError DECK_DAMAGED."""
    try:
        return _LABELS.validate_json(data)
    except ValidationError as exc:
        raise RobinError(Code.DECK_DAMAGED, f"{source}: {first_fault(exc)}") from None


def trusted(label: Label, config: DeckConfig) -> bool:
    """Whether a label teaches; pixels of one that does not are ignored."""
    least = config.least_proposal if label.origin == PSEUDO and not label.checked_by else config.least_confidence
    return label.class_name != IGNORED and label.confidence >= least


def label_image(labels: Iterable[Label], config: DeckConfig) -> tuple[NDArray[np.uint16], dict[int, Label]]:
    """uint16 [H, W]: 0 background, 65535 ignored, else the number of a parcel; and the label of each number. Later
    labels lie on top. Raises RobinError RECORD_INVALID."""
    rows = list(labels)
    image = np.zeros((rows[0].height, rows[0].width), dtype=np.uint16)
    known: dict[int, Label] = {}
    for label in rows:
        if trusted(label, config) and len(known) < MOST_PARCELS:
            known[len(known) + 1] = label
            image[label.mask()] = len(known)
        else:
            image[label.mask()] = IGNORE_LABEL
    shown = {number: label for number, label in known.items() if (image == number).any()}
    return image, shown


def difference(old: Manifest, new: Manifest) -> dict[str, Any]:
    """added, removed, relabelled, moved: samples; strata: name -> shares before and after, where they differ; config:
    keys that differ."""
    before, after = ({one.sample: one for one in each.members} for each in (old, new))
    both = sorted(before.keys() & after.keys())
    names = sorted(old.strata.keys() | new.strata.keys())
    shares = {name: [each.strata[name].share if name in each.strata else 0.0 for each in (old, new)] for name in names}
    settings = [each.config.model_dump(mode="json") for each in (old, new)]
    return {
        "added": sorted(after.keys() - before.keys()),
        "removed": sorted(before.keys() - after.keys()),
        "relabelled": [name for name in both if before[name].labels != after[name].labels],
        "moved": [name for name in both if before[name].part != after[name].part],
        "strata": {name: pair for name, pair in shares.items() if pair[0] != pair[1]},
        "config": [key for key in settings[0] if settings[0][key] != settings[1][key]],
    }
