"""A camera's bytes to the network's inputs as a graph: the depth's bits, and the colour within one grey level."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from helpers.perception_graphs import blocks, colour_bundle, colour_frame
from numpy.typing import NDArray

from robin_perception.core.errors import Code, RobinError
from robin_perception.core.frame import Frame, RawDepth
from robin_perception.engines import EngineConfig
from robin_perception.engines.base import Tensors
from robin_perception.engines.camera import CameraFrame, TakesCamera
from robin_perception.engines.ort.engine import OnnxRuntimeEngine
from robin_perception.engines.prelude import area_taps, bilinear_taps, depth_bytes, prelude_graph
from robin_perception.engines.tensorrt.operators import unsupported
from robin_perception.engines.testing.reference import OnnxRuntimeReference
from robin_perception.engines.verify import verify_engine
from robin_perception.model.bundle import INSTANCE_OUTPUTS, Bundle, load_bundle
from robin_perception.segmentation.segmenter import Segmenter
from robin_perception.segmentation.view import letterbox

BASE = Path(__file__).resolve().parents[2] / "models" / "base"
SIZES = [
    (1280, 720),
    (640, 480),
    (848, 480),
    (1920, 1080),
    (1280, 800),
    (1024, 768),
    (2048, 1536),
    (512, 384),
    (512, 288),
    (424, 240),
    (320, 240),
]


def camera(size: tuple[int, int], smooth: bool) -> tuple[NDArray[np.uint8], NDArray[np.uint16]]:
    rng = np.random.default_rng([size[0], size[1], smooth])
    width, height = size
    if smooth:
        coarse = rng.integers(0, 256, (height // 8 + 1, width // 8 + 1, 3))
        rgb = np.kron(coarse, np.ones((8, 8, 1)))[:height, :width].astype(np.uint8)
    else:
        rgb = rng.integers(0, 256, (height, width, 3)).astype(np.uint8)
    return rgb, rng.integers(0, 65536, (height, width)).astype(np.uint16)


@pytest.mark.parametrize("size", SIZES)
def test_depth_has_the_letterboxs_bits_and_colour_is_within_a_grey_level(size: tuple[int, int]) -> None:
    box = letterbox(size, (512, 384))
    session = onnxruntime.InferenceSession(prelude_graph(box), providers=["CPUExecutionProvider"])
    for unit_m, smooth in ((0.001, False), (0.00025, True)):
        rgb, units = camera(size, smooth)
        unit = np.array([unit_m], dtype=np.float32)
        feeds = {"camera_rgb": rgb, "camera_depth": depth_bytes(units), "depth_unit_m": unit}
        colour, depth = session.run(["rgb", "depth"], feeds)
        assert np.array_equal(depth, box.depth(units.astype(np.float32) * np.float32(unit_m)))
        assert colour.dtype == np.uint8
        assert np.abs(colour.astype(int) - box.rgb(rgb)).max() <= 1


@pytest.mark.parametrize("size", SIZES)
def test_tensorrt_takes_it_and_nothing_in_it_loses_digits(size: tuple[int, int]) -> None:
    model = onnx.load_model_from_string(prelude_graph(letterbox(size, (512, 384))))
    assert not list(unsupported(model))
    assert {"MatMul", "Conv", "AveragePool", "Resize"}.isdisjoint(node.op_type for node in model.graph.node)


def test_whole_frames_pass_with_their_bits() -> None:
    box = letterbox((512, 384), (512, 384))
    rgb, units = camera((512, 384), smooth=False)
    session = onnxruntime.InferenceSession(prelude_graph(box), providers=["CPUExecutionProvider"])
    unit = np.array([0.001], dtype=np.float32)
    feeds = {"camera_rgb": rgb, "camera_depth": depth_bytes(units), "depth_unit_m": unit}
    colour, depth = session.run(["rgb", "depth"], feeds)
    assert np.array_equal(colour, rgb) and np.array_equal(depth, units.astype(np.float32) * np.float32(0.001))


@pytest.mark.parametrize(("size", "target"), [(5, 2), (720, 288), (7, 7), (853, 512), (9, 3)])
def test_area_weights_are_whole_and_share_each_pixel_out(size: int, target: int) -> None:
    taps = area_taps(size, target)
    assert np.array_equal(taps.weights, np.rint(taps.weights))
    assert (taps.weights.sum(axis=0) == taps.divisor).all()
    given = np.zeros(size)
    np.add.at(given, taps.index, taps.weights)
    assert (given == given[0]).all()  # no pixel counts more than another


def test_linear_weights_reproduce_a_ramp() -> None:
    taps = bilinear_taps(10, 25)
    ramp = (taps.weights * np.arange(10.0)[taps.index]).sum(axis=0)
    assert np.allclose(ramp, ((np.arange(25) + 0.5) * 0.4 - 0.5).clip(0, 9), atol=1e-6)


def test_depth_bytes_are_a_view() -> None:
    units = np.array([[1, 256], [65535, 513]], dtype=np.uint16)
    seen = depth_bytes(units)
    assert seen.tolist() == [[[1, 0], [0, 1]], [[255, 255], [1, 2]]] and np.shares_memory(seen, units)


class CameraEngine(OnnxRuntimeReference):
    """The prelude in front of the network, both in ONNX Runtime: the way a GPU goes, on the CPU."""

    name = "camera"
    frames = 0

    def run_camera(self, frame: CameraFrame, outputs: Sequence[str] = INSTANCE_OUTPUTS) -> Tensors:
        self.frames += 1
        return self.run(self.prelude(frame), outputs)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return colour_bundle(tmp_path_factory.mktemp("model") / "colours", 12)


def raw_frame() -> Frame:
    frame = colour_frame(blocks(480, 640, 3, 4, 16))
    units = np.rint(frame.depth * 1000).astype(np.uint16)
    return replace(frame, depth=units.astype(np.float32) * np.float32(0.001), raw_depth=RawDepth(units, 0.001))


def test_the_segmenter_hands_raw_bytes_to_an_engine_that_takes_them_and_sees_the_same(bundle: Bundle) -> None:
    engine = CameraEngine(bundle, EngineConfig(intra_threads=1))
    assert isinstance(engine, TakesCamera)
    segmenter, frame = Segmenter(bundle, engine), raw_frame()
    by_bytes = segmenter.segment(frame)
    assert engine.frames == 1 and len(by_bytes.instances) == 12
    by_images = segmenter.segment(frame.with_depth(frame.depth))
    assert engine.frames == 1  # depth that was replaced has no raw numbers any more
    assert np.mean(by_bytes.labels != by_images.labels) < 0.002
    plain = Segmenter(bundle, OnnxRuntimeEngine(bundle, EngineConfig(intra_threads=1)))
    assert np.array_equal(plain.segment(frame).labels, by_images.labels)


def test_where_the_way_from_bytes_cannot_be_built_frames_go_on_by_images(
    bundle: Bundle, caplog: pytest.LogCaptureFixture
) -> None:
    engine, frame = CameraEngine(bundle, EngineConfig(intra_threads=1)), raw_frame()
    right = Segmenter(bundle, engine).segment(frame.with_depth(frame.depth))

    def fails(frame: CameraFrame, outputs: Sequence[str]) -> Tensors:
        engine.frames += 1
        raise RobinError(Code.ENGINE_OUT_OF_MEMORY, "prelude for 640x480: no memory")

    engine.run_camera = fails  # type: ignore[method-assign]
    segmenter = Segmenter(bundle, engine)
    with caplog.at_level("WARNING"):
        for _ in range(2):
            assert np.array_equal(segmenter.segment(frame).labels, right.labels)
    assert engine.frames == 1 and caplog.text.count("scaled on the host: E212") == 1


def test_raw_depth_of_another_size_is_refused() -> None:
    frame = replace(raw_frame(), raw_depth=RawDepth(np.zeros((10, 10), np.uint16), 0.001))
    with pytest.raises(RobinError, match="raw depth") as caught:
        frame.validated()
    assert caught.value.code == Code.INPUT_SIZE_MISMATCH


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["", "colours are exchanged", "bytes of depth are exchanged"])
def test_a_way_from_bytes_that_is_wrong_is_found_out(fault: str) -> None:
    class Device(CameraEngine):
        def run_camera(self, frame: CameraFrame, outputs: Sequence[str] = INSTANCE_OUTPUTS) -> Tensors:
            if fault.startswith("colours"):
                frame = replace(frame, rgb=np.ascontiguousarray(frame.rgb[:, :, ::-1]))
            elif fault:
                frame = replace(frame, depth_units=frame.depth_units.byteswap())
            return super().run_camera(frame, outputs)

    engine = Device(load_bundle(BASE), EngineConfig(intra_threads=1))
    verdict = verify_engine(engine, engine.bundle)
    assert len(verdict.failures) == (4 if fault else 0), verdict.failures  # at each size
    assert all(failure.startswith("camera ") for failure in verdict.failures)
