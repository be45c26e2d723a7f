"""From a verified release to what the robot runs: parts that it lacks are fetched, fitted to what is there, and added
to the registry of models. The running model is touched only where the release is to run, and between two frames."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from edge_adapt.models.registry import ModelRegistry
from edge_adapt.models.state import FACTORY
from edge_adapt.releases.client import ReleaseClient
from edge_adapt.releases.release import Assignment, Part, PartKind, Release, check_fits
from robin_perception.core.bounded import read_plain_bytes
from robin_perception.core.disk import make_folder, write_atomic
from robin_perception.core.errors import Code, RobinError
from robin_perception.core.output import scratch_folder
from robin_perception.model.bundle import (
    HEAD_FILE,
    MANIFEST_FILE,
    MODEL_BYTES,
    NETWORK_FILE,
    Bundle,
    load_bundle,
    read_manifest,
)

BY = "release"
PARTS = "parts"
_MODEL = (PartKind.TRUNK, PartKind.HEAD, PartKind.NOVELTY)


@dataclass(frozen=True)
class Fetched:
    """What came of one look at the repository. version: in the registry; None: no model in it was new. parts: fetched
    now, by kind. active: the release runs from now on. back: the one before runs again."""

    release: str
    version: int | None = None
    parts: dict[str, str] = field(default_factory=dict)
    active: bool = False
    back: bool = False

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def follow(client: ReleaseClient, registry: ModelRegistry, folder: Path, site: str, robot: str) -> Fetched | None:
    """Do what the site's assignments say of this robot; None: nothing is to be done.

    A release whose roll-out was stopped is gone back from, where it is the one that runs. Raises RobinError RELEASE_*,
    VERSION_PINNED, and what the registry raises; what runs goes on then.
    """
    client.refresh()
    told = client.assignments(site)
    current = running_release(registry)
    if current and current in told.back:
        registry.rollback(BY, f"the roll-out of {current} was stopped")
        return Fetched(current, back=True)
    wanted = told.robots.get(robot)
    if wanted is None or wanted.release == current:
        return None
    return take(client, registry, folder, wanted)


def take(client: ReleaseClient, registry: ModelRegistry, folder: Path, wanted: Assignment) -> Fetched:
    """Fetch a release and add it; run it where that is asked for. Once it was added it is not fetched again. One that
    was rolled back here stays away. Raises as ``follow``."""
    release = client.release(wanted.release)
    version = version_of(registry, release.name)
    parts: dict[str, str] = {}
    if version is None:
        version, parts = _added(client, registry, folder, release, wanted.rollout)
    active = wanted.use == "run" and version is not None and registry.state().active != version
    if active and version is not None:
        if was_given_up(registry, version):
            raise RobinError(Code.MODEL_PICKS_WORSE, f"release {release.name} was rolled back here; it stays away")
        registry.activate(version, BY, f"release {release.name}", {"release": release.name, "rollout": wanted.rollout})
    return Fetched(release.name, version, parts, active)


def version_of(registry: ModelRegistry, name: str) -> int | None:
    """In the registry, of the release of that name; None where it was not added or is gone."""
    known = {version.number for version in registry.state().versions}
    for entry in reversed(registry.story().entries):
        if entry.event == "added" and entry.data.get("release") == name and entry.data.get("version") in known:
            return int(entry.data["version"])
    return None


def running_release(registry: ModelRegistry) -> str:
    """Name of the release that runs; empty where what runs came with none."""
    active = registry.state().active
    for entry in reversed(registry.story().entries):
        if entry.event == "added" and entry.data.get("version") == active and active != FACTORY:
            return str(entry.data.get("release", ""))
    return ""


def was_given_up(registry: ModelRegistry, version: int) -> bool:
    """Whether this robot itself went back from it."""
    events = ("rolled_back", "given_up")
    return any(e.event in events and e.data.get("from") == version for e in registry.story().entries)


def _added(
    client: ReleaseClient, registry: ModelRegistry, folder: Path, release: Release, rollout: str
) -> tuple[int | None, dict[str, str]]:
    base = registry.load().bundle
    check_fits(release.parts, base.manifest.files[NETWORK_FILE])
    files = {part.kind: client.part(part) for part in release.parts}
    client.keep_only(release.parts)
    for part in release.parts:
        if part.kind not in _MODEL:
            _keep(folder, part, files[part.kind])
    told = {part.kind.value: part.version for part in release.parts}
    data = {"source": "release", "release": release.name, "rollout": rollout, "parts": told}
    if not any(kind in _MODEL for kind in files):
        return None, told
    with scratch_folder("robin-release-") as scratch:
        composed = compose(base, files, scratch / "bundle")
        return registry.add(composed, BY, f"release {release.name}", data), told


def compose(base: Bundle, files: Mapping[PartKind, Mapping[str, Path]], out: Path) -> Path:
    """The bundle that ``base`` becomes with the model's parts. Raises RobinError MODEL_*, RELEASE_INCOMPATIBLE."""
    content: dict[str, bytes] = {}
    if PartKind.TRUNK not in files:
        content = {name: _bytes(base.directory / name) for name in (*base.manifest.files, MANIFEST_FILE)}
    for kind in _MODEL:
        content |= {name: _bytes(path) for name, path in files.get(kind, {}).items()}
    make_folder(out)
    (out / MANIFEST_FILE).write_bytes(content.pop(MANIFEST_FILE))
    manifest = read_manifest(out)
    held = {n: hashlib.sha256(d).hexdigest() for n, d in content.items() if n.endswith((".onnx", ".safetensors"))}
    if held[NETWORK_FILE] != manifest.files[NETWORK_FILE]:
        raise RobinError(Code.RELEASE_INCOMPATIBLE, "the manifest that came is for another trunk")
    if PartKind.HEAD in files and held[HEAD_FILE] != manifest.files[HEAD_FILE]:
        raise RobinError(Code.RELEASE_INCOMPATIBLE, "the manifest that came is for another head")
    manifest = manifest.model_copy(update={"files": held})
    (out / MANIFEST_FILE).write_text(manifest.model_dump_json(indent=1))
    for name, data in content.items():
        (out / name).write_bytes(data)
    return load_bundle(out).directory


def _keep(folder: Path, part: Part, files: Mapping[str, Path]) -> None:
    """A part that is no model's, under its version; ``current`` names it."""
    place = folder / PARTS / part.kind.value
    make_folder(place / part.version)
    for name, path in files.items():
        write_atomic(place / part.version / name, _bytes(path))
    write_atomic(place / "current", part.version.encode())


def _bytes(path: Path) -> bytes:
    return read_plain_bytes(path, MODEL_BYTES)
