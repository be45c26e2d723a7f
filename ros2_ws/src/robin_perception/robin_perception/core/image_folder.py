"""RGB-D frames as folders of plain images: color.png, depth.png, camera.json and, where there is truth, labels.png.

Reading is strict: whatever does not fit ends in one RobinError that names the file, never in a half-valid frame.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from robin_perception.core.bounded import CONFIG_BYTES, parse_json, read_plain_bytes
from robin_perception.core.bounded_arrays import IMAGE_BYTES, MOST_PIXELS, decode_image, parse_npy
from robin_perception.core.config import StrictConfig, parse_config
from robin_perception.core.errors import Code, RobinError
from robin_perception.core.frame import Frame, PictureNames, RawDepth, depth_units, intrinsics_misfit
from robin_perception.core.gate import CameraModel, GateConfig, make_frame
from robin_perception.core.support_plane import SupportPlaneConfig, on_support_plane

COLOR_FILE = "color.png"
DEPTH_FILE = "depth.png"
CAMERA_FILE = "camera.json"
LABELS_FILE = "labels.png"
FILM_FILE = "film.png"
SCENE_FILE = "scene.json"
IGNORE_LABEL = 65535
FILM_UNIT_M = 0.00025
NPY_BYTES = 8 * MOST_PIXELS + 65536

_Row = tuple[float, float, float, float]


class CameraFile(StrictConfig):
    """camera.json. fx fy cx cy in pixels of the width x height image; depth_scale in metres per depth unit;
    T_base_camera: row-major 4x4 pose of the optical frame in base_link, metres, optional."""

    fx: float
    fy: float
    cx: float
    cy: float
    width: int = Field(ge=1, le=20_000)
    height: int = Field(ge=1, le=20_000)
    depth_scale: float = Field(0.001, ge=1e-6, le=0.1)
    T_base_camera: tuple[_Row, _Row, _Row, _Row] | None = None

    @classmethod
    def of(cls, frame: Frame, depth_scale: float) -> CameraFile:
        """That of ``frame``, whose depth is written in units of ``depth_scale`` metres."""
        return cls(
            fx=float(frame.K[0, 0]),
            fy=float(frame.K[1, 1]),
            cx=float(frame.K[0, 2]),
            cy=float(frame.K[1, 2]),
            width=frame.width,
            height=frame.height,
            depth_scale=depth_scale,
            T_base_camera=tuple(tuple(float(v) for v in row) for row in frame.T_base_camera),
        )

    def to_text(self) -> str:
        return self.model_dump_json(indent=1) + "\n"

    def model(self) -> CameraModel:
        return CameraModel(self.K, self.width, self.height)

    @property
    def K(self) -> NDArray[np.float64]:
        """float64 [3, 3], pixels."""
        return np.array([[self.fx, 0.0, self.cx], [0.0, self.fy, self.cy], [0.0, 0.0, 1.0]])


def load_frame(
    folder: Path,
    support: SupportPlaneConfig | None = None,
    T_base_camera: NDArray[np.float64] | None = None,
    gate: GateConfig | None = None,
) -> Frame:
    """Frame of an image folder; ``camera_id`` is the folder's name.

    T_base_camera: [4, 4], used in place of the file's. Where neither has one, the pose is built from the dominant
    support plane (see ``support_plane``).
    Raises RobinError: INPUT_*, CONFIG_*, SUPPORT_PLANE_NOT_FOUND, and what ``make_frame`` raises.
    """
    if not folder.is_dir():
        raise RobinError(Code.INPUT_MISSING, f"{folder}: no such folder")
    return load_frame_files(
        folder / COLOR_FILE, folder / DEPTH_FILE, folder / CAMERA_FILE, folder.name, support, T_base_camera, gate
    )


def load_frame_files(
    color: Path,
    depth: Path,
    camera: Path,
    camera_id: str = "camera",
    support: SupportPlaneConfig | None = None,
    T_base_camera: NDArray[np.float64] | None = None,
    gate: GateConfig | None = None,
) -> Frame:
    """Frame from three files.

    depth: uint16 PNG in ``depth_scale`` units, or a float ``.npy`` in metres. Raises as ``load_frame``.
    """
    info = load_camera(camera)
    known = info.T_base_camera if T_base_camera is None else T_base_camera
    frame = make_frame(
        _read_color(color),
        _read_depth(depth, info.depth_scale),
        info.model(),
        None if known is None else np.array(known),
        camera_id=camera_id,
        config=gate,
        names=PictureNames(str(color), str(depth), str(camera)),
    )
    if known is None:
        frame = on_support_plane(frame, support)
    return frame


def load_camera(path: Path) -> CameraFile:
    """Read and check camera.json. Raises RobinError naming the file and key."""
    values = read_json(path)
    if not isinstance(values, dict):
        raise RobinError(Code.CONFIG_UNREADABLE, f"{path}: expected a JSON object")
    info = parse_config(CameraFile, values, str(path))
    misfit = intrinsics_misfit(info.fx, info.fy, info.cx, info.cy, info.width, info.height)
    if misfit is not None:
        raise RobinError(Code.INTRINSICS_INVALID, f"{path}: {misfit}")
    return info


def load_labels(folder: Path) -> NDArray[np.uint16]:
    """labels.png as uint16 [H, W]: 0 background, 65535 ignore, else an instance id."""
    path = folder / LABELS_FILE
    image = _decode(path)
    if image.ndim != 2 or image.dtype not in (np.uint8, np.uint16):
        raise RobinError(Code.INPUT_UNREADABLE, f"{path}: labels must be one channel, 8 or 16 bit, got {_kind(image)}")
    return image.astype(np.uint16)


def load_scene_info(folder: Path) -> dict[str, Any]:
    """scene.json of a rendered scene (strata, kinds, visible fractions); empty where the folder has none."""
    path = folder / SCENE_FILE
    if not path.exists():
        return {}
    values = read_json(path)
    if not isinstance(values, dict):
        raise RobinError(Code.INPUT_UNREADABLE, f"{path}: expected a JSON object")
    return values


def scene_folders(data: Path) -> list[Path]:
    """Folders of ``data`` that hold a labelled scene, sorted by name. Raises RobinError when there is none."""
    if not data.is_dir():
        raise RobinError(Code.INPUT_MISSING, f"{data}: no such folder")
    folders = sorted(p.parent for p in data.glob(f"*/{LABELS_FILE}") if not p.parent.name.startswith("."))
    if not folders:
        raise RobinError(Code.INPUT_MISSING, f"{data}: no scene folder with {LABELS_FILE} in it")
    return folders


def save_frame(
    folder: Path, frame: Frame, labels: NDArray[np.uint16] | None = None, depth_scale: float = 0.001
) -> None:
    """Write ``frame`` (and labels) as an image folder. Depth is rounded to ``depth_scale`` metres."""
    folder.mkdir(parents=True, exist_ok=True)
    write_png(folder / COLOR_FILE, frame.rgb)
    write_png(folder / DEPTH_FILE, depth_units(frame.depth, depth_scale))
    (folder / CAMERA_FILE).write_text(CameraFile.of(frame, depth_scale).to_text())
    if labels is not None:
        write_png(folder / LABELS_FILE, labels)


def save_film(folder: Path, film: NDArray[np.float32]) -> None:
    """Write film.png: ``film`` [H, W], the true depth where a pixel shows film, else 0, metres, in quarter
    millimetres."""
    write_png(folder / FILM_FILE, depth_units(film, FILM_UNIT_M))


def load_film(folder: Path) -> NDArray[np.float32] | None:
    """film.png as ``save_film`` takes it; None where nobody knows. Raises RobinError INPUT_*."""
    path = folder / FILM_FILE
    if not path.is_file():
        return None
    image = _decode(path)
    if image.dtype != np.uint16 or image.ndim != 2:
        raise RobinError(Code.INPUT_UNREADABLE, f"{path}: film must be 16 bit with one channel, got {_kind(image)}")
    return image * np.float32(FILM_UNIT_M)


def write_png(path: Path, image: NDArray[Any]) -> None:
    """Write an RGB or single-channel PNG; a full disk raises OSError as any other write does."""
    bgr = image[:, :, ::-1] if image.ndim == 3 else image
    ok, data = cv2.imencode(".png", bgr, [cv2.IMWRITE_PNG_COMPRESSION, 3])
    if not ok:
        raise RobinError(Code.INPUT_UNREADABLE, f"{path}: cannot encode {_kind(image)} as PNG")
    path.write_bytes(data.tobytes())


def read_json(path: Path) -> Any:
    """Parsed JSON. Raises RobinError INPUT_MISSING, INPUT_UNREADABLE, INPUT_TOO_LARGE or CONFIG_UNREADABLE."""
    return parse_json(read_plain_bytes(path, CONFIG_BYTES), str(path))


def _decode(path: Path) -> NDArray[Any]:
    return decode_image(read_plain_bytes(path, IMAGE_BYTES), str(path))


def _read_color(path: Path) -> NDArray[np.uint8]:
    image = _decode(path)
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] not in (3, 4):
        raise RobinError(Code.INPUT_UNREADABLE, f"{path}: colour must be 8 bit with three channels, got {_kind(image)}")
    return np.ascontiguousarray(image[:, :, 2::-1])


def _read_depth(path: Path, scale: float) -> NDArray[np.float32] | RawDepth:
    if path.suffix == ".npy":
        values = parse_npy(read_plain_bytes(path, NPY_BYTES), str(path))
        if values.ndim != 2 or values.dtype.kind != "f" or values.size > MOST_PIXELS:
            raise RobinError(Code.INPUT_UNREADABLE, f"{path}: depth must be float [H,W] metres, got {_kind(values)}")
        with np.errstate(over="ignore"):
            return values.astype(np.float32)
    image = _decode(path)
    if image.dtype != np.uint16 or image.ndim != 2:
        raise RobinError(Code.INPUT_UNREADABLE, f"{path}: depth must be 16 bit with one channel, got {_kind(image)}")
    return RawDepth(image, scale)


def _kind(image: NDArray[Any]) -> str:
    return f"{image.dtype} {'x'.join(str(n) for n in image.shape)}"
