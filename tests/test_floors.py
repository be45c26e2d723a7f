"""Absolute floors of what the product can do: only a real loss crosses them, and then nothing else may have told it.

Figures when they were set, with the shipped bundle and ONNX Runtime in float32: AP50 .989, AP75 .949, boundary
F .926 on the stored scenes; 59 clean picks of 60. No training or tuning has seen the two seeds.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from robin_perception.evaluation.evaluate import evaluate, segmenter_predictor
from robin_perception.segmentation.segmenter import load_segmenter
from robin_sim.runs.request import RunRequest
from robin_sim.runs.run import run_scenario

ROOT = Path(__file__).resolve().parents[1]
BUNDLE = ROOT / "models" / "base"
SCENES = ROOT / "tests" / "data" / "labelled"


@pytest.mark.slow
def test_masks_on_the_stored_scenes() -> None:
    """``robin eval seg --data tests/data/labelled --min-visible 0.25 --engine onnxruntime``"""
    segmenter = load_segmenter(BUNDLE, "onnxruntime")
    figures = evaluate(segmenter_predictor(segmenter), SCENES, min_visible=0.25)
    assert figures["scenes"] == 12
    assert figures["ap50"] >= 0.93
    assert figures["ap75"] >= 0.87
    assert figures["boundary_f"] >= 0.87
    assert figures["merge_rate"] <= 0.03


@pytest.mark.slow
def test_sixty_fixed_picks() -> None:
    """``robin sim run --scenario mixed --picks 60 --seed 120060 --engine onnxruntime``"""
    request = RunRequest("mixed", 60, 120060, engine="onnxruntime", model=BUNDLE, workers=2)
    result = run_scenario(request)
    assert result.attempts == 60
    assert result.count("clean") >= 55
    assert result.count("multi") <= 3
