"""Weights on the line between a bundle and what was trained on from it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from edge_adapt.training.blend import Blend
from edge_adapt.training.export import export_bundle, random_bundle, random_network
from edge_adapt.training.network import NetworkConfig
from edge_adapt.training.warm_start import trunk_convolutions
from robin_perception.core.errors import Code, RobinError
from robin_perception.core.scene import CLASSES, OTHER
from robin_perception.engines import EngineConfig, make_engine
from robin_perception.engines.golden import golden_frames
from robin_perception.model.bundle import Bundle, load_bundle

WIDER = (*CLASSES, OTHER)


@pytest.fixture(scope="module")
def before(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return random_bundle(tmp_path_factory.mktemp("before") / "bundle", 3)


def blended(before: Bundle, share: float, out: Path, classes: tuple[str, ...] = CLASSES) -> Bundle:
    return export_bundle(random_network(5, classes=classes), out, "blend", blend=Blend(before, share))


def first_weights(bundle: Bundle) -> np.ndarray:
    weight, _ = trunk_convolutions(onnx.load_model(str(bundle.network_path)).graph, bundle)[0]
    return np.asarray(numpy_helper.to_array(weight))


def test_the_ends_of_the_line_are_both_networks_and_its_middle_their_mean(before: Bundle, tmp_path: Path) -> None:
    trained = export_bundle(random_network(5), tmp_path / "trained", "trained")
    start, half, end = (blended(before, share, tmp_path / f"{share}") for share in (0.0, 0.5, 1.0))
    frame = golden_frames(before, 1)[0]
    for ours, theirs in ((start, before), (end, trained)):
        seen, known = (_seen(bundle, frame) for bundle in (ours, theirs))
        for name in ("boundary", "detection"):
            np.testing.assert_allclose(seen[name], known[name], rtol=1e-3, atol=1e-4)
            assert np.ptp(known[name]) > 1e-3
    mean = (first_weights(before) + first_weights(trained)) / 2
    np.testing.assert_allclose(first_weights(half), mean, rtol=1e-5, atol=1e-6)
    for name, value in half.head.items():
        np.testing.assert_allclose(value, (before.head[name] + trained.head[name]) / 2, rtol=1e-5, atol=1e-6)


def test_a_class_that_the_bundle_does_not_know_keeps_its_trained_weights(before: Bundle, tmp_path: Path) -> None:
    made = blended(before, 0.0, tmp_path / "made", WIDER)
    trained = export_bundle(random_network(5, classes=WIDER), tmp_path / "trained", "trained")
    row = WIDER.index(OTHER)
    np.testing.assert_array_equal(made.head["head.classes.weight"][row], trained.head["head.classes.weight"][row])
    np.testing.assert_array_equal(made.head["head.classes.bias"][:row], before.head["head.classes.bias"])


def test_a_network_of_another_shape_is_refused(before: Bundle, tmp_path: Path) -> None:
    other = random_network(5, NetworkConfig(branch=8, stage4=8, stage8=16, stage16=16, stage32=16, blocks=1))
    with pytest.raises(RobinError) as caught:
        export_bundle(other, tmp_path / "other", "other", blend=Blend(before, 0.5))
    assert caught.value.code == Code.MODEL_TENSOR_MISSING
    assert not (tmp_path / "other").exists()


def _seen(bundle: Bundle, frame: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    engine = make_engine("onnxruntime", load_bundle(bundle.directory), EngineConfig())
    try:
        return dict(engine.run(frame))
    finally:
        engine.close()
