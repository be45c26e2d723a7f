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
# What auto tries, best first. Left out: tensorrt-fp32, which is there to compare with, and onnxruntime-tensorrt, which
# builds for minutes whenever it is loaded.
PREFERENCE = ("tensorrt", "onnxruntime-cuda", "onnxruntime-int8", "onnxruntime")

Factory = Callable[[Bundle, EngineConfig], Engine]
Reason = Callable[[Bundle, EngineConfig], "str | None"]

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


def _nothing(bundle: Bundle, config: EngineConfig) -> str | None:
    return None


@dataclass(frozen=True)
class EngineEntry:
    """make: builds it. unavailable_reason: in one line why it cannot run here, with the remedy, or None; asked before
    anything is loaded, so it is quick and opens no device. on_cpu: it needs no driver, whose hang or crash could end a
    node. skip_reason: why ``auto`` leaves it, although it can run, to those who ask for it by name. make_for_auto: in
    place of ``make`` where ``auto`` asks for more than by name.
    """

    make: Factory
    unavailable_reason: Reason
    on_cpu: bool
    skip_reason: Reason = _nothing
    make_for_auto: Factory | None = None

    def not_for_auto(self, bundle: Bundle, config: EngineConfig) -> str | None:
        return self.unavailable_reason(bundle, config) or self.skip_reason(bundle, config)


def _lazy(module: str, maker: str) -> Factory:
    def make(bundle: Bundle, config: EngineConfig) -> Engine:
        engine: Engine = getattr(import_module(f"{_PACKAGE}.{module}"), maker)(bundle, config)
        return engine

    return make


def _asked(module: str, function: str) -> Reason:
    """What ``function`` of ``module`` says; a module that cannot be imported is a reason, too."""

    def reason(bundle: Bundle, config: EngineConfig) -> str | None:
        if find_spec("onnxruntime") is None and module != "tensorrt.probe":
            return "onnxruntime is not installed; make setup"
        try:
            found: str | None = getattr(import_module(f"{_PACKAGE}.{module}"), function)(bundle, config)
        except ImportError as exc:
            return f"{_PACKAGE}.{module} cannot be imported: {exc}"
        return found

    return reason


_TENSORRT = _asked("tensorrt.probe", "unavailable_reason")
_ENTRIES: dict[str, EngineEntry] = {
    "tensorrt": EngineEntry(
        _lazy("tensorrt.engine", "start_by_name"),
        _TENSORRT,
        on_cpu=False,
        skip_reason=_asked("tensorrt.probe", "unverified_reason"),
        make_for_auto=_lazy("tensorrt.engine", "start_verified"),
    ),
    "tensorrt-fp32": EngineEntry(_lazy("tensorrt.engine", "TensorRtSingleEngine"), _TENSORRT, on_cpu=False),
    "onnxruntime-cuda": EngineEntry(
        _lazy("ort.gpu", "OnnxRuntimeCudaEngine"), _asked("ort.gpu", "cuda_unavailable_reason"), on_cpu=False
    ),
    "onnxruntime-tensorrt": EngineEntry(
        _lazy("ort.gpu", "OnnxRuntimeTensorRtEngine"), _asked("ort.gpu", "tensorrt_unavailable_reason"), on_cpu=False
    ),
    "onnxruntime-int8": EngineEntry(
        _lazy("ort.int8", "OnnxRuntimeInt8Engine"),
        _asked("ort.int8", "unavailable_reason"),
        on_cpu=True,
        skip_reason=_asked("ort.int8", "skip_reason"),
    ),
    "onnxruntime": EngineEntry(
        _lazy("ort.engine", "OnnxRuntimeEngine"), _asked("ort.session", "unavailable_reason"), on_cpu=True
    ),
}


def register_engine(name: str, factory: Factory, unavailable_reason: Reason | None = None, on_cpu: bool = True) -> None:
    """Add an engine under ``name``; a second one of that name is a mistake and raises ValueError."""
    if name in _ENTRIES or name == AUTO or ":" in name:
        raise ValueError(f"engine {name!r} is already registered, or no name for an engine")
    _ENTRIES[name] = EngineEntry(factory, unavailable_reason or _nothing, on_cpu)


def engine_names() -> tuple[str, ...]:
    """Names ``make_engine`` knows, besides "auto"."""
    return tuple(sorted(_ENTRIES))


def on_cpu(name: str) -> bool:
    """Whether the engine of that name needs no driver. Raises RobinError ENGINE_UNKNOWN."""
    return _entry(name).on_cpu


def unavailable_reasons(bundle: Bundle, config: EngineConfig | None = None) -> dict[str, str | None]:
    """Every engine with the reason why it cannot run here, or None, in the order of preference."""
    names = (*PREFERENCE, *(name for name in engine_names() if name not in PREFERENCE))
    return {name: _ENTRIES[name].unavailable_reason(bundle, config or EngineConfig()) for name in names}


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
            return Selection(candidate, _why(candidate), rejected, by_auto=True)
        rejected += ((candidate, reason),)
    raise _nothing_runs(rejected)


def make_engine(name: str, bundle: Bundle, config: EngineConfig | None = None) -> Engine:
    """The engine called ``name`` over ``bundle``, in this process; "auto" is the best one that works on this machine.
    ``engine.selection`` says which it became and why not the others.

    Raises RobinError ENGINE_UNKNOWN naming the known ones, ENGINE_UNAVAILABLE when this machine lacks something,
    ENGINE_FAILED when the back end refuses the graph.
    """
    config = config or EngineConfig()
    if name != AUTO:
        return _named(name, bundle, config)
    rejected: tuple[tuple[str, str], ...] = ()
    for candidate in PREFERENCE:
        reason = _ENTRIES[candidate].not_for_auto(bundle, config)
        if reason is None:
            try:
                engine = make_for_auto(candidate, bundle, config)
            except RobinError as exc:
                if exc.code not in _NEXT_BEST:
                    raise
                reason = exc.text
                _log.warning("%s did not start, the next engine is tried: %s", candidate, reason)
            else:
                engine.selection = Selection(candidate, _why(candidate), rejected, by_auto=True)
                _log.info("%s", engine.selection.line())
                return engine
        rejected += ((candidate, reason),)
    raise _nothing_runs(rejected)


def make_for_auto(name: str, bundle: Bundle, config: EngineConfig) -> Engine:
    """The engine that ``select`` chose for "auto"; it may refuse what it would do for those who ask for it by name."""
    entry = _entry(name)
    return (entry.make_for_auto or entry.make)(bundle, config)


def _named(name: str, bundle: Bundle, config: EngineConfig) -> Engine:
    entry = _entry(name)
    reason = entry.unavailable_reason(bundle, config)
    if reason is not None:
        raise RobinError(Code.ENGINE_UNAVAILABLE, f"{name}: {reason}")
    engine = entry.make(bundle, config)
    engine.selection = Selection(name, "asked for by name")
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
