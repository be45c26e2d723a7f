"""The reference that other engines are compared with: the bundle's graph as it stands, operator by operator."""

from __future__ import annotations

import numpy as np
import onnxruntime as ort

from robin_perception.engines.base import Tensors
from robin_perception.engines.camera import CameraFrame
from robin_perception.engines.ort.engine import OnnxRuntimeEngine
from robin_perception.engines.prelude import PRELUDE_INPUTS, camera_graph, depth_bytes


class OnnxRuntimeReference(OnnxRuntimeEngine):
    """ONNX Runtime on the CPU in float32 with every optimisation of the graph off: slower, and independent of fusions
    and layouts that the engine in use may have got wrong."""

    name = "onnxruntime-reference"

    def options(self) -> ort.SessionOptions:
        options = super().options()
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        return options

    def prelude(self, frame: CameraFrame) -> Tensors:
        """The network's inputs for a camera's own bytes, by the graph that a GPU computes them with."""
        manifest = self.bundle.manifest
        graph = camera_graph(frame.size, (manifest.input_width, manifest.input_height))
        session = ort.InferenceSession(graph, self.options(), providers=["CPUExecutionProvider"])
        unit = np.array([frame.depth_unit_m], dtype=np.float32)
        feeds = dict(zip(PRELUDE_INPUTS, (frame.rgb, depth_bytes(frame.depth_units), unit), strict=True))
        rgb, depth = session.run(["rgb", "depth"], feeds)
        return {"rgb": rgb, "depth": depth, "intrinsics": frame.intrinsics, "belt_plane": frame.belt_plane}
