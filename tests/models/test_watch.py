"""A version that makes picks worse is found soon, harmless ones are left alone; a shadow is compared, no more."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from helpers.model_samples import seen_boxes

from edge_adapt.models.shadow import Shadow, ShadowConfig
from edge_adapt.models.watch import PickWatch, VersionWatch, WatchConfig, WatchState
from robin_perception.core.errors import Code, RobinError
from robin_perception.core.scene import Scene

CONFIG = WatchConfig()


def watched(rng: np.random.Generator, before: float, now: float, picks: int = 400) -> PickWatch:
    watch = PickWatch(int(rng.binomial(200, before)), 200, CONFIG)
    for clean in rng.random(picks) < now:
        if watch.note(bool(clean)) is not WatchState.WATCHING:
            break
    return watch


def test_harmless_versions_are_left_alone() -> None:
    rng = np.random.default_rng(141611)
    ends = [watched(rng, 0.9, rate).state for rate in (0.9, 0.95) for _ in range(60)]
    assert ends.count(WatchState.WORSE) <= 3
    assert set(ends) <= {WatchState.PROVEN, WatchState.WORSE}


def test_a_bad_version_is_found_soon() -> None:
    rng = np.random.default_rng(141612)
    ends = [watched(rng, 0.95, 0.7) for _ in range(40)]
    assert [end.state for end in ends] == [WatchState.WORSE] * 40
    assert np.median([end.picks for end in ends]) < 50


def test_the_verdict_stays_and_tells_why() -> None:
    watch = PickWatch(190, 200, CONFIG)
    while watch.note(False) is not WatchState.WORSE:
        assert watch.picks < 30
    for _ in range(500):
        watch.note(True)
    error = watch.error()
    assert error is not None
    assert error.code is Code.MODEL_PICKS_WORSE
    assert "190 of 200" in error.text
    assert json.loads(json.dumps(watch.to_json(), allow_nan=False))["state"] == "worse"


@pytest.mark.parametrize(("clean", "before"), [(0, 0), (30, 30)])
def test_without_picks_before_nothing_is_said(clean: int, before: int) -> None:
    watch = PickWatch(clean, before, CONFIG)
    assert {watch.note(False) for _ in range(50)} == {WatchState.UNKNOWN}
    assert watch.error() is None


def test_a_rate_of_nothing_before_is_no_mistake() -> None:
    watch = PickWatch(0, 100, CONFIG)
    assert {watch.note(False) for _ in range(100)} == {WatchState.WATCHING}


def shadow(running: Scene, candidate: Scene | RobinError, frames: int = 50, picked: int = 0) -> Shadow:
    beside = Shadow(ShadowConfig(frames=50))
    for _ in range(frames):
        beside.note(running, candidate, picked)
    return beside


def test_a_candidate_that_sees_what_was_picked_is_let_through() -> None:
    beside = shadow(seen_boxes(), seen_boxes(off_px=2), picked=3)
    assert (beside.done, beside.error(), beside.seen) == (True, None, 50)
    assert not shadow(seen_boxes(), seen_boxes(), frames=49).done


def test_a_candidate_that_merges_what_was_picked_is_refused() -> None:
    merged = seen_boxes()
    merged = replace(merged, labels=np.minimum(merged.labels, 1).astype(np.uint16))
    error = shadow(seen_boxes(), merged, frames=20, picked=3).error()
    assert error is not None
    assert (error.code, "0 of 20" in error.text) == (Code.SHADOW_REFUSED, True)


def test_a_candidate_that_fails_or_goes_blind_is_refused() -> None:
    failed = shadow(seen_boxes(), RobinError(Code.ENGINE_FAILED, "NaN"), frames=1)
    assert failed.done
    assert "E206" in str(failed.error())
    blind = shadow(seen_boxes(), seen_boxes(missed=0.8))
    assert "where the running model saw 300" in str(blind.error())
    assert json.loads(json.dumps(blind.to_json()))["frames"] == 50


def picks(watch: VersionWatch, clean: bool, count: int) -> list[RobinError]:
    return [error for error in (watch.note(clean) for _ in range(count)) if error is not None]


def test_each_later_version_is_held_against_the_picks_before_it() -> None:
    watch = VersionWatch(WatchConfig(picks=30, least_before=20))
    watch.changed(0)
    assert picks(watch, False, 50) == []
    watch.changed(1)
    assert watch.watch is not None
    assert picks(watch, True, 30) == []
    assert watch.watch is None  # proven
    picks(watch, True, 1000)
    watch.changed(2)
    assert len(picks(watch, False, 50)) == 1
    watch.changed(1)
    assert watch.watch is None
    watch.changed(3)
    assert watch.watch is not None
    assert (watch.watch.before, watch.watch.clean_before) == (1000, 1000)
