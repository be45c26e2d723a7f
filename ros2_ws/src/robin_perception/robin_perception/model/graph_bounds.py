"""What a bundle's graph may be: known operators, no loops, nothing outside the file, and bounded work for one frame.

A graph is a program. It is judged before an engine gets it, as an engine would run whatever it is given.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import onnx
from onnx import AttributeProto, TensorProto

from robin_perception.core.errors import Code, RobinError
from robin_perception.model.onnx_graph import folded, static_shapes

MOST_NODES = 3000
MOST_VALUES = 1 << 25
"""Of one tensor."""
MOST_WORK = 50e9
"""Multiplications of one frame; the shipped network needs 2.5e9."""
_NAMES = """
    Abs Add And ArgMax ArgMin AveragePool BatchNormalization Cast Ceil Clip Concat Constant ConstantOfShape Conv CumSum
    DepthToSpace DequantizeLinear Div Elu Equal Erf Exp Expand Flatten Floor Gather GatherElements GatherND Gelu Gemm
    GlobalAveragePool GlobalMaxPool Greater GreaterOrEqual HardSigmoid HardSwish Identity LayerNormalization LeakyRelu
    Less LessOrEqual Log LogSoftmax MatMul Max MaxPool Min Mod Mul Neg Not Or PRelu Pad Pow QuantizeLinear Range
    Reciprocal ReduceL2 ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum Relu Reshape Resize Round ScatterND Shape
    Sigmoid Sign Size Slice Softmax Softplus SpaceToDepth Split Sqrt Squeeze Sub Sum Tanh Tile TopK Transpose Unsqueeze
    Where Xor
"""
KNOWN_OPERATORS = frozenset(_NAMES.split())
"""No control flow, no recurrence, no operator of another domain."""

Shapes = Mapping[str, tuple[int, ...]]


def refuse_unbounded(model: onnx.ModelProto, source: str) -> dict[str, tuple[int, ...]]:
    """Tensor name -> shape, all static, of a graph that one frame runs through in bounded time and memory.

    Raises RobinError MODEL_MANIFEST_INVALID naming ``source`` and what does not fit.
    """
    fault = _structure_fault(model)
    if fault is None:
        try:
            flat = folded(model)
        except Exception as exc:  # shape inference and the reference evaluator raise whatever they meet
            fault = f"its shapes cannot be told: {type(exc).__name__}: {exc}"
        else:
            shapes = static_shapes(flat)
            fault = _work_fault(flat.graph, shapes)
    if fault is not None:
        raise RobinError(Code.MODEL_MANIFEST_INVALID, f"{source}: {fault}")
    return shapes


def check_outputs(shapes: Shapes, input_size: tuple[int, int], candidates: int, classes: int, source: str) -> None:
    """The outputs have the shapes that decoding relies on; ``shapes`` were inferred, input_size is (height, width).
    Raises RobinError MODEL_MANIFEST_INVALID."""
    rows, columns = input_size[0] // 4, input_size[1] // 4
    wanted: dict[str, tuple[int, ...]] = {
        "peak_xy": (candidates, 2),
        "detection": (candidates,),
        "class_probabilities": (candidates, classes),
        "mask_quality": (candidates,),
        "visible_fraction": (candidates,),
        "embedding": (candidates, *shapes["embedding"][1:2]),
        "mask_logits": (candidates, rows, columns),
        "boundary": (rows, columns),
    }
    for name, shape in wanted.items():
        if shapes[name] != shape:
            text = f"output '{name}' is {list(shapes[name])}; for the manifest's input, max_instances and 'classes'"
            raise RobinError(Code.MODEL_MANIFEST_INVALID, f"{source}: {text} it must be {list(shape)}")


def _structure_fault(model: onnx.ModelProto) -> str | None:
    graph = model.graph
    if len(graph.node) > MOST_NODES:
        return f"{len(graph.node):,} nodes, {MOST_NODES:,} are allowed"
    if model.functions or model.training_info or graph.sparse_initializer:
        return "functions, training steps and sparse weights are not accepted"
    if any(_is_outside(tensor) for tensor in graph.initializer):
        return "weights outside the file are not accepted"
    for node in graph.node:
        where = f"{node.op_type} '{node.name or (node.output[0] if node.output else '')}'"
        if node.domain not in ("", "ai.onnx") or node.op_type not in KNOWN_OPERATORS:
            return f"{where}: not one of the operators that a network may have"
        for attribute in node.attribute:
            if attribute.type not in _PLAIN_ATTRIBUTES:
                return f"{where}: attribute '{attribute.name}' holds more than plain values"
            if attribute.type == AttributeProto.TENSOR and _is_outside(attribute.t):
                return f"{where}: values outside the file are not accepted"
    return None


_PLAIN_ATTRIBUTES = frozenset(
    (
        AttributeProto.FLOAT,
        AttributeProto.INT,
        AttributeProto.STRING,
        AttributeProto.TENSOR,
        AttributeProto.FLOATS,
        AttributeProto.INTS,
        AttributeProto.STRINGS,
    )
)


def _is_outside(tensor: TensorProto) -> bool:
    return tensor.data_location == TensorProto.EXTERNAL or bool(tensor.external_data)


def _work_fault(graph: onnx.GraphProto, shapes: Shapes) -> str | None:
    """Every tensor's size and all work together; ``shapes`` were inferred, not read."""
    work = 0.0
    for node in graph.node:
        for name in filter(None, node.output):
            shape = shapes.get(name)
            if shape is None or any(size < 0 for size in shape):
                return f"'{name}' has no static shape"
            if math.prod(shape) > MOST_VALUES:
                return f"'{name}' has {math.prod(shape):,} values, {MOST_VALUES:,} are allowed"
        work += _work(node, shapes)
        if work > MOST_WORK:
            return f"more than {MOST_WORK:.0e} multiplications for one frame"
    return None


def _work(node: onnx.NodeProto, shapes: Shapes) -> float:
    """Multiplications, or values read, of one node."""
    inputs = [shapes.get(name, ()) for name in node.input if name]
    values = float(sum(math.prod(shapes[name]) for name in node.output if name))
    if node.op_type == "Conv" and len(inputs) > 1:
        return values * math.prod(inputs[1][1:])
    if node.op_type in ("MatMul", "Gemm") and inputs and inputs[0]:
        return values * max(inputs[0][-1], inputs[0][0])
    kernel = next((math.prod(a.ints) for a in node.attribute if a.name == "kernel_shape"), 1)
    return values * kernel + sum(math.prod(shape) for shape in inputs)
