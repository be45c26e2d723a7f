"""Inference in a process of its own, with a deadline, a fallback that stands ready, and restarts up to a limit."""

from robin_perception.supervision.config import SupervisionConfig
from robin_perception.supervision.engine import SupervisedEngine, SupervisionStatus, start_engine

__all__ = ["SupervisedEngine", "SupervisionConfig", "SupervisionStatus", "start_engine"]
