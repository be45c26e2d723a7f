"""Mask refinement: edges go to where the image has them, and stay where it has none."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from robin_perception.segmentation.decode import DecodeConfig
from robin_perception.segmentation.mask_grid import MaskGrid, Window, mask_grid
from robin_perception.segmentation.refine import RefineConfig, make_guide, refined
from robin_perception.segmentation.view import letterbox

SIZE = (512, 384)
EDGE = 203.0  # network pixels: the true left edge of the parcel, inside a cell of the mask grid
SQUARE = mask_grid(letterbox(SIZE, SIZE), 4)


def _frame(
    contrast: int = 60, step_m: float = 0.0, edge: float = EDGE
) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """A parcel that fills the image right of ``edge``: brighter than the belt by ``contrast``, higher by ``step_m``."""
    right = np.arange(SIZE[0]) > edge
    rgb = np.broadcast_to((80 + contrast * right).astype(np.uint8)[None, :, None], (SIZE[1], SIZE[0], 3)).copy()
    depth = np.broadcast_to((1.2 - step_m * right).astype(np.float32)[None], SIZE[::-1]).copy()
    return rgb, depth


def _refined(
    picture: tuple[NDArray[np.uint8], NDArray[np.float32]], grid: MaskGrid, cells: NDArray[np.float32], place: Window
) -> tuple[NDArray[np.float32], tuple[slice, slice]]:
    """One mask by way of the filter, at frame pixels."""
    guide = make_guide(*picture, grid, RefineConfig())
    assert guide is not None
    (fine,) = refined(guide, [(cells, place)], grid)
    return mask_grid(grid.box, 1).enlarge(*fine)


def _edge_of(rgb: NDArray[np.uint8], depth: NDArray[np.float32], grid: MaskGrid, off: float) -> float:
    """Where the refined mask's edge lies, frame pixels, if the network puts it ``off`` network pixels to the right."""
    cells = np.broadcast_to(((np.arange(128) * 4 + 1.5) - (EDGE + 0.5 + off)).astype(np.float32)[None] / 4, (96, 128))
    window = 20, 60, 40, 64
    crop = np.ascontiguousarray(cells[20:60, 40:64], dtype=np.float32)
    logits, (_, columns) = _refined((rgb, depth), grid, crop, window)
    middle = logits[logits.shape[0] // 2]
    first = int(np.argmax(middle > 0))
    return columns.start + first - middle[first] / (middle[first] - middle[first - 1])


@pytest.mark.parametrize("off", [-4.0, -2.0, 2.0, 4.0])
@pytest.mark.parametrize(("contrast", "step_m"), [(60, 0.0), (0, 0.08)], ids=["colour", "depth"])
def test_an_edge_goes_to_that_of_the_image(contrast: int, step_m: float, off: float) -> None:
    found = _edge_of(*_frame(contrast, step_m), SQUARE, off)
    assert abs(found - (EDGE + 0.5)) < (0.4 if abs(off) <= 2 else 0.6) * abs(off)


def test_without_an_edge_nearby_it_stays() -> None:
    for contrast, edge in ((0, EDGE), (60, EDGE + 40)):
        found = _edge_of(*_frame(contrast, 0.0, edge), SQUARE, 2.0)
        assert found == pytest.approx(EDGE + 2.5, abs=0.6)


def test_holes_in_depth_are_no_edges() -> None:
    rgb, depth = _frame(contrast=0)
    depth[:, 190:200] = 0
    assert _edge_of(rgb, depth, SQUARE, 2.0) == pytest.approx(EDGE + 2.5, abs=0.6)
    assert np.isfinite(_edge_of(rgb, np.zeros_like(depth), SQUARE, 2.0))


@pytest.mark.parametrize("frame_size", [(1280, 720), (640, 480), (848, 480)])
def test_frames_of_other_sizes_have_it_in_the_same_place(frame_size: tuple[int, int]) -> None:
    box = letterbox(frame_size, SIZE)
    found = _edge_of(*_frame(), mask_grid(box, 4), 3.0)
    expected = box.to_frame(np.array([EDGE + 0.5, 200.0]))[0]
    assert found == pytest.approx(expected, abs=1.5 / box.scale[0])


def test_masks_that_stand_to_the_right_are_taken_back_first() -> None:
    rgb, depth = _frame(contrast=0)
    straight, shifted = (mask_grid(SQUARE.box, 4, (shift, 0.0)) for shift in (0.0, 1.5))
    moved = _edge_of(rgb, depth, straight, 0.0) - _edge_of(rgb, depth, shifted, 0.0)
    assert moved == pytest.approx(1.5, abs=0.2)


@pytest.mark.parametrize("frame_size", [(1280, 720), (848, 480)])
def test_a_mask_reaches_the_rim_of_the_frame_and_never_beyond(frame_size: tuple[int, int]) -> None:
    box = letterbox(frame_size, SIZE)
    grid, inside = mask_grid(box, 4), np.ones((60, 40), dtype=np.float32)
    # from the padding above into the picture
    logits, (rows, columns) = _refined(_frame(), grid, inside, (0, 60, 80, 120))
    assert rows.start == 0 and logits.shape == (rows.stop, columns.stop - columns.start)
    assert rows.stop == pytest.approx(box.to_frame(np.array([0.0, 239.5]))[1] + 0.5, abs=1)
    assert (logits > 0).all()
    assert _refined(_frame(), grid, inside[:8], (0, 8, 80, 120))[0].size == 0  # on the padding only


def test_refined_masks_are_as_steep_as_their_logits_and_bounded() -> None:
    """On a picture without edges, values near 0 are those of the logits: what contests between masks compare."""
    slope = (np.arange(128, dtype=np.float32) - 60) * 0.1
    cells = np.ascontiguousarray(np.broadcast_to(slope, (96, 128)))
    logits, _ = _refined(_frame(contrast=0), SQUARE, cells, (0, 96, 0, 128))
    plain, _ = SQUARE.enlarge(cells, (0, 96, 0, 128))
    near = np.abs(plain) < 0.5
    assert np.abs(logits - plain)[near].max() < 0.05
    assert np.abs(logits).max() <= 2


def test_it_can_be_switched_off() -> None:
    assert DecodeConfig().refine.enabled
    assert not DecodeConfig.model_validate({"refine": {"enabled": False}}).refine.enabled
