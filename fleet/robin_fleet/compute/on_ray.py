"""Heavy work on a Ray cluster, or on a small one of this machine."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from typing import Any

import ray
from ray.exceptions import RayError, RayTaskError, WorkerCrashedError

from robin_fleet.compute.interface import TRIES, Compute, call, lost
from robin_perception.core.errors import Code, RobinError


class RayCompute(Compute):
    """address: ``host:port`` of a cluster of which this machine is a node; None: one of this machine alone. A process
    has one at a time."""

    def __init__(self, address: str | None) -> None:
        """Raises RobinError COMPUTE_UNREACHABLE."""
        self._name = f"ray://{address or 'local'}"
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        cores = len(os.sched_getaffinity(0))
        own: dict[str, Any] = {"num_cpus": cores, "include_dashboard": False} if address is None else {}
        try:
            ray.init(address or "local", log_to_driver=False, logging_level=logging.ERROR, **own)
            self.workers = max(1, int(ray.cluster_resources().get("CPU", 1)))
        except (RayError, RuntimeError, OSError, ConnectionError, ValueError) as exc:
            raise RobinError(Code.COMPUTE_UNREACHABLE, f"{self._name}: {exc}") from None
        self._call: Any = ray.remote(max_retries=TRIES - 1)(call)

    def close(self) -> None:
        ray.shutdown()

    def _submit(self, function: Callable[[Any], Any], item: Any) -> tuple[Callable[[Any], Any], Any]:
        return function, self._call.remote(function, item)

    def _result(self, part: tuple[Callable[[Any], Any], Any]) -> Any:
        function, reference = part
        try:
            return ray.get(reference)
        except RayTaskError as exc:
            raise exc.cause from None
        except WorkerCrashedError:
            raise lost(function) from None
        except RayError as exc:
            raise RobinError(Code.COMPUTE_UNREACHABLE, f"{self._name}: {exc}") from None
