"""A cell that is not the default one: a tool of four cups, and a bundle that knows a sixth class of parcels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx

from robin_perception.core.scene import CLASSES
from robin_perception.model.bundle import load_bundle, write_bundle

ROOT = Path(__file__).resolve().parents[2]
FOUR_CUPS = ROOT / "docs/examples/four_cups.yaml"
SIXTH = "crate"
FEW_PARCELS = """
description: "A few cartons and mailers side by side, for tests."
arrangements: {single_layer: 1.0}
mix: {kind_weights: {carton: 0.7, padded_mailer: 0.3}, unseen_fraction: 0.0}
belt_parcels: {least: 4, most: 5}
"""


def six_class_bundle(folder: Path) -> Path:
    """The shipped bundle with a sixth class: whatever it takes for a carton it rather takes for a crate."""
    base = load_bundle(ROOT / "models/base")
    head = dict(base.head)
    carton = CLASSES.index("carton")
    for part, more in (("weight", 0.0), ("bias", 1.0)):
        values = head[f"head.classes.{part}"]
        head[f"head.classes.{part}"] = np.concatenate([values, values[carton : carton + 1] + np.float32(more)])
    manifest = base.manifest
    write_bundle(
        folder,
        _with_classes(base.network_path.read_bytes(), len(CLASSES) + 1),
        head,
        name="six",
        input_size=(manifest.input_height, manifest.input_width),
        max_instances=manifest.max_instances,
        classes=(*CLASSES, SIXTH),
        calibration=manifest.calibration,
        thresholds=manifest.thresholds,
    )
    return folder


def _with_classes(network: bytes, count: int) -> bytes:
    """The graph for another number of classes: only shapes of one layer's inputs and of one output say it."""
    model = onnx.load_model_from_string(network)
    del model.graph.value_info[:]
    for value in (*model.graph.input, *model.graph.output):
        shape = value.type.tensor_type.shape.dim
        if value.name.startswith("head.classes."):
            shape[0].dim_value = count
        elif value.name == "class_probabilities":
            shape[1].dim_value = count
    onnx.checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString())
