"""Model bundles: network.onnx, head.safetensors, manifest.json, CARD.md. Data only, verified before use.

The manifest holds everything that is needed to use and to judge the network; nothing in a bundle is executed or
unpickled.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import re
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, ValidationError, model_validator
from safetensors import SafetensorError
from safetensors.numpy import load as load_tensors
from safetensors.numpy import save as save_tensors

from robin_perception.core.bounded import CONFIG_BYTES, read_plain_bytes
from robin_perception.core.config import StrictConfig, first_fault
from robin_perception.core.disk import sync_folder, write_atomic, write_error, write_synced
from robin_perception.core.errors import Code, RobinError
from robin_perception.core.ids import PlainId
from robin_perception.core.output import locked, require_room
from robin_perception.core.scene import CLASSES

NETWORK_FILE = "network.onnx"
HEAD_FILE = "head.safetensors"
MANIFEST_FILE = "manifest.json"
CARD_FILE = "CARD.md"
NOVELTY_FILE, FILM_FILE = "novelty.safetensors", "film.onnx"
FRAME_INPUTS = ("rgb", "depth", "intrinsics", "belt_plane")
INSTANCE_OUTPUTS = (
    "peak_xy",
    "detection",
    "class_probabilities",
    "mask_quality",
    "visible_fraction",
    "embedding",
    "mask_logits",
    "boundary",
)
MODEL_BYTES = 40_000_000
"""Of each file of a bundle; five million weights take twenty."""
FEATURE_OUTPUTS = ("trunk_stride4", "trunk_stride8")
_MOST_WAIT_S = 30.0  # for another process that changes the same manifest


Shift = Annotated[float, Field(ge=-16, le=16)]
ClassName = Annotated[str, Field(min_length=1, max_length=100)]


class TensorSpec(StrictConfig):
    """One tensor: static shape and numpy dtype name."""

    name: str = Field(max_length=200)
    shape: tuple[int, ...] = Field(max_length=8)
    dtype: str = "float32"


class IsotonicTable(StrictConfig):
    """Monotone map by linear interpolation between knots; constant beyond the ends (pool-adjacent-violators fit)."""

    x: tuple[float, ...] = Field((0.0, 1.0), min_length=1, max_length=1000)
    y: tuple[float, ...] = Field((0.0, 1.0), min_length=1, max_length=1000)

    @model_validator(mode="after")
    def _is_monotone(self) -> IsotonicTable:
        if len(self.x) != len(self.y):
            raise ValueError(f"x has {len(self.x)} knots, y has {len(self.y)}")
        if any(b < a for knots in (self.x, self.y) for a, b in itertools.pairwise(knots)):
            raise ValueError("knots must not fall")
        if not (self.y[0] >= 0 and self.y[-1] <= 1):
            raise ValueError("y must be within 0 and 1")
        return self

    def apply(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """Raw scores to calibrated ones, float32 of the same shape."""
        return np.interp(values, self.x, self.y).astype(np.float32)


class CalibrationTables(StrictConfig):
    """Raw network scores to calibrated ones. The defaults change nothing.

    class_temperature: probabilities are raised to 1/T and normalised.
    boundary_scale: measured over predicted sigma of mask edges.
    mask_shift_px: how far masks stand to the right of and below the truth, network pixels; taken back in decoding.
    fitted_on: data set and number of scenes; reliability: expected calibration errors before and after, held out.
    """

    detection: IsotonicTable = IsotonicTable()
    mask_quality: IsotonicTable = IsotonicTable()
    visible_fraction: IsotonicTable = IsotonicTable()
    class_temperature: float = Field(1.0, gt=0.05, le=20)
    boundary_scale: float = Field(1.0, gt=0.01, le=100)
    mask_shift_px: tuple[Shift, Shift] = (0.0, 0.0)
    fitted_on: str = ""
    reliability: dict[str, float] = Field(default_factory=dict)


class Thresholds(StrictConfig):
    """detection: calibrated probability below which an instance is not reported."""

    detection: float = Field(0.5, ge=0, le=1)


class Provenance(StrictConfig):
    """Where the weights come from. excluded: packaging never seen, e.g. "poly_bag:black". parent: what was taught."""

    seed: int = 0
    scenes: int = 0
    steps: int = 0
    commit: str = ""
    data: str = ""
    excluded: tuple[str, ...] = ()
    parent: str = ""
    notes: str = ""


class Manifest(StrictConfig):
    """manifest.json.

    files: sha256 of every file that is loaded. scores: evaluation set -> results of `robin eval seg`.
    """

    format: Literal[1] = 1
    name: PlainId
    files: dict[str, str] = Field(max_length=8)
    input_height: int = Field(gt=0, le=4096)
    input_width: int = Field(gt=0, le=4096)
    max_instances: int = Field(gt=0, le=1000)
    classes: tuple[ClassName, ...] = Field(
        CLASSES, min_length=1, max_length=256, description="names, in the order of its probabilities"
    )
    head: tuple[TensorSpec, ...] = Field(max_length=200)
    parameters: int = Field(0, ge=0, description="trainable values, trunk and head")
    calibration: CalibrationTables = CalibrationTables()
    thresholds: Thresholds = Thresholds()
    provenance: Provenance = Provenance()
    scores: dict[str, dict[str, Any]] = Field(default_factory=dict)


@dataclass(frozen=True)
class Bundle:
    """A verified bundle. head: float32 weights by graph input name. version: in a registry of models; None: in none."""

    directory: Path
    manifest: Manifest
    head: dict[str, NDArray[np.float32]]
    version: int | None = None

    @property
    def network_path(self) -> Path:
        return self.directory / NETWORK_FILE

    @property
    def model_id(self) -> str:
        return model_id(self.manifest, self.head)


def model_id(manifest: Manifest, head: Mapping[str, NDArray[np.float32]]) -> str:
    """name-xxxxxxxx: the bundle's name and a digest of the trunk and of the head that is in use."""
    digest = hashlib.sha256(manifest.files[NETWORK_FILE].encode())
    for name in sorted(head):
        values = np.ascontiguousarray(head[name], dtype="<f4")
        digest.update(f"{name}{values.shape}".encode())
        digest.update(values.tobytes())
    return f"{manifest.name}-{digest.hexdigest()[:8]}"


def load_bundle(directory: Path) -> Bundle:
    """Read and verify a bundle: every hash, every head tensor, the graph's inputs and outputs.

    Raises RobinError MODEL_MISSING, MODEL_MANIFEST_INVALID, MODEL_HASH_MISMATCH or MODEL_TENSOR_MISSING.
    """
    if not directory.is_dir():
        raise RobinError(Code.MODEL_MISSING, f"{directory}: no such model bundle")
    manifest = read_manifest(directory)
    for name in manifest.files.keys() - {NETWORK_FILE, HEAD_FILE}:
        _verified_bytes(directory, name, manifest)
    head = _read_head(_verified_bytes(directory, HEAD_FILE, manifest), directory / HEAD_FILE)
    _check_tensors(manifest.head, head, str(directory / HEAD_FILE))
    _check_graph(_verified_bytes(directory, NETWORK_FILE, manifest), manifest, directory / NETWORK_FILE)
    return Bundle(directory, manifest, head)


def read_manifest(directory: Path) -> Manifest:
    """manifest.json without verifying the files it names."""
    path = directory / MANIFEST_FILE
    try:
        manifest = Manifest.model_validate_json(read_plain_bytes(path, CONFIG_BYTES))
    except ValidationError as exc:
        raise RobinError(Code.MODEL_MANIFEST_INVALID, f"{path}: {first_fault(exc)}") from None
    except RobinError as exc:
        code = Code.MODEL_MISSING if exc.code is Code.INPUT_MISSING else Code.MODEL_MANIFEST_INVALID
        raise RobinError(code, exc.text) from None
    for required in (NETWORK_FILE, HEAD_FILE):
        if required not in manifest.files:
            raise RobinError(Code.MODEL_MANIFEST_INVALID, f"{path}: 'files' has no hash of {required}")
    for name in manifest.files:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name):
            raise RobinError(Code.MODEL_MANIFEST_INVALID, f"{path}: 'files' holds the unsafe name {name!r}")
    if len(set(manifest.classes)) < len(manifest.classes) or not all(manifest.classes):
        raise RobinError(Code.MODEL_MANIFEST_INVALID, f"{path}: 'classes' must be names, each once")
    return manifest


def write_bundle(
    directory: Path,
    network: bytes,
    head: Mapping[str, NDArray[np.float32]],
    *,
    name: str,
    input_size: tuple[int, int] = (384, 512),
    max_instances: int = 100,
    classes: tuple[str, ...] = CLASSES,
    parameters: int = 0,
    calibration: CalibrationTables | None = None,
    thresholds: Thresholds | None = None,
    provenance: Provenance | None = None,
    scores: dict[str, dict[str, Any]] | None = None,
    card: str = "",
) -> Bundle:
    """Write a bundle atomically (temporary folder, fsync, rename) in place of any older one, and load it back.

    network: the serialised ONNX model. head: float32 weights by graph input name. input_size: (height, width).
    classes: names, in the order of the probabilities.
    Raises RobinError OPTION_INVALID for a folder that holds anything but a bundle, DISK_FULL.
    """
    require_bundle_folder(directory)
    weights = {key: np.ascontiguousarray(value, dtype=np.float32) for key, value in head.items()}
    files = {NETWORK_FILE: network, HEAD_FILE: save_tensors(weights)}
    manifest = Manifest(
        name=name,
        files={key: hashlib.sha256(data).hexdigest() for key, data in files.items()},
        input_height=input_size[0],
        input_width=input_size[1],
        max_instances=max_instances,
        classes=classes,
        head=tuple(TensorSpec(name=key, shape=weights[key].shape) for key in sorted(weights)),
        parameters=parameters,
        calibration=calibration or CalibrationTables(),
        thresholds=thresholds or Thresholds(),
        provenance=provenance or Provenance(),
        scores=scores or {},
    )
    files[MANIFEST_FILE] = _manifest_bytes(manifest)
    files[CARD_FILE] = (card or f"# {name}\n").encode()
    _replace_folder(directory, files)
    return load_bundle(directory)


def update_manifest(directory: Path, **changes: Any) -> Manifest:
    """Replace fields of the manifest (``calibration=...``, ``thresholds=...``) atomically; ``scores=...`` are added to
    those of other names. One process at a time. Raises RobinError as ``read_manifest``, DISK_FULL, OPTION_INVALID."""
    with locked(directory, _MOST_WAIT_S):
        current = read_manifest(directory)
        if "scores" in changes:
            changes["scores"] = {**current.scores, **changes["scores"]}
        values = {key: getattr(current, key) for key in Manifest.model_fields} | changes
        manifest = Manifest.model_validate(values)
        write_atomic(directory / MANIFEST_FILE, _manifest_bytes(manifest))
    return manifest


def add_file(directory: Path, name: str, data: bytes) -> Manifest:
    """Put a file into a bundle, or replace it, with its hash in the manifest: both or neither. One process at a time.

    Raises RobinError as ``read_manifest``, DISK_FULL, OPTION_INVALID.
    """
    with locked(directory, _MOST_WAIT_S):
        manifest = read_manifest(directory)
        files = {**manifest.files, name: hashlib.sha256(data).hexdigest()}
        manifest = manifest.model_copy(update={"files": files})
        kept = {path.name: read_plain_bytes(path, MODEL_BYTES) for path in directory.iterdir() if path.is_file()}
        _replace_folder(directory, {**kept, name: data, MANIFEST_FILE: _manifest_bytes(manifest)})
    return manifest


def check_head(manifest: Manifest, head: Mapping[str, NDArray[np.float32]], source: str) -> None:
    """Raise RobinError MODEL_TENSOR_MISSING unless ``head`` has every tensor, in the right shape, finite."""
    _check_tensors(manifest.head, head, source)


def _manifest_bytes(manifest: Manifest) -> bytes:
    """A name of a folder may stand in it, and what is no text in such a name would make the manifest unreadable."""
    return (json.dumps(manifest.model_dump(mode="json"), indent=1, ensure_ascii=False) + "\n").encode(errors="replace")


def _verified_bytes(directory: Path, name: str, manifest: Manifest) -> bytes:
    path = directory / name
    try:
        data = read_plain_bytes(path, MODEL_BYTES)
    except RobinError as exc:
        raise RobinError(Code.MODEL_MISSING, f"{exc.text} (missing or unreadable)") from None
    if hashlib.sha256(data).hexdigest() != manifest.files[name]:
        raise RobinError(Code.MODEL_HASH_MISMATCH, f"{path}: sha256 differs from {MANIFEST_FILE}")
    return data


def _read_head(data: bytes, path: Path) -> dict[str, NDArray[np.float32]]:
    try:
        tensors: dict[str, NDArray[np.float32]] = load_tensors(data)
    except (SafetensorError, ValueError, KeyError) as exc:
        raise RobinError(Code.MODEL_TENSOR_MISSING, f"{path}: {exc}") from None
    return tensors


def _check_tensors(specs: tuple[TensorSpec, ...], head: Mapping[str, NDArray[np.float32]], source: str) -> None:
    for spec in specs:
        values = head.get(spec.name)
        if values is None:
            raise RobinError(Code.MODEL_TENSOR_MISSING, f"{source}: no tensor '{spec.name}'")
        if values.shape != spec.shape or values.dtype != np.float32:
            got = f"{values.dtype} {list(values.shape)}"
            raise RobinError(
                Code.MODEL_TENSOR_MISSING, f"{source}: '{spec.name}' is {got}, needs float32 {list(spec.shape)}"
            )
        if not np.isfinite(values).all():
            raise RobinError(Code.MODEL_TENSOR_MISSING, f"{source}: '{spec.name}' holds NaN or infinity")
    unknown = sorted(set(head) - {spec.name for spec in specs})
    if unknown:
        raise RobinError(Code.MODEL_TENSOR_MISSING, f"{source}: unexpected tensor '{unknown[0]}'")


def _check_graph(data: bytes, manifest: Manifest, path: Path) -> None:
    """The graph's inputs are the frame and exactly the head's tensors; its outputs are those of the contract."""
    from robin_perception.model.graph_bounds import check_outputs, refuse_unbounded
    from robin_perception.model.onnx_graph import parse

    model = parse(data, str(path))
    graph = model.graph
    weights = {t.name for t in graph.initializer}
    shapes = {i.name: tuple(d.dim_value for d in i.type.tensor_type.shape.dim) for i in graph.input}
    shapes = {name: shape for name, shape in shapes.items() if name not in weights}
    size = (manifest.input_height, manifest.input_width)
    wanted: dict[str, tuple[int, ...]] = {"rgb": (*size, 3), "depth": size, "intrinsics": (4,), "belt_plane": (4,)}
    wanted |= {spec.name: spec.shape for spec in manifest.head}
    for name, shape in wanted.items():
        if shapes.get(name) != shape:
            got = "no such input" if name not in shapes else f"input has shape {list(shapes[name])}"
            raise RobinError(Code.MODEL_TENSOR_MISSING, f"{path}: '{name}' {list(shape)}: {got}")
    for name in sorted(set(shapes) - set(wanted)):
        raise RobinError(Code.MODEL_TENSOR_MISSING, f"{path}: input '{name}' is fed by no head tensor")
    outputs = {o.name for o in graph.output}
    for name in (*INSTANCE_OUTPUTS, *FEATURE_OUTPUTS):
        if name not in outputs:
            raise RobinError(Code.MODEL_TENSOR_MISSING, f"{path}: no output '{name}'")
    shapes = refuse_unbounded(model, str(path))
    check_outputs(shapes, size, manifest.max_instances, len(manifest.classes), str(path))


def require_bundle_folder(directory: Path) -> None:
    """Refuse a folder for a new bundle before it is made: what lies in it is deleted, so it must be a bundle or
    nothing, and the one above it must be writable. Raises RobinError OPTION_INVALID, DISK_FULL."""
    if directory.is_dir() and any(directory.iterdir()) and not (directory / MANIFEST_FILE).is_file():
        text = f"holds other files and no {MANIFEST_FILE}; a bundle would replace them, name another folder"
        raise RobinError(Code.OPTION_INVALID, f"{directory}: {text}")
    if directory.exists() and not directory.is_dir():
        raise RobinError(Code.OPTION_INVALID, f"{directory}: is a file, a bundle is a folder")
    require_room(next(folder for folder in directory.absolute().parents if folder.is_dir()))


def _replace_folder(directory: Path, files: dict[str, bytes]) -> None:
    directory = Path(os.path.realpath(directory))  # a link to a bundle stays one
    try:
        directory.parent.mkdir(parents=True, exist_ok=True)
        aside = Path(tempfile.mkdtemp(prefix=f".{directory.name}.", suffix=".tmp", dir=directory.parent))
    except OSError as exc:
        raise write_error(directory, exc) from None
    try:
        aside.chmod(0o755)
        for name, data in files.items():
            write_synced(aside / name, data)
        sync_folder(aside)
        if directory.exists():
            # A folder cannot be renamed over a full one: the old one steps aside, and comes back if the new one fails.
            old = aside.with_suffix(".old")
            os.rename(directory, old)
            try:
                os.rename(aside, directory)
            except OSError:
                os.rename(old, directory)
                raise
            shutil.rmtree(old)
        else:
            os.rename(aside, directory)
        sync_folder(directory.parent)
    except OSError as exc:
        shutil.rmtree(aside, ignore_errors=True)
        raise write_error(directory, exc) from None
