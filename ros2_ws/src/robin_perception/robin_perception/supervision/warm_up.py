"""What an engine is shown before its first frame."""

from __future__ import annotations

from robin_perception.engines.base import Tensors


def bare_belt(inputs: Tensors) -> Tensors:
    """Fill a frame's tensors with a grey belt one metre straight below the camera, in place."""
    height, width = inputs["depth"].shape
    inputs["rgb"].fill(90)
    inputs["depth"].fill(1.0)
    inputs["intrinsics"][:] = (width, width, width / 2, height / 2)
    inputs["belt_plane"][:] = (0.0, 0.0, -1.0, 1.0)
    return inputs
