"""Pictures and masks on their way to a browser and back."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from robin_perception.core.errors import RobinError
from robin_view.masks import coded_masks, decoded_masks
from robin_view.pictures import shown_width, webp


def test_masks_come_back_as_they_went() -> None:
    labels = np.zeros((40, 60), np.uint16)
    labels[3:20, 5:30], labels[10:35, 28:60], labels[39, 59] = 7, 300, 9
    assert np.array_equal(decoded_masks(coded_masks(labels)), labels)


@pytest.mark.parametrize("wrong", [{}, {"height": 4, "width": 4, "counts": {"1": "~~~"}}, {"counts": []}])
def test_what_is_no_mask_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(RobinError):
        decoded_masks(wrong)


def test_pictures_have_the_size_shown() -> None:
    rgb = np.random.default_rng(0).integers(0, 255, (480, 640, 3), dtype=np.uint8)
    small = cv2.imdecode(np.frombuffer(webp(rgb, shown_width(200)), np.uint8), cv2.IMREAD_COLOR)
    assert small.shape == (240, 320, 3)
    exact = cv2.imdecode(np.frombuffer(webp(rgb, 640, exact=True), np.uint8), cv2.IMREAD_COLOR)
    assert np.array_equal(exact[:, :, ::-1], rgb)
