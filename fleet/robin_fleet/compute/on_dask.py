"""Heavy work on a Dask cluster, or on a small one of this machine."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import dask
from distributed import Client, Future, KilledWorker, LocalCluster
from distributed.comm.core import CommClosedError

from robin_fleet.compute.interface import TRIES, Compute, call, lost
from robin_perception.core.errors import Code, RobinError

_WAIT_S = 20


class DaskCompute(Compute):
    """address: of the scheduler; None: a cluster of this machine alone, on its loopback."""

    def __init__(self, address: str | None) -> None:
        """Raises RobinError COMPUTE_UNREACHABLE."""
        self._name = address or "dask://local"
        self._cluster = None
        with dask.config.set({"distributed.scheduler.allowed-failures": TRIES - 1}):
            if address is None:
                self._cluster = LocalCluster(host="127.0.0.1", threads_per_worker=1, dashboard_address=None)
        try:
            self._client = Client(self._cluster or address, timeout=_WAIT_S, set_as_default=False)
            self.workers = max(1, sum(self._client.nthreads().values()))
        except (OSError, TimeoutError, CommClosedError) as exc:
            raise RobinError(Code.COMPUTE_UNREACHABLE, f"{self._name}: {exc}") from None

    def close(self) -> None:
        self._client.close()
        if self._cluster is not None:
            self._cluster.close()

    def _submit(self, function: Callable[[Any], Any], item: Any) -> tuple[Callable[[Any], Any], Future]:
        return function, self._client.submit(call, function, item, pure=False)

    def _result(self, part: tuple[Callable[[Any], Any], Future]) -> Any:
        function, future = part
        try:
            return future.result()
        except KilledWorker:
            raise lost(function) from None
        except (CommClosedError, TimeoutError, OSError) as exc:
            raise RobinError(Code.COMPUTE_UNREACHABLE, f"{self._name}: {exc}") from None
