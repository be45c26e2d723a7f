"""Supervised inference: whatever the engine's process does, the frame is answered, or refused with a number."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from helpers.misbehaving_engine import NAME, set_mood
from helpers.perception_graphs import colour_bundle
from helpers.supervised_engines import (
    COUNT,
    FALLBACK,
    ONE_THREAD,
    PATIENCE_S,
    answer_of_child,
    codes,
    found,
    inputs_of,
    moody_bundle,
    pile_frame,
    supervised,
    wait_until,
)

from robin_perception.core.errors import Code, RobinError
from robin_perception.engines import make_engine
from robin_perception.model.bundle import FEATURE_OUTPUTS, INSTANCE_OUTPUTS, Bundle
from robin_perception.segmentation.segmenter import Segmenter
from robin_perception.supervision import SupervisedEngine, SupervisionConfig

ALL = list(range(1, COUNT + 1))


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return moody_bundle(tmp_path_factory.mktemp("model") / "colours")


@pytest.fixture(scope="module")
def shared(bundle: Bundle) -> Iterator[SupervisedEngine]:
    with supervised(bundle) as engine:
        yield engine


@pytest.fixture
def engine(shared: SupervisedEngine) -> Iterator[SupervisedEngine]:
    """A child in a good mood, its faults told."""
    set_mood(shared.bundle.directory, "good")
    answer_of_child(shared, inputs_of(shared, pile_frame()))
    shared.take_faults()
    yield shared
    set_mood(shared.bundle.directory, "good")


def test_the_child_answers_what_a_direct_call_does(engine: SupervisedEngine) -> None:
    inputs = inputs_of(engine, pile_frame())
    direct = make_engine("onnxruntime", engine.bundle, ONE_THREAD)
    answer, expected = answer_of_child(engine, inputs), direct.run(inputs)
    assert set(answer) == set(expected)
    for name in expected:
        np.testing.assert_array_equal(answer[name], expected[name])
    assert (engine.inputs, engine.outputs) == (direct.inputs, direct.outputs)
    features = engine.run(inputs, FEATURE_OUTPUTS)
    assert set(features) == set(FEATURE_OUTPUTS)
    assert engine.describe()["supervised"] == "yes" and engine.stage_ms["supervision"] > 0


def test_answers_are_the_callers_own(engine: SupervisedEngine) -> None:
    first = answer_of_child(engine, inputs_of(engine, pile_frame()))
    kept = {name: value.copy() for name, value in first.items()}
    for parcels in (1, 2, 3, 4, 5):
        answer_of_child(engine, inputs_of(engine, pile_frame(parcels)))
    for name, value in kept.items():
        np.testing.assert_array_equal(first[name], value)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("mood", "code", "text", "counted"),
    [
        ("hang", Code.ENGINE_HUNG, "within 3000 ms", "hangs"),
        ("hang_in_driver", Code.ENGINE_HUNG, "within 3000 ms", "hangs"),
        ("kill", Code.ENGINE_CRASHED, "SIGKILL", "crashes"),
        ("exit", Code.ENGINE_CRASHED, "exit status 7", "crashes"),
        ("nan", Code.ENGINE_OUTPUT_INVALID, "'mask_logits' holds NaN", "invalid_outputs"),
        ("shape", Code.ENGINE_OUTPUT_INVALID, "'mask_logits' is float32 [6, 95, 128]", "invalid_outputs"),
        ("nothing", Code.ENGINE_OUTPUT_INVALID, "nothing where the depth shows relief", "invalid_outputs"),
        ("no_masks", Code.ENGINE_OUTPUT_INVALID, "nothing where the depth shows relief", "invalid_outputs"),
        ("error", Code.ENGINE_FAILED, "out of device memory", "errors"),
        ("bug", Code.ENGINE_FAILED, "ZeroDivisionError: a bug", "errors"),
    ],
)
def test_the_fallback_answers_the_very_frame_and_the_child_comes_back(
    engine: SupervisedEngine, mood: str, code: Code, text: str, counted: str
) -> None:
    before = engine.status()
    frame = pile_frame(4)
    set_mood(engine.bundle.directory, mood)
    scene = Segmenter(engine.bundle, engine).segment(frame)
    set_mood(engine.bundle.directory, "good")
    after = engine.status()
    assert len(scene.instances) == 4
    assert after.answered_by == FALLBACK and after.fallback_answers == before.fallback_answers + 1
    assert getattr(after.child, counted) >= getattr(before.child, counted) + 1
    fault = engine.take_faults()[0]  # its successors may have done the same before the mood was good again
    assert fault.code == code and text in fault.text
    assert found(answer_of_child(engine, inputs_of(engine, frame))) == [1, 2, 3, 4]
    assert engine.child_pid not in (0, before.child.pid)
    assert engine.status().child.restarts > before.child.restarts


def test_an_empty_belt_is_no_fault(engine: SupervisedEngine) -> None:
    before = engine.status()
    inputs = inputs_of(engine, pile_frame(0))
    assert found(answer_of_child(engine, inputs)) == []
    set_mood(engine.bundle.directory, "nothing")
    assert found(answer_of_child(engine, inputs)) == []
    after = engine.status()
    assert after.child.invalid_outputs == before.child.invalid_outputs
    assert after.empty_confirmed == before.empty_confirmed


def test_relief_that_is_no_parcel_is_asked_about_once(bundle: Bundle) -> None:
    """A rail beside the belt: both engines see nothing there. A parcel that only one of them sees is another matter."""
    with supervised(bundle) as engine:
        rail = inputs_of(engine, pile_frame(0, standing=1))
        for _ in range(5):
            assert found(answer_of_child(engine, rail)) == []
        assert engine.status().empty_confirmed == 1
        assert engine.status().child.invalid_outputs == 0
        set_mood(bundle.directory, "nothing")
        try:
            assert found(engine.run(inputs_of(engine, pile_frame(3)))) == [1, 2, 3]
        finally:
            set_mood(bundle.directory, "good")
        assert engine.status().answered_by == FALLBACK and engine.status().child.invalid_outputs == 1


def test_an_empty_part_of_a_frame_is_believed(bundle: Bundle) -> None:
    with supervised(bundle) as engine:
        rail = inputs_of(engine, pile_frame(0, standing=1))
        answer_of_child(engine, inputs_of(engine, pile_frame()))
        assert found(engine.run_part(rail, INSTANCE_OUTPUTS)) == []
        assert engine.status().empty_confirmed == 0 and engine.status().fallback_answers == 0
        assert found(engine.run(rail)) == []
        assert engine.status().empty_confirmed == 1


def test_a_child_that_dies_between_two_frames_is_replaced(engine: SupervisedEngine) -> None:
    dead = engine.child_pid
    os.kill(dead, signal.SIGKILL)
    faults = wait_until(engine.take_faults)
    assert codes(faults) == [Code.ENGINE_CRASHED] and "SIGKILL" in faults[0].text
    answer_of_child(engine, inputs_of(engine, pile_frame()))
    assert engine.child_pid != dead


def test_the_fallback_answers_while_the_child_starts(bundle: Bundle) -> None:
    set_mood(bundle.directory, "slow_start")
    with supervised(bundle, wait=False) as engine:
        inputs = inputs_of(engine, pile_frame())
        for _ in range(3):
            assert found(engine.run(inputs)) == ALL
        status = engine.status()
        assert status.answered_by == FALLBACK and status.child.state == "starting"
        standing = engine.standing_fault()
        assert standing is not None and standing.code == Code.ENGINE_STARTING
        set_mood(bundle.directory, "good")
        assert found(answer_of_child(engine, inputs)) == ALL
        assert engine.standing_fault() is None and engine.take_faults() == []


def test_a_start_that_takes_too_long_is_a_hang(bundle: Bundle) -> None:
    set_mood(bundle.directory, "slow_start")
    try:
        with supervised(bundle, wait=False, start_timeout_s=1, max_restarts=0) as engine:
            assert not engine.wait_ready(PATIENCE_S)
            assert codes(engine.take_faults()) == [Code.ENGINE_HUNG, Code.ENGINE_GIVEN_UP]
    finally:
        set_mood(bundle.directory, "good")


def test_after_too_many_restarts_the_engine_stays_off_and_says_so(bundle: Bundle) -> None:
    with supervised(bundle, max_restarts=2) as engine:
        inputs = inputs_of(engine, pile_frame())
        set_mood(bundle.directory, "bad_start")
        os.kill(engine.child_pid, signal.SIGKILL)
        wait_until(lambda: engine.status().child.state == "given_up")
        set_mood(bundle.directory, "good")
        for _ in range(3):
            assert found(engine.run(inputs)) == ALL
        status = engine.status()
        assert (status.child.state, status.child.restarts, status.child.pid) == ("given_up", 2, 0)
        assert status.answered_by == FALLBACK
        standing = engine.standing_fault()
        assert standing is not None and standing.code == Code.ENGINE_GIVEN_UP
        assert "2 restarts within 600 s" in standing.text and "exit status 3" in standing.text
        assert codes(engine.take_faults()) == [Code.ENGINE_CRASHED] * 3 + [Code.ENGINE_GIVEN_UP]
        assert status.values()["supervision.state"] == "given_up"


def test_what_a_restart_cannot_mend_is_not_tried_again(bundle: Bundle) -> None:
    set_mood(bundle.directory, "refuse")
    try:
        with supervised(bundle, wait=False) as engine:
            assert not engine.wait_ready(PATIENCE_S)
            assert engine.status().child.restarts == 0
            standing = engine.standing_fault()
            assert standing is not None and standing.code == Code.ENGINE_GIVEN_UP and "no driver" in standing.text
            assert found(engine.run(inputs_of(engine, pile_frame()))) == ALL
    finally:
        set_mood(bundle.directory, "good")


def test_a_lack_of_memory_at_the_start_is_tried_again(bundle: Bundle) -> None:
    set_mood(bundle.directory, "no_memory")
    try:
        with supervised(bundle, wait=False) as engine:
            wait_until(lambda: engine.status().child.restarts)
            set_mood(bundle.directory, "good")
            assert engine.wait_ready(PATIENCE_S) and Code.ENGINE_OUT_OF_MEMORY in codes(engine.take_faults())
    finally:
        set_mood(bundle.directory, "good")


def test_without_a_fallback_the_caller_gets_the_number(bundle: Bundle) -> None:
    """Never an empty scene: an error while the child hangs, starts, says nothing where something stands, or is off."""
    with supervised(bundle, wait=False, fallback="none", max_restarts=2) as engine:
        assert engine.status().child.state == "ready"  # nobody could answer before, so it was waited for
        segmenter, frame = Segmenter(bundle, engine), pile_frame()
        assert len(segmenter.segment(frame).instances) == COUNT

        def refusal(mood: str) -> Code:
            assert engine.wait_ready(PATIENCE_S)
            set_mood(bundle.directory, mood)
            with pytest.raises(RobinError) as caught:
                segmenter.segment(frame)
            return caught.value.code

        try:
            assert refusal("hang") == Code.ENGINE_HUNG
            set_mood(bundle.directory, "good")
            assert refusal("nothing") == Code.ENGINE_OUTPUT_INVALID
            set_mood(bundle.directory, "slow_start")
            with pytest.raises(RobinError) as caught:
                segmenter.segment(frame)
            assert caught.value.code == Code.ENGINE_STARTING
            set_mood(bundle.directory, "good")
            assert refusal("kill") == Code.ENGINE_CRASHED
            assert not engine.wait_ready(PATIENCE_S)
            with pytest.raises(RobinError) as caught:
                segmenter.segment(frame)
            assert caught.value.code == Code.ENGINE_GIVEN_UP
        finally:
            set_mood(bundle.directory, "good")


def test_a_bundle_that_was_exchanged_meanwhile_is_not_loaded_by_a_new_child(tmp_path: Path) -> None:
    bundle = moody_bundle(tmp_path / "colours")
    with supervised(bundle) as engine:
        inputs = inputs_of(engine, pile_frame())
        colour_bundle(bundle.directory, COUNT + 1)
        set_mood(bundle.directory, "kill")
        assert found(engine.run(inputs)) == ALL
        assert not engine.wait_ready(PATIENCE_S)
        standing = engine.standing_fault()
        assert standing is not None and "exchanged while it was in use" in standing.text
        assert found(engine.run(inputs)) == ALL


def test_what_is_the_callers_mistake_does_not_cost_the_child(engine: SupervisedEngine) -> None:
    inputs = inputs_of(engine, pile_frame())
    child = engine.child_pid
    for wrong, outputs in (({**inputs, "rgb": inputs["rgb"][:5]}, None), (inputs, ("no_such_output",))):
        with pytest.raises(RobinError) as caught:
            engine.run(wrong, outputs)
        assert caught.value.code == Code.ENGINE_FAILED
    answer_of_child(engine, inputs)
    assert engine.child_pid == child


def test_an_unknown_engine_is_refused_at_once(bundle: Bundle) -> None:
    for name, settings in (("tpu", SupervisionConfig()), (NAME, SupervisionConfig(fallback="tpu"))):
        with pytest.raises(RobinError, match="'tpu'") as caught:
            SupervisedEngine(name, bundle, ONE_THREAD, settings)
        assert caught.value.code == Code.ENGINE_UNKNOWN
