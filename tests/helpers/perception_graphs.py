"""Small ONNX graphs; one of them keeps the network's contract and segments colour-coded pictures: red = 10 * (k + 1) is
parcel k.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from robin_perception.core.frame import Frame
from robin_perception.engines.testing.tiny_bundle import graph_bytes
from robin_perception.model.bundle import Bundle, write_bundle

HEIGHT, WIDTH, CLASSES, EMBEDDING = 384, 512, 5, 16


def colour_network(count: int = 20) -> bytes:
    """Graph with ``count`` candidates. ``head.detect.weight`` [count] scales the detection score of each."""
    rows, columns = HEIGHT // 4, WIDTH // 4
    node = helper.make_node
    constants = {
        "codes": (10.0 * np.arange(1, count + 1, dtype=np.float32)).reshape(1, count, 1, 1),
        "five": np.array(5.0, dtype=np.float32),
        "low": np.array(-5.0, dtype=np.float32),
        "red_index": np.array([0], dtype=np.int64),
        "image_shape": np.array([1, 1, HEIGHT, WIDTH], dtype=np.int64),
        "mask_shape": np.array([count, rows, columns], dtype=np.int64),
        "flat_shape": np.array([count, rows * columns], dtype=np.int64),
        "coarse_shape": np.array([count, rows * columns // 4], dtype=np.int64),
        "boundary_shape": np.array([rows, columns], dtype=np.int64),
        "shift": np.array(2.0, dtype=np.float32),
        "zero": np.array(0.0, dtype=np.float32),
        "classes": np.tile(np.eye(CLASSES, dtype=np.float32)[0] * 0.8 + 0.04, (count, 1)),
        "embeddings": np.eye(count, EMBEDDING, dtype=np.float32) + 0.1,
        "peaks": np.zeros((count, 2), dtype=np.float32),
        "quality": np.full(count, 0.9, dtype=np.float32),
        "visible": np.full(count, 0.99, dtype=np.float32),
        "one_axis": np.array([1], dtype=np.int64),
    }
    nodes = [
        node("Cast", ["rgb"], ["rgb_f"], to=TensorProto.FLOAT),
        node("Gather", ["rgb_f", "red_index"], ["red"], axis=2),
        node("Reshape", ["red", "image_shape"], ["red_image"]),
        node("Sub", ["red_image", "codes"], ["difference"]),
        node("Abs", ["difference"], ["distance"]),
        node("Sub", ["five", "distance"], ["likeness"]),
        node("Clip", ["likeness", "low", "five"], ["clipped"]),
        node("AveragePool", ["clipped"], ["grid"], kernel_shape=[4, 4], strides=[4, 4]),
        node("Reshape", ["grid", "mask_shape"], ["mask_logits"]),
        node("Reshape", ["grid", "flat_shape"], ["trunk_stride4"]),
        node("AveragePool", ["grid"], ["grid8"], kernel_shape=[2, 2], strides=[2, 2]),
        node("Reshape", ["grid8", "coarse_shape"], ["trunk_stride8"]),
        node("ReduceMax", ["trunk_stride4", "one_axis"], ["peak"], keepdims=0),
        node("Sub", ["peak", "shift"], ["peak_shifted"]),
        node("Sigmoid", ["peak_shifted"], ["likely"]),
        node("Mul", ["likely", "head.detect.weight"], ["scaled"]),
        # The remaining frame inputs take part without changing anything, as a real network would read them.
        node("ReduceSum", ["depth"], ["depth_sum"], keepdims=0),
        node("ReduceSum", ["intrinsics"], ["intrinsics_sum"], keepdims=0),
        node("ReduceSum", ["belt_plane"], ["plane_sum"], keepdims=0),
        node("Sum", ["depth_sum", "intrinsics_sum", "plane_sum"], ["rest"]),
        node("Mul", ["rest", "zero"], ["nothing"]),
        node("Add", ["scaled", "nothing"], ["detection"]),
        node("Identity", ["classes"], ["class_probabilities"]),
        node("Identity", ["embeddings"], ["embedding"]),
        node("Identity", ["peaks"], ["peak_xy"]),
        node("Identity", ["quality"], ["mask_quality"]),
        node("Identity", ["visible"], ["visible_fraction"]),
        node("ReduceMax", ["grid", "one_axis"], ["any_grid"], keepdims=0),
        node("Reshape", ["any_grid", "boundary_shape"], ["any_mask"]),
        node("Abs", ["any_mask"], ["away_from_edge"]),
        node("Neg", ["away_from_edge"], ["edge"]),
        node("Sigmoid", ["edge"], ["boundary"]),
    ]
    inputs = {
        "rgb": (TensorProto.UINT8, [HEIGHT, WIDTH, 3]),
        "depth": (TensorProto.FLOAT, [HEIGHT, WIDTH]),
        "intrinsics": (TensorProto.FLOAT, [4]),
        "belt_plane": (TensorProto.FLOAT, [4]),
        "head.detect.weight": (TensorProto.FLOAT, [count]),
    }
    outputs = {
        "peak_xy": [count, 2],
        "detection": [count],
        "class_probabilities": [count, CLASSES],
        "mask_quality": [count],
        "visible_fraction": [count],
        "embedding": [count, EMBEDDING],
        "mask_logits": [count, rows, columns],
        "boundary": [rows, columns],
        "trunk_stride4": [count, rows * columns],
        "trunk_stride8": [count, rows * columns // 4],
    }
    return graph_bytes("colours", nodes, inputs, outputs, constants)


def graph_of(nodes: list[onnx.NodeProto], weights: dict[str, NDArray[np.generic]], shape: list[int]) -> onnx.ModelProto:
    """A graph from ``x``, float32 of ``shape``, to ``y``."""
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.UNDEFINED, None)],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def colour_bundle(directory: Path, count: int = 20) -> Bundle:
    head = {"head.detect.weight": np.ones(count, dtype=np.float32)}
    return write_bundle(directory, colour_network(count), head, name="colours", max_instances=count)


def colour_frame(labels: NDArray[np.uint16], depth_m: float = 1.2) -> Frame:
    """Frame whose red channel codes ``labels`` for the network above; the camera looks straight down from
    ``depth_m``. One pixel is nearer: depth of one value is refused.
    """
    height, width = labels.shape
    rgb = np.zeros((height, width, 3), dtype=np.uint8)
    rgb[:, :, 0] = 10 * labels
    focal = 0.9 * width
    K = np.array([[focal, 0, width / 2 - 0.5], [0, focal, height / 2 - 0.5], [0, 0, 1.0]])
    pose = np.diag([1.0, -1.0, -1.0, 1.0])
    pose[:3, 3] = (0.75, 0.0, depth_m)
    depth = np.full((height, width), depth_m, dtype=np.float32)
    depth[0, 0] -= 0.005
    return Frame(rgb, depth, K, pose)


def blocks(height: int, width: int, rows: int, columns: int, gap: int) -> NDArray[np.uint16]:
    """Label image of rows x columns rectangles with ``gap`` background pixels between them (0 = flush)."""
    labels = np.zeros((height, width), dtype=np.uint16)
    ys = np.linspace(height // 10, height - height // 10, rows + 1).astype(int)
    xs = np.linspace(width // 10, width - width // 10, columns + 1).astype(int)
    for r in range(rows):
        for c in range(columns):
            labels[ys[r] : ys[r + 1] - gap, xs[c] : xs[c + 1] - gap] = r * columns + c + 1
    return labels
