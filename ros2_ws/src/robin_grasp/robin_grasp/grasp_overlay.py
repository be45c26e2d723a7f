"""Draws a grasp on the colour image: open and closed cups, the tool's plate and axes."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from robin_grasp.plan import Grasp
from robin_grasp.tool import ToolConfig, mask_to_cups
from robin_perception.core.frame import Frame

OPEN_CUP = (60, 220, 90)
CLOSED_CUP = (150, 150, 150)
PLATE = (255, 210, 60)
AXIS_X = (230, 60, 60)
AXIS_Y = (70, 130, 255)


def draw_grasp(
    frame: Frame, grasp: Grasp, tool: ToolConfig, image: NDArray[np.uint8] | None = None
) -> NDArray[np.uint8]:
    """RGB uint8 [H, W, 3] with the grasp drawn on ``image`` (default: the frame's colour). The input is not changed."""
    canvas = np.ascontiguousarray(frame.rgb if image is None else image).copy()
    width = max(1, round(frame.width / 640))
    half_x, half_y = tool.plate_half_size_m
    corners = np.array([[-half_x, -half_y, 0], [half_x, -half_y, 0], [half_x, half_y, 0], [-half_x, half_y, 0]])
    plate = project_tool(frame, grasp, corners)
    if plate is not None:
        cv2.polylines(canvas, [plate], True, PLATE, width, cv2.LINE_AA)
    open_cups = mask_to_cups(grasp.cups)
    angle = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    ring = tool.cup_radius_m * np.stack([np.cos(angle), np.sin(angle), np.zeros(24)], axis=1)
    for index, centre in enumerate(tool.cups_m):
        lip = project_tool(frame, grasp, centre + ring)
        if lip is None:
            continue
        if index in open_cups:
            shade = canvas.copy()
            cv2.fillPoly(shade, [lip], OPEN_CUP)
            canvas = cv2.addWeighted(shade, 0.45, canvas, 0.55, 0).astype(np.uint8)
        colour = OPEN_CUP if index in open_cups else CLOSED_CUP
        cv2.polylines(canvas, [lip], True, colour, width + (index in open_cups), cv2.LINE_AA)
    for axis, colour in ((np.array([0.04, 0, 0]), AXIS_X), (np.array([0, 0.04, 0]), AXIS_Y)):
        ends = project_tool(frame, grasp, np.stack([np.zeros(3), axis]))
        if ends is not None:
            cv2.line(canvas, tuple(map(int, ends[0])), tuple(map(int, ends[1])), colour, width + 1, cv2.LINE_AA)
    return np.asarray(canvas, dtype=np.uint8)


def project_tool(frame: Frame, grasp: Grasp, points: NDArray[np.float64]) -> NDArray[np.int32] | None:
    """Points of the tool frame [N, 3] in pixels, int32 [N, 2]; None when one lies behind the camera."""
    pixels = frame.pixels(points @ grasp.T_base_tool[:3, :3].T + grasp.T_base_tool[:3, 3])
    if np.isnan(pixels).any():
        return None
    return np.asarray(np.rint(np.clip(pixels, -1e4, 1e4)), dtype=np.int32)
