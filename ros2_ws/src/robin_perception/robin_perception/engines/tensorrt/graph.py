"""The bundle's graph as TensorRT is to have it: strongly typed, so that every tensor's precision stands in the graph.

Two things differ from ``network.onnx``: colour, which arrives as bytes, becomes float before anything else looks at it
(TensorRT knows bytes at the rim of a network only), and the trunk is in half precision.

What stays in single precision, and why: the geometry (depth in metres to a tenth of a millimetre needs 14 bits, half
precision has 11), and the head with the masks' quadratic forms (sums of terms up to 10^3 that cancel to about 1). The
trunk between them is nearly all of the work. Weak typing would leave that choice to the compiler, anew for each GPU.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from robin_perception.core.errors import Code, RobinError
from robin_perception.model.bundle import FEATURE_OUTPUTS
from robin_perception.model.onnx_graph import (
    ancestors,
    descendants,
    element_types,
    folded,
    frame_inputs,
    inferred,
    parse,
)

Precision = Literal["float16", "float32"]
_LARGEST_HALF = 65504.0
# Inputs of these operators that are no data: they keep their type whatever the data's.
_DATA_INPUTS: Mapping[str, frozenset[int]] = {"Resize": frozenset({0})}


def tensorrt_graph(network: bytes, precision: Precision, source: str) -> bytes:
    """``network`` (ONNX) for TensorRT, with the same inputs and outputs. source: named in errors.

    Raises RobinError MODEL_TENSOR_MISSING for something that is no model, ENGINE_BUILD_FAILED when a weight does not
    fit into half precision.
    """
    model = bytes_at_the_rim(folded(parse(network, source)))
    if precision == "float16":
        model = half_trunk(model, source)
    return bytes(model.SerializeToString())


def bytes_at_the_rim(model: onnx.ModelProto) -> onnx.ModelProto:
    """uint8 inputs pass a Cast to float32 first; casts that come later in the graph find float32 already."""
    graph = model.graph
    taken = {name for node in graph.node for name in (*node.input, *node.output)}
    casts = []
    for value in frame_inputs(graph):
        if value.type.tensor_type.elem_type != TensorProto.UINT8:
            continue
        name = f"{value.name}_float"
        while name in taken:
            name += "_"
        for node in graph.node:
            node.input[:] = [name if used == value.name else used for used in node.input]
        casts.append(helper.make_node("Cast", [value.name], [name], f"cast_{value.name}", to=TensorProto.FLOAT))
    _put_first(graph, casts)
    return inferred(model)


def half_trunk(model: onnx.ModelProto, source: str) -> onnx.ModelProto:
    """The nodes from the first convolutions to the cut between trunk and head in float16, the rest as it was."""
    graph, types = model.graph, element_types(model)
    convolutions = [i for i, node in enumerate(graph.node) if node.op_type == "Conv"]
    region = descendants(graph, convolutions) & ancestors(graph, FEATURE_OUTPUTS)
    halves = _halved_weights(graph, region, source)
    outputs = {value.name for value in graph.output}
    produced = {name for i in region for name in graph.node[i].output if types[name] == TensorProto.FLOAT}
    outside = {name for i, node in enumerate(graph.node) if i not in region for name in node.input} | outputs
    nodes: list[onnx.NodeProto] = []
    known: set[str] = set()
    for index, node in enumerate(graph.node):
        if index not in region:
            nodes.append(node)
            continue
        for place, name in enumerate(node.input):
            if types.get(name) != TensorProto.FLOAT or place not in _DATA_INPUTS.get(node.op_type, {place}):
                continue
            half = f"{name}_half"
            node.input[place] = half
            if name not in produced and name not in halves and half not in known:
                nodes.append(helper.make_node("Cast", [name], [half], f"cast_{half}", to=TensorProto.FLOAT16))
                known.add(half)
        nodes.append(node)
        for place, name in enumerate(node.output):
            if name in produced:
                node.output[place] = f"{name}_half"
                if name in outside:
                    nodes.append(
                        helper.make_node("Cast", [f"{name}_half"], [name], f"cast_{name}_single", to=TensorProto.FLOAT)
                    )
    del graph.node[:]
    graph.node.extend(nodes)
    used = {name for node in nodes for name in node.input}
    weights = [tensor for tensor in (*graph.initializer, *halves.values()) if tensor.name in used]
    del graph.initializer[:]
    graph.initializer.extend(weights)
    return inferred(model)


def _halved_weights(graph: onnx.GraphProto, region: set[int], source: str) -> dict[str, onnx.TensorProto]:
    """Name of a float32 initializer that the region reads as data -> its copy in float16."""
    read = {
        name
        for i in region
        for place, name in enumerate(graph.node[i].input)
        if place in _DATA_INPUTS.get(graph.node[i].op_type, {place})
    }
    halves = {}
    for tensor in graph.initializer:
        if tensor.name not in read or tensor.data_type != TensorProto.FLOAT:
            continue
        values = numpy_helper.to_array(tensor)
        if not np.abs(values).max(initial=0.0) <= _LARGEST_HALF:
            raise RobinError(Code.ENGINE_BUILD_FAILED, f"{source}: '{tensor.name}' does not fit into float16")
        halves[tensor.name] = numpy_helper.from_array(values.astype(np.float16), f"{tensor.name}_half")
    return halves


def _put_first(graph: onnx.GraphProto, nodes: list[onnx.NodeProto]) -> None:
    everything = [*nodes, *graph.node]
    del graph.node[:]
    graph.node.extend(everything)
