"""What an aggregator does by itself beside taking in blobs: roll-outs go on, signatures stay fresh, old figures are
thinned out."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

from robin_fleet.ledger.core import Ledger
from robin_fleet.ledger.metrics import thin
from robin_fleet.release.repository import DAYS, ReleaseRepository
from robin_fleet.rollout.runner import RolloutRunner
from robin_perception.core.errors import RobinError

STEP_S = 60.0
_THIN_S = 6 * 3600.0


class Housekeeping:
    """A thread of its own, from ``start`` to ``close``. folder: of the aggregator. tell: takes a line for people."""

    def __init__(
        self, folder: Path, ledger: Ledger, tell: Callable[[str], None], clock: Callable[[], float] = time.time
    ) -> None:
        self._repository, self._ledger, self._tell, self._clock = ReleaseRepository(folder, clock), ledger, tell, clock
        self._thinned_s = 0.0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="housekeeping", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        """What is in hand is finished."""
        self._ended.set()
        self._thread.join()

    def step(self) -> None:
        """All that is due now. Raises RobinError."""
        now_s = self._clock()
        if now_s - self._thinned_s > _THIN_S:
            with self._ledger.write() as connection:
                thin(connection, now_s)
            self._thinned_s = now_s
        if not self._repository.metadata.is_dir():
            return
        if self._repository.expiries()["timestamp"] - now_s < DAYS["timestamp"] * 43_200:
            self._repository.refresh()
        for name, event in RolloutRunner(self._ledger, self._repository, self._clock).step():
            self._tell(f"{name} {event.kind}: {event.text}")

    def _run(self) -> None:
        told = ""
        while not self._ended.is_set():
            try:
                self.step()
                told = ""
            except RobinError as exc:  # tried again; the same fault is told once
                if str(exc) != told:
                    told = str(exc)
                    self._tell(told)
            self._ended.wait(STEP_S)
