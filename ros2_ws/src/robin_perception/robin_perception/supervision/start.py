"""Engines by name, in this process or in one of their own: above both the registry and supervision."""

from __future__ import annotations

from robin_perception.engines.base import Engine, EngineConfig
from robin_perception.engines.registry import make_engine, on_cpu, select
from robin_perception.model.bundle import Bundle
from robin_perception.supervision.config import SUPERVISED, SupervisionConfig
from robin_perception.supervision.engine import SupervisedEngine


def start_engine(
    name: str, bundle: Bundle, config: EngineConfig | None = None, supervision: SupervisionConfig | None = None
) -> Engine:
    """As ``make_engine``, in a process of its own where the name ("supervised:NAME") or ``supervision.mode`` says so.

    mode auto: unless the engine needs no driver; one of the CPU hangs and crashes no more than what is around it.
    """
    inner = name.removeprefix(SUPERVISED)
    wanted = inner != name
    if supervision is not None and not wanted:
        of_cpu = supervision.mode == "auto" and on_cpu(select(inner, bundle, config).name)
        wanted = supervision.mode != "never" and not of_cpu
    if wanted:
        return SupervisedEngine(inner, bundle, config or EngineConfig(), supervision)
    return make_engine(inner, bundle, config)


def needs_driver(name: str) -> bool:
    """Whether the engine of that name, supervised or not, needs a driver. Raises RobinError ENGINE_UNKNOWN."""
    return not on_cpu(name.removeprefix(SUPERVISED))
