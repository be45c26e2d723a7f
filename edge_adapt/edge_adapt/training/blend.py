"""Between a bundle and what was trained on from it.

Training on new scenes takes a network away from what it knew. On the line back to the bundle that it began with it
keeps nearly all of that, and has a part of the new (WiSE-FT: Wortsman et al., CVPR 2022). On the line are convolutions
with their batch norms folded in, as graphs have them, and the head.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from edge_adapt.training.warm_start import known_classes, other_shape, trunk_convolutions
from robin_perception.model.bundle import Bundle

Weights = Mapping[str, NDArray[np.float32]]


@dataclass(frozen=True)
class Blend:
    """share: of the way from the bundle to the trained network, 0 to 1."""

    bundle: Bundle
    share: float

    def graph(self, trained: bytes) -> bytes:
        """The serialised graph of the trained network with the weights in between. Raises RobinError
        MODEL_TENSOR_MISSING where the bundle holds a network of another shape."""
        model, known = onnx.load_model_from_string(trained), onnx.load_model(str(self.bundle.network_path))
        ours, theirs = (trunk_convolutions(each.graph, self.bundle) for each in (model, known))
        if len(ours) != len(theirs):
            raise other_shape(self.bundle, f"{len(theirs)} convolutions, not {len(ours)}")
        for own, other in zip(ours, theirs, strict=True):
            for tensor, before in zip(own, other, strict=True):
                value = self._between(numpy_helper.to_array(before), numpy_helper.to_array(tensor), tensor.name)
                tensor.CopyFrom(numpy_helper.from_array(value, tensor.name))
        return bytes(model.SerializeToString())

    def head(self, trained: Weights, classes: tuple[str, ...]) -> dict[str, NDArray[np.float32]]:
        """A class that the bundle does not know keeps the trained weights. Raises RobinError MODEL_TENSOR_MISSING."""
        known = self.bundle.manifest.classes
        own, others = known_classes(classes, known)
        found = {}
        for name, value in trained.items():
            before = self.bundle.head.get(name, np.zeros(0, dtype=np.float32))
            if name.startswith("head.classes.") and before.shape[:1] == (len(known),):
                found[name] = value.copy()
                found[name][own] = self._between(before[others], value[own], name)
            else:
                found[name] = self._between(before, value, name)
        return found

    def _between(self, before: NDArray[np.float32], after: NDArray[np.float32], name: str) -> NDArray[np.float32]:
        if before.shape != after.shape:
            raise other_shape(self.bundle, f"'{name}' of shape {list(before.shape)}, not {list(after.shape)}")
        return np.asarray(before + self.share * (after - before), dtype=np.float32)
