"""INT8: what is quantised, what is measured, what is cached, and what happens when the cache is not what it was."""

from __future__ import annotations

import errno
from pathlib import Path

import numpy as np
import onnx
import pytest
from helpers.perception_graphs import blocks, colour_bundle, colour_frame
from onnx import numpy_helper

from robin_perception.core.errors import Code, RobinError
from robin_perception.core.image_folder import save_frame
from robin_perception.engines import EngineConfig, make_engine
from robin_perception.engines import cache as cache_module
from robin_perception.engines.cache import EngineCache
from robin_perception.engines.golden import golden_frames
from robin_perception.engines.ort import int8 as ort_int8
from robin_perception.engines.ort import quantise
from robin_perception.engines.ort.engine import OnnxRuntimeEngine
from robin_perception.engines.ort.int8 import GRAPH_FILE, MEASURED_FILE, NAME, Measured, OnnxRuntimeInt8Engine
from robin_perception.engines.ort.int8_build import build_int8, paired_ms
from robin_perception.engines.ort.quantise import quantised_graph, trunk_nodes
from robin_perception.engines.parity import BOUNDS, compare
from robin_perception.engines.testing.reference import OnnxRuntimeReference
from robin_perception.engines.testing.tiny_bundle import tiny_bundle
from robin_perception.model.bundle import Bundle, write_bundle

ONE_THREAD = EngineConfig(intra_threads=1)
FASTER = Measured(
    threads=2,
    float32_ms=50.0,
    int8_ms=20.0,
    gain=2.5,
    calibration=32,
    scenes=100,
    ap50_float32=0.95,
    ap50_int8=0.949,
    ap75_float32=0.86,
    ap75_int8=0.861,
)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return tiny_bundle(tmp_path_factory.mktemp("model") / "tiny")


@pytest.fixture(scope="module")
def graph(bundle: Bundle) -> bytes:
    return quantised_graph(bundle, golden_frames(bundle), reduce_range=False)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> EngineCache:
    monkeypatch.setenv("ROBIN_ENGINE_CACHE", str(tmp_path / "cache"))
    return EngineCache()


@pytest.fixture
def stored(bundle: Bundle, graph: bytes, cache: EngineCache) -> Path:
    """The folder of a graph that was measured as faster."""
    files = {GRAPH_FILE: graph, MEASURED_FILE: FASTER.model_dump_json().encode()}
    return cache.store(ort_int8.cache_key(bundle), files)


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("scenes")
    for number in range(3):
        labels = blocks(48, 64, 2, 2 + number, 2)
        save_frame(folder / f"{number}", colour_frame(labels), labels)
    return [folder / f"{number}" for number in range(3)]


def initial(model: onnx.ModelProto) -> dict[str, np.ndarray]:
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}


def test_the_trunk_is_quantised_and_the_head_is_not(bundle: Bundle, graph: bytes) -> None:
    model = onnx.load_model(str(bundle.network_path))
    assert trunk_nodes(model) == ["colour4", "depth4", "sum4", "relu4", "maps4", "maps8"]
    small = onnx.load_model_from_string(graph)
    made_of = {name: node for node in small.graph.node for name in node.output}
    for node in small.graph.node:
        if node.op_type == "MatMul":  # weights straight from the graph's inputs
            assert any(name.startswith("head.") for name in node.input)
        if node.op_type == "Conv":
            assert all(made_of[name].op_type == "DequantizeLinear" for name in node.input[:2])
    weights = [value for value in initial(small).values() if value.dtype == np.int8 and value.ndim == 4]
    assert len(weights) == 3 and {len(w) for w in weights} == {8}
    scales = [v for k, v in initial(small).items() if k.endswith("weight_scale")]
    assert all(scale.shape == (8,) for scale in scales), "one scale per output channel"


def test_weights_have_seven_bits_where_byte_products_saturate(bundle: Bundle) -> None:
    small = onnx.load_model_from_string(quantised_graph(bundle, golden_frames(bundle), reduce_range=True))
    weights = [value for value in initial(small).values() if value.dtype == np.int8 and value.ndim == 4]
    assert max(int(np.abs(w.astype(int)).max()) for w in weights) <= 64


@pytest.mark.parametrize(
    ("line", "full"),
    [("flags\t: fpu avx2 avx512_vnni", True), ("flags\t: fpu avx2", False), ("Features\t: fp asimd asimddp", True)],
)
def test_the_processor_says_how_many_bits_weights_may_use(
    line: str, full: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cpuinfo").write_text(f"processor\t: 0\n{line}\n")
    monkeypatch.setattr(quantise, "_CPU_FILE", tmp_path / "cpuinfo")
    assert quantise.full_range() is full


def test_int8_computes_what_float32_computes_within_its_bound_and_swaps_heads(bundle: Bundle, stored: Path) -> None:
    engine, reference = make_engine(NAME, bundle, ONE_THREAD), OnnxRuntimeReference(bundle, ONE_THREAD)
    assert engine.describe()["precision"] == "int8"
    golden = golden_frames(bundle)
    for factor in (1.0, 0.8):
        for each in (engine, reference):
            each.set_head({name: value * np.float32(factor) for name, value in bundle.head.items()})
        parity = compare([(reference.run(frame), engine.run(frame)) for frame in golden])
        assert parity.exceeds(BOUNDS["int8"]) is None and parity.candidates > 0
        assert parity.score > 0, "INT8 that rounds nothing is not INT8"


def test_a_build_measures_both_graphs_and_caches_what_it_found(
    bundle: Bundle, scenes: list[Path], cache: EngineCache
) -> None:
    with pytest.raises(RobinError, match="no onnxruntime-int8 engine has been built yet"):
        make_engine(NAME, bundle, ONE_THREAD)
    told: list[str] = []
    found = build_int8(bundle, scenes[:2], scenes[2:], ONE_THREAD, lambda what, done, total: told.append(what))
    assert (found.calibration, found.scenes, found.threads) == (2, 1, 1)
    assert found.float32_ms > 0 and found.int8_ms > 0 and found.gain > 0
    assert {"calibrate", "measure"} <= set(told)
    assert ort_int8.measured(bundle) == found
    assert make_engine(NAME, bundle, ONE_THREAD).run(golden_frames(bundle)[0])["detection"].shape == (4,)


def test_frames_are_either_calibrated_with_or_measured_on(bundle: Bundle, scenes: list[Path]) -> None:
    for calibration, labelled in (([], scenes), (scenes, []), (scenes[:2], scenes[1:])):
        with pytest.raises(RobinError) as caught:
            build_int8(bundle, calibration, labelled, ONE_THREAD)
        assert caught.value.code == Code.OPTION_INVALID


def test_auto_takes_it_where_it_was_faster_and_held_the_accuracy(bundle: Bundle, stored: Path) -> None:
    engine = make_engine("auto", bundle, ONE_THREAD)
    assert engine.name == NAME and isinstance(engine, OnnxRuntimeInt8Engine)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"gain": 1.02}, "1.02 times as fast"),
        ({"ap75_int8": 0.853}, r"loses 0\.70 AP points"),
        ({"ap50_int8": 0.9449}, r"loses 0\.51 AP points"),
    ],
)
def test_auto_leaves_what_is_slower_or_less_accurate(
    bundle: Bundle, graph: bytes, cache: EngineCache, change: dict[str, float], reason: str
) -> None:
    files = {GRAPH_FILE: graph, MEASURED_FILE: FASTER.model_copy(update=change).model_dump_json().encode()}
    cache.store(ort_int8.cache_key(bundle), files)
    chosen = make_engine("auto", bundle, ONE_THREAD).selection
    assert chosen.name == "onnxruntime"
    with pytest.raises(AssertionError, match=reason):
        assert not dict(chosen.rejected)[NAME]
    assert make_engine(NAME, bundle, ONE_THREAD).name == NAME  # by name it runs


def test_a_damaged_graph_is_not_run(bundle: Bundle, stored: Path) -> None:
    path = stored / GRAPH_FILE
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(bytes(data))
    with pytest.raises(RobinError, match=rf"{GRAPH_FILE} is damaged.*robin engine build") as caught:
        make_engine(NAME, bundle, ONE_THREAD)
    assert caught.value.code == Code.ENGINE_UNAVAILABLE
    assert make_engine("auto", bundle, ONE_THREAD).name == "onnxruntime"


def test_figures_that_cannot_be_read_are_no_figures(bundle: Bundle, graph: bytes, cache: EngineCache) -> None:
    cache.store(ort_int8.cache_key(bundle), {GRAPH_FILE: graph, MEASURED_FILE: b'{"gain": "fast"}'})
    chosen = make_engine("auto", bundle, ONE_THREAD).selection
    assert chosen.name == "onnxruntime" and MEASURED_FILE in dict(chosen.rejected)[NAME]


def test_a_graph_of_another_bundle_is_never_used(bundle: Bundle, stored: Path, tmp_path: Path) -> None:
    model = onnx.load_model(str(bundle.network_path))
    model.graph.doc_string = "trained again"
    other = write_bundle(
        tmp_path / "other",
        model.SerializeToString(),
        bundle.head,
        name="tiny",
        input_size=(bundle.manifest.input_height, bundle.manifest.input_width),
        max_instances=4,
    )
    with pytest.raises(RobinError, match="network_sha256 was") as caught:
        make_engine(NAME, other, ONE_THREAD)
    assert caught.value.code == Code.ENGINE_UNAVAILABLE


def test_another_processor_or_runtime_means_another_measurement(
    bundle: Bundle, stored: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ort_int8, "processor", lambda: "another")
    with pytest.raises(RobinError, match=r"processor was .*is another"):
        make_engine(NAME, bundle, ONE_THREAD)


def test_a_full_disk_leaves_no_half_graph(
    bundle: Bundle, scenes: list[Path], cache: EngineCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, data: bytes) -> None:
        path.write_bytes(data[: len(data) // 2])
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    monkeypatch.setattr(cache_module, "write_synced", full)
    with pytest.raises(RobinError, match="No space left") as caught:
        build_int8(bundle, scenes[:2], scenes[2:], ONE_THREAD)
    assert caught.value.code == Code.DISK_FULL
    assert cache.entries() == []
    assert make_engine("auto", bundle, ONE_THREAD).name == "onnxruntime"


def test_a_network_without_convolutions_is_refused_in_one_line(tmp_path: Path) -> None:
    plain = colour_bundle(tmp_path / "colours", 4)
    with pytest.raises(RobinError, match="no convolution to quantise") as caught:
        quantised_graph(plain, golden_frames(plain, 1), reduce_range=False)
    assert caught.value.code == Code.ENGINE_FAILED
    with pytest.raises(RobinError) as caught:
        quantised_graph(plain, [], reduce_range=False)
    assert caught.value.code == Code.OPTION_INVALID


def test_a_graph_that_the_tools_refuse_is_one_line(bundle: Bundle, tmp_path: Path) -> None:
    broken = {**golden_frames(bundle, 1)[0], "rgb": np.zeros((3, 3, 3), np.uint8)}
    with pytest.raises(RobinError, match="quantisation refused it") as caught:
        quantised_graph(bundle, [broken], reduce_range=False)
    assert caught.value.code == Code.ENGINE_FAILED and "\n" not in caught.value.text


def test_engines_are_timed_in_turns(bundle: Bundle) -> None:
    order: list[str] = []

    class Noted(OnnxRuntimeEngine):
        def run(self, *arguments: object, **named: object) -> dict[str, np.ndarray]:
            order.append(self.name)
            return super().run(*arguments, **named)  # type: ignore[arg-type]

    first, second = Noted(bundle, ONE_THREAD), Noted(bundle, ONE_THREAD)
    first.name, second.name = "first", "second"
    times = paired_ms(first, second, golden_frames(bundle), 6)
    assert times.shape == (6, 2) and (times > 0).all()
    pairs = [tuple(order[i : i + 2]) for i in range(0, len(order), 2)]
    assert set(pairs) == {("first", "second"), ("second", "first")}
