"""Supervised inference and the head: a swap reaches child and fallback, and a child that comes later gets it too."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from helpers.misbehaving_engine import NAME, set_mood
from helpers.supervised_engines import (
    COUNT,
    DETECT,
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
from robin_perception.engines.base import Tensors
from robin_perception.engines.golden import golden_frames
from robin_perception.engines.head_swap import HeadCheck, checked_swap
from robin_perception.engines.parity import BOUNDS
from robin_perception.engines.testing.tiny_bundle import tiny_bundle
from robin_perception.model.bundle import Bundle

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return moody_bundle(tmp_path_factory.mktemp("model") / "colours")


@pytest.fixture
def good(bundle: Bundle) -> Iterator[None]:
    yield
    set_mood(bundle.directory, "good")


def only(*parcels: int) -> dict[str, np.ndarray]:
    """A head that sees these parcels and no others."""
    return {DETECT: np.array([float(i in parcels) for i in range(1, COUNT + 1)], dtype=np.float32)}


def test_a_swap_reaches_child_fallback_and_the_child_after_a_restart(bundle: Bundle) -> None:
    with supervised(bundle) as engine:
        inputs = inputs_of(engine, pile_frame())
        assert len(found(answer_of_child(engine, inputs))) == COUNT
        engine.set_head(only(2, 3))
        assert found(answer_of_child(engine, inputs)) == [2, 3]
        for head in ((2, 3), (5,)):  # the head that the child had, and one that came while there was none
            before = engine.child_pid
            os.kill(before, signal.SIGKILL)
            if head == (5,):
                engine.set_head(only(5))
            answer = engine.run(inputs)
            assert found(answer) == list(head)  # whoever gave it
            assert found(answer_of_child(engine, inputs)) == list(head)
            assert engine.child_pid != before
        assert engine.head[DETECT].tolist() == only(5)[DETECT].tolist()


def test_a_head_set_while_the_child_starts_is_the_one_it_uses(bundle: Bundle, good: None) -> None:
    set_mood(bundle.directory, "slow_start")
    with supervised(bundle, wait=False) as engine:
        inputs = inputs_of(engine, pile_frame())
        engine.set_head(only(1))
        assert found(engine.run(inputs)) == [1] and engine.status().answered_by == FALLBACK
        set_mood(bundle.directory, "good")
        assert found(answer_of_child(engine, inputs)) == [1]


def test_a_staged_head_is_tried_without_being_used(bundle: Bundle) -> None:
    with supervised(bundle) as engine:
        inputs = inputs_of(engine, pile_frame())
        staged = engine.stage_head(only(4))
        assert found(engine.run(inputs, head=staged)) == [4]
        assert len(found(answer_of_child(engine, inputs))) == COUNT
        os.kill(engine.child_pid, signal.SIGKILL)
        answer_of_child(engine, inputs)  # a new child: it has the head in use, and gets the staged one when it is tried
        assert found(engine.run(inputs, head=staged)) == [4]
        assert len(found(answer_of_child(engine, inputs))) == COUNT
        engine.use_head(staged)
        assert found(answer_of_child(engine, inputs)) == [4]


def test_a_head_on_trial_is_proven_by_the_child_or_refused(bundle: Bundle, good: None) -> None:
    with supervised(bundle, restart_pause_s=0.3, deadline_ms=1500) as engine:
        inputs = inputs_of(engine, pile_frame())
        assert len(found(answer_of_child(engine, inputs))) == COUNT
        child = engine.child_pid
        for mood, code in (("nan", Code.ENGINE_OUTPUT_INVALID), ("error", Code.ENGINE_FAILED)):
            staged = engine.stage_head(only(4))
            set_mood(bundle.directory, mood)
            with pytest.raises(RobinError) as caught:
                engine.run(inputs, head=staged)
            set_mood(bundle.directory, "good")
            assert caught.value.code == code
            assert len(found(answer_of_child(engine, inputs))) == COUNT
        assert engine.child_pid == child and engine.take_faults() == []  # nothing that the engine is to blame for
        staged = engine.stage_head(only(4))
        set_mood(bundle.directory, "hang")
        with pytest.raises(RobinError) as caught:
            engine.run(inputs, head=staged)
        assert caught.value.code == Code.ENGINE_HUNG
        with pytest.raises(RobinError) as caught:  # and there is no child for another trial yet
            engine.run(inputs, head=staged)
        assert caught.value.code == Code.ENGINE_STARTING
        assert len(found(engine.run(inputs))) == COUNT  # frames go on
        set_mood(bundle.directory, "good")
        wait_until(lambda: found(answer_of_child(engine, inputs)) and engine.child_pid != child)
        assert found(engine.run(inputs, head=staged)) == [4]


def test_a_gpu_that_is_lost_on_a_trial_costs_the_child_at_once(bundle: Bundle, good: None) -> None:
    with supervised(bundle) as engine:
        inputs = inputs_of(engine, pile_frame())
        answer_of_child(engine, inputs)
        child, staged = engine.child_pid, engine.stage_head(only(4))
        set_mood(bundle.directory, "lost")
        with pytest.raises(RobinError, match="context is lost") as caught:
            engine.run(inputs, head=staged)
        set_mood(bundle.directory, "good")
        assert caught.value.code == Code.ENGINE_CRASHED
        assert len(found(engine.run(inputs))) == COUNT
        wait_until(lambda: engine.child_pid not in (0, child))


def test_a_blind_head_on_trial_teaches_nothing_about_relief(bundle: Bundle, good: None) -> None:
    with supervised(bundle) as engine:
        inputs = inputs_of(engine, pile_frame())
        answer_of_child(engine, inputs)
        staged = engine.stage_head(only())
        assert found(engine.run(inputs, head=staged)) == []
        assert engine.status().empty_confirmed == 0 and engine.status().fallback_answers == 0
        set_mood(bundle.directory, "nothing")
        assert len(found(engine.run(inputs))) == COUNT  # what stands there is still asked about
        assert engine.status().child.invalid_outputs == 1


def test_a_checked_swap_proves_the_child(tmp_path: Path) -> None:
    tiny = tiny_bundle(tmp_path / "tiny")
    golden = golden_frames(tiny)
    reference = make_engine("onnxruntime", tiny, ONE_THREAD)
    fresh = {name: 0.9 * value for name, value in tiny.head.items()}
    with supervised(tiny, check_empty=False) as engine:
        answer_of_child(engine, golden[0])
        before = engine.status()
        swap = checked_swap(engine, fresh, HeadCheck(golden, reference, BOUNDS["float32"]))
        after = engine.status()
        assert swap.parity.lost == 0.0
        assert after.answers[NAME] >= before.answers[NAME] + len(golden)
        assert after.fallback_answers == before.fallback_answers
        expected = reference.run(golden[0], head=reference.stage_head(fresh))["detection"]
        assert np.allclose(answer_of_child(engine, golden[0])["detection"], expected, atol=1e-5)
    reference.close()


def test_a_child_that_hangs_at_a_swap_is_replaced_and_the_swap_is_done(bundle: Bundle, good: None) -> None:
    with supervised(bundle, deadline_ms=1000) as engine:
        inputs = inputs_of(engine, pile_frame())
        set_mood(bundle.directory, "late_head")
        engine.set_head(only(6))
        assert found(engine.run(inputs)) == [6] and engine.status().answered_by == FALLBACK
        assert Code.ENGINE_HUNG in codes(engine.take_faults())
        set_mood(bundle.directory, "good")
        assert found(answer_of_child(engine, inputs)) == [6]


def test_a_wrong_head_changes_nothing(bundle: Bundle) -> None:
    with supervised(bundle) as engine:
        inputs = inputs_of(engine, pile_frame())
        engine.set_head(only(1, 2))
        with pytest.raises(RobinError) as caught:
            engine.set_head({DETECT: np.ones(COUNT + 1, np.float32)})
        assert caught.value.code == Code.MODEL_TENSOR_MISSING
        assert found(answer_of_child(engine, inputs)) == [1, 2]
        assert engine.take_faults() == []


def test_frames_heads_crashes_and_the_end_from_many_threads(bundle: Bundle) -> None:
    """Every frame is answered with one whole head until the engine is closed; then each caller is told so."""
    heads = [only(1, 2, 3), only(4, 5, 6)]
    with supervised(bundle, restart_pause_s=0.0) as engine:
        inputs = inputs_of(engine, pile_frame())
        engine.set_head(heads[0])
        answers: list[list[int]] = []
        refused: list[Code] = []
        stop = threading.Event()

        def look() -> None:
            try:
                while True:
                    answers.append(found(engine.run(inputs)))
            except RobinError as exc:
                refused.append(exc.code)

        def swap() -> None:
            for number in range(10_000):
                if stop.is_set():
                    return
                engine.set_head(heads[number % 2])

        threads = [threading.Thread(target=work) for work in (look, look, look, swap)]
        for thread in threads:
            thread.start()
        for _ in range(3):
            by_child = engine.status().answers.get(NAME, 0)
            wait_until(lambda before=by_child: engine.status().answers.get(NAME, 0) > before)
            os.kill(engine.child_pid, signal.SIGKILL)
            seen = len(answers)
            while len(answers) < seen + 20:
                stop.wait(0.01)
        stop.set()
        threads[-1].join(PATIENCE_S)
        engine.close()
        for thread in threads:
            thread.join(PATIENCE_S)
        assert not any(thread.is_alive() for thread in threads)
        assert set(map(tuple, answers)) <= {(1, 2, 3), (4, 5, 6)}
        assert refused == [Code.ENGINE_FAILED] * 3
        assert engine.status().child.crashes >= 1


def test_close_ends_a_call_that_hangs(bundle: Bundle, good: None) -> None:
    with supervised(bundle, deadline_ms=60_000) as engine:
        inputs = inputs_of(engine, pile_frame())
        set_mood(bundle.directory, "hang")
        result: list[Tensors | Code] = []

        def look() -> None:
            try:
                result.append(engine.run(inputs))
            except RobinError as exc:
                result.append(exc.code)

        thread = threading.Thread(target=look)
        thread.start()
        thread.join(0.3)
        assert thread.is_alive()
        engine.close()
        thread.join(PATIENCE_S)
        assert result == [Code.ENGINE_FAILED]
        with pytest.raises(RobinError, match="closed"):
            engine.run(inputs)
        engine.close()


def test_one_that_never_got_ready_can_be_closed(bundle: Bundle, good: None) -> None:
    set_mood(bundle.directory, "slow_start")
    with supervised(bundle, wait=False) as engine:
        pid = engine.child_pid
        engine.close()
        assert engine.status().child.state == "closed" and engine.status().child.pid == 0
        assert pid == 0 or not os.path.exists(f"/proc/{pid}")
