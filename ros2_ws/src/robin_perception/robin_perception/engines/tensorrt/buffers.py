"""Where each tensor of a bundle lies in memory: one block for the frame, one for the results, two for heads.

A block is laid out alike on host and device, so that it travels in one copy. Nothing here touches a device.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import prod

import numpy as np
from onnx import helper

from robin_perception.core.errors import Code, RobinError
from robin_perception.model.bundle import FEATURE_OUTPUTS, FRAME_INPUTS, INSTANCE_OUTPUTS, Bundle, TensorSpec
from robin_perception.model.onnx_graph import frame_inputs, parse

ALIGNMENT_BYTES = 256  # of CUDA's own allocations; TensorRT asks for no more

Specs = dict[str, TensorSpec]


@dataclass(frozen=True)
class Slot:
    """One tensor in a block, ``offset`` bytes from its start."""

    spec: TensorSpec
    offset: int
    nbytes: int


@dataclass(frozen=True)
class Block:
    """Tensors one behind the other, each aligned."""

    slots: Mapping[str, Slot]
    nbytes: int


@dataclass(frozen=True)
class BufferPlan:
    """frame: what is uploaded for each frame. head: one set of weights. results: what is downloaded for each frame.
    features: the trunk's, downloaded when asked for. camera: raw bytes of the camera, where its size is known."""

    frame: Block
    head: Block
    results: Block
    features: Block

    @property
    def device_bytes(self) -> int:
        """Device memory of all blocks, with both sets of heads."""
        return self.frame.nbytes + 2 * self.head.nbytes + self.results.nbytes + self.features.nbytes


def lay_out(specs: Iterable[TensorSpec]) -> Block:
    """Slots in the order of ``specs``."""
    slots: dict[str, Slot] = {}
    end = 0
    for spec in specs:
        size = prod(spec.shape) * np.dtype(spec.dtype).itemsize
        slots[spec.name] = Slot(spec, end, size)
        end += -(-size // ALIGNMENT_BYTES) * ALIGNMENT_BYTES
    return Block(slots, end)


def graph_specs(bundle: Bundle) -> tuple[Specs, Specs, Specs]:
    """Frame inputs, head inputs and outputs of the bundle's graph by name."""
    return model_specs(bundle.network_path.read_bytes(), str(bundle.network_path))


def model_specs(data: bytes, source: str) -> tuple[Specs, Specs, Specs]:
    """As ``graph_specs``, of a serialised model."""
    graph = parse(data, source).graph
    inputs: Specs = {}
    for value in frame_inputs(graph):
        inputs[value.name] = _spec(value)
    frame = {name: spec for name, spec in inputs.items() if not name.startswith("head.")}
    head = {name: spec for name, spec in inputs.items() if name.startswith("head.")}
    return frame, head, {value.name: _spec(value) for value in graph.output}


def plan_buffers(frame: Specs, head: Specs, outputs: Specs) -> BufferPlan:
    """The blocks of a bundle."""
    return BufferPlan(
        lay_out(frame[name] for name in FRAME_INPUTS),
        lay_out(head.values()),
        lay_out(outputs[name] for name in INSTANCE_OUTPUTS),
        lay_out(outputs[name] for name in FEATURE_OUTPUTS),
    )


def check_tensors(found: Specs, wanted: Specs, source: str) -> None:
    """Raises RobinError ENGINE_BUILD_FAILED unless a compiled engine has the graph's tensors, no more and no less."""
    for name in sorted({*found, *wanted}):
        if found.get(name) != wanted.get(name):
            raise RobinError(
                Code.ENGINE_BUILD_FAILED,
                f"{source}: tensor '{name}' is {_text(found.get(name))} in the engine, {_text(wanted.get(name))} "
                "in the bundle",
            )


def _spec(value: object) -> TensorSpec:
    tensor = value.type.tensor_type  # type: ignore[attr-defined]
    shape = tuple(dim.dim_value for dim in tensor.shape.dim)
    dtype = np.dtype(helper.tensor_dtype_to_np_dtype(tensor.elem_type)).name
    return TensorSpec(name=value.name, shape=shape, dtype=dtype)  # type: ignore[attr-defined]


def _text(spec: TensorSpec | None) -> str:
    return "missing" if spec is None else f"{spec.dtype} {list(spec.shape)}"
