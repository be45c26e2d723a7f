"""Engines by name. Back ends are imported only when they are asked for."""

from __future__ import annotations

from collections.abc import Callable

from robin_perception.bundle import Bundle
from robin_perception.engines.base import Engine, EngineConfig
from robin_perception.errors import Code, RobinError

AUTO = "auto"
Factory = Callable[[Bundle, EngineConfig], Engine]


def _onnxruntime(bundle: Bundle, config: EngineConfig) -> Engine:
    from robin_perception.engines.onnxruntime_engine import OnnxRuntimeEngine

    return OnnxRuntimeEngine(bundle, config)


_FACTORIES: dict[str, Factory] = {"onnxruntime": _onnxruntime}


def register_engine(name: str, factory: Factory) -> None:
    """Add an engine under ``name``; a second one of that name is a mistake and raises ValueError."""
    if name in _FACTORIES or name == AUTO:
        raise ValueError(f"engine {name!r} is already registered")
    _FACTORIES[name] = factory


def engine_names() -> tuple[str, ...]:
    """Names ``make_engine`` knows, besides "auto"."""
    return tuple(sorted(_FACTORIES))


def make_engine(name: str, bundle: Bundle, config: EngineConfig | None = None) -> Engine:
    """The engine called ``name`` over ``bundle``; "auto" is the best one this machine has.

    Raises RobinError ENGINE_UNKNOWN naming the known ones, ENGINE_FAILED when the back end refuses the graph.
    """
    chosen = "onnxruntime" if name == AUTO else name
    if chosen not in _FACTORIES:
        known = ", ".join((AUTO, *engine_names()))
        raise RobinError(Code.ENGINE_UNKNOWN, f"unknown engine '{name}'; known: {known}")
    return _FACTORIES[chosen](bundle, config or EngineConfig())
