"""Loads are shown to the network; where it does not answer, the rest decides, and it is said."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from helpers.judged_picks import TARGET, WEIGHT_N, grasp, load_view, outcome, scene_of, traces

from robin_grasp.picks.outcome import PickOutcome
from robin_grasp.picks.pick_check import PickChecker, PickJudgement
from robin_grasp.tool import CellConfig
from robin_perception.core.errors import Code, RobinError
from robin_perception.core.frame import Frame
from robin_perception.core.scene import Scene

BEFORE, SCENE = scene_of()
ALONE, BESIDE = (0.0, 0.0, 0.20, 0.16, 0.10), (0.0, -0.164, 0.20, 0.16, 0.10)
TWO = outcome(2 * WEIGHT_N, traces=traces(weight_n=[(0.0, 2 * WEIGHT_N)]), load=load_view([ALONE, BESIDE]))


class Network:
    """Sees nothing, or fails."""

    def __init__(self, fails: bool = False) -> None:
        self.fails = fails
        self.asked = 0

    def see(self, frame: Frame) -> Scene:
        self.asked += 1
        if self.fails:
            raise RobinError(Code.SERVICE_UNAVAILABLE, "nobody offers it")
        labels = np.zeros((frame.height, frame.width), dtype=np.uint16)
        return Scene(frame.stamp_s, "test", labels, (), np.zeros((1, 1), dtype=np.float32))


def check(network: Network | None, after: Frame | None, made: PickOutcome) -> PickJudgement:
    checker = PickChecker(CellConfig(), None, None if network is None else network.see)
    return checker.check(grasp(), SCENE, BEFORE, after, made)


def test_the_network_sees_a_load_where_there_is_one() -> None:
    network = Network()
    assert check(network, None, TWO).features["load_instances"] == 0 and network.asked == 1
    empty = replace(TWO, vacuum_pa=tuple(0.0 for _ in TWO.vacuum_pa))
    assert "load_instances" not in check(network, None, empty).features and network.asked == 1


def test_a_network_that_does_not_answer_is_told_and_the_load_is_judged_without_it() -> None:
    found, without = check(Network(fails=True), None, TWO), check(None, None, TWO)
    assert found.probabilities == without.probabilities and found.features == without.features
    (lack,) = set(found.lacks) - set(without.lacks)
    assert lack.code is Code.LOAD_NOT_SEGMENTED and "nobody offers it" in lack.text
    assert found.reasons == (*without.reasons, str(lack))


def test_a_judgement_names_the_frame_after() -> None:
    after = scene_of([TARGET])[0]
    assert check(Network(), after, TWO).after_s == pytest.approx(after.stamp_s)
    assert check(Network(), None, TWO).after_s is None
