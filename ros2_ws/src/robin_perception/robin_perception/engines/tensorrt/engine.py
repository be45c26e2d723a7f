"""TensorRT on an NVIDIA GPU: raw bytes in, instance tensors out, head weights as inputs.

One stream, memory allocated once. Each head set has device buffers, a context of the network and a lane (a captured
CUDA graph) of its own, whose addresses never change, so that a swap is the choice of a lane.
"""

from __future__ import annotations

import atexit
import logging
import threading
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robin_perception.core.errors import Code, RobinError
from robin_perception.engines.base import HEAD_SETS, Engine, EngineConfig, HeadSet, Tensors
from robin_perception.engines.cache import EngineCache
from robin_perception.engines.camera import CameraFrame
from robin_perception.engines.output_pool import OutputPool
from robin_perception.engines.tensorrt.bindings import load_tensorrt, release
from robin_perception.engines.tensorrt.buffers import BufferPlan, Specs, graph_specs, plan_buffers
from robin_perception.engines.tensorrt.builder import BuildOptions, Progress
from robin_perception.engines.tensorrt.cache import CachedPlan, bundle_plan, verified_plan
from robin_perception.engines.tensorrt.camera import CameraUpload
from robin_perception.engines.tensorrt.cuda import NON_BLOCKING, CudaThread, Memory
from robin_perception.engines.tensorrt.graph import Precision
from robin_perception.engines.tensorrt.probe import proof_problem, unavailable_reason
from robin_perception.engines.tensorrt.runtime import CompiledNetwork, Lane
from robin_perception.model.bundle import FEATURE_OUTPUTS, INSTANCE_OUTPUTS, Bundle, TensorSpec

_log = logging.getLogger(__name__)
_CLOSE_PATIENCE_S = 10.0


class TensorRtEngine(Engine):
    """The bundle's network in half precision, built for this GPU where the cache has none that fits.

    options, report, rebuild: of building; the cache keys do not depend on options. verified_only: nothing is built, and
    an engine is taken only with its proof.
    Raises RobinError ENGINE_UNAVAILABLE without driver, TensorRT or pycuda, ENGINE_BUILD_FAILED,
    ENGINE_OPERATOR_UNSUPPORTED, ENGINE_OUT_OF_MEMORY.
    """

    name = "tensorrt"
    precision: Precision = "float16"

    def __init__(
        self,
        bundle: Bundle,
        config: EngineConfig,
        *,
        cache: EngineCache | None = None,
        options: BuildOptions | None = None,
        rebuild: bool = False,
        report: Progress | None = None,
        verified_only: bool = False,
    ) -> None:
        super().__init__(bundle, config)
        reason = unavailable_reason()
        if reason is not None:
            raise RobinError(Code.ENGINE_UNAVAILABLE, f"{self.name}: {reason}")
        self._cache = cache or EngineCache()
        self._cancelled = threading.Event()
        self._build = (options, report, rebuild, self._cancelled)
        self._verified_only = verified_only
        frame, head, outputs = graph_specs(bundle)
        self._specs: tuple[Specs, Specs, Specs] = (frame, head, outputs)
        self._pools = {name: OutputPool(spec) for name, spec in outputs.items()}
        self._memory: list[Memory] = []
        self._network: CompiledNetwork | None = None
        self._lanes: list[Lane] = []
        self._camera: CameraUpload | None = None
        self._camera_lanes: list[Lane] = []
        self._cuda = CudaThread()
        try:
            self._cuda.call(lambda: self._start(plan_buffers(frame, head, outputs)))
        except BaseException:
            self._cancelled.set()  # Ctrl-C reaches this thread, not the one that builds
            self.close()
            raise
        atexit.register(self.close)  # pycuda must not find memory of a context that has gone

    @property
    def inputs(self) -> dict[str, TensorSpec]:
        return self._specs[0]

    @property
    def outputs(self) -> dict[str, TensorSpec]:
        return self._specs[2]

    @property
    def cached(self) -> CachedPlan:
        """Where the plan came from."""
        return self._plan

    @property
    def proof(self) -> dict[str, Any] | None:
        """What ``robin engine verify`` found about these very files, or None."""
        return None if self._plan.path is None else self._cache.verification(self._plan.path)

    def describe(self) -> dict[str, str]:
        gpu = self._cuda.gpu
        return {
            "precision": self.precision,
            "provider": f"TensorRT {release(load_tensorrt())}",
            "gpu": f"{gpu.name}, compute {gpu.compute}, CUDA {gpu.driver}",
            "cuda_graph": "yes" if any(lane.recorded for lane in self._lanes) else "no",
            "device_mb": f"{self._device_bytes / 2**20:.1f}",
        }

    def run_camera(self, frame: CameraFrame, outputs: Sequence[str] = INSTANCE_OUTPUTS) -> Tensors:
        """As ``run`` for a camera's own bytes: they are uploaded as they are; scaling and metres are computed on the
        device. The first frame of another size builds a small engine for it (seconds)."""
        with self._running:
            self._require_open()
            chosen = self._chosen(None)
            if self._loaded[chosen.index] is not chosen:
                self._load(chosen)
            started = time.perf_counter()
            np.copyto(self._frame.host["intrinsics"], frame.intrinsics)
            np.copyto(self._frame.host["belt_plane"], frame.belt_plane)
            if self._camera is None or self._camera.frame_size != frame.size:
                self._cuda.call(lambda: self._open_camera(frame.size))
            assert self._camera is not None
            self._camera.fill(frame)
            results = self._finish(self._camera_lanes[chosen.index], outputs, started)
        self.check_outputs(results, outputs)
        return results

    def device_ms(self, runs: int = 50) -> dict[str, float]:
        """Medians on the device's own clock, of the latest frame over again: each part enqueued plainly, and the whole
        as it is done for a frame ("recorded" is 0 where no graph could be captured)."""
        with self._running:
            self._require_open()
            return self._cuda.call(lambda: self._measure(runs))

    def _run(self, feeds: Tensors, outputs: Sequence[str], head: HeadSet) -> Tensors:
        self._require_open()
        started = time.perf_counter()
        for name, host in self._frame.host.items():
            np.copyto(host, feeds[name])
        return self._finish(self._lanes[head.index], outputs, started)

    def _load_head(self, head: HeadSet) -> None:
        self._require_open()
        memory = self._heads[head.index]
        for name, host in memory.host.items():
            np.copyto(host, head.weights[name])

        def upload() -> None:
            memory.upload(self._stream)
            self._stream.synchronize()

        self._cuda.call(upload)

    def close(self) -> None:
        """Also called at the end of the process, which a device that hangs must not hold up for long."""
        atexit.unregister(self.close)
        free = self._running.acquire(timeout=_CLOSE_PATIENCE_S)
        try:
            if free and not self._cuda.closed and not self._cuda.lost:
                self._cuda.call(self._free, _CLOSE_PATIENCE_S)
        except RobinError as exc:
            _log.warning("%s was not closed in order: %s", self.name, exc.text)
        finally:
            self._cuda.close()
            if free:
                self._running.release()

    def _finish(self, lane: Lane, outputs: Sequence[str], started: float) -> Tensors:
        """Run ``lane`` and copy out what was asked for; the page-locked memory is written again by the next frame."""
        unknown = [name for name in outputs if name not in self.outputs]
        if unknown:
            raise RobinError(Code.ENGINE_FAILED, f"{self.name}: no output '{unknown[0]}'")
        copied_in = time.perf_counter()
        self._cuda.call(lambda: self._execute(lane, bool(set(outputs) & set(FEATURE_OUTPUTS))))
        ran = time.perf_counter()
        results = {name: self._copied(name) for name in outputs}
        self._stage_ms = {
            "copy_in": (copied_in - started) * 1e3,
            "network": (ran - copied_in) * 1e3,
            "copy_out": (time.perf_counter() - ran) * 1e3,
        }
        return results

    def _require_open(self) -> None:
        """Page-locked memory is gone with the context: writing into it would end the process."""
        if self._cuda.closed:
            raise RobinError(Code.ENGINE_FAILED, f"{self.name}: the engine is closed")

    def _copied(self, name: str) -> NDArray[Any]:
        host = (self._features if name in FEATURE_OUTPUTS else self._results).host[name]
        target = self._pools[name].take() if self.output_buffers is None else self.output_buffers(name)
        np.copyto(target, host)
        return target

    # What follows runs in the CUDA thread.

    def _start(self, plan: BufferPlan) -> None:
        import pycuda.driver as driver

        self._stream = driver.Stream(NON_BLOCKING)
        wanted = self._cache, self.bundle, self._cuda.gpu, self.precision
        self._plan = verified_plan(*wanted) if self._verified_only else bundle_plan(*wanted, *self._build)
        frame, head, outputs = self._specs
        source = str(self._plan.path or self.bundle.network_path)
        self._network = CompiledNetwork(self._plan.plan, source, {**frame, **head, **outputs})
        self._frame, self._results = self._allocate(plan.frame), self._allocate(plan.results)
        self._features = self._allocate(plan.features)
        self._heads = [self._allocate(plan.head) for _ in range(HEAD_SETS)]
        self._bound = [self._network.bind(self._addresses(head)) for head in self._heads]
        self._lanes = [Lane(self._stream, lambda index=index: self._enqueue(index)) for index in range(HEAD_SETS)]  # type: ignore[misc]
        self._device_bytes = plan.device_bytes + self._network.scratch_bytes
        self._warm_up()

    def _warm_up(self) -> None:
        """First calls are slow and graphs are recorded: before the first frame, not with it."""
        for memory in self._heads:
            for name, host in memory.host.items():
                np.copyto(host, self.bundle.head[name])
            memory.upload(self._stream)
        for host in self._frame.host.values():
            host[...] = 0
        for lane in self._lanes * 2:
            self._execute(lane, features=False)

    def _allocate(self, block: Any) -> Memory:
        memory = Memory(block, staged=True)
        self._memory.append(memory)
        return memory

    def _addresses(self, head: Memory) -> dict[str, int]:
        blocks = (self._frame, head, self._results, self._features)
        return {name: memory.address(name) for memory in blocks for name in memory.block.slots}

    def _enqueue(self, index: int) -> None:
        """Upload, network, download, for head set ``index``: what a lane records."""
        self._frame.upload(self._stream)
        self._enqueue_network(index)

    def _enqueue_camera(self, index: int) -> None:
        assert self._camera is not None
        self._camera.enqueue()
        self._frame.upload(self._stream, first="intrinsics")
        self._enqueue_network(index)

    def _enqueue_network(self, index: int) -> None:
        self._bound[index].enqueue(self._stream)
        self._results.download(self._stream)

    def _execute(self, lane: Lane, features: bool) -> None:
        lane.run()
        if features:
            self._features.download(self._stream)
        self._stream.synchronize()

    def _measure(self, runs: int) -> dict[str, float]:
        import pycuda.driver as driver

        marks = [driver.Event() for _ in range(4)]
        times: dict[str, list[float]] = {"upload": [], "network": [], "download": [], "whole": []}
        for _ in range(runs):
            marks[0].record(self._stream)
            self._frame.upload(self._stream)
            marks[1].record(self._stream)
            self._bound[0].enqueue(self._stream)
            marks[2].record(self._stream)
            self._results.download(self._stream)
            marks[3].record(self._stream)
            self._stream.synchronize()
            for part, earlier, later in zip(times, marks, marks[1:], strict=False):
                times[part].append(later.time_since(earlier))
            marks[0].record(self._stream)
            self._lanes[0].run()
            marks[1].record(self._stream)
            self._stream.synchronize()
            times["whole"].append(marks[1].time_since(marks[0]))
        medians = {part: round(float(np.median(values)), 4) for part, values in times.items()}
        return {**medians, "recorded": float(self._lanes[0].recorded)}

    def _open_camera(self, size: tuple[int, int]) -> None:
        self._free_camera()
        target = {name: self._frame.address(name) for name in ("rgb", "depth")}
        network = (self.bundle.manifest.input_width, self.bundle.manifest.input_height)
        self._camera = CameraUpload(self._cache, self._cuda.gpu, self._stream, size, network, target)
        self._camera_lanes = [
            Lane(self._stream, lambda index=index: self._enqueue_camera(index))  # type: ignore[misc]
            for index in range(HEAD_SETS)
        ]

    def _free(self) -> None:
        self._free_camera()
        for lane in self._lanes:
            lane.free()
        self._lanes = []
        if self._network is not None:
            self._network.close()
        for memory in self._memory:
            memory.free()
        self._memory = []
        self._stream = None

    def _free_camera(self) -> None:
        for lane in self._camera_lanes:
            lane.free()
        self._camera_lanes = []
        if self._camera is not None:
            self._camera.free()
        self._camera = None


class TensorRtSingleEngine(TensorRtEngine):
    """The same network in single precision: to find out whether half precision is what makes a difference."""

    name = "tensorrt-fp32"
    precision: Precision = "float32"


def start_by_name(bundle: Bundle, config: EngineConfig) -> TensorRtEngine:
    """For those who ask for it by name: an engine whose proof failed is refused, one that has none yet is told.

    Raises RobinError ENGINE_DISAGREES, and as ``TensorRtEngine``.
    """
    engine = TensorRtEngine(bundle, config)
    problem = proof_problem(bundle, engine.proof)
    if problem is not None and engine.proof is not None:
        engine.close()
        raise RobinError(Code.ENGINE_DISAGREES, f"{engine.cached.path}: {problem}")
    if problem is not None:
        _log.warning("%s: %s", engine.name, problem)
    return engine


def start_verified(bundle: Bundle, config: EngineConfig) -> TensorRtEngine:
    """For ``auto``: an engine that is built already and has its proof. Raises RobinError as ``verified_plan``."""
    return TensorRtEngine(bundle, config, verified_only=True)
