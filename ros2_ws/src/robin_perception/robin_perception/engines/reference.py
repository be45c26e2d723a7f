"""The reference that other engines are compared with: the bundle's graph as it stands, operator by operator."""

from __future__ import annotations

import onnxruntime as ort

from robin_perception.engines.onnxruntime_engine import OnnxRuntimeEngine


class OnnxRuntimeReference(OnnxRuntimeEngine):
    """ONNX Runtime on the CPU in float32 with every optimisation of the graph off: slower, and independent of fusions
    and layouts that the engine in use may have got wrong."""

    name = "onnxruntime-reference"

    def options(self) -> ort.SessionOptions:
        options = super().options()
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        return options
