"""One sample: what was seen before a pick, what was decided, what became of it, as bytes to keep and back again.

Colour is PNG (level 1), depth a Zstandard frame around an ``.npy`` array of 0.1 mm steps, masks run lengths:
``docs/store.md`` has the measurements behind that choice.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, ValidationError

from edge_adapt.store.runs import decode_labels, encode_labels
from robin_perception.core.bounded import parse_json
from robin_perception.core.config import first_fault
from robin_perception.core.errors import Code, RobinError
from robin_perception.core.wire import WireModel, parse_wire

if TYPE_CHECKING:
    from edge_adapt.decision import Decision
    from robin_grasp.picks.outcome import PickOutcome
    from robin_perception.core.frame import Frame
    from robin_perception.core.scene import Scene

RECORD_SUFFIX = ".json"
FEATURES_FILE = "features.safetensors"
NOTHING = "none"
"""Name of the stratum of frames in which nothing was chosen."""
_UNFAMILIAR = "unfamiliar"
DEPTH_SUFFIX = ".npy.zst"
BEFORE, AFTER, LOAD = "color", "after", "load"
"""Views of a pick: before it, after it, the load on the tool."""
_ZSTD_LEVEL = 3
_MOST_DEPTH_BYTES = 2 * 4096 * 4096 + 65536


@dataclass(frozen=True)
class Features:
    """What the trunk hands to the head: values float [C, h, w], kept in half precision; trunk: sha256 of its
    weights."""

    values: NDArray[Any]
    trunk: str


@dataclass(frozen=True)
class Sample:
    """What the store is given. decision: the record as JSON. name: class of the chosen parcel, or what unfamiliar goods
    (novel) are called. camera: as in camera.json. masks: {"height", "width", "counts": {id: runs}}. files: name ->
    bytes."""

    decision_id: str
    decision: str
    name: str
    result: str
    novel: bool = False
    camera: Mapping[str, Any] = field(default_factory=dict)
    masks: Mapping[str, Any] = field(default_factory=dict)
    files: Mapping[str, bytes] = field(default_factory=dict)


def sample_of(
    decision: Decision,
    frame: Frame,
    scene: Scene,
    after: Frame | None = None,
    outcome: PickOutcome | None = None,
    *,
    features: Features | None = None,
    pictures: Mapping[str, bytes] | None = None,
) -> Sample:
    """Encode one pick. pictures: others that belong to it, file name -> bytes."""
    from edge_adapt.recording import DEPTH_SCALE_M, png_bytes
    from edge_adapt.traces_file import TRACES_FILE, traces_bytes
    from robin_perception.core.frame import depth_units
    from robin_perception.core.image_folder import CameraFile

    files = dict(pictures or {})
    views = {BEFORE: frame, AFTER: after, LOAD: outcome.load.frame if outcome and outcome.load else None}
    for view, seen in views.items():
        if seen is not None:
            files[f"{view}.png"] = png_bytes(seen.rgb)
            files[_depth_name(view)] = depth_bytes(depth_units(seen.depth, DEPTH_SCALE_M))
    if outcome is not None and outcome.traces is not None:
        files[TRACES_FILE] = traces_bytes(outcome.traces)
    if features is not None:
        files[FEATURES_FILE] = features_bytes(features)
    height, width = scene.labels.shape
    name, novel = kind_of(decision)
    return Sample(
        decision.decision_id,
        decision.model_dump_json(),
        name,
        decision.result,
        novel,
        CameraFile.of(frame, DEPTH_SCALE_M).model_dump(),
        {"height": height, "width": width, "counts": encode_labels(scene.labels)},
        files,
    )


def kind_of(decision: Decision) -> tuple[str, bool]:
    """Name of the goods that were chosen, and whether nobody taught them."""
    if decision.chosen is None:
        return NOTHING, False
    chosen = decision.chosen.instance
    for condition in decision.conditions:
        if condition.family == "novelty" and chosen in condition.instances:
            return condition.name, True
    instance = next((one for one in decision.instances if one.id == chosen), None)
    if instance is None:
        return NOTHING, False
    odd = instance.novelty is not None and instance.novelty > 1
    return (_UNFAMILIAR, True) if odd else (instance.class_name, False)


class SampleRecord(WireModel):
    """The JSON blob that holds a sample together; the index can be made anew from these. figure, threshold, seen: the
    draw, and the stratum's counters with this sample. files: name -> blob and bytes."""

    format: int = Field(1, ge=1, le=1)
    seq: int = Field(ge=1)
    share: str
    name: str
    result: str
    block: int = Field(ge=0)
    figure: float = Field(ge=0, lt=1)
    threshold: float = Field(ge=0, le=1)
    seen: int = Field(ge=1)
    at_s: float
    station: str = ""
    camera: dict[str, Any] = Field(default_factory=dict)
    masks: dict[str, Any] = Field(default_factory=dict)
    files: dict[str, tuple[str, int]] = Field(default_factory=dict)
    decision: dict[str, Any]

    @classmethod
    def parse(cls, data: bytes, source: str) -> SampleRecord:
        """Raises RobinError RECORD_INVALID, FORMAT_NEWER."""
        return parse_wire(cls, data, source, Code.RECORD_INVALID)

    @property
    def decision_id(self) -> str:
        return str(self.decision.get("decision_id", ""))


@dataclass(frozen=True)
class StoredSample:
    """A sample as it is read back. read: blob -> its bytes, checked against its name."""

    record: SampleRecord
    read: Callable[[str], bytes]

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self.record.files)

    def file(self, name: str) -> bytes:
        """Raises RobinError INPUT_MISSING for a file that the sample never had, STORE_BLOB_*."""
        if name not in self.record.files:
            raise RobinError(Code.INPUT_MISSING, f"{self.record.decision_id} has no {name}")
        return self.read(self.record.files[name][0])

    def decision(self) -> Decision:
        """Raises RobinError RECORD_INVALID."""
        from edge_adapt.decision import Decision

        try:
            return Decision.model_validate_json(json.dumps(self.record.decision))
        except ValidationError as exc:
            raise RobinError(Code.RECORD_INVALID, f"{self.record.decision_id}: {first_fault(exc)}") from None

    def has(self, view: str) -> bool:
        return f"{view}.png" in self.record.files

    def colour(self, view: str = BEFORE) -> NDArray[np.uint8]:
        """uint8 [H, W, 3] RGB. Raises RobinError."""
        from robin_perception.core.bounded_arrays import decode_image

        image = decode_image(self.file(f"{view}.png"), self.record.decision_id)
        return np.ascontiguousarray(image[:, :, 2::-1])

    def depth_units(self, view: str = BEFORE) -> NDArray[np.uint16]:
        """uint16 [H, W] in steps of the camera's depth_scale, 0 = invalid. Raises RobinError."""
        return parse_depth(self.file(_depth_name(view)), self.record.decision_id)

    def frame(self, view: str = BEFORE) -> Frame:
        """The frame before the pick, or the one AFTER it. Raises RobinError."""
        from robin_perception.core.config import parse_config
        from robin_perception.core.frame import RawDepth
        from robin_perception.core.gate import make_frame
        from robin_perception.core.image_folder import CameraFile

        camera = parse_config(CameraFile, self.record.camera, f"{self.record.decision_id}: camera")
        try:
            stamp_s = float(self.record.decision["stamp_s"])
            camera_id = str(self.record.decision["frame"]["camera_id"])
        except (KeyError, TypeError, ValueError, OverflowError) as exc:
            raise RobinError(Code.RECORD_INVALID, f"{self.record.decision_id}: no stamp or camera: {exc}") from None
        return make_frame(
            self.colour(view),
            RawDepth(self.depth_units(view), camera.depth_scale),
            camera.model(),
            None if camera.T_base_camera is None else np.array(camera.T_base_camera),
            stamp_s=stamp_s,
            camera_id=camera_id,
        )

    def labels(self) -> NDArray[np.uint16]:
        """The predicted instance ids, uint16 [H, W]. Raises RobinError RECORD_INVALID."""
        masks = self.record.masks
        try:
            height, width, counts = int(masks["height"]), int(masks["width"]), masks["counts"]
            return decode_labels(height, width, {int(label): str(text) for label, text in counts.items()})
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as exc:
            raise RobinError(Code.RECORD_INVALID, f"{self.record.decision_id}: masks: {exc}") from None

    def features(self, trunk: str) -> NDArray[np.float16]:
        """float16 [C, h, w]. trunk: the digest that they must be of. Raises RobinError INPUT_MISSING,
        RECORD_INVALID."""
        found = parse_features(self.file(FEATURES_FILE), self.record.decision_id)
        if found.trunk != trunk:
            text = f"{self.record.decision_id}: features of another trunk, {found.trunk[:12]}, not {trunk[:12]}"
            raise RobinError(Code.RECORD_INVALID, text)
        return np.asarray(found.values)


def features_bytes(features: Features) -> bytes:
    """A small safetensors file."""
    from safetensors.numpy import save

    return save({"features": np.ascontiguousarray(features.values, dtype=np.float16)}, {"trunk": features.trunk})


def parse_features(data: bytes, source: str) -> Features:
    """Raises RobinError RECORD_INVALID."""
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        header = parse_json(data[8 : 8 + int.from_bytes(data[:8], "little")], source, Code.RECORD_INVALID)
        return Features(load(data)["features"].astype(np.float16), str(header["__metadata__"]["trunk"]))
    except (SafetensorError, KeyError, TypeError, ValueError) as exc:
        raise RobinError(Code.RECORD_INVALID, f"{source}: no features: {exc}") from None


def _depth_name(view: str) -> str:
    return f"depth{DEPTH_SUFFIX}" if view == BEFORE else f"{view}_depth{DEPTH_SUFFIX}"


def depth_bytes(units: NDArray[np.uint16]) -> bytes:
    """A depth file of uint16 [H, W], in steps of the camera's depth_scale."""
    import zstandard

    stream = io.BytesIO()
    np.save(stream, units.astype("<u2"))
    return zstandard.ZstdCompressor(level=_ZSTD_LEVEL).compress(stream.getvalue())


def parse_depth(data: bytes, source: str) -> NDArray[np.uint16]:
    """A depth file, uint16 [H, W] in steps of the camera's depth_scale. Raises RobinError INPUT_TOO_LARGE where it
    claims more than such a file may have, INPUT_UNREADABLE, RECORD_INVALID."""
    import zstandard

    from robin_perception.core.bounded_arrays import parse_npy

    try:
        if not 0 < zstandard.frame_content_size(data) <= _MOST_DEPTH_BYTES:
            raise RobinError(Code.INPUT_TOO_LARGE, f"{source}: depth claims more than {_MOST_DEPTH_BYTES:,} bytes")
        units = parse_npy(zstandard.ZstdDecompressor().decompress(data), source)
    except zstandard.ZstdError as exc:
        raise RobinError(Code.RECORD_INVALID, f"{source}: depth: {exc}") from None
    if units.ndim != 2 or units.dtype != np.uint16:
        raise RobinError(Code.RECORD_INVALID, f"{source}: depth is {units.dtype} {units.shape}, not uint16 [H, W]")
    return np.asarray(units)
