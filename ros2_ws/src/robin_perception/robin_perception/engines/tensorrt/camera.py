"""A camera's bytes on the device: uploaded as they are, made into the network's inputs by the prelude's engine."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from robin_perception.engines.cache import EngineCache
from robin_perception.engines.camera import CameraFrame
from robin_perception.engines.prelude import PRELUDE_INPUTS, camera_graph, depth_bytes
from robin_perception.engines.tensorrt.bindings import load_tensorrt, release
from robin_perception.engines.tensorrt.buffers import lay_out, model_specs
from robin_perception.engines.tensorrt.builder import BuildOptions, build_plan
from robin_perception.engines.tensorrt.cache import cached_plan
from robin_perception.engines.tensorrt.cuda import Memory
from robin_perception.engines.tensorrt.key import Gpu, prelude_key
from robin_perception.engines.tensorrt.runtime import CompiledNetwork


class CameraUpload:
    """The prelude for frames of ``frame_size`` (width, height). In the CUDA thread, but for ``fill``.

    target: device addresses of the network's "rgb" and "depth", which the prelude writes.
    """

    def __init__(
        self,
        cache: EngineCache,
        gpu: Gpu,
        stream: Any,
        frame_size: tuple[int, int],
        network_size: tuple[int, int],
        target: Mapping[str, int],
    ) -> None:
        self.frame_size = frame_size
        self._stream = stream
        graph = camera_graph(frame_size, network_size)
        source = f"prelude for {frame_size[0]}x{frame_size[1]}"
        trt = load_tensorrt()
        key = prelude_key(frame_size, graph, gpu, release(trt))
        plan = cached_plan(cache, key, lambda timing: build_plan(trt, graph, source, BuildOptions(), timing))
        inputs, _, outputs = model_specs(graph, source)
        self._network = CompiledNetwork(plan.plan, source, {**inputs, **outputs})
        self._memory = Memory(lay_out(inputs[name] for name in PRELUDE_INPUTS), staged=True)
        addresses = {name: self._memory.address(name) for name in PRELUDE_INPUTS}
        try:
            self._bound = self._network.bind({**addresses, **target})
        except BaseException:
            self.free()
            raise

    def fill(self, frame: CameraFrame) -> None:
        """Copy a frame into page-locked memory, in any thread; no upload of an earlier one may be under way."""
        np.copyto(self._memory.host["camera_rgb"], frame.rgb)
        np.copyto(self._memory.host["camera_depth"], depth_bytes(frame.depth_units))
        self._memory.host["depth_unit_m"][0] = frame.depth_unit_m

    def enqueue(self) -> None:
        """Upload and prelude, asynchronously."""
        self._memory.upload(self._stream)
        self._bound.enqueue(self._stream)

    def free(self) -> None:
        self._network.close()
        self._memory.free()
