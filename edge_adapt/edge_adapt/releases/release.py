"""What a release names: parts, each with a version of its own, and what each needs of the others.

A release is data, never code: network, weights, tables and JSON. A part that a robot has already is not fetched again,
so that parts are upgraded one by one.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum
from pathlib import PurePosixPath
from typing import Annotated, Literal

from pydantic import Field, model_validator

from robin_perception.core.errors import Code, RobinError
from robin_perception.core.ids import PlainId
from robin_perception.core.wire import WireModel, parse_wire
from robin_perception.model.bundle import HEAD_FILE, MANIFEST_FILE, MODEL_BYTES, NETWORK_FILE, NOVELTY_FILE

RELEASE_BYTES = 1_000_000
"""Of ``release.json`` and of a site's assignments."""
DATA = frozenset({".onnx", ".safetensors", ".json", ".npz", ".md"})
"""Endings of what a part may hold."""
Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


TRIALS = ("replay", "shadow")
"""Stages of a roll-out that a robot goes through by itself."""


class PartKind(str, Enum):
    """trunk: a whole bundle; head: another head for a known trunk. ranker: the fit of the planner."""

    TRUNK = "trunk"
    HEAD = "head"
    NOVELTY = "novelty"
    RANKER = "ranker"
    CONFIGURATION = "configuration"


FORMATS = dict.fromkeys(PartKind, 1)
"""Newest format number of each part that this software reads."""
NEEDED = {
    PartKind.TRUNK: (NETWORK_FILE, HEAD_FILE, MANIFEST_FILE),
    PartKind.HEAD: (HEAD_FILE, MANIFEST_FILE),
    PartKind.NOVELTY: (NOVELTY_FILE,),
}
"""Files that a part must hold."""


class PartFile(WireModel):
    """sha256 and size of one file."""

    sha256: Digest
    size_bytes: int = Field(ge=0, le=MODEL_BYTES)


class Part(WireModel):
    """One part. trunk: sha256 of the network that it is for, of a trunk its own; empty where it fits any."""

    kind: PartKind
    version: PlainId
    format: int = Field(1, ge=1)
    trunk: Digest | Literal[""] = ""
    files: dict[PlainId, PartFile] = Field(min_length=1, max_length=16)

    @model_validator(mode="after")
    def _holds_data(self) -> Part:
        for name in self.files:
            if PurePosixPath(name).suffix not in DATA:
                raise ValueError(f"{self.kind.value} holds {name}: a part is data, of {', '.join(sorted(DATA))}")
        for name in NEEDED.get(self.kind, ()):
            if name not in self.files:
                raise ValueError(f"{self.kind.value} has no {name}")
        if self.kind in NEEDED and not self.trunk:
            raise ValueError(f"{self.kind.value} does not say which trunk it is for")
        return self

    @property
    def folder(self) -> str:
        """Of its files in the repository; a version never changes."""
        return f"parts/{self.kind.value}/{self.version}"


class Release(WireModel):
    """``release.json``. parts: of different kinds. model: id that scenes and picks with it name; empty where it brings
    no model of its own."""

    format: Literal["robin-release-1"] = "robin-release-1"
    name: PlainId
    parts: tuple[Part, ...] = Field(min_length=1, max_length=len(PartKind))
    model: str = Field("", max_length=200)
    notes: str = Field("", max_length=2000)

    @model_validator(mode="after")
    def _has_each_once(self) -> Release:
        kinds = [part.kind for part in self.parts]
        if len(set(kinds)) < len(kinds):
            raise ValueError("a kind of part stands in it twice")
        return self

    def part(self, kind: PartKind) -> Part | None:
        return next((part for part in self.parts if part.kind is kind), None)


class Assignment(WireModel):
    """What one robot is to do. use: run it, or keep it beside what runs for trials. rollout: for the journal. trial:
    what the roll-out waits for, "replay" or "shadow"; whatever else is none that this robot does by itself."""

    release: PlainId
    use: Literal["run", "try"] = "run"
    rollout: str = Field("", max_length=128)
    trial: str = Field("", max_length=32)


class Assignments(WireModel):
    """``sites/SITE/assignments.json``. A robot that is not named stays with what it runs. back: releases that no robot
    of the site runs any more."""

    format: Literal["robin-assignments-1"] = "robin-assignments-1"
    robots: dict[PlainId, Assignment] = Field(default_factory=dict, max_length=20_000)
    back: tuple[PlainId, ...] = Field((), max_length=1000)


def release_path(name: str) -> str:
    return f"releases/{name}/release.json"


def assignments_path(site: str) -> str:
    return f"sites/{site}/assignments.json"


def parse_release(data: bytes, source: str) -> Release:
    """Raises RobinError RELEASE_INVALID, RELEASE_INCOMPATIBLE."""
    return parse_wire(Release, data, source, Code.RELEASE_INVALID, Code.RELEASE_INCOMPATIBLE)


def parse_assignments(data: bytes, source: str) -> Assignments:
    """Raises RobinError RELEASE_INVALID, RELEASE_INCOMPATIBLE."""
    return parse_wire(Assignments, data, source, Code.RELEASE_INVALID, Code.RELEASE_INCOMPATIBLE)


def check_fits(parts: Iterable[Part], trunk: str) -> None:
    """Whether parts fit each other and what runs. trunk: sha256 of the network that runs, which a trunk among the parts
    replaces. Raises RobinError RELEASE_INCOMPATIBLE."""
    known = list(parts)
    coming = next((part.trunk for part in known if part.kind is PartKind.TRUNK), trunk)
    for part in known:
        if part.format > FORMATS[part.kind]:
            text = f"format {part.format}, this software reads up to {FORMATS[part.kind]}: update it first"
            raise RobinError(Code.RELEASE_INCOMPATIBLE, f"{part.kind.value} {part.version}: {text}")
        if part.trunk and part.trunk != coming:
            text = f"is for trunk {part.trunk[:12]}, here is {coming[:12]}: upgrade the trunk first"
            raise RobinError(Code.RELEASE_INCOMPATIBLE, f"{part.kind.value} {part.version}: {text}")
