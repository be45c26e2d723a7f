"""A tool of one to eight cups: what its configuration takes and refuses, and who notices figures of another tool."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from robin_grasp.picks.outcome import PickOutcome, PickResult
from robin_grasp.picks.outcome_report import OutcomeReport
from robin_grasp.picks.pick_check import judge_pick
from robin_grasp.plan import Grasp
from robin_grasp.tool import CellConfig, ToolConfig, cups_to_mask, mask_to_cups
from robin_perception.core.config import load_config
from robin_perception.core.errors import Code, RobinError
from robin_perception.core.frame import Frame
from robin_perception.core.scene import Scene


def row(cups: int) -> tuple[tuple[float, float], ...]:
    return tuple((0.05 * i, 0.0) for i in range(cups))


@pytest.mark.parametrize("cups", [1, 4, 7, 8])
def test_a_tool_has_as_many_cups_as_it_names(cups: int) -> None:
    tool = ToolConfig(cup_centres_m=row(cups))
    assert tool.cup_count == cups and tool.cups_m.shape == (cups, 3)
    assert np.array_equal(tool.cups_m[:, :2], row(cups)) and not tool.cups_m[:, 2].any()


def test_the_default_tool_is_two_rows_of_four() -> None:
    tool = ToolConfig()
    assert tool.cup_count == 8
    assert tool.cup_centres_m[0] == (-0.072, -0.030) and tool.cup_centres_m[7] == (0.072, 0.030)


@pytest.mark.parametrize("cups", [0, 9])
def test_no_cup_and_more_than_a_mask_has_bits_are_refused_by_key(tmp_path: Path, cups: int) -> None:
    path = tmp_path / "cell.yaml"
    path.write_text(f"tool: {{cup_centres_m: {[list(centre) for centre in row(cups)]}}}\n")
    with pytest.raises(RobinError, match=r"'tool\.cup_centres_m'") as caught:
        load_config(CellConfig, path)
    assert caught.value.code is Code.CONFIG_OUT_OF_RANGE


def test_lips_that_overlap_are_refused() -> None:
    with pytest.raises(ValidationError, match="lips of cups 0 and 1 overlap"):
        ToolConfig(cup_centres_m=((0.0, 0.0), (0.02, 0.0), (0.1, 0.0)))


def test_a_mask_names_its_cups() -> None:
    for mask in range(256):
        assert cups_to_mask(mask_to_cups(mask)) == mask
    assert mask_to_cups(0b1000_0001) == (0, 7)


@pytest.mark.parametrize(("figures", "cups"), [(8, 0b1), (4, 0b10_0000)])
def test_a_pick_of_another_tool_is_not_judged(figures: int, cups: int) -> None:
    cell = CellConfig(tool=ToolConfig(cup_centres_m=row(4)))
    frame = Frame(np.zeros((4, 4, 3), np.uint8), np.ones((4, 4), np.float32), np.eye(3), np.eye(4), 0.0, "c")
    scene = Scene(0.0, "m", np.zeros((4, 4), np.uint16), (), np.zeros((1, 1), np.float32))
    outcome = PickOutcome(PickResult.MISS, (0.0,) * figures, 0.0, 1.0)
    with pytest.raises(RobinError, match="the tool of the pick check has 4") as caught:
        judge_pick(Grasp(np.eye(4), cups, 1, 0.5), scene, frame, None, outcome, cell)
    assert caught.value.code is Code.OUTCOME_INVALID


@pytest.mark.parametrize("figures", [0, 9])
def test_an_outcome_needs_one_to_eight_figures(figures: int) -> None:
    with pytest.raises(RobinError, match="a figure for each cup"):
        OutcomeReport("p", 0, 1.0, None, (100.0,) * figures, 0.0, 1.0).validated()
