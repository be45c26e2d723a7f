"""Inference in a process of its own, with a deadline, a fallback that stands ready, and restarts up to a limit."""

from robin_perception.supervision.config import SupervisionConfig
from robin_perception.supervision.engine import SupervisedEngine, SupervisionStatus
from robin_perception.supervision.start import needs_driver, start_engine

__all__ = ["SupervisedEngine", "SupervisionConfig", "SupervisionStatus", "needs_driver", "start_engine"]
