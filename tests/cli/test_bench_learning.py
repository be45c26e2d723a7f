"""`robin bench learning`: picks beside a real lesson, swaps and rollbacks while frames go on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from helpers.cli_helpers import Robin, pickable_folder
from helpers.perception_graphs import blocks, colour_frame
from helpers.training_scenes import write_toy_dataset

from robin_cli.bench import learning as bench_learning
from robin_cli.bench import teaching as bench_teaching
from robin_cli.bench.changes import measure_changes
from robin_cli.bench.learning import ratio
from robin_cli.bench.teaching import Teaching
from robin_perception.core.errors import Code, RobinError
from robin_perception.core.image_folder import load_frame
from robin_perception.engines import EngineConfig
from robin_perception.engines.ort.engine import OnnxRuntimeEngine
from robin_perception.engines.testing.tiny_bundle import tiny_bundle
from robin_perception.segmentation.segmenter import Segmenter

BASE = Path(__file__).resolve().parents[2] / "models" / "base"
FRAME = colour_frame(blocks(48, 64, 2, 2, 4))


def quiet(done: int, total: int, what: str) -> None:
    del done, total, what


@pytest.fixture
def toy_scenes(monkeypatch: pytest.MonkeyPatch) -> None:
    """In place of rendered ones."""
    monkeypatch.setattr(bench_teaching, "make_dataset", lambda out, count, *_: write_toy_dataset(out, count, boxes=3))


def children() -> list[psutil.Process]:
    return [child for child in psutil.Process().children() if bench_teaching.MODULE in child.cmdline()]


@pytest.mark.timeout(900)
def test_bench_learning_writes_figures_beside_budgets(
    toy_scenes: None, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    frames = [load_frame(pickable_folder(tmp_path / f"frame{number}")) for number in range(2)]
    monkeypatch.setattr(bench_learning, "simulated_frames", lambda bench: frames)
    target = tmp_path / "learning.json"
    short = ("--seconds", 4, "--turns", 2, "--period-s", 0.2, "--swaps", 2, "--rollbacks", 2)
    done = Robin(capsys)("bench", "learning", *short, "--model", BASE, "--engine", "onnxruntime", "--json", target)
    assert done.status == 0 and "rollback, worst" in done.out
    result = json.loads(target.read_text())
    assert result["swap_ms"]["n"] == result["rollback_s"]["n"] == 2 and result["frames"]["lost"] == 0
    assert result["frames"]["ran"] >= 4, "frames go on meanwhile"
    assert result["p99_ratio"]["low"] <= result["p99_ratio"]["value"] <= result["p99_ratio"]["high"]
    assert all(result["frame_to_plan_ms"][side]["n"] >= 4 for side in ("alone", "beside"))
    teaching = result["teaching"]
    assert (teaching["niceness"], teaching["deep"]) == (10, False) and teaching["wall_s"] >= 2.0
    judged = {figure["name"] for figure in result["figures"] if figure["within"] is not None}
    assert judged == {"ratio of p99", "swap, worst", "frames lost", "rollback, worst"}
    assert children() == []


@pytest.mark.timeout(900)
def test_a_lesson_that_cannot_begin_is_told_and_leaves_no_process(toy_scenes: None, tmp_path: Path) -> None:
    model = tiny_bundle(tmp_path / "tiny").directory  # its head is none that can be taught
    with pytest.raises(RobinError) as caught, Teaching(model, tmp_path, 1, False, quiet):
        pass
    assert caught.value.code is not Code.TEACHING_ENDED, "the process told why"
    assert children() == []


def test_the_ratio_is_of_all_turns_and_its_interval_is_over_pairs() -> None:
    rng = np.random.default_rng(1)
    alone = [list(rng.normal(100, 1, 30) * slow) for slow in (1.0, 3.0) * 6]  # the machine is busy in every other pair
    beside = [[1.5 * value for value in turn] for turn in alone]
    for percent in (50, 99):
        found = ratio(alone, beside, percent)
        assert found["value"] == pytest.approx(1.5)
        assert found["low"] == pytest.approx(1.5) == found["high"], "what meets both of a pair is no spread"
    noisy = ratio(alone, [list(rng.permutation(turn)[:5]) for turn in beside], 50)
    assert noisy["low"] < noisy["high"]


class Torn(OnnxRuntimeEngine):
    """Every third frame comes back damaged, as half a head would give it."""

    torn = False
    frames = 0

    def run_unchecked(self, *arguments: Any, **named: Any) -> dict[str, np.ndarray]:
        found = super().run_unchecked(*arguments, **named)
        self.frames += 1
        if self.torn and self.frames % 3 == 0:
            found["detection"] = found["detection"] * np.float32(0.9)
        return found


@pytest.mark.parametrize("torn", [False, True])
def test_a_frame_that_no_whole_model_made_is_lost(tmp_path: Path, torn: bool) -> None:
    bundle = tiny_bundle(tmp_path / "tiny")
    engine = Torn(bundle, EngineConfig(intra_threads=1))
    segmenter = Segmenter(bundle, engine)

    def progress(done: int, total: int, what: str) -> None:
        engine.torn = torn  # only once it is known what each model makes of the frame

    found = measure_changes(segmenter, FRAME, 4, 2, progress)
    assert found["swap_ms"]["n"] == 4 and found["frames"]["ran"] >= 6
    assert (found["frames"]["lost"] > 0) is torn
    assert segmenter.model_id == bundle.model_id, "the factory's runs again"
    segmenter.close()
