"""The registry's version serves the frames that follow, whole or not at all."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
from helpers.model_samples import WHO, head_bundle, registry_of
from helpers.perception_graphs import blocks, colour_frame
from onnx import numpy_helper

from edge_adapt.models.registry import ModelRegistry
from edge_adapt.models.work import AtWork, put_to_work
from robin_perception.core.errors import Code, RobinError
from robin_perception.engines import EngineConfig
from robin_perception.engines.base import HeadSet, Tensors
from robin_perception.engines.ort.engine import OnnxRuntimeEngine
from robin_perception.model.bundle import (
    Bundle,
    CalibrationTables,
    IsotonicTable,
    Thresholds,
    load_bundle,
    update_manifest,
    write_bundle,
)
from robin_perception.segmentation import exchange
from robin_perception.segmentation.segmenter import Segmenter

FRAME = colour_frame(blocks(48, 64, 2, 2, 4))
ONE_THREAD = EngineConfig(intra_threads=1)


def start(bundle: Bundle) -> Segmenter:
    return Segmenter(bundle, OnnxRuntimeEngine(bundle, ONE_THREAD))


def never(bundle: Bundle) -> Segmenter:
    raise AssertionError("no engine is needed")


class Stage:
    """A registry, and a segmenter that runs the factory's model."""

    def __init__(self, folder: Path) -> None:
        self.registry, self.paths = registry_of(folder, 2)
        self.segmenter = start(load_bundle(self.paths[0]))

    def use(self, path: Path) -> None:
        self.registry.activate(self.registry.add(path, WHO, ""), WHO, "")

    def work(self, starts=never) -> AtWork:  # type: ignore[no-untyped-def]
        return put_to_work(self.registry, self.segmenter, starts)

    def last_event(self) -> str:
        return self.registry.story().entries[-1].event


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    made = Stage(tmp_path)
    yield made
    made.segmenter.close()


def other_network(folder: Path) -> Path:
    """The tiny bundle with another bias in its trunk."""
    base = head_bundle(folder, 5)
    model = onnx.load(str(base.network_path))
    bias = next(tensor for tensor in model.graph.initializer if tensor.name == "colour_bias")
    bias.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(bias) + np.float32(0.1), "colour_bias"))
    manifest = base.manifest
    size = (manifest.input_height, manifest.input_width)
    network = model.SerializeToString()
    write_bundle(folder, network, base.head, name="deep", input_size=size, max_instances=manifest.max_instances)
    return folder


def test_a_head_is_swapped_and_brought_back(stage: Stage) -> None:
    assert (stage.work().how, stage.work().version) == ("same", 0)
    stage.use(stage.paths[1])
    done = stage.work()
    assert (done.how, done.version, done.segmenter is stage.segmenter) == ("head", 1, True)
    assert stage.segmenter.model_id == load_bundle(stage.paths[1]).model_id
    assert stage.work().how == "same"
    stage.registry.rollback(WHO, "")
    assert (stage.work().how, stage.segmenter.model_id) == ("head", load_bundle(stage.paths[0]).model_id)


def test_a_head_that_served_comes_back_without_a_new_proof(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    for path in stage.paths[1:]:
        stage.use(path)
        stage.work()
    monkeypatch.setattr(exchange, "golden_frames", lambda *_: pytest.fail("proven again"))
    for number in (1, 0):
        stage.registry.rollback(WHO, "")
        assert (stage.work().how, stage.segmenter.model_id) == ("head", load_bundle(stage.paths[number]).model_id)


def test_a_head_that_was_set_without_a_proof_is_proven_yet(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    learned = load_bundle(stage.paths[1])
    stage.segmenter.set_head(learned.head)
    stage.segmenter.set_head(load_bundle(stage.paths[0]).head)
    monkeypatch.setattr(exchange, "golden_frames", lambda *_: pytest.fail("proven, as it should be"))
    stage.use(stage.paths[1])
    with pytest.raises(pytest.fail.Exception):
        stage.work()


def test_its_calibration_comes_with_the_head(stage: Stage) -> None:
    silent = CalibrationTables(detection=IsotonicTable(x=(0.0, 1.0), y=(0.0, 0.01)))
    assert stage.segmenter.segment(FRAME).instances
    update_manifest(stage.paths[1], calibration=silent, thresholds=Thresholds(detection=0.02))
    stage.use(stage.paths[1])
    stage.work()
    assert not stage.segmenter.segment(FRAME).instances
    stage.registry.rollback(WHO, "")
    stage.work()
    assert stage.segmenter.segment(FRAME).instances


def test_tables_alone_are_a_change(stage: Stage) -> None:
    update_manifest(stage.paths[1], thresholds=Thresholds(detection=0.999))
    stage.use(stage.paths[1])
    stage.work()
    update_manifest(stage.paths[1], thresholds=Thresholds(detection=0.1))
    stage.use(stage.paths[1])
    assert stage.work().how == "head"


def test_no_frame_is_lost_or_seen_by_parts_of_two_models(stage: Stage) -> None:
    """Each model has a threshold of its own, so that a scene of one with the other's tables would show."""
    seen: dict[str, set[int]] = {}
    for number, path in enumerate(stage.paths):
        update_manifest(path, thresholds=Thresholds(detection=(0.05, 0.999, 0.05)[number]))
    stage.segmenter = start(load_bundle(stage.paths[0]))
    numbers = [stage.registry.add(path, WHO, "") for path in stage.paths[1:]]
    ended, failures = threading.Event(), list[BaseException]()
    ran = 0

    def frames() -> None:
        nonlocal ran
        while not ended.is_set():
            try:
                scene = stage.segmenter.segment(FRAME)
            except BaseException as exc:
                failures.append(exc)
                return
            seen.setdefault(scene.model_id, set()).add(len(scene.instances))
            ran += 1

    worker = threading.Thread(target=frames)
    worker.start()
    swaps = []
    try:
        for number in numbers * 5:
            stage.registry.activate(number, WHO, "")
            before = ran
            swaps.append(stage.work().swap_ms)
            while ran < before + 3 and not failures:
                ended.wait(0.001)
    finally:
        ended.set()
        worker.join()
    assert failures == []
    assert len(seen) >= 2
    assert all(len(counts) == 1 for counts in seen.values()), seen
    assert seen[load_bundle(stage.paths[1]).model_id] == {0}
    assert len(swaps) == 10


class LosesBiases(OnnxRuntimeEngine):
    def _load_head(self, head: HeadSet) -> None:
        weights = {k: np.zeros_like(v) if k.endswith(".bias") else v for k, v in head.weights.items()}
        super()._load_head(HeadSet(head.index, weights))

    def _run(self, feeds: Tensors, outputs: Sequence[str], head: HeadSet) -> Tensors:
        weights = {k: np.zeros_like(v) if k.endswith(".bias") else v for k, v in head.weights.items()}
        return super()._run(feeds, outputs, HeadSet(head.index, weights))


def test_a_head_that_the_engine_computes_wrongly_is_given_up(stage: Stage) -> None:
    stage.segmenter = Segmenter(stage.segmenter.bundle, LosesBiases(stage.segmenter.bundle, ONE_THREAD))
    before = stage.segmenter.model_id
    stage.use(stage.paths[1])
    stage.registry.pin(WHO, "")
    with pytest.raises(RobinError) as caught:
        stage.work()
    assert caught.value.code is Code.HEAD_REJECTED
    assert (stage.segmenter.model_id, stage.segmenter.bundle.directory) == (before, stage.paths[0])
    assert (stage.last_event(), stage.registry.state().active, stage.registry.state().pinned) == ("given_up", 0, False)
    assert stage.work().how == "same"


def test_another_network_gets_an_engine_beside(stage: Stage, tmp_path: Path) -> None:
    stage.use(other_network(tmp_path / "deep"))
    done = stage.work(start)
    assert (done.how, done.segmenter is stage.segmenter) == ("engine", False)
    assert done.segmenter.model_id == stage.registry.load().bundle.model_id
    assert stage.segmenter.segment(FRAME).model_id == load_bundle(stage.paths[0]).model_id
    done.segmenter.close()


def test_an_engine_that_is_wrong_or_does_not_start_is_given_up(stage: Stage, tmp_path: Path) -> None:
    def refuses(bundle: Bundle) -> Segmenter:
        raise RobinError(Code.ENGINE_BUILD_FAILED, "no")

    closed = []

    class Wrong(LosesBiases):
        def close(self) -> None:
            closed.append(self.name)
            super().close()

    path = other_network(tmp_path / "deep")
    for starts, code in (
        (refuses, Code.ENGINE_BUILD_FAILED),
        (lambda bundle: Segmenter(bundle, Wrong(bundle, ONE_THREAD)), Code.ENGINE_DISAGREES),
    ):
        stage.use(path)
        with pytest.raises(RobinError) as caught:
            stage.work(starts)
        assert caught.value.code is code
        assert (stage.last_event(), stage.registry.state().active) == ("given_up", 0)
        stage.segmenter.segment(FRAME)
    assert len(closed) == 1


def test_a_damaged_version_is_told_and_the_last_good_one_serves(stage: Stage) -> None:
    for path in stage.paths[1:]:
        stage.use(path)
    (stage.registry.path(2) / "network.onnx").write_bytes(b"")
    done = stage.work()
    assert (done.version, done.problem is not None) == (1, True)
    assert done.problem.code is Code.VERSION_DAMAGED  # type: ignore[union-attr]
    assert (stage.last_event(), stage.work().problem) == ("fell_back", None)


def test_a_head_of_another_network_is_not_swapped_in(stage: Stage, tmp_path: Path) -> None:
    other = load_bundle(other_network(tmp_path / "deep"))
    with pytest.raises(RobinError) as caught:
        stage.segmenter.swap_bundle(other, None)  # type: ignore[arg-type]
    assert caught.value.code is Code.MODEL_TENSOR_MISSING
    assert stage.segmenter.bundle.directory == stage.paths[0]


def test_an_unreadable_factory_is_an_error(stage: Stage, tmp_path: Path) -> None:
    with pytest.raises(RobinError) as caught:
        put_to_work(ModelRegistry(tmp_path / "other", tmp_path / "nowhere"), stage.segmenter, never)
    assert caught.value.code is Code.MODEL_MISSING
