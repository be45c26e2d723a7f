"""Engines by name, and which of them ``auto`` is. Back ends are imported only when they are asked for."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec

from robin_perception.core.errors import Code, RobinError
from robin_perception.engines.base import Engine, EngineConfig, Selection
from robin_perception.model.bundle import Bundle

AUTO = "auto"
SUPERVISED = "supervised:"
# What auto tries, best first. Left out: tensorrt-fp32, which is there to compare with, and onnxruntime-tensorrt, which
# builds for minutes whenever it is loaded.
PREFERENCE = ("tensorrt", "onnxruntime-cuda", "onnxruntime-int8", "onnxruntime")

Factory = Callable[[Bundle, EngineConfig], Engine]
Hindrance = Callable[[Bundle, EngineConfig], "str | None"]

_log = logging.getLogger(__name__)
_PACKAGE = "robin_perception.engines"
# Failures of one engine, or of its cache, after which the next is tried. All others (of the bundle, say) would meet
# every engine.
_NEXT_BEST = frozenset(
    {
        Code.ENGINE_UNAVAILABLE,
        Code.ENGINE_FAILED,
        Code.ENGINE_BUILD_FAILED,
        Code.ENGINE_OPERATOR_UNSUPPORTED,
        Code.ENGINE_OUT_OF_MEMORY,
        Code.ENGINE_DISAGREES,
        Code.ENGINE_CRASHED,
        Code.DEPENDENCY_MISSING,
        Code.DISK_FULL,
        Code.OPTION_INVALID,
    }
)


@dataclass(frozen=True)
class EngineEntry:
    """make: builds it. hindrance: in one line why it cannot run here, with the remedy, or None; asked before anything
    is loaded, so it is quick and opens no device. on_cpu: it needs no driver, whose hang or crash could end a node.
    reserve: why ``auto`` leaves it, although it can run, to those who ask for it by name.
    """

    make: Factory
    hindrance: Hindrance
    on_cpu: bool
    reserve: Hindrance = lambda bundle, config: None

    def not_for_auto(self, bundle: Bundle, config: EngineConfig) -> str | None:
        return self.hindrance(bundle, config) or self.reserve(bundle, config)


def _lazy(module: str, maker: str) -> Factory:
    def make(bundle: Bundle, config: EngineConfig) -> Engine:
        engine: Engine = getattr(import_module(f"{_PACKAGE}.{module}"), maker)(bundle, config)
        return engine

    return make


def _asked(module: str, function: str) -> Hindrance:
    """The hindrance that ``module`` itself knows; a module that cannot be imported is one, too."""

    def hindrance(bundle: Bundle, config: EngineConfig) -> str | None:
        if find_spec("onnxruntime") is None and module != "tensorrt.probe":
            return "onnxruntime is not installed; make setup"
        try:
            found: str | None = getattr(import_module(f"{_PACKAGE}.{module}"), function)(bundle, config)
        except ImportError as exc:
            return f"{_PACKAGE}.{module} cannot be imported: {exc}"
        return found

    return hindrance


_ENTRIES: dict[str, EngineEntry] = {
    "tensorrt": EngineEntry(
        _lazy("tensorrt.engine", "start_proven"), _asked("tensorrt.probe", "hindrance"), on_cpu=False
    ),
    "tensorrt-fp32": EngineEntry(
        _lazy("tensorrt.engine", "TensorRtSingleEngine"), _asked("tensorrt.probe", "hindrance"), on_cpu=False
    ),
    "onnxruntime-cuda": EngineEntry(
        _lazy("ort.gpu", "OnnxRuntimeCudaEngine"), _asked("ort.gpu", "cuda_hindrance"), on_cpu=False
    ),
    "onnxruntime-tensorrt": EngineEntry(
        _lazy("ort.gpu", "OnnxRuntimeTensorRtEngine"), _asked("ort.gpu", "tensorrt_hindrance"), on_cpu=False
    ),
    "onnxruntime-int8": EngineEntry(
        _lazy("ort.int8", "OnnxRuntimeInt8Engine"),
        _asked("ort.int8", "hindrance"),
        on_cpu=True,
        reserve=_asked("ort.int8", "reserve"),
    ),
    "onnxruntime": EngineEntry(
        _lazy("ort.engine", "OnnxRuntimeEngine"), _asked("ort.session", "hindrance"), on_cpu=True
    ),
}


def register_engine(name: str, factory: Factory, hindrance: Hindrance | None = None, on_cpu: bool = True) -> None:
    """Add an engine under ``name``; a second one of that name is a mistake and raises ValueError."""
    if name in _ENTRIES or name == AUTO or ":" in name:
        raise ValueError(f"engine {name!r} is already registered, or no name for an engine")
    _ENTRIES[name] = EngineEntry(factory, hindrance or (lambda bundle, config: None), on_cpu)


def engine_names() -> tuple[str, ...]:
    """Names ``make_engine`` knows, besides "auto" and "supervised:NAME"."""
    return tuple(sorted(_ENTRIES))


def on_cpu(name: str) -> bool:
    """Whether the engine of that name, supervised or not, needs no driver. Raises RobinError ENGINE_UNKNOWN."""
    return _entry(name.removeprefix(SUPERVISED)).on_cpu


def hindrances(bundle: Bundle, config: EngineConfig | None = None) -> dict[str, str | None]:
    """Every engine with the reason why it cannot run here, or None, in the order of preference."""
    names = (*PREFERENCE, *(name for name in engine_names() if name not in PREFERENCE))
    return {name: _ENTRIES[name].hindrance(bundle, config or EngineConfig()) for name in names}


def select(name: str, bundle: Bundle, config: EngineConfig | None = None) -> Selection:
    """What ``name`` stands for on this machine, without loading it; an engine's own name stands for itself.

    Raises RobinError ENGINE_UNKNOWN, ENGINE_UNAVAILABLE when nothing can run.
    """
    if name != AUTO:
        _entry(name)
        return Selection(name, "asked for by name")
    rejected: tuple[tuple[str, str], ...] = ()
    for candidate in PREFERENCE:
        reason = _ENTRIES[candidate].not_for_auto(bundle, config or EngineConfig())
        if reason is None:
            return Selection(candidate, _why(candidate), rejected)
        rejected += ((candidate, reason),)
    raise _nothing_runs(rejected)


def make_engine(name: str, bundle: Bundle, config: EngineConfig | None = None) -> Engine:
    """The engine called ``name`` over ``bundle``; "auto" is the best one that works on this machine; "supervised:NAME"
    runs engine NAME in a process of its own. ``engine.selection`` says which it became and why not the others.

    Raises RobinError ENGINE_UNKNOWN naming the known ones, ENGINE_UNAVAILABLE when this machine lacks something,
    ENGINE_FAILED when the back end refuses the graph.
    """
    config = config or EngineConfig()
    if name.startswith(SUPERVISED):
        return _supervised(name.removeprefix(SUPERVISED), bundle, config)
    if name != AUTO:
        return _named(name, bundle, config)
    rejected: tuple[tuple[str, str], ...] = ()
    for candidate in PREFERENCE:
        entry = _ENTRIES[candidate]
        reason = entry.not_for_auto(bundle, config)
        if reason is None:
            try:
                engine = entry.make(bundle, config)
            except RobinError as exc:
                if exc.code not in _NEXT_BEST:
                    raise
                reason = exc.text
                _log.warning("%s did not start, the next engine is tried: %s", candidate, reason)
            else:
                engine.selection = Selection(candidate, _why(candidate), rejected)
                _log.info("%s", engine.selection.line())
                return engine
        rejected += ((candidate, reason),)
    raise _nothing_runs(rejected)


def _named(name: str, bundle: Bundle, config: EngineConfig) -> Engine:
    entry = _entry(name)
    reason = entry.hindrance(bundle, config)
    if reason is not None:
        raise RobinError(Code.ENGINE_UNAVAILABLE, f"{name}: {reason}")
    engine = entry.make(bundle, config)
    engine.selection = Selection(name, "asked for by name")
    return engine


def _supervised(inner: str, bundle: Bundle, config: EngineConfig) -> Engine:
    """The child process chooses anew, so that auto is resolved here: both sides must speak of the same engine."""
    chosen = select(inner, bundle, config)
    engine: Engine = import_module("robin_perception.supervision.engine").SupervisedEngine(chosen.name, bundle, config)
    engine.selection = chosen
    return engine


def _entry(name: str) -> EngineEntry:
    entry = _ENTRIES.get(name)
    if entry is None:
        known = ", ".join((AUTO, *engine_names()))
        raise RobinError(Code.ENGINE_UNKNOWN, f"unknown engine '{name}'; known: {known}")
    return entry


def _why(name: str) -> str:
    return "the best engine there is" if name == PREFERENCE[0] else "the best that can run here"


def _nothing_runs(rejected: tuple[tuple[str, str], ...]) -> RobinError:
    reasons = "; ".join(f"{name}: {reason}" for name, reason in rejected)
    return RobinError(Code.ENGINE_UNAVAILABLE, f"no engine can run here: {reasons}")
