"""Engines: registry, head swaps, failures that are failures, and no torch."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.perception_graphs import blocks, colour_bundle, colour_frame

from robin_perception.core.errors import Code, RobinError
from robin_perception.engines import Engine, EngineConfig, engine_names, make_engine, register_engine
from robin_perception.engines.base import HeadSet
from robin_perception.engines.ort.engine import OnnxRuntimeEngine
from robin_perception.model.bundle import FEATURE_OUTPUTS, Bundle
from robin_perception.segmentation.segmenter import Segmenter

COUNT = 8


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return colour_bundle(tmp_path_factory.mktemp("model") / "colours", COUNT)


@pytest.fixture(scope="module")
def engine(bundle: Bundle) -> Engine:
    return make_engine("auto", bundle, EngineConfig(intra_threads=1))


def frame_inputs(bundle: Bundle, engine: Engine) -> dict[str, np.ndarray]:
    return Segmenter(bundle, engine).view(colour_frame(blocks(384, 512, 2, 3, 8))).inputs


def test_unknown_engine_names_the_known_ones(bundle: Bundle) -> None:
    with pytest.raises(RobinError, match=r"'tpu'.*auto.*onnxruntime") as caught:
        make_engine("tpu", bundle)
    assert caught.value.code == Code.ENGINE_UNKNOWN
    assert "onnxruntime" in engine_names()


def test_a_name_is_registered_once() -> None:
    with pytest.raises(ValueError, match="already"):
        register_engine("onnxruntime", OnnxRuntimeEngine)


def test_specifications_are_those_of_the_graph(engine: Engine) -> None:
    assert engine.inputs["rgb"].shape == (384, 512, 3) and engine.inputs["rgb"].dtype == "uint8"
    assert "head.detect.weight" not in engine.inputs
    assert engine.outputs["mask_logits"].shape == (COUNT, 96, 128)


def test_features_come_only_when_asked_for(bundle: Bundle, engine: Engine) -> None:
    inputs = frame_inputs(bundle, engine)
    assert not set(FEATURE_OUTPUTS) & set(engine.run(inputs))
    assert set(engine.run(inputs, FEATURE_OUTPUTS)) == set(FEATURE_OUTPUTS)


def test_the_same_frame_gives_the_same_bits(bundle: Bundle, engine: Engine) -> None:
    inputs = frame_inputs(bundle, engine)
    first, second = engine.run(inputs), engine.run(inputs)
    assert all(np.array_equal(first[key], second[key]) for key in first)


def test_a_head_is_swapped_and_a_wrong_one_refused(bundle: Bundle, engine: Engine) -> None:
    inputs = frame_inputs(bundle, engine)
    before = engine.run(inputs)["detection"]
    engine.set_head({"head.detect.weight": np.full(COUNT, 0.5, dtype=np.float32)})
    assert np.allclose(engine.run(inputs)["detection"], 0.5 * before)
    for wrong in ({}, {"head.detect.weight": np.ones(COUNT + 1, np.float32)}):
        with pytest.raises(RobinError) as caught:
            engine.set_head(wrong)
        assert caught.value.code == Code.MODEL_TENSOR_MISSING
    assert np.allclose(engine.run(inputs)["detection"], 0.5 * before)
    engine.set_head(bundle.head)
    assert np.array_equal(engine.run(inputs)["detection"], before)


@pytest.mark.parametrize(
    ("name", "value"),
    [("rgb", None), ("rgb", np.zeros((10, 10, 3), np.uint8)), ("depth", np.zeros((384, 512), np.float64))],
)
def test_wrong_inputs_are_named(bundle: Bundle, engine: Engine, name: str, value: np.ndarray | None) -> None:
    inputs: dict[str, Any] = frame_inputs(bundle, engine)
    inputs.pop(name) if value is None else inputs.update({name: value})
    with pytest.raises(RobinError, match=name) as caught:
        engine.run(inputs)
    assert caught.value.code == Code.ENGINE_FAILED


def test_an_unknown_output_is_a_failure(bundle: Bundle, engine: Engine) -> None:
    with pytest.raises(RobinError) as caught:
        engine.run(frame_inputs(bundle, engine), ("no_such_output",))
    assert caught.value.code == Code.ENGINE_FAILED


class SpoiltEngine(OnnxRuntimeEngine):
    """A real engine whose answers are damaged on the way back, as a broken driver would."""

    damage = "nan"

    def _run(self, feeds: dict[str, np.ndarray], outputs: Sequence[str], head: HeadSet) -> dict[str, np.ndarray]:
        results = super()._run(feeds, outputs, head)
        if self.damage == "nan":
            results["mask_logits"] = results["mask_logits"].copy()
            results["mask_logits"][3, 5, 7] = np.nan
        else:
            results["mask_logits"] = results["mask_logits"][:, :-1]
        return results


@pytest.mark.parametrize("damage", ["nan", "shape"])
def test_an_invalid_answer_is_an_error_not_an_empty_scene(bundle: Bundle, damage: str) -> None:
    engine = SpoiltEngine(bundle, EngineConfig(intra_threads=1))
    engine.damage = damage
    with pytest.raises(RobinError, match="mask_logits") as caught:
        Segmenter(bundle, engine).segment(colour_frame(blocks(384, 512, 2, 3, 8)))
    assert caught.value.code == Code.ENGINE_FAILED


def test_torch_is_not_imported_on_the_path_of_a_pick(bundle: Bundle) -> None:
    script = (
        "import sys; from pathlib import Path; sys.path.insert(0, 'tests')\n"
        "from robin_perception.segmentation.segmenter import load_segmenter\n"
        "from helpers.perception_graphs import blocks, colour_frame\n"
        f"load_segmenter(Path({str(bundle.directory)!r})).segment(colour_frame(blocks(240, 320, 2, 3, 8)))\n"
        "heavy = {'torch', 'sklearn', 'mujoco', 'open3d', 'rclpy', 'matplotlib'} & set(sys.modules)\n"
        "sys.exit(f'imported: {heavy}' if heavy else 0)"
    )
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run([sys.executable, "-c", script], cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
