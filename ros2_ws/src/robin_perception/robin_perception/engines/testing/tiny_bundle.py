"""A bundle of a few operators that keeps the whole contract: convolutions with weights inside, a head of matrix
products with biases as inputs, frame tensors of 48 x 64. Engines are exercised with it where the real network takes too
long: a hundred thousand calls, a start every second. It segments nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robin_perception.core.scene import CLASSES
from robin_perception.model.bundle import Bundle, write_bundle

HEIGHT, WIDTH = 48, 64
INSTANCES, CHANNELS, EMBEDDING = 4, 8, 16
_ROWS, _COLUMNS = HEIGHT // 4, WIDTH // 4
_SEED = 7


def tiny_bundle(directory: Path, classes: tuple[str, ...] = CLASSES) -> Bundle:
    """Write it to ``directory`` and load it back, verified. Raises RobinError DISK_FULL, OPTION_INVALID."""
    rng = np.random.default_rng(_SEED)
    head = {
        "head.mask.weight": rng.normal(0, 0.5, (INSTANCES, CHANNELS)).astype(np.float32),
        "head.mask.bias": np.linspace(0.2, 0.8, INSTANCES, dtype=np.float32),
        "head.score.weight": rng.normal(0, 0.3, (INSTANCES, CHANNELS)).astype(np.float32),
        "head.score.bias": np.linspace(1.5, 0.5, INSTANCES, dtype=np.float32),
    }
    return write_bundle(
        directory,
        _network(rng, len(classes)),
        head,
        name="tiny",
        input_size=(HEIGHT, WIDTH),
        max_instances=INSTANCES,
        classes=classes,
    )


def _network(rng: np.random.Generator, classes: int) -> bytes:
    from onnx import TensorProto, helper

    node, cells = helper.make_node, _ROWS * _COLUMNS
    constants: dict[str, NDArray[Any]] = {
        "colour_shape": np.array([1, HEIGHT, WIDTH, 3], dtype=np.int64),
        "depth_shape": np.array([1, 1, HEIGHT, WIDTH], dtype=np.int64),
        "scale": np.array(1 / 255, dtype=np.float32),
        "colour_weight": rng.normal(0, 0.3, (CHANNELS, 3, 4, 4)).astype(np.float32),
        "colour_bias": rng.normal(0, 0.2, CHANNELS).astype(np.float32),
        "depth_weight": rng.normal(0, 0.2, (CHANNELS, 1, 4, 4)).astype(np.float32),
        "join_weight": rng.normal(0, 0.2, (CHANNELS, CHANNELS, 3, 3)).astype(np.float32),
        "join_bias": rng.normal(0, 0.2, CHANNELS).astype(np.float32),
        "flat4": np.array([CHANNELS, cells], dtype=np.int64),
        "flat8": np.array([CHANNELS, cells // 4], dtype=np.int64),
        "mask_shape": np.array([INSTANCES, _ROWS, _COLUMNS], dtype=np.int64),
        "column": np.array([INSTANCES, 1], dtype=np.int64),
        "grid_shape": np.array([_ROWS, _COLUMNS], dtype=np.int64),
        "last": np.array([1], dtype=np.int64),
        "first": np.array([0], dtype=np.int64),
        "tiny": np.array(1e-3, dtype=np.float32),
        "class_logits": rng.normal(0, 1, (INSTANCES, classes)).astype(np.float32),
        "embeddings": np.eye(INSTANCES, EMBEDDING, dtype=np.float32),
        "peaks": np.array([[10, 10], [50, 10], [10, 40], [50, 40]], dtype=np.float32),
    }
    nodes = [
        node("Cast", ["rgb"], ["rgb_float"], to=TensorProto.FLOAT),
        node("Mul", ["rgb_float", "scale"], ["rgb_unit"]),
        node("Reshape", ["rgb_unit", "colour_shape"], ["rgb_rows"]),
        node("Transpose", ["rgb_rows"], ["colour"], perm=[0, 3, 1, 2]),
        node("Reshape", ["depth", "depth_shape"], ["depth_map"]),
        node("Conv", ["colour", "colour_weight", "colour_bias"], ["colour4"], kernel_shape=[4, 4], strides=[4, 4]),
        node("Conv", ["depth_map", "depth_weight"], ["depth4"], kernel_shape=[4, 4], strides=[4, 4]),
        node("Add", ["colour4", "depth4"], ["sum4"]),
        node("Relu", ["sum4"], ["relu4"]),
        node("Conv", ["relu4", "join_weight", "join_bias"], ["maps4"], kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
        node("MaxPool", ["maps4"], ["maps8"], kernel_shape=[2, 2], strides=[2, 2]),
        node("Reshape", ["maps4", "flat4"], ["trunk_stride4"]),
        node("Reshape", ["maps8", "flat8"], ["trunk_stride8"]),
        node("MatMul", ["head.mask.weight", "trunk_stride4"], ["mask_product"]),
        node("Reshape", ["head.mask.bias", "column"], ["mask_bias"]),
        node("Add", ["mask_product", "mask_bias"], ["mask_rows"]),
        node("Reshape", ["mask_rows", "mask_shape"], ["mask_logits"]),
        node("MatMul", ["head.score.weight", "trunk_stride8"], ["score_product"]),
        node("ReduceMean", ["score_product", "last"], ["score_mean"], keepdims=0),
        node("Add", ["score_mean", "head.score.bias"], ["score"]),
        # The camera takes part as in the real network, a little.
        node("ReduceSum", ["intrinsics"], ["camera"], keepdims=0),
        node("ReduceSum", ["belt_plane"], ["belt"], keepdims=0),
        node("Add", ["camera", "belt"], ["view"]),
        node("Mul", ["view", "tiny"], ["view_part"]),
        node("Mul", ["view_part", "tiny"], ["view_bias"]),
        node("Add", ["score", "view_bias"], ["score_seen"]),
        node("Sigmoid", ["score_seen"], ["detection"]),
        node("Sigmoid", ["score"], ["mask_quality"]),
        node("Sigmoid", ["score_mean"], ["visible_fraction"]),
        node("Softmax", ["class_logits"], ["class_probabilities"], axis=1),
        node("Identity", ["embeddings"], ["embedding"]),
        node("Identity", ["peaks"], ["peak_xy"]),
        node("ReduceMean", ["mask_rows", "first"], ["mask_mean"], keepdims=0),
        node("Reshape", ["mask_mean", "grid_shape"], ["mask_grid"]),
        node("Sigmoid", ["mask_grid"], ["boundary"]),
    ]
    inputs = {
        "rgb": (TensorProto.UINT8, [HEIGHT, WIDTH, 3]),
        "depth": (TensorProto.FLOAT, [HEIGHT, WIDTH]),
        "intrinsics": (TensorProto.FLOAT, [4]),
        "belt_plane": (TensorProto.FLOAT, [4]),
        "head.mask.weight": (TensorProto.FLOAT, [INSTANCES, CHANNELS]),
        "head.mask.bias": (TensorProto.FLOAT, [INSTANCES]),
        "head.score.weight": (TensorProto.FLOAT, [INSTANCES, CHANNELS]),
        "head.score.bias": (TensorProto.FLOAT, [INSTANCES]),
    }
    outputs = {
        "peak_xy": [INSTANCES, 2],
        "detection": [INSTANCES],
        "class_probabilities": [INSTANCES, classes],
        "mask_quality": [INSTANCES],
        "visible_fraction": [INSTANCES],
        "embedding": [INSTANCES, EMBEDDING],
        "mask_logits": [INSTANCES, _ROWS, _COLUMNS],
        "boundary": [_ROWS, _COLUMNS],
        "trunk_stride4": [CHANNELS, cells],
        "trunk_stride8": [CHANNELS, cells // 4],
    }
    for each in nodes:
        each.name = each.output[0]  # quantisation speaks of nodes by their names
    return graph_bytes("tiny", nodes, inputs, outputs, constants)


def graph_bytes(
    name: str,
    nodes: Sequence[Any],
    inputs: Mapping[str, tuple[int, Sequence[int]]],
    outputs: Mapping[str, Sequence[int]],
    constants: Mapping[str, NDArray[Any]],
) -> bytes:
    """A checked ONNX file. inputs: name -> element type, shape; outputs: name -> shape of float32."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    graph = helper.make_graph(
        nodes,
        name,
        [helper.make_tensor_value_info(name, kind, shape) for name, (kind, shape) in inputs.items()],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in outputs.items()],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())
