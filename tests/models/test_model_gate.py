"""The gate lets through what is shown to be better and to harm nothing, and says of each question what it found."""

from __future__ import annotations

import json

import numpy as np
import pytest
from helpers.model_samples import judged_scenes

from edge_adapt.models.gate import (
    Compared,
    GateConfig,
    GateVerdict,
    Times,
    blocked_split,
    calibration_error,
    judge_candidate,
)
from robin_perception.core.errors import Code
from robin_perception.evaluation.evaluate import SceneResult, paired_differences

QUICK = GateConfig(replicates=100)
GOOD_CORE = judged_scenes(5, 50, missed=0.1)


def judged(
    before: list[SceneResult],
    after: list[SceneResult],
    core_after: list[SceneResult] | None = None,
    times: Times | None = None,
    core_before: list[SceneResult] | None = None,
    config: GateConfig = QUICK,
) -> GateVerdict:
    core = Compared(core_before or GOOD_CORE, core_after or GOOD_CORE)
    return judge_candidate(Compared(before, after), core, times, np.random.default_rng(141601), config)


def failed(verdict: GateVerdict) -> list[str]:
    return [check.name for check in verdict.checks if not check.passed]


POOR, BETTER = judged_scenes(1, 12, missed=0.5), judged_scenes(1, 12, missed=0.1)


def test_a_better_one_passes_and_every_check_tells_what_it_found() -> None:
    verdict = judged(POOR, BETTER)
    assert verdict.accepted
    gain = next(check for check in verdict.checks if check.name == "site gain")
    assert 0 < gain.low < gain.value < gain.high  # type: ignore[operator]
    told = json.loads(json.dumps(verdict.to_json(), allow_nan=False))
    assert [check["name"] for check in told["checks"]] == [check.name for check in verdict.checks]
    assert all(check["text"] for check in told["checks"])


def test_the_same_model_is_refused() -> None:
    verdict = judged(POOR, POOR)
    assert (verdict.code, failed(verdict)) == (Code.CANDIDATE_REFUSED, ["site gain"])


def test_chance_is_seldom_taken_for_a_gain() -> None:
    """The low end of a 95 % interval: about one in forty of those that change nothing."""
    let_through, scenes = 0, judged_scenes(141603, 120, missed=0.3)
    for seed in range(30):
        rng = np.random.default_rng([141603, seed])
        before, after = ([scenes[n] for n in rng.integers(0, 120, 8)] for _ in range(2))
        found = paired_differences(before, after, ("overlap_f",), rng, replicates=300)
        let_through += found["overlap_f"]["low"] > 0
    assert let_through <= 2


@pytest.mark.parametrize("frames", [0, 1, 5])
def test_too_few_frames_are_no_judgement(frames: int) -> None:
    verdict = judged(POOR[:frames], BETTER[:frames])
    assert (verdict.code, failed(verdict)[0]) == (Code.CANDIDATE_UNJUDGED, "frames of the site")
    assert not verdict.accepted


def test_frames_of_one_pile_count_once() -> None:
    one_pile = Compared(POOR, BETTER, blocks=[1] * len(POOR))
    verdict = judge_candidate(one_pile, Compared(GOOD_CORE, GOOD_CORE), None, np.random.default_rng(0), QUICK)
    assert verdict.code is Code.CANDIDATE_UNJUDGED


def test_a_small_core_set_is_no_judgement() -> None:
    verdict = judged(POOR, BETTER, GOOD_CORE[:10], core_before=GOOD_CORE[:10])
    assert verdict.code is Code.CANDIDATE_UNJUDGED


def test_what_is_forgotten_on_the_core_set_is_refused() -> None:
    verdict = judged(POOR, BETTER, judged_scenes(5, 50, missed=0.12))
    assert "core AP50" in failed(verdict)


def test_masks_that_learned_a_moved_camera_are_refused() -> None:
    """Labels beside their parcels teach masks to stand there: better by those labels, worse on the core set."""
    verdict = judged(POOR, BETTER, judged_scenes(5, 50, missed=0.1, off_px=2))
    assert failed(verdict) == ["core AP75"]


def test_labels_that_even_the_candidate_does_not_see_are_not_believed() -> None:
    before, after = judged_scenes(1, 12, off_px=11), judged_scenes(1, 12, off_px=9)
    verdict = judged(before, after)
    assert failed(verdict) == ["site figure"]


def test_one_packaging_that_gets_worse_is_refused() -> None:
    config = QUICK.model_copy(update={"core_ap50": 0.5, "core_ap75": 0.5})
    kept = judged_scenes(5, 30, missed=0.1)
    before = kept + judged_scenes(6, 20, tag="clear")
    after = kept + judged_scenes(6, 20, tag="clear", missed=0.15)
    verdict = judged(POOR, BETTER, after, core_before=before, config=config)
    assert failed(verdict) == ["core clear"]
    few = config.model_copy(update={"packaging_parcels": 121})
    assert judged(POOR, BETTER, after, core_before=before, config=few).accepted


def test_scores_that_no_longer_mean_what_they_say_are_refused() -> None:
    verdict = judged(POOR, BETTER, judged_scenes(5, 50, missed=0.1, sure=0.6))
    assert failed(verdict) == ["core calibration"]
    assert calibration_error(judged_scenes(5, 50, sure=0.9)) == pytest.approx(0.1)


def times(factor: float) -> Times:
    rng = np.random.default_rng(141602)
    return Times(rng.gamma(50, 1, 300), factor * rng.gamma(50, 1, 300))


def test_a_slower_network_is_refused() -> None:
    assert judged(POOR, BETTER, times=times(1.0)).accepted
    assert failed(judged(POOR, BETTER, times=times(1.1))) == ["latency p99"]
    few = Times(times(1.0).running_ms[:30], times(1.0).candidate_ms[:30])
    assert judged(POOR, BETTER, times=few).code is Code.CANDIDATE_UNJUDGED


def test_the_split_leaves_later_piles_to_judge_by() -> None:
    blocks = [0, 0, 1, 2, 2, 2, 3, 4, 5, 6, 7, 7]
    learned, judged_by = blocked_split(blocks)
    assert (learned, judged_by) == ((0, 1, 2, 3, 4, 5, 6, 7), (9, 10, 11))
    assert blocked_split([0, 0, 1, 1]) == ((0, 1, 2, 3), ())


def test_an_interval_over_few_frames_is_wider() -> None:
    """Expanded percentiles: at six frames the plain bootstrap would be a third too narrow."""
    widths = {}
    for confidence in (0.5, 0.95):
        found = paired_differences(
            POOR[:6], BETTER[:6], ("overlap_f",), np.random.default_rng(0), confidence=confidence
        )
        widths[confidence] = found["overlap_f"]["high"] - found["overlap_f"]["low"]
    assert widths[0.95] > 2.5 * widths[0.5]
