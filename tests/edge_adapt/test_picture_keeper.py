"""Pictures leave the disk by rule: which first, one step at a time, and a trace tells it."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from helpers.cli_helpers import Robin
from helpers.decision_samples import sample_decision, sample_frame, sample_scene
from helpers.pick_samples import told_decision

from edge_adapt.decision import Decision
from edge_adapt.decision_store import DecisionStore, read_decisions
from edge_adapt.picture_keeper import PictureKeeper, PictureRules, RemovedPictures, is_notable, removed_pictures
from edge_adapt.report import render_report
from robin_perception.core.config import parse_config
from robin_perception.core.errors import RobinError

DAY_S = 86_400.0
SIZE = 4_000_000


@pytest.fixture
def robin(capsys: pytest.CaptureFixture[str]) -> Robin:
    return Robin(capsys)


class Cell:
    """A record folder that grows pick by pick, with a clock and a disk of its own."""

    def __init__(self, folder: Path, rules: PictureRules) -> None:
        self.folder, self.rules = folder, rules
        self.now_s, self.free = 1e9, 10**12
        self.store = DecisionStore(folder)
        self.keeper = self.restarted()

    def restarted(self) -> PictureKeeper:
        return PictureKeeper(self.folder, self.rules, lambda: self.now_s, lambda: self.free)

    def pick(self, name: str, result: str = "clean", flags: tuple[str, ...] = ()) -> Decision:
        frame = sample_frame(np.random.default_rng(1))
        decision = sample_decision(0, result, frame, sample_scene(frame)).model_copy(
            update={"decision_id": name, "flags": flags, "scene_flags": ()}
        )
        written = self.store.append(decision, {"color.png": bytes(SIZE)})
        os.utime(self.folder / "images" / name, (self.now_s, self.now_s))
        self.keeper.add(written)
        return written

    def left(self) -> list[str]:
        return sorted(path.name for path in (self.folder / "images").iterdir())


def steps(keeper: PictureKeeper) -> list[tuple[str, str]]:
    found: list[RemovedPictures] = []
    while (removed := keeper.step()) is not None:
        found.append(removed)
    return [(removed.decision_id, removed.reason) for removed in found]


def test_clean_picks_age_first_and_failures_later(tmp_path: Path) -> None:
    cell = Cell(tmp_path, PictureRules(keep_days=2, keep_failures_days=5))
    cell.pick("a")
    cell.pick("b", "miss")
    cell.pick("c", flags=("fallback_engine",))
    assert steps(cell.keeper) == []
    cell.now_s += 3 * DAY_S
    cell.pick("d")
    assert steps(cell.keeper) == [("a", "age")]
    cell.now_s += 3 * DAY_S
    assert steps(cell.keeper) == [("d", "age"), ("b", "age"), ("c", "age")]
    assert cell.left() == [] and cell.keeper.kept_bytes == 0 and cell.keeper.removed == 4


def test_a_step_removes_one_pick_and_says_which(tmp_path: Path) -> None:
    cell = Cell(tmp_path, PictureRules(most_mb=10))
    for name in ("a", "b", "c", "d"):
        cell.pick(name)
    assert cell.keeper.step() == RemovedPictures("a", SIZE, "bytes")
    assert cell.left() == ["b", "c", "d"]
    assert cell.keeper.step() == RemovedPictures("b", SIZE, "bytes")
    assert cell.keeper.step() is None and cell.left() == ["c", "d"]


def test_bytes_take_the_oldest_clean_pick_then_the_oldest_failure(tmp_path: Path) -> None:
    cell = Cell(tmp_path, PictureRules(most_mb=10))
    for name, result in (("a", "miss"), ("b", "drop"), ("c", "clean"), ("d", "multi"), ("e", "clean")):
        cell.pick(name, result)
    assert steps(cell.keeper) == [("c", "bytes"), ("e", "bytes"), ("a", "bytes")]


def test_a_disk_that_fills_up_from_elsewhere(tmp_path: Path) -> None:
    cell = Cell(tmp_path, PictureRules(least_free_mb=100))
    cell.pick("a")
    cell.pick("b")
    cell.free = 50_000_000
    assert cell.keeper.step() == RemovedPictures("a", SIZE, "free_disk")
    cell.free = 150_000_000
    assert cell.keeper.step() is None


def test_after_a_restart_the_same_rules_hold(tmp_path: Path) -> None:
    cell = Cell(tmp_path, PictureRules(keep_days=2, keep_failures_days=5, most_mb=100))
    cell.pick("a", "miss")
    cell.now_s += 1 * DAY_S
    cell.pick("b")
    half_gone = tmp_path / "images" / ".leaving-x"
    half_gone.mkdir()
    (half_gone / "color.png").write_bytes(b"x")
    cell.keeper = cell.restarted()
    assert cell.left() == ["a", "b"] and cell.keeper.kept_bytes == 2 * SIZE
    cell.now_s += 3 * DAY_S
    assert steps(cell.keeper) == [("b", "age")]


def test_pictures_without_a_readable_record_stay_as_long_as_failures(tmp_path: Path) -> None:
    cell = Cell(tmp_path, PictureRules(keep_days=2, keep_failures_days=5))
    cell.pick("a")
    (tmp_path / "decisions.jsonl").write_bytes(b"garbage\n")
    cell.keeper = cell.restarted()
    cell.now_s += 3 * DAY_S
    assert steps(cell.keeper) == []
    cell.now_s += 3 * DAY_S
    assert steps(cell.keeper) == [("a", "age")]


def test_somebody_else_removed_them(tmp_path: Path) -> None:
    cell = Cell(tmp_path, PictureRules(keep_days=1))
    cell.pick("a")
    (tmp_path / "images" / "a" / "color.png").unlink()
    (tmp_path / "images" / "a").rmdir()
    cell.now_s += 2 * DAY_S
    assert steps(cell.keeper) == [("a", "age")]


def test_a_clock_that_jumps_back_removes_nothing(tmp_path: Path) -> None:
    cell = Cell(tmp_path, PictureRules(keep_days=1))
    cell.pick("a")
    cell.now_s -= 400 * DAY_S
    assert steps(cell.keeper) == []


def test_the_rest_of_the_record_tells_of_it(robin: Robin, tmp_path: Path) -> None:
    cell = Cell(tmp_path, PictureRules(keep_days=1))
    cell.pick("a")
    cell.pick("b")
    cell.now_s += 2 * DAY_S
    cell.keeper.step()
    assert removed_pictures(tmp_path) == {"a": "age"}
    assert "removed by rule: age" in robin("trace", "a", "--run", tmp_path).out
    assert "removed by rule" not in robin("trace", "b", "--run", tmp_path).out
    assert "Pictures removed by rule: age." in render_report(read_decisions(tmp_path))


def test_unknown_rules_are_refused() -> None:
    with pytest.raises(ValueError, match="keep_day"):
        PictureRules.model_validate({"keep_day": 3})
    with pytest.raises(RobinError, match="most_mb"):
        parse_config(PictureRules, {"most_mb": 1}, "rules")


def test_what_was_watched_or_put_right_stays_longest() -> None:
    told = told_decision()
    assert told.outcome is not None
    clean = told.model_copy(update={"outcome": told.outcome.model_copy(update={"result": "clean"}), "conditions": ()})
    delivered = told.steps[1].model_copy(update={"action": "deliver"})
    assert is_notable(clean) and not is_notable(clean.model_copy(update={"steps": (delivered,)}))
    assert is_notable(told.model_copy(update={"outcome": clean.outcome, "steps": (delivered,)}))
