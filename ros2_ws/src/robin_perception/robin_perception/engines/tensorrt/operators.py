"""Whether the TensorRT of a robot takes a graph, asked on machines that lack that TensorRT.

Types and limits are those of onnx-tensorrt's table for TensorRT 10.x (docs/operators.md there), for the operators that
our networks use; 11.x has taken none away, and TensorRT for RTX takes more. So a check asks it before a bundle
is sent to a robot, and a build does not: there the parser itself speaks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from robin_perception.core.errors import Code, RobinError
from robin_perception.model.onnx_graph import element_types, frame_inputs, inferred

_FLOATS = frozenset({TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16})
_NUMBERS = _FLOATS | {TensorProto.INT32, TensorProto.INT64}
_ANY = _NUMBERS | {TensorProto.BOOL}
_TYPES: Mapping[str, frozenset[int]] = {
    **dict.fromkeys(("Abs", "Add", "Div", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Max", "Min"), _NUMBERS),
    **dict.fromkeys(("Mul", "Neg", "Pad", "ReduceMax", "ReduceMean", "ReduceSum", "Relu", "Sub", "Sum"), _NUMBERS),
    **dict.fromkeys(("AveragePool", "Clip", "Conv", "Exp", "Floor", "Gemm", "MatMul", "MaxPool", "Pow"), _FLOATS),
    **dict.fromkeys(("Resize", "Round", "Sigmoid", "Softmax", "Sqrt", "Tanh", "Log", "Reciprocal"), _FLOATS),
    **dict.fromkeys(("Concat", "ConstantOfShape", "Expand", "Gather", "GatherND", "Identity", "Reshape"), _ANY),
    **dict.fromkeys(("Shape", "Slice", "Split", "Squeeze", "Transpose", "Unsqueeze", "Where", "Equal"), _ANY),
    **dict.fromkeys(("And", "Or", "Not"), frozenset({TensorProto.BOOL})),
    "TopK": _NUMBERS,
    "Constant": _ANY,
    "Cast": _ANY | {TensorProto.UINT8},
}
_OF_HEADS = frozenset({"MatMul", "Unsqueeze", "Reshape", "Add", "Mul", "Cast"})
_LARGEST_K = 3839
_RESIZE_MODES = frozenset({"nearest", "linear"})
_RESIZE_PLACES = frozenset({"half_pixel", "pytorch_half_pixel", "asymmetric", "align_corners"})
_CONSTANT_INPUTS: Mapping[str, tuple[int, ...]] = {
    "Slice": (1, 2, 3, 4),
    "Pad": (1, 3),
    "ReduceSum": (1,),
    "ReduceMax": (1,),
    "ReduceMean": (1,),
    "Squeeze": (1,),
    "Unsqueeze": (1,),
    "Reshape": (1,),
    "TopK": (1,),
}

Attributes = dict[str, object]


def refuse_unsupported(model: onnx.ModelProto, source: str) -> None:
    """Raises RobinError ENGINE_OPERATOR_UNSUPPORTED naming the first node that TensorRT would refuse, and why."""
    for problem in unsupported(model):
        raise RobinError(Code.ENGINE_OPERATOR_UNSUPPORTED, f"{source}: TensorRT does not take {problem}")


def unsupported(model: onnx.ModelProto) -> Iterator[str]:
    """One line for each node, input or weight that TensorRT would refuse."""
    model = inferred(model)
    types = element_types(model)
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    heads = {value.name for value in frame_inputs(model.graph) if value.name.startswith("head.")}
    for value in frame_inputs(model.graph):
        if any(not dim.HasField("dim_value") for dim in value.type.tensor_type.shape.dim):
            yield f"input '{value.name}': its shape is not static"
    for node in model.graph.node:
        where = f"{node.op_type} '{node.name or node.output[0]}'"
        if node.domain not in ("", "ai.onnx") or node.op_type not in _TYPES:
            yield f"{where}: unknown operator"
            continue
        for name in (*node.input[:1], *node.output[:1]):
            kind = types.get(name, TensorProto.UNDEFINED)
            if kind not in _TYPES[node.op_type] and not (name == node.output[0] and kind == TensorProto.BOOL):
                yield f"{where}: '{name}' is {helper.tensor_dtype_to_string(kind).split('.')[-1].lower()}"
        for place in _CONSTANT_INPUTS.get(node.op_type, ()):
            if place < len(node.input) and node.input[place] and node.input[place] not in constants:
                yield f"{where}: input {place} must be constant"
        if node.op_type == "Conv" and node.input[1] not in constants:
            yield f"{where}: kernels that are known at run time only"
        check = _LIMITS.get(node.op_type)
        attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
        problem = check(node, attributes, constants) if check else None
        if problem:
            yield f"{where}: {problem}"
        if heads.intersection(node.input) and node.op_type not in (
            "MatMul",
            "Unsqueeze",
            "Reshape",
            "Add",
            "Mul",
            "Cast",
        ):
            yield f"{where}: a head's weights may meet matrix products only, to be exchanged at run time"


def _topk(node: onnx.NodeProto, attributes: Attributes, constants: Mapping[str, onnx.TensorProto]) -> str | None:
    if node.input[1] not in constants:
        return None  # told already
    k = int(np.asarray(numpy_helper.to_array(constants[node.input[1]])).reshape(-1)[0])
    if k > _LARGEST_K:
        return f"K = {k}, at most {_LARGEST_K}"
    return None if attributes.get("sorted", 1) == 1 else "it must be sorted"


def _resize(node: onnx.NodeProto, attributes: Attributes, constants: Mapping[str, onnx.TensorProto]) -> str | None:
    del node, constants
    mode, place = (
        _text(attributes.get("mode", b"nearest")),
        _text(attributes.get("coordinate_transformation_mode", b"half_pixel")),
    )
    if mode not in _RESIZE_MODES or place not in _RESIZE_PLACES or attributes.get("antialias", 0):
        return f"mode {mode}, {place}"
    return None


def _pool(node: onnx.NodeProto, attributes: Attributes, constants: Mapping[str, onnx.TensorProto]) -> str | None:
    del constants
    dilations = attributes.get("dilations", [1])
    if not isinstance(dilations, list) or any(value != 1 for value in dilations):
        return f"dilations {dilations}"
    return "its second output" if len(node.output) > 1 else None


def _text(value: object) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


_LIMITS: Mapping[str, Callable[[onnx.NodeProto, Attributes, Mapping[str, onnx.TensorProto]], str | None]] = {
    "TopK": _topk,
    "Resize": _resize,
    "MaxPool": _pool,
    "AveragePool": _pool,
}
