"""``robin engine build`` without the command line."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from robin_cli.engine.verify import TENSORRT, tensorrt_engine, verified
from robin_perception.core.errors import Code, RobinError
from robin_perception.engines import EngineConfig, engine_names
from robin_perception.engines.cache import EngineCache
from robin_perception.engines.tensorrt.builder import BuildOptions
from robin_perception.engines.tensorrt.probe import unavailable_reason
from robin_perception.model.bundle import Bundle, load_bundle

INT8 = "onnxruntime-int8"

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Request:
    """Options of the command. engine: a name, or auto for TensorRT where it can run."""

    model: Path
    engine: str
    rebuild: bool
    workspace_bytes: int
    level: int
    scenes: int
    labelled: int
    data: Path | None
    workers: int


def build(request: Request, progress: Progress) -> dict[str, Any]:
    """What was built, JSON-ready: "lines" to tell, "usable". Raises RobinError ENGINE_UNKNOWN, ENGINE_UNAVAILABLE for
    TensorRT where it cannot run, and what building raises."""
    bundle = load_bundle(request.model)
    if request.engine == "auto":
        reason = unavailable_reason()
        if reason is None:
            return _tensorrt(request, bundle, "tensorrt", progress)
        lines = [f"TensorRT cannot be built here: {reason}", *_nothing("onnxruntime"), _advice(request.model)]
        return {"engine": "onnxruntime", "model": bundle.model_id, "built": False, "usable": True, "lines": lines}
    if request.engine in TENSORRT:
        return _tensorrt(request, bundle, request.engine, progress)
    if request.engine == INT8:
        return _int8(request, bundle, progress)
    if request.engine not in engine_names():
        known = ", ".join(("auto", *engine_names()))
        raise RobinError(Code.ENGINE_UNKNOWN, f"unknown engine '{request.engine}'; known: {known}")
    lines = _nothing(request.engine)
    return {"engine": request.engine, "model": bundle.model_id, "built": False, "usable": True, "lines": lines}


def _nothing(name: str) -> list[str]:
    return [f"{name} runs the bundle's network.onnx as it is; nothing needs to be built."]


def _advice(model: Path) -> str:
    return (
        f"On processors with INT8 instructions a quantised graph is faster: robin engine build {model} --engine {INT8}"
    )


def _int8(request: Request, bundle: Bundle, progress: Progress) -> dict[str, Any]:
    from robin_cli.engine.int8 import Int8Scenes, build_from_scenes
    from robin_perception.engines.ort.int8 import cache_key

    path = None if request.rebuild else EngineCache().entry(cache_key(bundle))
    if path is not None:
        lines = [f"{path} fits; nothing was built (--rebuild builds anew)"]
        return {"engine": INT8, "model": bundle.model_id, "built": False, "usable": True, "lines": lines}
    EngineCache().require_writable()
    scenes = Int8Scenes(request.scenes, request.labelled, request.data)
    found = build_from_scenes(bundle, scenes, EngineConfig(), request.workers, progress)
    verdict = "auto takes it" if found["taken_by_auto"] else f"auto leaves it: it {found['why_not']}"
    lines = [
        f"float32 {found['float32_ms']:.1f} ms, INT8 {found['int8_ms']:.1f} ms: {found['gain']:.2f} times as fast",
        f"AP50 {found['ap50_float32']:.3f} -> {found['ap50_int8']:.3f}, AP75 {found['ap75_float32']:.3f} -> "
        f"{found['ap75_int8']:.3f} on {found['scenes']} scenes; {verdict}",
    ]
    return {**found, "built": True, "usable": True, "lines": lines}


def _tensorrt(request: Request, bundle: Bundle, name: str, progress: Progress) -> dict[str, Any]:
    """Build or take from the cache, start, prove."""
    options = BuildOptions(request.workspace_bytes, request.level)
    engine = tensorrt_engine(name, bundle, options, request.rebuild, progress)
    try:
        verdict = verified(engine, bundle, None, lambda done, total: progress("verify", done, total))
        plan, described = engine.cached, engine.describe()
    finally:
        engine.close()
    where = str(plan.path) if plan.path else "memory only: the disk is full"
    built = f"built in {plan.built_s:.0f} s" if plan.built_s else "taken from the cache (--rebuild builds anew)"
    return {
        "engine": name,
        "model": bundle.model_id,
        "built": bool(plan.built_s),
        "seconds": round(plan.built_s, 1),
        "path": str(plan.path or ""),
        "described": described,
        "verification": verdict.report,
        "usable": verdict.passed,
        "lines": [f"{where}: {built}", *verdict.report["lines"]],
    }
