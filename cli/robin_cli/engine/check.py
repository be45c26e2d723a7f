"""``robin engine check`` without the command line."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from robin_perception.engines.tensorrt.bindings import load_tensorrt, release
from robin_perception.engines.tensorrt.check import CAMERA_SIZES, COMPUTE, Progress, compile_graphs
from robin_perception.engines.tensorrt.probe import RTX
from robin_perception.model.bundle import load_bundle


def check(
    model: Path, computes: Sequence[str], cameras: Sequence[tuple[int, int]], progress: Progress
) -> dict[str, Any]:
    """What was compiled, JSON-ready. Empty sequences mean all that are usual. Raises RobinError as compile_graphs."""
    bundle = load_bundle(model)
    graphs = compile_graphs(bundle, computes or COMPUTE, cameras or CAMERA_SIZES, progress)
    return {
        "model": bundle.model_id,
        "tensorrt": release(load_tensorrt(RTX)),
        "graphs": [asdict(graph) for graph in graphs],
    }
