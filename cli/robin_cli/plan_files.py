"""What ``robin plan`` leaves in its folder: overlay.png, depth.png, masks.png, plan.json; all of them or none."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_adapt.files import make_folder, sync_folder, write_atomic, write_error
from robin_cli.plan_run import PlanRun
from robin_cli.terminal import json_bytes
from robin_grasp.plan import Grasp
from robin_grasp.tool import CUP_COUNT, ToolConfig
from robin_perception.frame import Frame
from robin_perception.overlay import colour_depth, draw_masks

OTHER_GRASPS = 5
_OPEN = (60, 230, 60)
_CLOSED = (200, 200, 200)
_MARK = (255, 210, 0)


def write_plan(out: Path, result: PlanRun) -> None:
    """Write the four files into ``out`` (made if need be); other files there are left alone.

    They are written aside first, so that a full disk leaves what was there before. Raises RobinError DISK_FULL or
    OPTION_INVALID naming the file.
    """
    files = {
        "overlay.png": _png(draw_plan(result)),
        "depth.png": _png(colour_depth(result.frame.depth)),
        "masks.png": _png(result.scene.labels),
        "plan.json": json_bytes(result.to_json()),
    }
    make_folder(out.parent)
    aside = out.parent / f".{out.name}.tmp"
    try:
        aside = Path(tempfile.mkdtemp(prefix=f".{out.name}.", suffix=".tmp", dir=out.parent))
        for name, data in files.items():
            write_atomic(aside / name, data)
        make_folder(out)
        for name in files:
            os.replace(aside / name, out / name)
        sync_folder(out)
    except OSError as exc:
        raise write_error(out, exc) from None
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def draw_plan(result: PlanRun) -> NDArray[np.uint8]:
    """Colour image with masks, the best grasp's eight cups (open ones filled) and the next best contact points."""
    picture = draw_masks(result.frame.rgb, result.scene)
    for grasp in result.plan.grasps[1 : 1 + OTHER_GRASPS]:
        at = _pixels(grasp.T_base_tool[:3, 3][None], result.frame)[0]
        cv2.drawMarker(picture, at, _MARK, cv2.MARKER_TILTED_CROSS, max(8, result.frame.width // 60), 2, cv2.LINE_AA)
    if result.plan.best is not None:
        _draw_tool(picture, result.plan.best, result.cell.tool, result.frame)
    return picture


def _draw_tool(picture: NDArray[np.uint8], grasp: Grasp, tool: ToolConfig, frame: Frame) -> None:
    turn = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    ring = tool.cup_radius_m * np.stack([np.cos(turn), np.sin(turn), np.zeros_like(turn)], axis=1)
    for cup in range(CUP_COUNT):
        lip = (tool.cups_m[cup] + ring) @ grasp.T_base_tool[:3, :3].T + grasp.T_base_tool[:3, 3]
        outline = np.array(_pixels(lip, frame), dtype=np.int32)
        if grasp.cups >> cup & 1:
            cv2.fillPoly(picture, [outline], _OPEN, cv2.LINE_AA)
            cv2.polylines(picture, [outline], True, (0, 0, 0), 1, cv2.LINE_AA)
        else:
            cv2.polylines(picture, [outline], True, _CLOSED, 1, cv2.LINE_AA)


def _pixels(points_base: NDArray[np.float64], frame: Frame) -> list[tuple[int, int]]:
    """Points [N, 3] in base_link to whole pixels; what lies behind the camera is far outside the image."""
    R, t = frame.T_base_camera[:3, :3], frame.T_base_camera[:3, 3]
    seen = (points_base - t) @ R
    depth = np.where(seen[:, 2] > 1e-3, seen[:, 2], 1e-3)
    projected = np.clip(seen[:, :2] / depth[:, None] * (frame.K[0, 0], frame.K[1, 1]) + frame.K[:2, 2], -10_000, 10_000)
    return [(int(u), int(v)) for u, v in np.rint(projected)]


def _png(image: NDArray[Any]) -> bytes:
    encoded = image[:, :, ::-1] if image.ndim == 3 else image
    return cv2.imencode(".png", np.ascontiguousarray(encoded), [cv2.IMWRITE_PNG_COMPRESSION, 3])[1].tobytes()
