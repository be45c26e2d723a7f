"""Which version runs, which there are: one small file, replaced as a whole."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError

from robin_perception.core.bounded import parse_json, read_plain_bytes
from robin_perception.core.config import StrictConfig, first_fault
from robin_perception.core.errors import Code, RobinError

STATE_FILE = "active.json"
STATE_BYTES = 4_000_000
FACTORY = 0
"""The version that everything began with; it lies elsewhere, and is never changed."""
_MOST_EARLIER = 8


class Version(StrictConfig):
    """A bundle that was added. digest: sha256 of its manifest, which holds those of its files; network: sha256 of its
    network; factory: sha256 of the manifest of the factory's bundle that it was learned from."""

    number: int = Field(gt=0)
    model_id: str
    digest: str
    network: str
    factory: str
    size_bytes: int = Field(ge=0)


class RegistryState(StrictConfig):
    """sequence, chain: number and digest of the journal's entry that made it. active: the version that runs; earlier:
    those that ran before, newest first."""

    format: Literal["robin-models-1"] = "robin-models-1"
    sequence: int = Field(0, ge=0)
    chain: str = ""
    active: int = Field(FACTORY, ge=0)
    pinned: bool = False
    earlier: tuple[int, ...] = ()
    next_number: int = Field(1, gt=0)
    versions: tuple[Version, ...] = ()

    def version(self, number: int) -> Version:
        """Raises RobinError VERSION_UNKNOWN."""
        for version in self.versions:
            if version.number == number:
                return version
        known = ", ".join(str(v.number) for v in self.versions) or "none but the factory's, 0"
        raise RobinError(Code.VERSION_UNKNOWN, f"version {number}: there is none; there are {known}")

    def running(self, number: int) -> RegistryState:
        """With ``number`` active, and the one that was active as the one before."""
        if number == self.active:
            return self
        earlier = (self.active, *(n for n in self.earlier if n not in (number, self.active)))
        return self.model_copy(update={"active": number, "earlier": earlier[:_MOST_EARLIER]})

    def back_at(self, number: int) -> RegistryState:
        """With ``number``, which ran before, active again; what ran since is none of those to go back to."""
        rest = self.earlier[self.earlier.index(number) + 1 :] if number in self.earlier else ()
        return self.model_copy(update={"active": number, "earlier": rest})

    @property
    def kept(self) -> frozenset[int]:
        """What must not be removed: the active version and the one before it."""
        return frozenset((self.active, *self.earlier[:1]))

    def without(self, number: int) -> RegistryState:
        """Once version ``number`` is gone."""
        versions = tuple(v for v in self.versions if v.number != number)
        earlier = tuple(n for n in self.earlier if n != number)
        return self.model_copy(update={"versions": versions, "earlier": earlier})


def state_bytes(state: RegistryState) -> bytes:
    """The file's content."""
    values = state.model_dump(mode="json")
    return (json.dumps({"sha256": _digest(values), "state": values}, indent=1) + "\n").encode()


def read_state(folder: Path) -> RegistryState | None:
    """None where there is none yet. Raises RobinError MODELS_DAMAGED."""
    path = folder / STATE_FILE
    try:
        content = parse_json(read_plain_bytes(path, STATE_BYTES), str(path), Code.MODELS_DAMAGED)
    except RobinError as exc:
        if exc.code is Code.INPUT_MISSING:
            return None
        raise RobinError(Code.MODELS_DAMAGED, exc.text) from None
    if not isinstance(content, dict) or content.get("sha256") != _digest(content.get("state")):
        raise RobinError(Code.MODELS_DAMAGED, f"{path}: does not match its sha256")
    return parse_state(content["state"], str(path))


def parse_state(values: Any, source: str) -> RegistryState:
    """Raises RobinError MODELS_DAMAGED."""
    try:
        return RegistryState.model_validate(values)
    except ValidationError as exc:
        raise RobinError(Code.MODELS_DAMAGED, f"{source}: {first_fault(exc)}") from None


def _digest(values: Any) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()
