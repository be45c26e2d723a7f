"""Which engine `auto` is, and what happens when one is missing, too old, damaged or fails."""

from __future__ import annotations

import json
import logging
import socket
from collections.abc import Iterator
from pathlib import Path

import onnxruntime
import pytest

from robin_perception.core.errors import Code, RobinError
from robin_perception.engines import Engine, EngineConfig, make_engine, registry
from robin_perception.engines.golden import golden_frames
from robin_perception.engines.ort import gpu as ort_gpu
from robin_perception.engines.ort import session as ort_session
from robin_perception.engines.ort.engine import OnnxRuntimeEngine
from robin_perception.engines.testing.tiny_bundle import tiny_bundle
from robin_perception.model.bundle import Bundle
from robin_perception.supervision import child, start_engine
from robin_perception.supervision import engine as supervision_engine
from robin_perception.supervision.channel import Channel
from robin_perception.supervision.process import ChildSpec

ONE_THREAD = EngineConfig(intra_threads=1)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return tiny_bundle(tmp_path_factory.mktemp("model") / "tiny")


@pytest.fixture(autouse=True)
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROBIN_ENGINE_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def gpu_at_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine whose driver looks right, so that what comes after it is asked."""
    monkeypatch.setattr(ort_gpu, "driver_findings", lambda: [])


@pytest.fixture
def fleeting(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, registry.EngineEntry]]:
    """The registry's table, for entries that are gone after the test; auto tries "better" first."""
    monkeypatch.setattr(registry, "PREFERENCE", ("better", "onnxruntime"))
    before = dict(registry._ENTRIES)
    yield registry._ENTRIES
    registry._ENTRIES.clear()
    registry._ENTRIES.update(before)


def test_auto_says_which_engine_it_is_and_why_not_the_better_ones(bundle: Bundle) -> None:
    engine = make_engine("auto", bundle, ONE_THREAD)
    chosen = engine.selection
    assert engine.name == chosen.name and chosen == registry.select("auto", bundle, ONE_THREAD)
    rejected = dict(chosen.rejected)
    assert list(rejected) == list(registry.PREFERENCE[: registry.PREFERENCE.index(engine.name)])
    assert all(reason for reason in rejected.values())
    assert all(f"not {name}: {reason}" in chosen.line() for name, reason in chosen.rejected)
    assert "\n" not in chosen.line()


def test_an_engine_asked_for_by_name_is_not_replaced_by_another(bundle: Bundle) -> None:
    reason = registry.unavailable_reasons(bundle)["onnxruntime-int8"]
    assert reason is not None and "robin engine build" in reason
    with pytest.raises(RobinError, match=r"onnxruntime-int8.*robin engine build") as caught:
        make_engine("onnxruntime-int8", bundle, ONE_THREAD)
    assert caught.value.code == Code.ENGINE_UNAVAILABLE
    assert make_engine("onnxruntime", bundle, ONE_THREAD).selection.line() == "engine onnxruntime (asked for by name)"


def test_a_missing_provider_is_named_with_its_remedy(bundle: Bundle, gpu_at_hand: None) -> None:
    for name, provider in (
        ("onnxruntime-cuda", "CUDAExecutionProvider"),
        ("onnxruntime-tensorrt", "TensorrtExecutionProvider"),
    ):
        if provider in onnxruntime.get_available_providers():
            pytest.skip(f"this ONNX Runtime has {provider}")
        with pytest.raises(RobinError, match=f"has no {provider}; pip install 'onnxruntime-gpu") as caught:
            make_engine(name, bundle, ONE_THREAD)
        assert caught.value.code == Code.ENGINE_UNAVAILABLE


def test_a_provider_that_does_not_start_is_no_silent_cpu(
    bundle: Bundle, gpu_at_hand: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ONNX Runtime lists a provider that it was built with and goes on without it where its libraries are missing."""
    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this ONNX Runtime has CUDA")
    monkeypatch.setattr(ort_session, "provider_missing", lambda provider: None)
    with pytest.raises(RobinError, match="could not start CUDAExecutionProvider") as caught:
        make_engine("onnxruntime-cuda", bundle, ONE_THREAD)
    assert caught.value.code == Code.ENGINE_UNAVAILABLE


def test_single_precision_on_a_gpu_is_not_tf32() -> None:
    """ONNX Runtime's CUDA provider has it switched on by default, with 10 bits in place of 23."""
    ((provider, options),) = ort_gpu.OnnxRuntimeCudaEngine.providers(object.__new__(ort_gpu.OnnxRuntimeCudaEngine))
    assert provider == "CUDAExecutionProvider" and options["use_tf32"] == 0


def test_no_gpu_is_one_line(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    from robin_perception.engines.tensorrt.probe import Finding

    monkeypatch.setattr(ort_gpu, "driver_findings", lambda: [Finding("NVIDIA driver", False, "none", "install it")])
    with pytest.raises(RobinError, match="NVIDIA driver: none; install it"):
        make_engine("onnxruntime-cuda", bundle, ONE_THREAD)


def test_an_onnxruntime_that_is_too_old_is_named(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ort_session.ort, "__version__", "1.9.0")
    with pytest.raises(RobinError, match=r"onnxruntime 1\.9\.0 is older than 1\.18") as caught:
        make_engine("auto", bundle, ONE_THREAD)
    assert caught.value.code == Code.ENGINE_UNAVAILABLE


@pytest.mark.parametrize(
    "code",
    [Code.ENGINE_BUILD_FAILED, Code.ENGINE_OPERATOR_UNSUPPORTED, Code.ENGINE_OUT_OF_MEMORY, Code.ENGINE_CRASHED],
)
def test_a_better_engine_that_fails_to_start_gives_way_with_its_reason(
    bundle: Bundle, fleeting: dict[str, registry.EngineEntry], caplog: pytest.LogCaptureFixture, code: Code
) -> None:
    def breaks(bundle: Bundle, config: EngineConfig) -> Engine:
        raise RobinError(code, "out of device memory: 3 GB needed")

    fleeting["better"] = registry.EngineEntry(breaks, lambda bundle, config: None, on_cpu=False)
    with caplog.at_level(logging.WARNING, logger=registry.__name__):
        engine = make_engine("auto", bundle, ONE_THREAD)
    assert engine.name == "onnxruntime"
    assert engine.selection.rejected == (("better", "out of device memory: 3 GB needed"),)
    assert "out of device memory" in caplog.text
    with pytest.raises(RobinError, match="out of device memory"):
        make_engine("better", bundle, ONE_THREAD)


def test_a_broken_bundle_is_not_blamed_on_engines(bundle: Bundle, fleeting: dict[str, registry.EngineEntry]) -> None:
    def refuses(bundle: Bundle, config: EngineConfig) -> Engine:
        raise RobinError(Code.MODEL_TENSOR_MISSING, "head: no tensor 'x'")

    fleeting["better"] = registry.EngineEntry(refuses, lambda bundle, config: None, on_cpu=False)
    with pytest.raises(RobinError) as caught:
        make_engine("auto", bundle, ONE_THREAD)
    assert caught.value.code == Code.MODEL_TENSOR_MISSING


def test_an_engine_that_auto_skips_runs_by_name(bundle: Bundle, fleeting: dict[str, registry.EngineEntry]) -> None:
    fleeting["better"] = registry.EngineEntry(
        OnnxRuntimeEngine, lambda bundle, config: None, on_cpu=True, skip_reason=lambda bundle, config: "is slower here"
    )
    assert make_engine("auto", bundle, ONE_THREAD).selection.rejected == (("better", "is slower here"),)
    assert make_engine("better", bundle, ONE_THREAD).selection.name == "better"


def test_where_nothing_runs_every_reason_is_told(
    bundle: Bundle, fleeting: dict[str, registry.EngineEntry], monkeypatch: pytest.MonkeyPatch
) -> None:
    fleeting["better"] = registry.EngineEntry(OnnxRuntimeEngine, lambda bundle, config: "has no driver", on_cpu=False)
    monkeypatch.setattr(ort_session, "unavailable_reason", lambda bundle, config: "is too old")
    for attempt in (lambda: make_engine("auto", bundle), lambda: registry.select("auto", bundle)):
        with pytest.raises(RobinError, match="better: has no driver; onnxruntime: is too old") as caught:
            attempt()
        assert caught.value.code == Code.ENGINE_UNAVAILABLE


def test_an_unknown_operator_is_named_with_its_file(bundle: Bundle, tmp_path: Path) -> None:
    import onnx

    model = onnx.load_model(str(bundle.network_path))
    next(node for node in model.graph.node if node.op_type == "Softmax").op_type = "Crystal"
    path = tmp_path / "network.onnx"
    path.write_bytes(model.SerializeToString())

    class Odd(OnnxRuntimeEngine):
        def graph_path(self) -> Path:
            return path

    with pytest.raises(RobinError, match=rf"{path}.*Crystal") as caught:
        Odd(bundle, ONE_THREAD)
    assert caught.value.code == Code.ENGINE_FAILED and "\n" not in caught.value.text


def test_output_arrays_go_round_only_when_nobody_holds_them(bundle: Bundle) -> None:
    engine = make_engine("onnxruntime", bundle, ONE_THREAD)
    frames = golden_frames(bundle)
    first = engine.run(frames[0])
    view, before = first["mask_logits"][1:, ::2], first["mask_logits"].copy()
    del first
    for _ in range(4):
        for frame in frames[1:]:
            engine.run(frame)
    assert (view == before[1:, ::2]).all()  # still the first frame's
    del view
    addresses = {engine.run(frames[1])["mask_logits"].ctypes.data for _ in range(12)}
    assert len(addresses) <= 3 and all(address % 64 == 0 for address in addresses)


def test_threads_follow_the_cores_up_to_eight(monkeypatch: pytest.MonkeyPatch) -> None:
    for cores, threads in ((1, 1), (2, 2), (8, 8), (64, 8)):
        monkeypatch.setattr(ort_session, "usable_cores", lambda cores=cores: cores)
        assert ort_session.session_options(EngineConfig()).intra_op_num_threads == threads
    assert ort_session.session_options(EngineConfig(intra_threads=3)).intra_op_num_threads == 3


@pytest.mark.parametrize("by_auto", [True, False])
def test_what_auto_asks_for_a_child_process_asks_for_too(
    bundle: Bundle, fleeting: dict[str, registry.EngineEntry], by_auto: bool
) -> None:
    def refuses(code: Code) -> registry.Factory:
        def make(bundle: Bundle, config: EngineConfig) -> Engine:
            raise RobinError(code, "not here")

        return make

    fleeting["better"] = registry.EngineEntry(
        refuses(Code.ENGINE_FAILED),
        lambda bundle, config: None,
        on_cpu=False,
        make_for_auto=refuses(Code.ENGINE_UNAVAILABLE),
    )
    spec = ChildSpec(bundle, "better", by_auto, ONE_THREAD, {}, {})
    ours, theirs = socket.socketpair()
    with ours, theirs:
        assert child._started(Channel(theirs), json.loads(json.dumps(spec.order())), memory=-1) is None
        said = Channel(ours).receive()
    assert said["code"] == (Code.ENGINE_UNAVAILABLE if by_auto else Code.ENGINE_FAILED) and said["text"] == "not here"


@pytest.mark.parametrize("name", ["auto", "onnxruntime"])
def test_a_supervised_engine_tells_its_child_whether_auto_chose(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    ordered: list[ChildSpec] = []
    monkeypatch.setattr(supervision_engine, "Watchdog", lambda spec, config: ordered.append(spec) or 1 // 0)
    with pytest.raises(ZeroDivisionError):
        start_engine(f"supervised:{name}", bundle, ONE_THREAD)
    assert ordered[0].by_auto == (name == "auto")
