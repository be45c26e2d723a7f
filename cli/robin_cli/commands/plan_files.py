"""What ``robin plan`` leaves in its folder: overlay.png, depth.png, masks.png, plan.json; all of them or none."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from robin_cli.commands.plan_run import PlanRun
from robin_cli.terminal import json_bytes
from robin_grasp.grasp_overlay import draw_grasp, project_tool
from robin_perception.core.disk import sync_folder, write_atomic, write_error
from robin_perception.core.errors import Code, RobinError
from robin_perception.segmentation.overlay import colour_depth, draw_masks

PLAN_FILE = "plan.json"
FILES = (PLAN_FILE, "overlay.png", "depth.png", "masks.png")
OTHER_GRASPS = 5
_MARK = (255, 210, 0)


def require_own_plan(out: Path, inputs: Sequence[Path]) -> None:
    """Refuse a folder that holds the inputs, or pictures that no plan has left. Raises RobinError OPTION_INVALID."""
    if any(os.path.realpath(file.parent) == os.path.realpath(out) for file in inputs):
        text = "holds the inputs, and their pictures would be replaced; name another folder"
        raise RobinError(Code.OPTION_INVALID, f"--out {out}: {text}")
    there = [out / name for name in FILES if os.path.lexists(out / name)]
    for path in there:
        if path.is_symlink() or not path.is_file() or there[0].name != PLAN_FILE:
            text = f"not a plain file of an earlier plan (with {PLAN_FILE} beside it); name another folder"
            raise RobinError(Code.OPTION_INVALID, f"{path}: {text}")


def write_plan(out: Path, result: PlanRun) -> None:
    """Write the four files into the folder ``out``; other files there are left alone.

    They are written aside first, so that a full disk leaves what was there before; plan.json, which tells that the
    others are a plan's, takes its place first. Raises RobinError DISK_FULL or
    OPTION_INVALID naming the file.
    """
    contents = (
        json_bytes(result.to_json()),
        _png(draw_plan(result)),
        _png(colour_depth(result.frame.depth)),
        _png(result.scene.labels),
    )
    files = dict(zip(FILES, contents, strict=True))
    try:
        aside = Path(tempfile.mkdtemp(prefix=".plan.", suffix=".tmp", dir=out))
        try:
            for name, data in files.items():
                write_atomic(aside / name, data)
            for name in files:
                os.replace(aside / name, out / name)
            sync_folder(out)
        finally:
            shutil.rmtree(aside, ignore_errors=True)
    except OSError as exc:
        raise write_error(out, exc) from None


def draw_plan(result: PlanRun) -> NDArray[np.uint8]:
    """Colour image with masks, the best grasp's tool and cups, and a cross at each of the next best contact points."""
    frame = result.frame
    picture = draw_masks(frame.rgb, result.scene)
    for grasp in result.plan.grasps[1 : 1 + OTHER_GRASPS]:
        middle = project_tool(frame, grasp, np.zeros((1, 3)))
        if middle is not None:
            at = (int(middle[0, 0]), int(middle[0, 1]))
            cv2.drawMarker(picture, at, _MARK, cv2.MARKER_TILTED_CROSS, max(8, frame.width // 60), 2, cv2.LINE_AA)
    best = result.plan.best
    return picture if best is None else draw_grasp(frame, best, result.cell.tool, picture)


def _png(image: NDArray[Any]) -> bytes:
    encoded = image[:, :, ::-1] if image.ndim == 3 else image
    return cv2.imencode(".png", np.ascontiguousarray(encoded), [cv2.IMWRITE_PNG_COMPRESSION, 3])[1].tobytes()
