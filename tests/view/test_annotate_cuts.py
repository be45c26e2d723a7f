"""Masks from clicks: where one parcel ends and the other begins."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from robin_perception.core.frame import Frame
from robin_view.annotate.cuts import grow, join, split
from robin_view.annotate.hints import Found, PlainHints

K = np.array([[150.0, 0, 79.5], [0, 150.0, 59.5], [0, 0, 1]])


def two_boxes() -> tuple[Frame, NDArray[np.bool_], NDArray[np.bool_]]:
    """A high box on the left of a low one, one touching the other, on a belt 1 m away."""
    depth = np.full((120, 160), 1.0, np.float32)
    left, right = np.zeros(depth.shape, bool), np.zeros(depth.shape, bool)
    left[30:90, 30:85], right[40:80, 85:130] = True, True
    depth[left], depth[right] = 0.8, 0.9
    rgb = np.full((*depth.shape, 3), 120, np.uint8)
    return Frame(rgb, depth, K, np.eye(4)), left, right


class Proposed(PlainHints):
    """Depth and colour, and proposals."""

    def __init__(self, frame: Frame, proposals: Sequence[Found]) -> None:
        super().__init__(frame)
        self._proposals = proposals

    def at(self, x: int, y: int) -> list[Found]:
        return [one for one in self._proposals if one.mask[y, x]]


def iou(one: NDArray[np.bool_], other: NDArray[np.bool_]) -> float:
    return float((one & other).sum() / (one | other).sum())


def test_two_clicks_cut_where_the_depth_steps() -> None:
    frame, left, right = two_boxes()
    parts = split(PlainHints(frame), left | right, [(35, 35), (100, 60)])
    assert iou(parts[0], left) > 0.97 and iou(parts[1], right) > 0.97
    assert not (parts[0] & parts[1]).any() and np.array_equal(parts[0] | parts[1], left | right)


def test_the_cut_follows_the_edge_and_not_the_middle_between_clicks() -> None:
    frame, left, right = two_boxes()
    flat = Frame(frame.rgb, np.full_like(frame.depth, 0.8), K, np.eye(4))
    clicks = [(35, 35), (88, 60)]
    assert iou(split(PlainHints(frame), left | right, clicks)[0], left) > 0.97
    assert iou(split(PlainHints(flat), left | right, clicks)[0], left) < 0.8


def test_one_click_cuts_off_what_the_network_proposes() -> None:
    frame, left, right = two_boxes()
    hints = Proposed(frame, [Found(0.6, "carton", 1.0, right), Found(0.9, "carton", 1.0, left | right)])
    part, rest = split(hints, left | right, [(100, 60)])
    assert np.array_equal(part, right) and np.array_equal(rest, left)


def test_one_click_without_a_proposal_makes_two_parts() -> None:
    frame, left, right = two_boxes()
    part, rest = split(PlainHints(frame), left | right, [(120, 60)])
    assert iou(part, right) > 0.9 and iou(rest, left) > 0.9


def test_parts_that_do_not_touch_go_to_the_nearest_click() -> None:
    frame, left, _ = two_boxes()
    far = np.zeros_like(left)
    far[5:15, 140:150] = True
    parts = split(PlainHints(frame), left | far, [(50, 50), (145, 10)])
    assert np.array_equal(parts[0], left) and np.array_equal(parts[1], far)


@pytest.mark.parametrize("clicks", [[], [(500, -4), (100, 60)]])
def test_clicks_beside_the_mask_or_the_picture(clicks: list[tuple[int, int]]) -> None:
    frame, left, right = two_boxes()
    parts = split(PlainHints(frame), left | right, clicks)
    assert len(parts) == len(clicks) and all(part.any() for part in parts)


def test_nothing_is_cut_out_of_nothing() -> None:
    frame, left, _ = two_boxes()
    assert split(PlainHints(frame), np.zeros_like(left), [(3, 3)]) == []


def test_joined_masks_close_their_seam_and_leave_others_alone() -> None:
    _, left, right = two_boxes()
    left[:, 82:85] = False
    other = np.zeros_like(left)
    other[70:80, 82:85] = True
    one = join([left, right], ~(left | right | other))
    assert one[60, 83] and not (one & other).any() and (one & left).sum() == left.sum()


def test_a_new_mask_is_what_the_network_proposes_of_what_is_free() -> None:
    frame, left, right = two_boxes()
    hints = Proposed(frame, [Found(0.4, "tube", 0.7, right)])
    taken = np.zeros_like(left)
    taken[40:50] = True
    mask, found = grow(hints, ~taken, (100, 60))
    assert found is not None and found.class_name == "tube"
    assert np.array_equal(mask, right & ~taken)


def test_a_new_mask_without_a_proposal_stops_at_the_step() -> None:
    frame, left, _ = two_boxes()
    mask, found = grow(PlainHints(frame), np.ones_like(left), (57, 60))
    assert found is None and mask[60, 57]
    assert (mask & ~left).sum() < 0.05 * mask.sum()
