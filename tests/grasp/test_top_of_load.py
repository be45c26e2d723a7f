"""The look at the load from above: what it adds to the one from below, and what it must not be taken for."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from helpers.judged_picks import grasp, load_view, outcome, scene_of, top_view, traces

from robin_grasp.picks.pick_features import PickEvidence, pick_evidence
from robin_grasp.picks.top_of_load import riding, top_of_load
from robin_grasp.picks.traces import LoadView
from robin_grasp.tool import CellConfig, ToolConfig
from robin_perception.core.errors import Code

BEFORE, SCENE = scene_of()
ALONE = (0.0, 0.0, 0.20, 0.16, 0.10)
TOP = (0.0, 0.0, 0.20, 0.16, 0.0)
HIDDEN = (0.0, -0.15, 0.16, 0.12, 0.02)
RIDER = (0.0, -0.03, 0.14, 0.06, -0.08)


def evidence(above: LoadView | None, below: LoadView | None = None) -> PickEvidence:
    made = outcome(traces=traces(), load=below or load_view([ALONE]), load_above=above)
    return pick_evidence(grasp(), SCENE, BEFORE, None, made, CellConfig())


def test_the_same_load_seen_from_both_sides_is_one_load() -> None:
    one, both = evidence(None).values, evidence(top_view([TOP])).values
    assert both == pytest.approx(one, nan_ok=True)


def test_what_the_load_hides_from_below_is_seen_from_above() -> None:
    one, both = evidence(None).values, evidence(top_view([TOP, HIDDEN])).values
    assert one["outside_dm2"] == 0 and both["outside_dm2"] > 0.8
    assert both["area_ratio"] > one["area_ratio"] + 0.3 and both["other_under"] > 0.3
    assert both["second_face_share"] > 0.2


def test_a_part_that_reaches_above_the_lips_was_not_hidden() -> None:
    one, both = evidence(None).values, evidence(top_view([TOP, (*HIDDEN[:4], -0.05)])).values
    assert both["outside_dm2"] == one["outside_dm2"] == 0


@pytest.mark.parametrize("width", [320, 512, 1280])
def test_what_lies_on_the_load_is_a_second_part(width: int) -> None:
    wide = (0.0, 0.0, 0.44, 0.40, 0.0)
    rider = (0.0, 0.14, 0.30, 0.08, -0.08)
    below = load_view([(*wide[:4], 0.10)])
    assert evidence(None, below).values["second_part_share"] < 0.01
    assert evidence(top_view([wide, rider], width), below).values["second_part_share"] == pytest.approx(0.14, abs=0.04)


def test_a_load_that_hangs_askew_does_not_ride_on_itself() -> None:
    view = top_view([(0.0, 0.0, 0.40, 0.30, 0.0)])
    frame = view.frame
    slope = np.linspace(-0.2, 0.2, frame.width, dtype=np.float32)[None] * (frame.depth > 0)
    top = top_of_load(replace(view, frame=replace(frame, depth=frame.depth + slope)), ToolConfig())
    assert np.nanmax(top.height) > 0.03 and not riding(top).any()


def test_the_tool_is_no_load() -> None:
    tool = ToolConfig()
    boxes = [(0.0, 0.0, 2 * x, 2 * y, -top) for x, y, _, top in tool.boxes_m]
    assert not top_of_load(top_view(boxes), tool).shown.any()
    rider = top_of_load(top_view([*boxes, (0.25, 0.0, 0.16, 0.16, -0.08)]), tool)
    assert rider.shown.any()


def test_without_a_look_from_above_the_load_is_judged_and_it_is_said() -> None:
    found = evidence(None)
    assert "load" in found.groups
    assert any(lack.code is Code.LOAD_VIEW_MISSING and "from above" in lack.text for lack in found.lacks)


@pytest.mark.parametrize(
    ("spoil", "text"),
    [
        (lambda v: load_view([ALONE]), "above the lips and does not look at them"),
        (lambda v: replace(v, T_base_tool=np.ones((4, 4))), "no rigid one"),
        (lambda v: replace(v, frame=replace(v.frame, depth=v.frame.depth[:10])), "differ in size"),
        (lambda v: replace(v, frame=replace(v.frame, depth=v.frame.depth * np.float32(np.nan))), "NaN"),
    ],
)
def test_a_look_from_above_that_cannot_be_used_is_left_out_and_named(spoil: object, text: str) -> None:
    found = evidence(spoil(top_view([TOP, HIDDEN])))  # type: ignore[operator]
    assert "load" in found.groups and found.values["outside_dm2"] == 0
    assert any(lack.code is Code.LOAD_VIEW_UNUSABLE and text in lack.text for lack in found.lacks)


def test_an_empty_picture_from_above_adds_nothing() -> None:
    one, both = evidence(None).values, evidence(top_view([])).values
    assert both == pytest.approx(one, nan_ok=True)
