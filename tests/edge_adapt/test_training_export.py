"""The exported graph: the same numbers as torch, standard operators only, head weights as inputs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from numpy.typing import NDArray

from edge_adapt.training.export import InstanceGraph, export_onnx, head_weights, random_bundle, random_network
from edge_adapt.training.head import expand_kernels, grid_coordinates, mask_planes
from edge_adapt.training.network import SegmentationNetwork
from robin_perception.model.bundle import FEATURE_OUTPUTS, INSTANCE_OUTPUTS, load_bundle

# Every one of them is in TensorRT's list of supported ONNX operators.
ALLOWED = {
    *("Add", "And", "AveragePool", "Cast", "Clip", "Concat", "Constant", "ConstantOfShape", "Conv", "Div", "Exp"),
    *("Gather", "Greater", "GreaterOrEqual", "Less", "MatMul", "MaxPool", "Mul", "Neg", "Pad", "ReduceSum", "Relu"),
    *("Reshape", "Resize", "Shape", "Sigmoid", "Slice", "Softmax", "Sqrt", "Sub", "TopK", "Transpose", "Unsqueeze"),
    "Where",
}

Feed = dict[str, NDArray[np.generic]]


@pytest.fixture(scope="module")
def network() -> SegmentationNetwork:
    network = random_network(1)
    with torch.no_grad():
        network.head.layer("heat2").weight.mul_(50)
        network.head.layer("kernel").weight.mul_(3)
    return network


@pytest.fixture(scope="module")
def model(network: SegmentationNetwork) -> bytes:
    return export_onnx(network)


@pytest.fixture(scope="module")
def session(model: bytes) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])


@pytest.fixture(scope="module")
def frame() -> Feed:
    """Coarse noise in colour and depth, with a hole: every cell differs, so that the order of the peaks is clear."""
    rng = np.random.default_rng(8)
    rgb = np.kron(rng.integers(0, 256, (48, 64, 3)), np.ones((8, 8, 1))).astype(np.uint8)
    depth = (1.1 - 0.2 * np.kron(rng.random((24, 32)), np.ones((16, 16)))).astype(np.float32)
    depth[60:90, 100:180] = 0
    intrinsics = np.array([400, 405, 250, 195], dtype=np.float32)
    belt_plane = np.array([0.05, 0.1, -0.99373, 1.2], dtype=np.float32)
    return {"rgb": rgb, "depth": depth, "intrinsics": intrinsics, "belt_plane": belt_plane}


def test_onnxruntime_gives_what_torch_gives(
    network: SegmentationNetwork, session: onnxruntime.InferenceSession, frame: Feed
) -> None:
    weights = head_weights(network.head)
    assert all(np.abs(value).max() > 0 for name, value in weights.items() if name.endswith("bias"))
    names = [*INSTANCE_OUTPUTS, *FEATURE_OUTPUTS]
    found = dict(zip(names, session.run(names, {**frame, **weights}), strict=True))
    with torch.no_grad():
        inputs = [torch.from_numpy(np.asarray(value)) for value in (*frame.values(), *weights.values())]
        expected = dict(zip(names, InstanceGraph(network).eval()(*inputs), strict=True))
    clear = -np.diff(found["detection"]) > 1e-4 * found["detection"][:-1]
    distinct = np.concatenate(([True], clear)) & np.concatenate((clear, [False]))
    assert distinct.sum() > 20
    for name in names:
        rows = distinct if found[name].shape[0] == 100 else slice(None)
        scale = 1.0 + float(expected[name].abs().max())
        assert np.abs(found[name][rows] - expected[name].numpy()[rows]).max() < 2e-4 * scale, name


def test_the_graph_decodes_what_training_optimises(
    network: SegmentationNetwork, session: onnxruntime.InferenceSession, frame: Feed
) -> None:
    weights = head_weights(network.head)
    names = ["peak_xy", "detection", "mask_logits", "mask_quality", "boundary"]
    peak_xy, detection, masks, quality, boundary = session.run(names, {**frame, **weights})
    with torch.no_grad():
        outputs = network(*(torch.from_numpy(np.asarray(value))[None] for value in frame.values()))
        columns, rows = (torch.from_numpy((peak_xy[:20, i] - 3.5) / 8).round().long() for i in (0, 1))
        cells = rows * 64 + columns
        points = network.head.points(outputs.stride8[0].flatten(1).T[cells])
        kernels = expand_kernels(points.kernel, grid_coordinates(8).T[cells])
        planes = mask_planes(outputs.mask_features[0].flatten(1), outputs.offset[0].flatten(1), grid_coordinates(4))
        expected = (kernels @ planes).numpy().reshape(-1, 96, 128)
        heat = torch.sigmoid(outputs.heat[0, 0]).flatten()[cells]
    assert np.abs(masks[:20] - expected).max() < 1e-3 * (1 + np.abs(expected).max())
    assert np.allclose(detection[:20], heat.numpy(), atol=1e-5)
    assert np.allclose(quality[:20], torch.sigmoid(points.quality).numpy(), atol=1e-5)
    assert np.allclose(boundary, torch.sigmoid(outputs.boundary[0, 0]).numpy(), atol=1e-5)


def test_only_standard_operators_and_static_shapes(model: bytes) -> None:
    graph = onnx.load_model_from_string(model)
    assert {node.op_type for node in graph.graph.node} <= ALLOWED
    assert {node.domain for node in graph.graph.node} <= {""}
    assert [entry.domain for entry in graph.opset_import] == [""] and graph.opset_import[0].version >= 17
    for value in (*graph.graph.input, *graph.graph.output):
        assert all(dim.HasField("dim_value") and dim.dim_value > 0 for dim in value.type.tensor_type.shape.dim)


def test_head_weights_meet_matrix_products_only(model: bytes) -> None:
    graph = onnx.load_model_from_string(model).graph
    users = {node.op_type for node in graph.node for name in node.input if name.startswith("head.")}
    assert users <= {"MatMul", "Unsqueeze", "Add"}


def test_a_new_head_changes_the_answer_without_a_new_graph(
    network: SegmentationNetwork, session: onnxruntime.InferenceSession, frame: Feed
) -> None:
    weights = head_weights(network.head)
    (before,) = session.run(["mask_quality"], {**frame, **weights})
    weights["head.quality.bias"] = weights["head.quality.bias"] + 1
    (after,) = session.run(["mask_quality"], {**frame, **weights})
    assert (after > before).all()


def test_a_random_bundle_verifies(tmp_path: Path) -> None:
    bundle = random_bundle(tmp_path / "random", seed=4)
    again = load_bundle(tmp_path / "random")
    assert again.model_id == bundle.model_id
    assert 0 < bundle.manifest.parameters < 5_000_000
    assert {"network.onnx", "head.safetensors", "manifest.json", "CARD.md"} == {
        path.name for path in (tmp_path / "random").iterdir()
    }
