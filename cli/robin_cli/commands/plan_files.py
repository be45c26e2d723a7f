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

from robin_cli.commands.plan_run import PlanRun
from robin_cli.terminal import json_bytes
from robin_grasp.grasp_overlay import draw_grasp, project_tool
from robin_perception.core.disk import make_folder, sync_folder, write_atomic, write_error
from robin_perception.segmentation.overlay import colour_depth, draw_masks

OTHER_GRASPS = 5
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
