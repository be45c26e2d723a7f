"""The small picture beside a request for help."""

from __future__ import annotations

import cv2
import numpy as np

from robin_grasp.plan import Grasp
from robin_perception.core.frame import Frame

WIDTH_PX = 320
QUALITY = 80
MARK = (60, 220, 90)


def help_picture(frame: Frame, grasp: Grasp | None = None) -> bytes:
    """JPEG of the frame, 320 pixels wide, with a ring where the grasp is."""
    scale = WIDTH_PX / frame.width
    size = (WIDTH_PX, max(1, round(frame.height * scale)))
    image = cv2.resize(frame.rgb, size, interpolation=cv2.INTER_AREA)
    if grasp is not None:
        spot = frame.pixels(np.asarray(grasp.T_base_tool[None, :3, 3]))[0] * scale
        if np.isfinite(spot).all():
            x, y = (int(v) for v in np.clip(np.rint(spot), -10_000, 10_000))
            cv2.circle(image, (x, y), 18, MARK, 2, cv2.LINE_AA)
    ok, data = cv2.imencode(".jpg", image[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
    return data.tobytes() if ok else b""
