"""Pictures for a browser: WebP of the size shown, told apart by digest so that none is sent twice."""

from __future__ import annotations

import hashlib
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from starlette.requests import Request
from starlette.responses import Response

QUALITY = 80
WIDTHS = (160, 320, 640, 960, 1280, 1920)
"""What is asked for becomes the next of these, so that a browser's cache has few kinds of each picture."""
A_DAY = "private, max-age=86400"


def shown_width(asked: int) -> int:
    return next((width for width in WIDTHS if width >= asked), WIDTHS[-1])


def webp(rgb: NDArray[np.uint8], width: int, *, exact: bool = False) -> bytes:
    """rgb uint8 [H, W, 3], or [H, W, 4] with opacity, at most ``width`` pixels wide. exact: lossless and without
    mixing neighbours, for layers whose colours mean something."""
    if rgb.shape[1] > width:
        size = (width, max(1, round(rgb.shape[0] * width / rgb.shape[1])))
        way = cv2.INTER_NEAREST if exact else cv2.INTER_AREA
        rgb = np.asarray(cv2.resize(rgb, size, interpolation=way), dtype=np.uint8)
    order = [2, 1, 0, 3][: rgb.shape[2]]
    quality = 101 if exact else QUALITY  # above 100 OpenCV writes it without loss
    ok, data = cv2.imencode(".webp", np.ascontiguousarray(rgb[:, :, order]), [cv2.IMWRITE_WEBP_QUALITY, quality])
    if not ok:
        raise ValueError(f"cannot encode an image of {rgb.dtype} {rgb.shape}")
    return data.tobytes()


def picture_answer(request: Request, data: bytes, kind: str = "image/webp", *, cache: str = A_DAY) -> Response:
    """304 where the browser has it already."""
    headers = {"etag": f'"{hashlib.sha256(data).hexdigest()[:24]}"', "cache-control": cache}
    return answer_cached(request, data, kind, headers)


def answer_cached(request: Request, data: bytes, kind: str, headers: dict[str, Any]) -> Response:
    if request.headers.get("if-none-match", "") == headers["etag"]:
        return Response(status_code=304, headers=headers)
    return Response(data, media_type=kind, headers=headers)
