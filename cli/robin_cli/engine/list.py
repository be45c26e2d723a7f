"""``robin engine list`` without the command line."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from robin_perception.core.errors import RobinError
from robin_perception.engines.cache import CacheEntry, EngineCache, changes
from robin_perception.engines.registry import select
from robin_perception.engines.tensorrt.probe import unavailable_reason
from robin_perception.model.bundle import Bundle, load_bundle


def list_cached(model: Path, cache: EngineCache | None = None) -> dict[str, Any]:
    """Every cached engine, JSON-ready, compared with what ``model`` would need on this machine, and what auto is."""
    cache = cache or EngineCache()
    entries = cache.entries()
    bundle = load_bundle(model)
    wanted = _wanted(bundle, {entry.key.get("kind", "") for entry in entries})
    rows = [_row(entry, wanted) for entry in entries]
    return {"root": str(cache.root), "model": bundle.model_id, "engines": rows, "auto": _auto(bundle)}


def _auto(bundle: Bundle) -> dict[str, Any]:
    """The engine that auto takes, and why not the better ones."""
    try:
        chosen = select("auto", bundle)
    except RobinError as exc:
        return {"engine": "", "why": exc.text, "rejected": {}}
    return {"engine": chosen.name, "why": chosen.why, "rejected": dict(chosen.rejected)}


def _row(entry: CacheEntry, wanted: Mapping[str, list[dict[str, str]] | str]) -> dict[str, Any]:
    key, report = entry.key, entry.verification
    verified = "no" if report is None else "yes" if report.get("passed") else "FAILED"
    return {
        "path": str(entry.path),
        "kind": key.get("kind", entry.path.name),
        "for": key.get("bundle", key.get("camera", "")),
        "precision": key.get("precision", ""),
        "gpu": key.get("gpu", key.get("processor", "")),
        "key": key,
        "size_mb": entry.size_bytes / 2**20,
        "made": entry.made,
        "verified": verified,
        "fits": _fits(entry, wanted),
    }


def _fits(entry: CacheEntry, wanted: Mapping[str, list[dict[str, str]] | str]) -> str:
    """ "yes", or why not in one line."""
    if entry.problem is not None:
        return f"no: {entry.problem}"
    needed = wanted.get(entry.key.get("kind", ""), [])
    if isinstance(needed, str):
        return f"no: {needed}"
    if not needed:
        return "unknown: nothing here asks for such an engine"
    fewest = min((changes(entry.key, key) for key in needed), key=len)
    return "no: " + "; ".join(fewest) if fewest else "yes"


def _wanted(bundle: Bundle, kinds: set[str]) -> dict[str, list[dict[str, str]] | str]:
    """Kind -> the keys that would fit, or why none can."""
    wanted: dict[str, list[dict[str, str]] | str] = {}
    if "onnxruntime-int8" in kinds:
        from robin_perception.engines.ort.int8 import cache_key

        wanted["onnxruntime-int8"] = [cache_key(bundle)]
    tensorrt = {kind for kind in kinds if kind.startswith("tensorrt")}
    if tensorrt:
        keys = _tensorrt_keys(bundle)
        for kind in tensorrt:
            wanted[kind] = keys if isinstance(keys, str) else [key for key in keys if key["kind"] == kind]
    return wanted


def _tensorrt_keys(bundle: Bundle) -> list[dict[str, str]] | str:
    reason = unavailable_reason()
    if reason is not None:
        return reason
    from robin_perception.engines.prelude import camera_graph
    from robin_perception.engines.tensorrt.bindings import load_tensorrt, release
    from robin_perception.engines.tensorrt.cuda import CudaThread
    from robin_perception.engines.tensorrt.key import engine_key, prelude_key
    from robin_perception.engines.verify import CAMERA_SIZES

    try:
        version = release(load_tensorrt())
        cuda = CudaThread()
    except RobinError as exc:
        return exc.text
    gpu = cuda.gpu
    cuda.close()
    size = (bundle.manifest.input_width, bundle.manifest.input_height)
    keys = [engine_key(bundle, gpu, version, precision) for precision in ("float16", "float32")]
    graphs = {frame: camera_graph(frame, size) for frame in CAMERA_SIZES}
    return keys + [prelude_key(frame, graph, gpu, version) for frame, graph in graphs.items()]
