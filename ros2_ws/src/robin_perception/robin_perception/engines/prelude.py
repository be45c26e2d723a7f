"""A camera's bytes to the network's inputs, as an ONNX graph: what ``Letterbox`` does on the host, done on the device.

It is a graph of its own in front of the network's: a camera of another size needs a new one of these (seconds), not a
new network (minutes), and the network stays the same for every engine. As a graph it runs on the CPU as well, where it
is compared with the letterbox bit by bit.

Colour shrinks by a whole number first, as a mean over areas, then linearly. For the areas, per axis ``size / target =
p / q`` in lowest terms, and pixel j covers the whole number ``max(0, min((i+1)p, (j+1)q) - max(ip, jq))`` of the p
parts of target pixel i: sums of pixels times such numbers are exact in float32, and one division rounds once. The
linear step is fixed-point arithmetic in OpenCV, so that colour may differ from the letterbox by one grey level. Sums
are taken tap by tap (gather, times, plus) and not as matrix products, which may lose digits to TF32. Depth is gathered,
never mixed: its bits are the letterbox's.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import gcd

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from robin_perception.model.onnx_graph import inferred
from robin_perception.segmentation.view import Letterbox, letterbox

PRELUDE_INPUTS = ("camera_rgb", "camera_depth", "depth_unit_m")
_OPSET = 17
_IR_VERSION = 8


@dataclass(frozen=True)
class Taps:
    """Resampling of one axis: output i is sum over t of weights[t, i] * input[index[t, i]], divided by ``divisor``.

    index int64 [T, n], weights float32 [T, n].
    """

    index: NDArray[np.int64]
    weights: NDArray[np.float32]
    divisor: float


def area_taps(size: int, target: int) -> Taps:
    """Means over areas, ``size`` >= ``target``; whole weights."""
    divisor = gcd(size, target)
    p, q = size // divisor, target // divisor
    first = np.arange(target, dtype=np.int64) * p // q
    last = ((np.arange(target, dtype=np.int64) + 1) * p - 1) // q
    index = first + np.arange(int((last - first).max()) + 1, dtype=np.int64)[:, None]
    i = np.arange(target, dtype=np.int64)
    overlap = np.minimum((i + 1) * p, (index + 1) * q) - np.maximum(i * p, index * q)
    return Taps(index.clip(0, size - 1), np.maximum(overlap, 0).astype(np.float32), float(p))


def bilinear_taps(size: int, target: int) -> Taps:
    """Linear interpolation between pixel centres, constant beyond the outer ones."""
    place = ((np.arange(target) + 0.5) * size / target - 0.5).clip(0, size - 1)
    low = np.minimum(place.astype(np.int64), max(0, size - 2))
    weight = place - low
    index = np.stack([low, np.minimum(low + 1, size - 1)])
    return Taps(index, np.stack([1 - weight, weight]).astype(np.float32), 1.0)


def nearest_index(size: int, target: int, scale: float) -> NDArray[np.int64]:
    """The pixel of each network pixel, as ``Letterbox.depth`` takes it."""
    return ((np.arange(target) + 0.5) / scale).astype(np.int64).clip(0, size - 1)


def camera_graph(frame_size: tuple[int, int], network_size: tuple[int, int]) -> bytes:
    """``prelude_graph`` for frames and a network of these sizes, width and height in pixels."""
    return prelude_graph(letterbox(frame_size, network_size))


def prelude_graph(box: Letterbox) -> bytes:
    """The graph for frames of ``box.frame_size``.

    Inputs: camera_rgb uint8 [H,W,3]; camera_depth uint8 [H,W,2], the bytes of uint16, low one first (TensorRT knows no
    uint16); depth_unit_m float32 [1], metres per unit. Outputs: rgb uint8 [h,w,3], depth float32 [h,w] metres.
    """
    (width, height), (scaled_w, scaled_h) = box.frame_size, box.scaled_size
    graph = _Graph()
    colour = graph.add("Cast", "camera_rgb", to=TensorProto.FLOAT)
    whole = min(width // scaled_w, height // scaled_h)
    if whole >= 2:
        width_1, height_1 = width // whole, height // whole
        colour = graph.mean(colour, area_taps(height, height_1), area_taps(width, width_1), half_up=whole == 2)
    else:
        width_1, height_1 = width, height
    if (width_1, height_1) != (scaled_w, scaled_h):
        colour = graph.resample(colour, bilinear_taps(height_1, scaled_h), 0)
        colour = graph.resample(colour, bilinear_taps(width_1, scaled_w), 1)
        colour = graph.add("Round", colour)
    graph.add("Cast", graph.placed(colour, box, channels=True), to=TensorProto.UINT8, output="rgb")
    units = graph.add("Cast", "camera_depth", to=TensorProto.FLOAT)
    if (scaled_w, scaled_h) != (width, height):
        rows = nearest_index(height, scaled_h, float(box.scale[1]))
        columns = nearest_index(width, scaled_w, float(box.scale[0]))
        units = graph.add("Gather", units, graph.constant(rows), axis=0)
        units = graph.add("Gather", units, graph.constant(columns), axis=1)
    parts = graph.add("Mul", units, graph.constant(np.array([1.0, 256.0], dtype=np.float32)))
    units = graph.add("ReduceSum", parts, graph.constant(np.array([2], dtype=np.int64)), keepdims=0)
    metres = graph.add("Mul", units, "depth_unit_m")
    graph.placed(metres, box, channels=False, output="depth")
    return graph.model(box)


def depth_bytes(units: NDArray[np.uint16]) -> NDArray[np.uint8]:
    """uint16 [H,W] as uint8 [H,W,2], low byte first, without a copy where the image is contiguous."""
    return np.ascontiguousarray(units, dtype="<u2").view(np.uint8).reshape(*units.shape, 2)


class _Graph:
    """Collects nodes and constants; names count up."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def constant(self, values: NDArray[np.generic]) -> str:
        name = f"constant_{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(values, name))
        return name

    def add(self, operator: str, *inputs: str, output: str = "", **attributes: int) -> str:
        name = output or f"value_{len(self.nodes)}"
        node = helper.make_node(operator, inputs, [name], f"{operator}_{len(self.nodes)}")
        node.attribute.extend(helper.make_attribute(key, value) for key, value in attributes.items())
        self.nodes.append(node)
        return name

    def mean(self, image: str, rows: Taps, columns: Taps, half_up: bool) -> str:
        """Means over areas as whole numbers. half_up: OpenCV rounds 0.5 up where two by two pixels make one, else to
        even."""
        total = self.resample(self.resample(image, rows, 0), columns, 1)
        exact = self.add("Div", total, self.constant(np.array(rows.divisor * columns.divisor, dtype=np.float32)))
        if not half_up:
            return self.add("Round", exact)
        return self.add("Floor", self.add("Add", exact, self.constant(np.array(0.5, dtype=np.float32))))

    def resample(self, image: str, taps: Taps, axis: int) -> str:
        """Along one axis of an image [H,W,3]; the sum, not divided."""
        total = ""
        shape = [-1 if i == axis else 1 for i in range(3)]
        for index, weights in zip(taps.index, taps.weights, strict=True):
            part = self.add("Gather", image, self.constant(index), axis=axis)
            part = self.add("Mul", part, self.constant(weights.reshape(shape)))
            total = part if not total else self.add("Add", total, part)
        return total

    def placed(self, image: str, box: Letterbox, channels: bool, output: str = "") -> str:
        """With zeros around it, as ``Letterbox`` pads."""
        (width, height), (left, top), (w, h) = box.network_size, box.pad, box.scaled_size
        right, bottom = width - w - left, height - h - top
        pads = [top, left, *([0] if channels else []), bottom, right, *([0] if channels else [])]
        if not any(pads):
            return self.add("Identity", image, output=output) if output else image
        return self.add("Pad", image, self.constant(np.array(pads, dtype=np.int64)), output=output)

    def model(self, box: Letterbox) -> bytes:
        (w, h), (network_w, network_h) = box.frame_size, box.network_size
        inputs = [
            helper.make_tensor_value_info("camera_rgb", TensorProto.UINT8, [h, w, 3]),
            helper.make_tensor_value_info("camera_depth", TensorProto.UINT8, [h, w, 2]),
            helper.make_tensor_value_info("depth_unit_m", TensorProto.FLOAT, [1]),
        ]
        outputs = [
            helper.make_tensor_value_info("rgb", TensorProto.UINT8, [network_h, network_w, 3]),
            helper.make_tensor_value_info("depth", TensorProto.FLOAT, [network_h, network_w]),
        ]
        graph = helper.make_graph(self.nodes, "prelude", inputs, outputs, self.constants)
        opset = [helper.make_opsetid("", _OPSET)]
        model = inferred(helper.make_model(graph, opset_imports=opset, ir_version=_IR_VERSION))
        onnx.checker.check_model(model)
        return bytes(model.SerializeToString())
