"""What is usual at one station, taken at commissioning and kept in one file with its hash."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from robin_perception.core.bounded import parse_json, read_plain_bytes
from robin_perception.core.disk import write_atomic
from robin_perception.core.errors import Code, RobinError
from robin_perception.core.frame import Frame
from robin_perception.core.scene import Scene
from robin_perception.monitors.cause import Surroundings, Usual
from robin_perception.monitors.config import MonitorsConfig
from robin_perception.monitors.look import COLUMNS, PIXELS_PER_CELL, Look, look_at, thinned_size
from robin_perception.monitors.motion import MotionMeter
from robin_perception.monitors.reference import Reference, make_reference
from robin_perception.monitors.registry import make_causes

LEAST_FRAMES = 30
BEGINS = b"robin station baseline 1\n"
"""What such a file begins with; tensors follow."""
_MOST_BYTES = 4_000_000
_LEAST_KNOWN = 0.1  # share of the cells that were free often enough
_TO_SIGMA = 1.4826  # of a median absolute deviation
_SAME_FOCAL = 0.01
_SAME_M, _SAME_RAD = 0.001, 0.001


@dataclass(frozen=True)
class StationBaseline:
    """camera_id, width, height, K float64 [3, 3], T_base_camera float64 [4, 4]: of the frames. frames: how many.
    usual: cause -> location and spread; a cause that the frames did not show is left out. reference: what the cell
    looks like without goods."""

    camera_id: str
    width: int
    height: int
    K: NDArray[np.float64]
    T_base_camera: NDArray[np.float64]
    frames: int
    usual: Mapping[str, Usual]
    reference: Reference

    def misfit(self, frame: Frame) -> str | None:
        """Why it does not go with this frame, in a few words; None where it does."""
        if frame.camera_id != self.camera_id:
            return f"it is of camera '{self.camera_id}', the frame of '{frame.camera_id}'"
        if (frame.width, frame.height) != (self.width, self.height):
            return f"it is of {self.width}x{self.height} pixels, the frame of {frame.width}x{frame.height}"
        if np.abs(frame.K - self.K).max() > _SAME_FOCAL * self.K[0, 0]:
            return "the camera's intrinsics are others than at commissioning"
        turned = np.abs(frame.T_base_camera[:3, :3] - self.T_base_camera[:3, :3]).max()
        if turned > _SAME_RAD or np.abs(frame.T_base_camera[:3, 3] - self.T_base_camera[:3, 3]).max() > _SAME_M:
            return "the camera was calibrated anew since"
        return None

    def meter(self) -> MotionMeter:
        """For frames of this camera."""
        step = self.width / thinned_size(self.width, self.height)[0]
        return MotionMeter(self.reference, self.K, self.T_base_camera, step)

    def to_bytes(self) -> bytes:
        """As it stands in a file."""
        arrays = {name: np.ascontiguousarray(value) for name, value in vars(self.reference).items()}
        about: dict[str, Any] = {
            "camera_id": self.camera_id,
            "size": [self.width, self.height],
            "K": self.K.tolist(),
            "T_base_camera": self.T_base_camera.tolist(),
            "frames": self.frames,
            "usual": {name: asdict(usual) for name, usual in self.usual.items()},
        }
        text = json.dumps(about, sort_keys=True)
        return BEGINS + save(arrays, {"station": json.dumps([text, _sha256(text, arrays)])})

    def save(self, path: Path) -> None:
        """Atomically. Raises RobinError DISK_FULL, OPTION_INVALID."""
        write_atomic(path, self.to_bytes())


def take_baseline(seen: Iterable[tuple[Frame, Scene]], least_frames: int = LEAST_FRAMES) -> StationBaseline:
    """From frames of a healthy station with goods that come and go. Raises RobinError BASELINE_TOO_SHORT for too few,
    or where goods hide nearly all of the cell; BASELINE_FOREIGN where frames are of several cameras."""
    looks: list[Look] = []
    supports = []
    for frame, scene in seen:
        if looks and (other := _another(frame, looks[0].frame)) is not None:
            raise RobinError(Code.BASELINE_FOREIGN, f"frames of two {other} were given: give those of one camera")
        looks.append(look_at(frame, scene.labels))
        supports.append(scene.support)
    if len(looks) < least_frames:
        text = f"{len(looks)} frames were given, {least_frames} are needed, with goods that come and go"
        raise RobinError(Code.BASELINE_TOO_SHORT, text)
    reference = make_reference(looks)
    if np.isfinite(reference.light).mean() < _LEAST_KNOWN:
        text = f"goods hide more than {100 - 100 * _LEAST_KNOWN:.0f} % of the picture in most frames"
        raise RobinError(Code.BASELINE_TOO_SHORT, f"{text}: give frames with fewer goods")
    frame = looks[0].frame
    baseline = StationBaseline(
        frame.camera_id, frame.width, frame.height, frame.K, frame.T_base_camera, len(looks), {}, reference
    )
    causes = make_causes(MonitorsConfig())
    values: dict[str, list[float]] = {cause.name: [] for cause in causes}
    meter = baseline.meter()
    for look, support in zip(looks, supports, strict=True):
        around = Surroundings(reference, meter, support)
        for cause in causes:
            if (value := cause.measure(look, around)) is not None:
                values[cause.name].append(value)
                around.found[cause.name] = 0.0
    usual = {name: _usual(found) for name, found in values.items() if 2 * len(found) >= len(looks)}
    return StationBaseline(**{**vars(baseline), "usual": usual})


def _another(frame: Frame, first: Frame) -> str | None:
    """In what a frame is of another station than the first one."""
    if frame.camera_id != first.camera_id:
        return f"cameras, '{first.camera_id}' and '{frame.camera_id}',"
    if frame.rgb.shape != first.rgb.shape:
        return "sizes"
    return None if np.allclose(frame.T_base_camera, first.T_base_camera, atol=_SAME_RAD) else "camera poses"


def _usual(values: list[float]) -> Usual:
    middle = float(np.median(values))
    return Usual(middle, _TO_SIGMA * float(np.median(np.abs(np.array(values) - middle))))


def load_baseline(path: Path) -> StationBaseline:
    """Raises RobinError INPUT_MISSING, INPUT_UNREADABLE, BASELINE_DAMAGED."""
    data = read_plain_bytes(path, _MOST_BYTES)
    try:
        return _parsed(data, path)
    except (SafetensorError, KeyError, TypeError, ValueError, OverflowError) as exc:
        reason = str(exc).splitlines()[0] if str(exc) else type(exc).__name__
        raise RobinError(Code.BASELINE_DAMAGED, f"{path}: {reason}") from None


def _parsed(data: bytes, path: Path) -> StationBaseline:
    if not data.startswith(BEGINS):
        raise ValueError("is no baseline, or one of another version")
    arrays, about_text, sha256 = _tensors(data[len(BEGINS) :], path)
    if _sha256(about_text, arrays) != sha256:
        raise ValueError("its content is not the one that its sha256 was made of")
    about = parse_json(about_text, str(path), Code.BASELINE_DAMAGED)
    width, height = (int(n) for n in about["size"])
    small = thinned_size(width, height)
    cells = (small[1] // PIXELS_PER_CELL, COLUMNS)
    for field in fields(Reference):
        wanted = {"grey": small[::-1], "ground": small[::-1], "brightness": (1, 1), "noise": (1, 1)}.get(
            field.name, cells
        )
        if arrays[field.name].shape != wanted or arrays[field.name].dtype != np.float32:
            raise ValueError(f"'{field.name}' does not fit {width}x{height} pixels")
    K, T = (np.array(about[key], dtype=np.float64) for key in ("K", "T_base_camera"))
    if K.shape != (3, 3) or T.shape != (4, 4) or not (np.isfinite(K).all() and np.isfinite(T).all()):
        raise ValueError("K or T_base_camera is no camera's")
    usual = {str(name): Usual(float(u["location"]), float(u["spread"])) for name, u in about["usual"].items()}
    reference = Reference(**{field.name: arrays[field.name] for field in fields(Reference)})
    return StationBaseline(str(about["camera_id"]), width, height, K, T, int(about["frames"]), usual, reference)


def _tensors(data: bytes, path: Path) -> tuple[dict[str, NDArray[Any]], str, str]:
    """The arrays, what is written about them, and the hash of both."""
    length = int.from_bytes(data[:8], "little")
    header = parse_json(data[8 : 8 + length], str(path), Code.BASELINE_DAMAGED)
    about, sha256 = parse_json(header["__metadata__"]["station"], str(path), Code.BASELINE_DAMAGED)
    return load(data), about, sha256


def _sha256(text: str, arrays: Mapping[str, NDArray[Any]]) -> str:
    digest = hashlib.sha256(text.encode())
    for name in sorted(arrays):
        digest.update(name.encode())
        digest.update(arrays[name].tobytes())
    return digest.hexdigest()
