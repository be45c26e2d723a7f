"""From a trained network to the ONNX graph of the bundle: raw frame and head weights in, fixed-size instances out."""

from __future__ import annotations

import tempfile
import warnings
from pathlib import Path

import numpy as np
import onnx
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from edge_adapt.training.blend import Blend
from edge_adapt.training.geometry import NETWORK_HEIGHT, NETWORK_WIDTH
from edge_adapt.training.head import (
    CENTRE_X_PX,
    CENTRE_Y_PX,
    COORDINATE_UNIT_PX,
    STRIDE_DETAIL,
    STRIDE_PEAK,
    Head,
    expand_kernels,
    grid_coordinates,
    mask_planes,
    unit_rows,
)
from edge_adapt.training.network import SMALL_NETWORK, NetworkConfig, SegmentationNetwork, parameter_count
from robin_perception.core.scene import CLASSES
from robin_perception.model.bundle import (
    FEATURE_OUTPUTS,
    FRAME_INPUTS,
    INSTANCE_OUTPUTS,
    Bundle,
    CalibrationTables,
    Provenance,
    Thresholds,
    write_bundle,
)

MAX_INSTANCES = 100
OPSET = 17


class InstanceGraph(nn.Module):
    """The graph of the bundle for one frame: trunk weights inside, head weights as inputs, no batch axis outside.

    Inputs: rgb uint8 [384,512,3], depth float32 [384,512], intrinsics [4], belt_plane [4], then weight [out,in] and
    bias [out] of every head layer. Outputs: INSTANCE_OUTPUTS + FEATURE_OUTPUTS, K = 100 instances, best first.
    """

    peak_grid: Tensor
    pixel_grid: Tensor

    def __init__(self, network: SegmentationNetwork) -> None:
        super().__init__()
        self.preprocess = network.preprocess
        self.trunk = network.trunk
        self.layer_names = tuple(network.head.layers)
        self.register_buffer("peak_grid", grid_coordinates(STRIDE_PEAK), False)
        self.register_buffer("pixel_grid", grid_coordinates(STRIDE_DETAIL), False)

    def forward(
        self, rgb: Tensor, depth: Tensor, intrinsics: Tensor, belt_plane: Tensor, *weights: Tensor
    ) -> tuple[Tensor, ...]:
        colour, geometry = self.preprocess(rgb[None], depth[None], intrinsics[None], belt_plane[None])
        maps4, maps8 = self.trunk(colour, geometry)
        stride4 = maps4.flatten(2)[0]
        stride8 = maps8.flatten(2)[0]
        return (*self.instances(stride4, stride8, weights), stride4, stride8)

    def instances(self, stride4: Tensor, stride8: Tensor, weights: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """The head and the decoding: stride4 [C4,96*128], stride8 [C8,48*64] -> INSTANCE_OUTPUTS."""
        layers = {name: (weights[2 * i], weights[2 * i + 1]) for i, name in enumerate(self.layer_names)}

        def apply(name: str, columns: Tensor) -> Tensor:
            weight, bias = layers[name]
            return torch.matmul(weight, columns) + bias.unsqueeze(1)

        heat = apply("heat2", F.relu(apply("heat1", stride8)))
        detection, cells = _peaks(heat)
        peaks = self.peak_grid[:, cells].transpose(0, 1)
        hidden = F.relu(apply("point2", F.relu(apply("point1", stride8[:, cells]))))
        pixel = F.relu(apply("pixel1", stride4))
        planes = mask_planes(apply("mask_features", pixel), apply("offset", pixel), self.pixel_grid)
        kernels = expand_kernels(apply("kernel", hidden).transpose(0, 1), peaks)
        grid4 = (NETWORK_HEIGHT // STRIDE_DETAIL, NETWORK_WIDTH // STRIDE_DETAIL)
        centre = torch.tensor([CENTRE_X_PX, CENTRE_Y_PX])
        return (
            peaks * COORDINATE_UNIT_PX + centre,
            detection,
            torch.softmax(apply("classes", hidden).transpose(0, 1), dim=1),
            torch.sigmoid(apply("quality", hidden)[0]),
            torch.sigmoid(apply("visible", hidden)[0]),
            unit_rows(apply("embedding", hidden).transpose(0, 1)),
            torch.matmul(kernels, planes).reshape(MAX_INSTANCES, *grid4),
            torch.sigmoid(apply("boundary", pixel)).reshape(grid4),
        )


def _peaks(heat: Tensor) -> tuple[Tensor, Tensor]:
    """heat [1, h8*w8] logits -> detection [K] best first, cells [K]: those not lower than their eight neighbours."""
    maps = heat.reshape(1, 1, NETWORK_HEIGHT // STRIDE_PEAK, NETWORK_WIDTH // STRIDE_PEAK)
    highest = F.max_pool2d(maps, 3, 1, 1)
    # Cells beside a peak keep a thousandth: no ties at zero, whose order would differ between engines.
    score = torch.sigmoid(maps) * (0.001 + 0.999 * (maps >= highest).to(maps.dtype))
    detection, cells = torch.topk(score.flatten(), MAX_INSTANCES)
    return detection, cells


def head_weights(head: Head) -> dict[str, NDArray[np.float32]]:
    """Graph input name -> float32 array, in the order of the graph's inputs."""
    weights: dict[str, NDArray[np.float32]] = {}
    for name in head.layers:
        layer = head.layer(name)
        weights[f"head.{name}.weight"] = layer.weight.detach().numpy().copy()
        weights[f"head.{name}.bias"] = layer.bias.detach().numpy().copy()
    return weights


def export_onnx(network: SegmentationNetwork) -> bytes:
    """The serialised graph: batch norm folded, static shapes, standard operators of opset 17 only."""
    graph = InstanceGraph(network).eval()
    weights = head_weights(network.head)
    frame = (
        torch.zeros(NETWORK_HEIGHT, NETWORK_WIDTH, 3, dtype=torch.uint8),
        torch.ones(NETWORK_HEIGHT, NETWORK_WIDTH),
        torch.tensor([400.0, 400.0, CENTRE_X_PX, CENTRE_Y_PX]),
        torch.tensor([0.0, 0.0, -1.0, 1.2]),
    )
    with warnings.catch_warnings(), torch.no_grad(), tempfile.TemporaryDirectory() as folder:
        warnings.simplefilter("ignore")
        torch.onnx.export(
            graph,
            (*frame, *(torch.from_numpy(value) for value in weights.values())),
            str(Path(folder) / "network.onnx"),
            input_names=[*FRAME_INPUTS, *weights],
            output_names=[*INSTANCE_OUTPUTS, *FEATURE_OUTPUTS],
            opset_version=OPSET,
            do_constant_folding=True,
            dynamo=False,
        )
        model = onnx.load_model(str(Path(folder) / "network.onnx"))
    model = onnx.shape_inference.infer_shapes(model)
    onnx.checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString())


def export_bundle(
    network: SegmentationNetwork,
    out_dir: Path,
    name: str,
    *,
    provenance: Provenance | None = None,
    calibration: CalibrationTables | None = None,
    thresholds: Thresholds | None = None,
    card: str = "",
    blend: Blend | None = None,
) -> Bundle:
    """Write the bundle of ``network`` to ``out_dir`` and load it back, verified. blend: only a share of the way to it
    is gone. Raises RobinError as ``Blend`` and ``write_bundle``."""
    graph, head = export_onnx(network), head_weights(network.head)
    if blend is not None:
        graph, head = blend.graph(graph), blend.head(head, network.classes)
    return write_bundle(
        out_dir,
        graph,
        head,
        name=name,
        input_size=(NETWORK_HEIGHT, NETWORK_WIDTH),
        max_instances=MAX_INSTANCES,
        parameters=parameter_count(network),
        classes=network.classes,
        provenance=provenance,
        calibration=calibration,
        thresholds=thresholds,
        card=card,
    )


def random_network(
    seed: int, config: NetworkConfig = SMALL_NETWORK, classes: tuple[str, ...] = CLASSES
) -> SegmentationNetwork:
    """Untrained, with biases that are not zero, so that tests notice a lost one, and the batch statistics of a noise
    frame, so that signals neither die nor explode on the way."""
    torch.manual_seed(seed)
    network = SegmentationNetwork(config, classes)
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if parameter.ndim == 1:
                parameter.add_(torch.randn_like(parameter) * (0.1 if name.startswith("head.") else 0.05))
        for norm in norms:
            norm.momentum = 1.0
        rgb = torch.randint(0, 256, (1, NETWORK_HEIGHT, NETWORK_WIDTH, 3), dtype=torch.uint8)
        depth = 1.1 - 0.2 * F.interpolate(torch.rand(1, 1, 24, 32), (NETWORK_HEIGHT, NETWORK_WIDTH))[:, 0]
        intrinsics = torch.tensor([[400.0, 400.0, CENTRE_X_PX, CENTRE_Y_PX]])
        network.train().features(rgb, depth, intrinsics, torch.tensor([[0.0, 0.0, -1.0, 1.2]]))
        for norm in norms:
            norm.momentum = 0.1
    return network.eval()


def random_bundle(out_dir: Path, seed: int, classes: tuple[str, ...] = CLASSES) -> Bundle:
    """A bundle of the same graph with small random weights: engines and segmenters are tested without a trained one."""
    network = random_network(seed, classes=classes)
    return export_bundle(network, out_dir, "random", provenance=Provenance(seed=seed, notes="random"))
