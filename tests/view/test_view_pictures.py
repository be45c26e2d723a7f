"""Pictures on their way to a browser."""

from __future__ import annotations

import cv2
import numpy as np

from robin_view.pictures import jpeg, shown_width, webp


def test_pictures_have_the_size_shown() -> None:
    rgb = np.random.default_rng(0).integers(0, 255, (480, 640, 3), dtype=np.uint8)
    small = cv2.imdecode(np.frombuffer(webp(rgb, shown_width(200)), np.uint8), cv2.IMREAD_COLOR)
    assert small.shape == (240, 320, 3)
    exact = cv2.imdecode(np.frombuffer(webp(rgb, 640, exact=True), np.uint8), cv2.IMREAD_COLOR)
    assert np.array_equal(exact[:, :, ::-1], rgb)
    assert jpeg(rgb, 320)[:2] == b"\xff\xd8" and len(jpeg(rgb, 320)) < len(webp(rgb, 640, exact=True))
