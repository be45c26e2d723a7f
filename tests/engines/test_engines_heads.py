"""Head swaps: two sets, proven on golden frames, swapped between two frames; and what is refused."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence

import numpy as np
import pytest

from robin_perception.core.errors import Code, RobinError
from robin_perception.engines import Engine, EngineConfig
from robin_perception.engines.base import HeadSet, Tensors
from robin_perception.engines.golden import golden_frames
from robin_perception.engines.head_swap import HeadCheck, checked_swap, with_biases
from robin_perception.engines.ort.engine import OnnxRuntimeEngine
from robin_perception.engines.parity import BOUNDS, compare
from robin_perception.engines.testing.reference import OnnxRuntimeReference
from robin_perception.engines.testing.tiny_bundle import tiny_bundle
from robin_perception.model.bundle import Bundle
from robin_perception.segmentation.segmenter import Segmenter

ONE_THREAD = EngineConfig(intra_threads=1)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return tiny_bundle(tmp_path_factory.mktemp("model") / "tiny")


@pytest.fixture(scope="module")
def golden(bundle: Bundle) -> list[Tensors]:
    return golden_frames(bundle)


@pytest.fixture(scope="module")
def check(bundle: Bundle, golden: list[Tensors]) -> HeadCheck:
    return HeadCheck(golden, OnnxRuntimeReference(bundle, ONE_THREAD), BOUNDS["float32"])


@pytest.fixture
def engine(bundle: Bundle) -> Iterator[Engine]:
    made = OnnxRuntimeEngine(bundle, ONE_THREAD)
    yield made
    made.close()


def scaled(bundle: Bundle, factor: float) -> dict[str, np.ndarray]:
    return {name: (value * np.float32(factor)) for name, value in bundle.head.items()}


class ForgetsBiases(OnnxRuntimeEngine):
    """An engine that loses the biases of a head on the way to its buffers, as one TensorRT release did with a refit."""

    def _load_head(self, head: HeadSet) -> None:
        weights = {k: np.zeros_like(v) if k.endswith(".bias") else v for k, v in head.weights.items()}
        super()._load_head(HeadSet(head.index, weights))


class FailsOnTheSecondSet(OnnxRuntimeEngine):
    def _run(self, feeds: Tensors, outputs: Sequence[str], head: HeadSet) -> Tensors:
        if head.index == 1:
            raise RobinError(Code.ENGINE_FAILED, "out of device memory")
        return super()._run(feeds, outputs, head)


def test_golden_frames_are_the_same_everywhere_and_fit_the_network(bundle: Bundle, engine: Engine) -> None:
    first, second = golden_frames(bundle), golden_frames(bundle)
    assert all(np.array_equal(a[name], b[name]) for a, b in zip(first, second, strict=True) for name in a)
    for frame in first:
        engine.run(frame)
        assert 0.3 < np.count_nonzero(frame["depth"]) / frame["depth"].size < 1.0


def test_a_staged_head_is_tried_beside_the_one_in_use(bundle: Bundle, engine: Engine, golden: list[Tensors]) -> None:
    before = engine.run(golden[0])
    staged = engine.stage_head(scaled(bundle, 0.5))
    tried, meanwhile = engine.run(golden[0], head=staged), engine.run(golden[0])
    assert not np.allclose(tried["mask_logits"], before["mask_logits"])
    assert np.array_equal(meanwhile["mask_logits"], before["mask_logits"])
    engine.use_head(staged)
    assert np.array_equal(engine.run(golden[0])["mask_logits"], tried["mask_logits"])


def test_only_the_head_that_was_staged_last_can_be_used(bundle: Bundle, engine: Engine, golden: list[Tensors]) -> None:
    first = engine.stage_head(scaled(bundle, 0.5))
    second = engine.stage_head(scaled(bundle, 0.7))
    for attempt in (lambda: engine.use_head(first), lambda: engine.run(golden[0], head=first)):
        with pytest.raises(RobinError) as caught:
            attempt()
        assert caught.value.code == Code.HEAD_SUPERSEDED
    engine.use_head(second)
    assert np.array_equal(engine.head["head.mask.bias"], scaled(bundle, 0.7)["head.mask.bias"])


def test_the_caller_may_reuse_the_arrays_of_a_head(bundle: Bundle, engine: Engine, golden: list[Tensors]) -> None:
    weights = scaled(bundle, 0.5)
    engine.set_head(weights)
    before = engine.run(golden[0])["mask_logits"].copy()
    for value in weights.values():
        value.fill(9.0)
    assert np.array_equal(engine.run(golden[0])["mask_logits"], before)


def test_a_checked_swap_says_what_it_found_and_took(bundle: Bundle, engine: Engine, check: HeadCheck) -> None:
    swap = checked_swap(engine, scaled(bundle, 0.9), check)
    assert swap.parity.frames == len(check.golden) and swap.parity.candidates > 0
    assert swap.parity.score < 1e-5 and swap.parity.mask_iou == 1.0
    assert set(swap.to_json()) == {"parity", "staged_ms", "checked_ms", "swapped_ms"}
    assert np.array_equal(engine.head["head.mask.weight"], scaled(bundle, 0.9)["head.mask.weight"])


def test_an_engine_that_loses_biases_is_found_out(bundle: Bundle, check: HeadCheck) -> None:
    engine = ForgetsBiases(bundle, ONE_THREAD)
    with pytest.raises(RobinError, match="does not compute") as caught:
        checked_swap(engine, scaled(bundle, 0.9), check)
    assert caught.value.code == Code.HEAD_REJECTED
    assert np.array_equal(engine.head["head.mask.bias"], bundle.head["head.mask.bias"])


def test_an_engine_that_loses_biases_is_found_out_by_a_head_without_any(bundle: Bundle, check: HeadCheck) -> None:
    silent = {k: np.zeros_like(v) if k.endswith(".bias") else v for k, v in bundle.head.items()}
    probe = with_biases(silent)
    assert probe is not None and all(np.any(value) for value in probe.values())
    assert with_biases(bundle.head) is None
    with pytest.raises(RobinError, match="biases that are not zero") as caught:
        checked_swap(ForgetsBiases(bundle, ONE_THREAD), silent, check)
    assert caught.value.code == Code.HEAD_REJECTED
    assert checked_swap(OnnxRuntimeEngine(bundle, ONE_THREAD), silent, check).parity.lost == 0.0


def test_a_head_on_which_the_engine_fails_leaves_the_old_one(
    bundle: Bundle, check: HeadCheck, golden: list[Tensors]
) -> None:
    engine = FailsOnTheSecondSet(bundle, ONE_THREAD)
    before = engine.run(golden[0])["detection"]
    with pytest.raises(RobinError, match="device memory"):
        checked_swap(engine, scaled(bundle, 0.9), check)
    assert np.array_equal(engine.run(golden[0])["detection"], before)


def test_golden_frames_in_which_nothing_is_seen_prove_nothing(bundle: Bundle, engine: Engine, check: HeadCheck) -> None:
    blind = {**bundle.head, "head.score.bias": np.full(4, -9.0, dtype=np.float32)}
    with pytest.raises(RobinError, match="nothing was compared"):
        checked_swap(engine, blind, check)


def test_no_frame_is_lost_or_torn_while_heads_are_swapped(
    bundle: Bundle, engine: Engine, check: HeadCheck, golden: list[Tensors]
) -> None:
    heads = [scaled(bundle, 0.5), scaled(bundle, 1.0)]
    whole = []
    for head in heads:
        engine.set_head(head)
        whole.append(engine.run(golden[0])["mask_logits"])
    ended, torn, count = threading.Event(), [], [0]

    def frames() -> None:
        while not ended.is_set():
            found = engine.run(golden[0])["mask_logits"]
            count[0] += 1
            if not any(np.array_equal(found, one) for one in whole):
                torn.append(count[0])

    worker = threading.Thread(target=frames)
    worker.start()
    try:
        for number in range(30):
            checked_swap(engine, heads[number % 2], check)
    finally:
        ended.set()
        worker.join()
    assert count[0] > 30 and not torn


def test_the_segmenter_names_the_model_after_a_checked_swap(bundle: Bundle, engine: Engine, check: HeadCheck) -> None:
    segmenter = Segmenter(bundle, engine)
    before = segmenter.model_id
    swap = segmenter.swap_head(scaled(bundle, 0.9), check)
    assert segmenter.model_id != before and swap.parity.lost == 0.0
    segmenter.set_head(bundle.head)
    assert segmenter.model_id == before


def test_parity_tells_a_shifted_score_a_lost_candidate_and_another_mask(bundle: Bundle, golden: list[Tensors]) -> None:
    engine = OnnxRuntimeReference(bundle, ONE_THREAD)
    right = engine.run(golden[0])
    assert compare([(right, right)]).exceeds(BOUNDS["float32"]) is None
    for name, change, named in (
        ("detection", lambda x: x + 0.01, "score"),
        ("mask_logits", lambda x: -x, "mask_iou"),
        ("boundary", lambda x: x + 0.1, "boundary"),
        ("peak_xy", lambda x: x + 8, "moved"),
        ("peak_xy", lambda x: x + 1000, "lost"),
        ("class_probabilities", lambda x: x * np.float32(np.nan), "classes"),
        ("class_probabilities", lambda x: x[:, ::-1].copy(), "classes"),
    ):
        wrong = {**right, name: change(right[name].copy())}
        assert named in str(compare([(right, wrong)]).exceeds(BOUNDS["float32"])), name
    # Another order of the same candidates is no difference.
    turned = {k: v[::-1] if k != "boundary" else v for k, v in right.items()}
    assert compare([(right, turned)]).exceeds(BOUNDS["float32"]) is None


def test_a_bundle_of_another_shape_is_refused_before_it_is_staged(bundle: Bundle, engine: Engine) -> None:
    with pytest.raises(RobinError) as caught:
        engine.stage_head({**bundle.head, "head.mask.bias": np.zeros(3, np.float32)})
    assert caught.value.code == Code.MODEL_TENSOR_MISSING
