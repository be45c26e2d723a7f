"""What was learned of holding on disk: it outlives the process, and no file ends a pick."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from helpers.hold_picks import CELL, SACK_ID, expected, pick

from edge_adapt.learn.hold import HoldConfig
from edge_adapt.learn.hold_file import HoldKeeper
from robin_perception.core.errors import Code

CONFIG = HoldConfig(explore_rate=0.0)


def taught(path: Path) -> HoldKeeper:
    keeper = HoldKeeper(CELL, path, CONFIG)
    for _ in range(4):
        pick(keeper, SACK_ID, 0.0)
    assert keeper.problem is None
    return keeper


def test_a_new_process_knows_what_the_last_one_learned(tmp_path: Path) -> None:
    path = tmp_path / "state" / "hold.json"
    before = expected(taught(path))
    keeper = HoldKeeper(CELL, path, CONFIG)
    after = expected(keeper)
    assert keeper.problem is None and after.last.tolist() == [True, False]
    np.testing.assert_allclose(after.clean_logit, before.clean_logit, atol=1e-4)
    np.testing.assert_allclose(after.seal_logit, before.seal_logit, atol=1e-4)


def changed(content: dict, what: str) -> bytes:
    if what == "cut":
        return json.dumps(content).encode()[:-40]
    if what == "other format":
        content["format"] = "robin-holding-9"
    elif what == "flipped":
        content["state"]["picks"] += 1
    return json.dumps(content).encode()


@pytest.mark.parametrize("what", ["cut", "other format", "flipped"])
def test_a_damaged_file_is_set_aside_and_the_factory_holds(tmp_path: Path, what: str) -> None:
    path = tmp_path / "hold.json"
    taught(path)
    path.write_bytes(changed(json.loads(path.read_bytes()), what))
    keeper = HoldKeeper(CELL, path, CONFIG)
    assert keeper.problem is not None and keeper.problem.code is Code.HOLDING_DAMAGED
    assert "hold.json" in keeper.problem.text and not path.exists() and (tmp_path / "hold.json.damaged").exists()
    assert not expected(keeper).last.any() and not keeper.learner.classes
    pick(keeper, SACK_ID, 0.0)
    assert keeper.problem is None and path.exists()


def test_a_file_of_another_tool_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "hold.json"
    taught(path)
    other = CELL.model_copy(update={"tool": CELL.tool.model_copy(update={"cup_radius_m": 0.012})})
    keeper = HoldKeeper(other, path, CONFIG)
    assert keeper.problem is not None and "another tool" in keeper.problem.text and not keeper.learner.classes


def test_what_cannot_be_written_is_kept_in_memory(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    keeper = HoldKeeper(CELL, tmp_path / "file" / "hold.json", CONFIG)
    for _ in range(4):
        pick(keeper, SACK_ID, 0.0)
    assert keeper.problem is not None and keeper.problem.code is Code.HOLDING_NOT_SAVED
    assert expected(keeper).last[0]
