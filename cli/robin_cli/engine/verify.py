"""``robin engine verify`` without the command line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from robin_cli.doctor.machine import machine_facts
from robin_perception.core.errors import Code, RobinError
from robin_perception.core.image_folder import load_frame, scene_folders
from robin_perception.engines import Engine, EngineConfig
from robin_perception.engines.cache import EngineCache
from robin_perception.engines.tensorrt import probe as tensorrt_probe
from robin_perception.engines.tensorrt.builder import BuildOptions
from robin_perception.engines.tensorrt.builder import Progress as BuildProgress
from robin_perception.engines.tensorrt.engine import TensorRtEngine, TensorRtSingleEngine
from robin_perception.engines.tensorrt.probe import unavailable_reason
from robin_perception.engines.verify import Progress, Verdict, summary, verify_engine
from robin_perception.model.bundle import Bundle, load_bundle
from robin_perception.segmentation.segmenter import Segmenter
from robin_perception.supervision import start_engine

TENSORRT = {kind.name: kind for kind in (TensorRtEngine, TensorRtSingleEngine)}


def verify(model: Path, name: str, data: Path | None, progress: BuildProgress) -> dict[str, Any]:
    """The report of engine ``name``, with machine facts and, under "lines", what to tell. What was found is laid beside
    the engine's files in the cache. TensorRT that was not built yet is built first: one command is the whole proof."""
    bundle = load_bundle(model)
    by_name = name in TENSORRT
    engine = tensorrt_engine(name, bundle, report=progress) if by_name else start_engine(name, bundle)
    try:
        verdict = verified(engine, bundle, data, lambda done, total: progress("verify", done, total))
    finally:
        engine.close()
    return verdict.report


def tensorrt_engine(
    name: str,
    bundle: Bundle,
    options: BuildOptions | None = None,
    rebuild: bool = False,
    report: BuildProgress | None = None,
) -> TensorRtEngine:
    """TensorRT by name, built where the cache has nothing that fits. Raises RobinError ENGINE_UNAVAILABLE with what
    this machine lacks, and what building raises."""
    reason = unavailable_reason()
    if reason is not None:
        raise RobinError(Code.ENGINE_UNAVAILABLE, f"{name}: {reason}")
    return TENSORRT[name](bundle, EngineConfig(), options=options, rebuild=rebuild, report=report)


def verified(engine: Engine, bundle: Bundle, data: Path | None, progress: Progress) -> Verdict:
    """As ``verify``, for an engine that runs already."""
    segmenter = Segmenter(bundle, engine)
    frames = [segmenter.view(load_frame(folder)).inputs for folder in scene_folders(data)] if data else []
    verdict = verify_engine(engine, bundle, frames, progress)
    report = verdict.report
    report["machine"] = {**machine_facts(), "gpu_libraries": {f.name: f.found for f in tensorrt_probe.findings()}}
    described = report["described"]
    about = ", ".join(str(described[key]) for key in ("provider", "precision", "gpu") if key in described)
    report["lines"] = [
        f"{engine.name} ({about}) against {report['reference']['engine']}",
        f"this head: {summary(report['parity'])}",
        f"another head: {summary(report['head']['parity'])}",
        *(f"camera {size}: {summary(found['parity'])}" for size, found in (report["camera"] or {}).items()),
        "proven" if verdict.passed else "NOT proven: do not pick with it",
    ]
    path = cached_folder(engine)
    if path is not None:
        EngineCache(path.parent).note_verification(path, {k: v for k, v in report.items() if k != "lines"})
    return verdict


def cached_folder(engine: Engine) -> Path | None:
    """The folder of the cache that ``engine`` runs from, or None."""
    plan = getattr(engine, "cached", None)
    graph = getattr(engine, "graph_path", None)
    folder = getattr(plan, "path", None) if plan is not None else Path(graph()).parent if callable(graph) else None
    return folder if isinstance(folder, Path) and (folder / "entry.json").is_file() else None


def disagreement(report: dict[str, Any]) -> RobinError:
    """The error of a verdict that failed."""
    text = f"{report['engine']} on {report['model']}: {'; '.join(report['failures'])}"
    return RobinError(Code.ENGINE_DISAGREES, text)
