"""Inference engines: one base class, a registry, a lazy factory."""

from robin_perception.engines.base import Engine, EngineConfig
from robin_perception.engines.registry import engine_names, make_engine, register_engine

__all__ = ["Engine", "EngineConfig", "engine_names", "make_engine", "register_engine"]
