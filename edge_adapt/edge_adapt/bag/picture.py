"""The picture of a difference: the grasp as recorded and as replayed, side by side on the same frame."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_adapt.bag.replay import ReplayedPlan
from robin_grasp.grasp_overlay import draw_grasp
from robin_grasp.plan import Grasp
from robin_grasp.tool import ToolConfig
from robin_perception.core.disk import make_folder, write_atomic
from robin_perception.core.frame import Frame
from robin_perception.segmentation.overlay import draw_masks

_CAPTION_PX = 28
_LINES = 3


def draw_difference(plan: ReplayedPlan, tool: ToolConfig) -> NDArray[np.uint8]:
    """RGB uint8 [H, 2W, 3]: recorded on the left, replayed on the right, the first differences below."""
    sides = []
    for title, grasp in (("recorded", plan.recorded), ("replayed", plan.replayed)):
        masked = draw_masks(plan.frame.rgb, plan.scene, 0.25, names=False) if plan.scene is not None else plan.frame.rgb
        picture = _with_grasp(plan.frame, grasp, tool, np.ascontiguousarray(masked))
        score = "no grasp" if grasp is None else f"score {grasp.score:.4f}, cups {grasp.cups:08b}"
        sides.append(np.vstack([_caption(f"{title}: {score}", plan.frame.width), picture]))
    both = np.hstack(sides)
    lines = [str(difference) for difference in plan.differences[:_LINES]]
    captions = [_caption(line, both.shape[1]) for line in (plan.name, *lines)]
    return np.ascontiguousarray(np.vstack([both, *captions]))


def save_difference(folder: Path, plan: ReplayedPlan, tool: ToolConfig) -> Path:
    """``draw_difference`` as PNG, named after the decision. Raises RobinError DISK_FULL, OPTION_INVALID."""
    make_folder(folder)
    safe = "".join(c if c.isalnum() or c in "-_." else "_" for c in plan.name) or f"plan-{plan.index:05d}"
    path = folder / f"{safe}.png"
    bgr = np.ascontiguousarray(draw_difference(plan, tool)[:, :, ::-1])
    write_atomic(path, cv2.imencode(".png", bgr)[1].tobytes())
    return path


def _with_grasp(frame: Frame, grasp: Grasp | None, tool: ToolConfig, picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return picture if grasp is None else draw_grasp(frame, grasp, tool, picture)


def _caption(text: str, width: int) -> NDArray[np.uint8]:
    bar = np.full((_CAPTION_PX, width, 3), 32, dtype=np.uint8)
    cv2.putText(bar, text, (8, _CAPTION_PX - 9), cv2.FONT_HERSHEY_SIMPLEX, 0.45, (235, 235, 235), 1, cv2.LINE_AA)
    return bar
