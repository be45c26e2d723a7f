"""Pictures for a browser: WebP of the size shown, told apart by digest so that none is sent twice."""

from __future__ import annotations

import hashlib

import cv2
import numpy as np
from numpy.typing import NDArray
from starlette.requests import Request
from starlette.responses import Response

QUALITY = 80
WIDTHS = (160, 320, 640, 960, 1280, 1920)
"""What is asked for becomes the next of these, so that a browser's cache has few kinds of each picture."""
A_YEAR = "private, max-age=31536000, immutable"


def shown_width(asked: int) -> int:
    return next((width for width in WIDTHS if width >= asked), WIDTHS[-1])


def webp(rgb: NDArray[np.uint8], width: int, *, exact: bool = False) -> bytes:
    """rgb uint8 [H, W, 3], or [H, W, 4] with opacity, at most ``width`` pixels wide. exact: lossless and without
    mixing neighbours, for layers whose colours mean something."""
    shrunk = _shrunk(rgb, width, cv2.INTER_NEAREST if exact else cv2.INTER_AREA)
    quality = 101 if exact else QUALITY  # above 100 OpenCV writes it without loss
    return _encoded(shrunk, ".webp", [cv2.IMWRITE_WEBP_QUALITY, quality])


def jpeg(rgb: NDArray[np.uint8], width: int) -> bytes:
    """The same as JPEG: a tenth of the work of WebP, for pictures that are looked at once."""
    return _encoded(_shrunk(rgb, width, cv2.INTER_AREA), ".jpg", [cv2.IMWRITE_JPEG_QUALITY, QUALITY])


def _shrunk(rgb: NDArray[np.uint8], width: int, way: int) -> NDArray[np.uint8]:
    if rgb.shape[1] <= width:
        return rgb
    size = (width, max(1, round(rgb.shape[0] * width / rgb.shape[1])))
    return np.asarray(cv2.resize(rgb, size, interpolation=way), dtype=np.uint8)


def _encoded(rgb: NDArray[np.uint8], suffix: str, how: list[int]) -> bytes:
    order = [2, 1, 0, 3][: rgb.shape[2]]
    ok, data = cv2.imencode(suffix, np.ascontiguousarray(rgb[:, :, order]), how)
    if not ok:
        raise ValueError(f"cannot encode an image of {rgb.dtype} {rgb.shape}")
    return data.tobytes()


def picture_answer(request: Request, data: bytes, kind: str = "image/webp") -> Response:
    """Kept by the browser for good where the address names a digest or a time (``v=``), else asked for again each time
    and sent where it has changed: a run may begin anew under the same names."""
    cache = A_YEAR if request.query_params.get("v") else "no-cache"
    headers = {"etag": f'"{hashlib.sha256(data).hexdigest()[:24]}"', "cache-control": cache}
    if request.headers.get("if-none-match", "") == headers["etag"]:
        return Response(status_code=304, headers=headers)
    return Response(data, media_type=kind, headers=headers)
