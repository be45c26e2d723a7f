"""What is done to an ONNX graph before a compiler gets it: constants folded, types known, regions found."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from robin_perception.core.errors import Code, RobinError

_LARGEST_FOLDED = 1 << 16  # values; grids that are computed from constants stay as they are beyond it
_NO_ARITHMETIC_OF_SHAPES = frozenset({"AveragePool", "Conv", "Gemm", "MatMul", "MaxPool", "Resize"})


def parse(data: bytes, source: str) -> onnx.ModelProto:
    """Raises RobinError MODEL_TENSOR_MISSING naming ``source`` when ``data`` is no ONNX model."""
    try:
        return onnx.load_model_from_string(data)
    except Exception as exc:  # protobuf raises types of its own
        raise RobinError(
            Code.MODEL_TENSOR_MISSING, f"{source}: not an ONNX model ({type(exc).__name__}: {exc})"
        ) from None


def inferred(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy whose tensors all have their types and shapes, told anew."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    del copy.graph.value_info[:]
    return onnx.shape_inference.infer_shapes(copy, strict_mode=True)


def element_types(model: onnx.ModelProto) -> dict[str, int]:
    """Tensor name -> TensorProto data type, of an inferred model."""
    graph = model.graph
    types = {value.name: value.type.tensor_type.elem_type for value in (*graph.value_info, *graph.input, *graph.output)}
    return types | {tensor.name: tensor.data_type for tensor in graph.initializer}


def static_shapes(model: onnx.ModelProto) -> dict[str, tuple[int, ...]]:
    """Tensor name -> shape, where an inferred model knows every dimension."""
    graph = model.graph
    shapes = {}
    for value in (*graph.value_info, *graph.input, *graph.output):
        dims = value.type.tensor_type.shape.dim
        if value.type.tensor_type.HasField("shape") and all(dim.HasField("dim_value") for dim in dims):
            shapes[value.name] = tuple(dim.dim_value for dim in dims)
    return shapes | {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}


def frame_inputs(graph: onnx.GraphProto) -> list[onnx.ValueInfoProto]:
    """The graph's inputs without those that are initializers."""
    weights = {tensor.name for tensor in graph.initializer}
    return [value for value in graph.input if value.name not in weights]


def folded(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same graph with everything computed that depends on constants and static shapes alone.

    Compilers ask for axes, paddings and sizes as initializers, while exporters write chains of operators there.
    """
    model = inferred(model)
    graph, shapes = model.graph, static_shapes(model)
    values: dict[str, NDArray[np.generic]] = {t.name: numpy_helper.to_array(t) for t in graph.initializer}
    fresh: dict[str, NDArray[np.generic]] = {}
    kept: list[onnx.NodeProto] = []
    outputs = {value.name for value in graph.output}
    for node in graph.node:
        # An output stays a node's: a graph whose outputs are initializers is no valid one.
        results = None if outputs.intersection(node.output) else _evaluated(node, values, shapes, model)
        if results is None:
            kept.append(node)
            continue
        values |= results
        fresh |= results
    used = {name for node in kept for name in node.input}
    del graph.node[:]
    graph.node.extend(kept)
    initializers = [t for t in graph.initializer if t.name in used]
    initializers += [numpy_helper.from_array(np.asarray(v), name) for name, v in fresh.items() if name in used]
    del graph.initializer[:]
    graph.initializer.extend(initializers)
    return inferred(model)


def _evaluated(
    node: onnx.NodeProto,
    values: dict[str, NDArray[np.generic]],
    shapes: dict[str, tuple[int, ...]],
    model: onnx.ModelProto,
) -> dict[str, NDArray[np.generic]] | None:
    """The outputs of ``node`` by name, or None where it depends on a frame, or on too much to be worth it."""
    if node.op_type == "Shape" and not node.attribute and node.input[0] in shapes:
        return {node.output[0]: np.array(shapes[node.input[0]], dtype=np.int64)}
    names = [name for name in node.input if name]
    if any(name not in values for name in names) or any(a.type == onnx.AttributeProto.GRAPH for a in node.attribute):
        return None
    if node.op_type in _NO_ARITHMETIC_OF_SHAPES or any(values[name].size > _LARGEST_FOLDED for name in names):
        return None
    if any(int(np.prod(shapes.get(name, (_LARGEST_FOLDED + 1,)))) > _LARGEST_FOLDED for name in node.output):
        return None
    graph = helper.make_graph(
        [node],
        "constant",
        [helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(values[n].dtype), None) for n in set(names)],
        [helper.make_tensor_value_info(name, TensorProto.UNDEFINED, None) for name in node.output],
    )
    single = helper.make_model(graph, opset_imports=model.opset_import, ir_version=model.ir_version)
    results = ReferenceEvaluator(single).run(None, {name: values[name] for name in names})
    return dict(zip(node.output, (np.asarray(value) for value in results), strict=True))


def descendants(graph: onnx.GraphProto, starts: Iterable[int]) -> set[int]:
    """Indices of the nodes ``starts`` and of all that depend on them."""
    found: set[int] = set(starts)
    reached: set[str] = set()
    for index, node in enumerate(graph.node):  # the nodes of a valid graph stand in topological order
        if index in found or reached.intersection(node.input):
            found.add(index)
            reached.update(node.output)
    return found


def ancestors(graph: onnx.GraphProto, tensors: Iterable[str]) -> set[int]:
    """Indices of all nodes that ``tensors`` depend on."""
    wanted, found = set(tensors), set()
    for index in range(len(graph.node) - 1, -1, -1):
        node = graph.node[index]
        if wanted.intersection(node.output):
            found.add(index)
            wanted.update(node.input)
    return found
