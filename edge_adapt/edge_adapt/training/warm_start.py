"""Training that goes on from a bundle: the exported graph's weights back into a trainable network.

The export folds every batch norm into its convolution, y = W'x + b'. With the mean m and variance v of W'x over some
training images, a batch norm of running statistics (m, v), gain sqrt(v + eps) and offset b' + m gives the same y, and
its batch statistics are what the layer will meet when training goes on.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import Tensor, nn

from edge_adapt.training.head import Head
from edge_adapt.training.network import ConvNormRelu, SegmentationNetwork
from robin_perception.core.errors import Code, RobinError
from robin_perception.model.bundle import Bundle, load_bundle

_TRUNK = "/trunk/"
Pictures = tuple[Tensor, Tensor, Tensor, Tensor]


def start_from_bundle(network: SegmentationNetwork, bundle_dir: Path, batches: Sequence[Pictures]) -> Bundle:
    """Fill ``network`` with the weights of a bundle; batch statistics are taken over ``batches``
    of rgb, depth, intrinsics and belt_plane. In evaluation mode
    the network then computes what the bundle does; a class that the bundle does not know starts with the weights it
    has.

    Raises RobinError MODEL_* for an unusable bundle, MODEL_TENSOR_MISSING when it holds a network of another shape.
    """
    bundle = load_bundle(bundle_dir)
    _fill_head(network.head, network.classes, bundle)
    blocks = _in_order_of_use(network, batches[0])
    convolutions = trunk_convolutions(onnx.load_model(str(bundle.network_path)).graph, bundle)
    folded = [[torch.from_numpy(numpy_helper.to_array(t).copy()) for t in pair] for pair in convolutions]
    if len(folded) != len(blocks):
        raise other_shape(bundle, f"{len(folded)} convolutions, not {len(blocks)}")
    with torch.no_grad():
        for block, (weight, bias) in zip(blocks, folded, strict=True):
            convolution, norm = _parts(block)
            if convolution.weight.shape != weight.shape:
                raise other_shape(bundle, f"a convolution of {list(weight.shape)}")
            convolution.weight.copy_(weight)
            norm.running_mean, norm.running_var = torch.zeros_like(bias), torch.full_like(bias, 1 - norm.eps)
            norm.weight.fill_(1.0)
            norm.bias.copy_(bias)
        _unfold(network, blocks, batches)
    return bundle


def read_head(bundle: Bundle) -> Head:
    """The head of a bundle, trainable. Raises RobinError MODEL_TENSOR_MISSING when it is of another shape."""
    pixel, heat = (np.shape(bundle.head.get(f"head.{layer}.weight", ())) for layer in ("pixel1", "heat1"))
    if len(pixel) != 2 or len(heat) != 2:
        raise other_shape(bundle, "another 'head.pixel1.weight' or 'head.heat1.weight'")
    head = Head(pixel[1], heat[1], len(bundle.manifest.classes))
    _fill_head(head, bundle.manifest.classes, bundle)
    return head


def known_classes(classes: tuple[str, ...], known: tuple[str, ...]) -> tuple[list[int], list[int]]:
    """Rows of ``classes`` that ``known`` has too, and their rows there."""
    own = [row for row, name in enumerate(classes) if name in known]
    return own, [known.index(classes[row]) for row in own]


def _fill_head(head: Head, classes: tuple[str, ...], bundle: Bundle) -> None:
    known = bundle.manifest.classes
    own, others = known_classes(classes, known)
    for name in head.layers:
        layer = head.layer(name)
        for part, parameter in (("weight", layer.weight), ("bias", layer.bias)):
            value, target = bundle.head.get(f"head.{name}.{part}"), parameter.data
            if value is not None and name == "classes" and len(value) == len(known):
                value, target = value[others], target[own]
            if value is None or value.shape != tuple(target.shape):
                raise other_shape(bundle, f"another 'head.{name}.{part}'")
            if name == "classes":
                parameter.data[own] = torch.from_numpy(value)
            else:
                target.copy_(torch.from_numpy(value))


def trunk_convolutions(graph: onnx.GraphProto, bundle: Bundle) -> list[tuple[onnx.TensorProto, onnx.TensorProto]]:
    """Weight and bias of the trunk's convolutions, in the order of the graph, which is the order of use. bundle: whose
    network has another shape where one of them is missing (RobinError MODEL_TENSOR_MISSING)."""
    constants = {tensor.name: tensor for tensor in graph.initializer}
    found = []
    for node in graph.node:
        if node.op_type == "Conv" and node.name.startswith(_TRUNK):
            tensors = [constants[name] for name in node.input[1:] if name in constants]
            if len(tensors) != 2:
                raise other_shape(bundle, f"'{node.name}' without a weight and a bias")
            found.append((tensors[0], tensors[1]))
    return found


def _parts(block: ConvNormRelu) -> tuple[nn.Conv2d, nn.BatchNorm2d]:
    convolution, norm = block[0], block[1]
    assert isinstance(convolution, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d)
    return convolution, norm


def _in_order_of_use(network: SegmentationNetwork, batch: Pictures) -> list[ConvNormRelu]:
    used: list[ConvNormRelu] = []
    blocks = [module for module in network.trunk.modules() if isinstance(module, ConvNormRelu)]
    handles = [block.register_forward_pre_hook(lambda module, inputs: used.append(module)) for block in blocks]
    _forward(network, batch)
    for handle in handles:
        handle.remove()
    return used


def _unfold(network: SegmentationNetwork, blocks: list[ConvNormRelu], batches: Sequence[Pictures]) -> None:
    """Take the statistics of every convolution's output, and write them into its batch norm without changing it."""
    sums: dict[nn.Module, list[Any]] = {}

    def look(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        values = inputs[0].double()
        entry = sums.setdefault(module, [0, 0.0, 0.0])
        entry[0] += values.numel() // values.shape[1]
        entry[1] = entry[1] + values.sum((0, 2, 3))
        entry[2] = entry[2] + values.square().sum((0, 2, 3))

    norms = [_parts(block)[1] for block in blocks]
    handles = [norm.register_forward_pre_hook(look) for norm in norms]
    for batch in batches:
        _forward(network, batch)
    for handle in handles:
        handle.remove()
    for norm in norms:
        count, total, squares = sums[norm]
        mean = total / count
        variance = (squares / count - mean.square()).clamp_min(1e-6)
        norm.running_mean, norm.running_var = mean.float(), variance.float()
        norm.weight.copy_((variance + norm.eps).sqrt())
        norm.bias.add_(mean.float())


@torch.no_grad()
def _forward(network: SegmentationNetwork, batch: Pictures) -> None:
    network.eval().features(*batch)


def other_shape(bundle: Bundle, what: str) -> RobinError:
    return RobinError(Code.MODEL_TENSOR_MISSING, f"{bundle.directory}: holds a network of another shape ({what})")
