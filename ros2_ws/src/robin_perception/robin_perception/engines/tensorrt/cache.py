"""TensorRT engines by way of the cache: taken where the key fits, else built, once, with a message."""

from __future__ import annotations

import logging
import shutil
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from robin_perception.core.disk import write_atomic, write_error
from robin_perception.core.errors import Code, RobinError
from robin_perception.engines.cache import EngineCache
from robin_perception.engines.tensorrt.bindings import load_tensorrt, release
from robin_perception.engines.tensorrt.builder import BuildOptions, BuiltPlan, Progress, build_plan
from robin_perception.engines.tensorrt.graph import Precision, tensorrt_graph
from robin_perception.engines.tensorrt.key import LOG_FILE, PLAN_FILE, Gpu, engine_key
from robin_perception.engines.tensorrt.probe import proof_problem
from robin_perception.model.bundle import Bundle

_log = logging.getLogger(__name__)
_LEAST_FREE_BYTES = 128 << 20

Build = Callable[[bytes], BuiltPlan]  # timing cache in


@dataclass(frozen=True)
class CachedPlan:
    """A plan that is ready for the device. path: its folder in the cache, None where the disk was full. built: seconds
    that building took, 0 where it came from the cache."""

    plan: bytes
    path: Path | None
    built_s: float = 0.0


def bundle_plan(
    cache: EngineCache,
    bundle: Bundle,
    gpu: Gpu,
    precision: Precision,
    options: BuildOptions | None = None,
    report: Progress | None = None,
    rebuild: bool = False,
    cancelled: threading.Event | None = None,
) -> CachedPlan:
    """The plan of ``bundle`` for ``gpu``. In the CUDA thread. cancelled: ends a build at its next step.

    Raises RobinError ENGINE_UNAVAILABLE where TensorRT does not load, ENGINE_BUILD_FAILED,
    ENGINE_OPERATOR_UNSUPPORTED, ENGINE_OUT_OF_MEMORY, MODEL_*.
    """
    source, trt = str(bundle.network_path), load_tensorrt()
    key = engine_key(bundle, gpu, release(trt), precision)

    def build(timing: bytes) -> BuiltPlan:
        graph = tensorrt_graph(bundle.network_path.read_bytes(), precision, source)
        return build_plan(trt, graph, source, options or BuildOptions(), timing, report, cancelled)

    return cached_plan(cache, key, build, rebuild)


def verified_plan(cache: EngineCache, bundle: Bundle, gpu: Gpu, precision: Precision) -> CachedPlan:
    """The plan of ``bundle`` for ``gpu`` that a stored proof says to be right. Nothing is built.

    Raises RobinError ENGINE_UNAVAILABLE where none is cached or it has no proof, ENGINE_DISAGREES where that failed.
    """
    path, reason = cache.find(engine_key(bundle, gpu, release(load_tensorrt()), precision))
    if path is None:
        text = f"{reason}; robin engine build {bundle.directory} --engine tensorrt"
        raise RobinError(Code.ENGINE_UNAVAILABLE, text)
    proof = cache.verification(path)
    if (problem := proof_problem(bundle, proof)) is not None:
        raise RobinError(Code.ENGINE_UNAVAILABLE if proof is None else Code.ENGINE_DISAGREES, problem)
    return CachedPlan((path / PLAN_FILE).read_bytes(), path)


def cached_plan(cache: EngineCache, key: Mapping[str, str], build: Build, rebuild: bool = False) -> CachedPlan:
    """The plan of ``key`` from the cache, else from ``build``, which is called by one process at a time.

    A disk that is full costs the next start a build, not this one its engine.
    """
    made: list[BuiltPlan] = []

    def files() -> Mapping[str, bytes]:
        _require_space(cache.root)
        timing = cache.root / f"{_timing_name(key)}"
        plan = build(timing.read_bytes() if timing.is_file() else b"")
        made.append(plan)
        _keep_timing(timing, plan.timing)
        return {PLAN_FILE: plan.plan, LOG_FILE: plan.log.encode()}

    try:
        path = cache.store(key, files()) if rebuild else cache.built(key, files)
    except RobinError as exc:
        if exc.code is not Code.DISK_FULL or not made:
            raise
        _log.warning("the engine is used, but not kept, and the next start builds it anew: %s", exc.text)
        return CachedPlan(made[0].plan, None, made[0].seconds)
    if made:
        return CachedPlan(made[0].plan, path, made[0].seconds)
    return CachedPlan((path / PLAN_FILE).read_bytes(), path)


def _require_space(root: Path) -> None:
    """Before minutes of building, not after."""
    try:
        root.mkdir(parents=True, exist_ok=True, mode=0o700)
        free = shutil.disk_usage(root).free
    except OSError as exc:
        raise write_error(root, exc) from None
    if free < _LEAST_FREE_BYTES:
        text = f"{root}: {free >> 20} MB free, an engine needs up to {_LEAST_FREE_BYTES >> 20} MB; nothing was built"
        raise RobinError(Code.DISK_FULL, text)


def _timing_name(key: Mapping[str, str]) -> str:
    """One timing cache for each device and version; the files of others are left alone."""
    return f".timing-{key.get('gpu_uuid', '')[:16].replace(':', '')}-{key.get('tensorrt', '')}".replace(" ", "-")


def _keep_timing(path: Path, timing: bytes) -> None:
    """Timings make the next build quicker and are worth nothing else, so that a failure is no failure."""
    if not timing:
        return
    try:
        write_atomic(path, timing)
    except RobinError as exc:
        _log.info("timing cache was not kept: %s", exc.text)
