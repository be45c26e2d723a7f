"""What lies beside a record: pictures, masks, traces. Of a run's folder or of a store's sample, read when asked for."""

from __future__ import annotations

import contextlib
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_adapt.decision import Decision
from edge_adapt.recording import DEPTH_SCALE_M
from edge_adapt.traces_file import TRACES_BYTES, TRACES_FILE, parse_traces
from robin_grasp.picks.traces import PickTraces
from robin_perception.core.bounded import read_plain_bytes
from robin_perception.core.bounded_arrays import IMAGE_BYTES, decode_image
from robin_perception.core.errors import RobinError
from robin_perception.core.frame import Frame, RawDepth
from robin_perception.core.gate import CameraModel, make_frame
from robin_perception.core.pose import pose_matrix

if TYPE_CHECKING:
    from edge_adapt.store.sample import StoredSample

RGB = NDArray[np.uint8]


class Evidence(Protocol):
    """Beside one record. What is missing, unreadable or leads out of its place is None: a page is made of what is
    there."""

    @property
    def decision(self) -> Decision: ...

    def has(self, name: str) -> bool:
        """Whether there is such a picture: "color", "depth", "labels", "after", "load", "load_depth", "traces" or what
        a person was shown."""
        ...

    def rgb(self, name: str) -> RGB | None:
        """uint8 [H, W, 3]."""
        ...

    def depth_m(self, name: str) -> NDArray[np.float32] | None:
        """float32 [H, W], metres, 0 = invalid."""
        ...

    def labels(self) -> NDArray[np.uint16] | None:
        """Instance ids [H, W], 0 background."""
        ...

    def traces(self) -> PickTraces | None: ...


class FolderEvidence:
    """Files of the folder that holds the record."""

    def __init__(self, folder: Path, decision: Decision) -> None:
        self.folder, self.decision = folder, decision

    def has(self, name: str) -> bool:
        path = self._path(name)
        return path is not None and path.is_file()

    def rgb(self, name: str) -> RGB | None:
        image = self._image(name, cv2.IMREAD_COLOR)
        return None if image is None else np.ascontiguousarray(image[:, :, ::-1], dtype=np.uint8)

    def depth_m(self, name: str) -> NDArray[np.float32] | None:
        image = self._image(name, cv2.IMREAD_UNCHANGED)
        return None if image is None or image.ndim != 2 else image.astype(np.float32) * np.float32(DEPTH_SCALE_M)

    def labels(self) -> NDArray[np.uint16] | None:
        image = self._image("labels", cv2.IMREAD_UNCHANGED)
        return None if image is None or image.ndim != 2 else np.asarray(image, dtype=np.uint16)

    def traces(self) -> PickTraces | None:
        data = self._bytes("traces", TRACES_BYTES)
        return None if data is None else _traces(data, self.decision)

    def _path(self, name: str) -> Path | None:
        return inside(self.folder, self.decision.images[name]) if name in self.decision.images else None

    def _bytes(self, name: str, most: int) -> bytes | None:
        if (path := self._path(name)) is None:
            return None
        try:
            return read_plain_bytes(path, most)
        except (RobinError, OSError):
            return None

    def _image(self, name: str, flags: int) -> NDArray[Any] | None:
        data = self._bytes(name, IMAGE_BYTES)
        if data is None:
            return None
        with contextlib.suppress(RobinError):
            return decode_image(data, name, flags)
        return None


class SampleEvidence:
    """Blobs of a sample, of the robot's store or of the fleet's."""

    def __init__(self, sample: StoredSample) -> None:
        self._sample = sample
        self.decision = sample.decision()
        self._names = {PurePosixPath(name).name.split(".")[0]: name for name in sample.names}

    def has(self, name: str) -> bool:
        return name in self._names or (name == "labels" and bool(self._sample.record.masks))

    def rgb(self, name: str) -> RGB | None:
        with contextlib.suppress(RobinError, KeyError):
            image = decode_image(self._sample.file(self._names[name]), name, cv2.IMREAD_COLOR)
            return np.ascontiguousarray(image[:, :, ::-1], dtype=np.uint8)
        return None

    def depth_m(self, name: str) -> NDArray[np.float32] | None:
        view = "color" if name == "depth" else name.removesuffix("_depth")
        with contextlib.suppress(RobinError):
            return self._sample.depth_units(view).astype(np.float32) * np.float32(DEPTH_SCALE_M)
        return None

    def labels(self) -> NDArray[np.uint16] | None:
        with contextlib.suppress(RobinError):
            return self._sample.labels()
        return None

    def traces(self) -> PickTraces | None:
        with contextlib.suppress(RobinError):
            return _traces(self._sample.file(TRACES_FILE), self.decision)
        return None


def frame_of(evidence: Evidence) -> Frame | None:
    """The frame that the pick was planned on, as recorded; None where its pictures are gone. Depth is in steps of
    0.1 mm. Raises RobinError for pictures that make no frame."""
    rgb, depth = evidence.rgb("color"), evidence.depth_m("depth")
    record = evidence.decision.frame
    if rgb is None or depth is None:
        return None
    fx, fy, cx, cy = record.intrinsics
    K = np.array([[fx, 0.0, cx], [0.0, fy, cy], [0.0, 0.0, 1.0]])
    units = np.rint(depth / DEPTH_SCALE_M).astype(np.uint16)
    return make_frame(
        rgb,
        RawDepth(units, DEPTH_SCALE_M),
        CameraModel(K, record.width, record.height),
        pose_matrix(record.camera_position_m, record.camera_quaternion_xyzw),
        stamp_s=evidence.decision.stamp_s,
        camera_id=record.camera_id,
    )


def inside(folder: Path, name: str) -> Path | None:
    """A file of ``folder``; None where a link leads out of it, or to itself."""
    path = folder / name
    try:
        return path if path.resolve().is_relative_to(folder.resolve()) else None
    except (OSError, RuntimeError):
        return None


def _traces(data: bytes, decision: Decision) -> PickTraces | None:
    try:
        return parse_traces(data, decision.decision_id, len(decision.context.tool.cup_centres_m))
    except RobinError:
        return None
