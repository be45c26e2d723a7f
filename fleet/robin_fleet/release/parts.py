"""From bundles and files to the parts of a release. A part's version is a digest of its content: what is the same has
the same version, and robots that have it do not fetch it again."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from safetensors import SafetensorError
from safetensors.numpy import load as load_tensors

from edge_adapt.releases.release import Part, PartFile, PartKind, Release, check_fits
from robin_grasp.planner.fit import load_fit
from robin_perception.core.bounded import CONFIG_BYTES, parse_json, read_plain_bytes
from robin_perception.core.errors import Code, RobinError
from robin_perception.model.bundle import (
    CARD_FILE,
    HEAD_FILE,
    MANIFEST_FILE,
    MODEL_BYTES,
    NETWORK_FILE,
    NOVELTY_FILE,
    load_bundle,
)


@dataclass(frozen=True)
class Given:
    """What a new release is made of; None: that part is taken from ``base``, where there is one. bundle: for the trunk;
    head, novelty: bundles of which that part alone is taken. ranker: a planner's fit, as JSON."""

    bundle: Path | None = None
    head: Path | None = None
    novelty: Path | None = None
    ranker: Path | None = None
    configuration: Path | None = None
    base: Release | None = None
    notes: str = ""


@dataclass
class _Gathered:
    parts: dict[PartKind, Part] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)

    def take(self, kind: PartKind, content: Mapping[str, bytes], trunk: str = "") -> None:
        found = {n: PartFile(sha256=hashlib.sha256(d).hexdigest(), size_bytes=len(d)) for n, d in content.items()}
        told = "".join(f"{name} {found[name].sha256} " for name in sorted(found)) + trunk
        version = hashlib.sha256(told.encode()).hexdigest()[:12]
        try:
            part = Part(kind=kind, version=version, trunk=trunk, files=found)
        except ValueError as exc:
            raise RobinError(Code.RELEASE_INVALID, f"{kind.value}: {exc}") from None
        self.parts[kind] = part
        self.files |= {f"{part.folder}/{name}": data for name, data in content.items()}


def gather(name: str, given: Given) -> tuple[Release, dict[str, bytes]]:
    """(release, content of its new files by target path). Raises RobinError RELEASE_INVALID, RELEASE_INCOMPATIBLE,
    MODEL_* and CONFIG_* for what is not as it must be."""
    gathered = _Gathered()
    for kind, source in (
        (PartKind.TRUNK, given.bundle),
        (PartKind.HEAD, given.head),
        (PartKind.NOVELTY, given.novelty),
    ):
        if source is not None:
            _of_bundle(gathered, kind, source)
    if given.ranker is not None:
        load_fit(given.ranker)
        gathered.take(PartKind.RANKER, {"ranker.json": read_plain_bytes(given.ranker, CONFIG_BYTES)})
    if given.configuration is not None:
        data = read_plain_bytes(given.configuration, CONFIG_BYTES)
        parse_json(data, str(given.configuration))
        gathered.take(PartKind.CONFIGURATION, {"configuration.json": data})
    kept = {part.kind: part for part in given.base.parts} if given.base is not None else {}
    if PartKind.TRUNK in gathered.parts:  # those of the trunk before do not fit it, and it brings its own
        kept = {kind: part for kind, part in kept.items() if not part.trunk}
    parts = tuple({**kept, **gathered.parts}.values())
    trunk = next((part.trunk for part in parts if part.trunk), "")
    check_fits(parts, trunk)
    if not gathered.parts:
        raise RobinError(Code.RELEASE_INVALID, f"release {name}: no part is given")
    source = given.head or given.bundle
    known = given.base.model if given.base is not None else ""
    model = load_bundle(source).model_id if source is not None else known
    return Release(name=name, parts=parts, model=model, notes=given.notes), gathered.files


def _of_bundle(gathered: _Gathered, kind: PartKind, source: Path) -> None:
    bundle = load_bundle(source)
    trunk = bundle.manifest.files[NETWORK_FILE]
    names = {
        PartKind.TRUNK: [*bundle.manifest.files, MANIFEST_FILE, CARD_FILE],
        PartKind.HEAD: [HEAD_FILE, MANIFEST_FILE],
        PartKind.NOVELTY: [NOVELTY_FILE],
    }[kind]
    content = {n: read_plain_bytes(source / n, MODEL_BYTES) for n in names if n != CARD_FILE or (source / n).exists()}
    for name, data in content.items():
        if name.endswith(".safetensors"):
            try:
                load_tensors(data)
            except (SafetensorError, ValueError, KeyError) as exc:
                raise RobinError(Code.RELEASE_INVALID, f"{source / name}: {exc}") from None
    gathered.take(kind, content, trunk)
