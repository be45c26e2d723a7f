"""The graph that TensorRT gets: operators it takes, precisions where they belong, the same answers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from helpers.perception_graphs import colour_network, graph_of
from onnx import TensorProto, helper, numpy_helper

from robin_perception.core.errors import Code, RobinError
from robin_perception.engines.base import Tensors
from robin_perception.engines.golden import golden_frames
from robin_perception.engines.parity import BOUNDS, compare
from robin_perception.engines.tensorrt.graph import Precision, bytes_at_the_rim, tensorrt_graph
from robin_perception.engines.tensorrt.operators import refuse_unsupported, unsupported
from robin_perception.model.bundle import FEATURE_OUTPUTS, INSTANCE_OUTPUTS, Bundle, load_bundle
from robin_perception.model.onnx_graph import ancestors, element_types, folded, inferred, parse

BASE = Path(__file__).resolve().parents[2] / "models" / "base"


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return load_bundle(BASE)


@pytest.fixture(scope="module")
def network(bundle: Bundle) -> bytes:
    return bundle.network_path.read_bytes()


@pytest.fixture(scope="module")
def half(network: bytes) -> onnx.ModelProto:
    return onnx.load_model_from_string(tensorrt_graph(network, "float16", "base"))


def run(model: bytes, bundle: Bundle, frame: Tensors) -> Tensors:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return dict(zip(INSTANCE_OUTPUTS, session.run(list(INSTANCE_OUTPUTS), {**frame, **bundle.head}), strict=True))


def signature(model: onnx.ModelProto) -> list[tuple[str, int, tuple[int, ...]]]:
    values = [*model.graph.input, *model.graph.output]
    tensors = [(value.name, value.type.tensor_type) for value in values]
    return [(name, t.elem_type, tuple(d.dim_value for d in t.shape.dim)) for name, t in tensors]


@pytest.mark.parametrize("precision", ["float16", "float32"])
def test_inputs_and_outputs_are_the_bundles(network: bytes, precision: Precision) -> None:
    model = onnx.load_model_from_string(tensorrt_graph(network, precision, "base"))
    onnx.checker.check_model(model, full_check=True)
    assert signature(model) == signature(onnx.load_model_from_string(network))
    assert not list(unsupported(model))


def test_the_bundle_as_exported_is_not_what_tensorrt_takes(network: bytes) -> None:
    problems = list(unsupported(folded(parse(network, "base"))))
    assert any("Unsqueeze" in problem and "'rgb' is uint8" in problem for problem in problems)


def test_single_precision_gives_the_same_answers(network: bytes, bundle: Bundle) -> None:
    frame = golden_frames(bundle, 1)[0]
    expected = run(network, bundle, frame)
    found = run(tensorrt_graph(network, "float32", "base"), bundle, frame)
    for name in INSTANCE_OUTPUTS:
        scale = 1 + float(np.abs(expected[name]).max())
        assert np.abs(expected[name] - found[name]).max() <= 1e-5 * scale, name


def test_half_precision_stays_within_its_bound(network: bytes, bundle: Bundle, half: onnx.ModelProto) -> None:
    data = half.SerializeToString()
    frames = golden_frames(bundle, 2)
    parity = compare([(run(network, bundle, frame), run(data, bundle, frame)) for frame in frames])
    assert parity.exceeds(BOUNDS["float16"]) is None and parity.candidates > 10


def test_the_trunk_is_half_and_geometry_and_head_are_single(half: onnx.ModelProto) -> None:
    types, graph = element_types(inferred(half)), half.graph
    convolutions = [i for i, node in enumerate(graph.node) if node.op_type == "Conv"]
    assert len(convolutions) > 40
    for index in convolutions:
        assert {types[name] for name in graph.node[index].input} == {TensorProto.FLOAT16}
    first = min(convolutions)
    before = ancestors(graph, graph.node[first].input)
    single = {types[name] for i in before for name in graph.node[i].output if graph.node[i].op_type != "Cast"}
    assert TensorProto.FLOAT16 not in single and TensorProto.FLOAT in single
    for node in graph.node:
        if node.op_type in ("MatMul", "Exp", "Softmax", "Sigmoid", "TopK", "AveragePool"):
            assert types[node.input[0]] == TensorProto.FLOAT, node.name
    casts = [node for node in graph.node if node.op_type == "Cast" and types[node.output[0]] == TensorProto.FLOAT16]
    assert len(casts) == 2  # colour and geometry enter the trunk, and nothing else does
    assert {types[name] for name in FEATURE_OUTPUTS} == {TensorProto.FLOAT}


def test_head_weights_of_the_base_bundle_meet_matrix_products_only(half: onnx.ModelProto, bundle: Bundle) -> None:
    users = {name: node.op_type for node in half.graph.node for name in node.input if name in bundle.head}
    assert set(users) == set(bundle.head)
    assert all(users[name] == "MatMul" for name in users if name.endswith(".weight"))


def test_a_graph_without_convolutions_is_left_in_single_precision() -> None:
    model = onnx.load_model_from_string(tensorrt_graph(colour_network(8), "float16", "colours"))
    assert TensorProto.FLOAT16 not in element_types(inferred(model)).values()


ONE, TWO = np.array([1], dtype=np.int64), np.array([2], dtype=np.int64)
REFUSED = {
    "unknown operator": ([helper.make_node("Hardmax", ["x"], ["y"])], {}),
    "kernels that are known at run time": ([helper.make_node("Conv", ["x", "x"], ["y"])], {}),
    "K = 4000": ([helper.make_node("TopK", ["x", "k"], ["y", "i"])], {"k": np.array([4000], dtype=np.int64)}),
    "must be sorted": ([helper.make_node("TopK", ["x", "k"], ["y", "i"], sorted=0)], {"k": ONE}),
    "its second output": ([helper.make_node("MaxPool", ["x"], ["y", "i"], kernel_shape=[1, 1])], {}),
    "mode cubic": (
        [helper.make_node("Resize", ["x", "", "s"], ["y"], mode="cubic")],
        {"s": np.array([1, 1, 2, 2], dtype=np.float32)},
    ),
    "'y' is double": ([helper.make_node("Cast", ["x"], ["y"], to=TensorProto.DOUBLE)], {}),
}


@pytest.mark.parametrize("words", REFUSED)
def test_what_tensorrt_does_not_take_is_named(words: str) -> None:
    nodes, weights = REFUSED[words]
    with pytest.raises(RobinError, match=words) as caught:
        refuse_unsupported(graph_of(nodes, weights, [1, 1, 1, 5000]), "small.onnx")
    assert caught.value.code == Code.ENGINE_OPERATOR_UNSUPPORTED
    assert "small.onnx" in caught.value.text and nodes[0].op_type in caught.value.text


def test_a_weight_beyond_half_precision_is_refused(network: bytes) -> None:
    model = onnx.load_model_from_string(network)
    node = next(node for node in model.graph.node if node.op_type == "Conv")
    weight = next(tensor for tensor in model.graph.initializer if tensor.name == node.input[1])
    values = numpy_helper.to_array(weight).copy()
    values.flat[0] = 1e5
    weight.CopyFrom(numpy_helper.from_array(values, weight.name))
    with pytest.raises(RobinError, match=r"does not fit into float16") as caught:
        tensorrt_graph(model.SerializeToString(), "float16", "base")
    assert caught.value.code == Code.ENGINE_BUILD_FAILED


def test_bytes_that_are_no_model_are_refused() -> None:
    with pytest.raises(RobinError, match="here: not an ONNX model") as caught:
        tensorrt_graph(b"no model", "float16", "here")
    assert caught.value.code == Code.MODEL_TENSOR_MISSING


def test_folding_leaves_nothing_that_depends_on_constants_alone(network: bytes) -> None:
    model = folded(parse(network, "base"))
    constants = {tensor.name for tensor in model.graph.initializer}
    assert not [n.name for n in model.graph.node if all(i in constants for i in n.input if i)]
    assert not [n.name for n in model.graph.node if n.op_type in ("Constant", "ConstantOfShape", "Shape")]


def test_bytes_are_cast_once_and_first(network: bytes) -> None:
    model = bytes_at_the_rim(folded(parse(network, "base")))
    assert [node.op_type for node in model.graph.node if "rgb" in node.input] == ["Cast"]
