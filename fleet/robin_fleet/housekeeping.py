"""What an aggregator does by itself beside taking in blobs: roll-outs go on, signatures stay fresh, old figures are
thinned out, and room is made."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from robin_fleet.folder import Fleet
from robin_fleet.ledger.metrics import thin
from robin_fleet.prune import PruneRule, last_pruned_s, prune
from robin_fleet.release.repository import DAYS, ReleaseRepository
from robin_fleet.rollout.runner import RolloutRunner
from robin_perception.core.errors import RobinError

STEP_S = 60.0
_THIN_S = 6 * 3600.0


class Housekeeping:
    """Two threads of its own, from ``start`` to ``close``, since no roll-out waits until room is made. tell: takes a
    line for people."""

    def __init__(self, fleet: Fleet, tell: Callable[[str], None], clock: Callable[[], float] = time.time) -> None:
        self._fleet, self._ledger, self._tell, self._clock = fleet, fleet.ledger, tell, clock
        self._repository = ReleaseRepository(fleet.folder, clock)
        self._thinned_s = 0.0
        self._ended = threading.Event()
        steps = {"housekeeping": self.step, "making-room": self.make_room}
        self._threads = [threading.Thread(target=self._run, args=(step,), name=name) for name, step in steps.items()]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        """What is in hand is finished."""
        self._ended.set()
        for thread in self._threads:
            thread.join()

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

    def make_room(self) -> None:
        """Where that is due: by the file that the last look has left, also after a restart. Raises RobinError."""
        config, now_s = self._fleet.config.prune, self._clock()
        if 0 <= now_s - last_pruned_s(self._fleet.folder) < config.every_h * 3600:
            return
        done = prune(self._fleet, PruneRule.of(config), now_s, stop=self._ended.is_set)
        if done.samples or done.orphans or done.refused:
            self._tell(f"room made: {done.samples} samples, {done.orphans} orphans, {done.refused} refused ones")

    def _run(self, step: Callable[[], None]) -> None:
        told = ""
        while not self._ended.is_set():
            try:
                step()
                told = ""
            except RobinError as exc:  # tried again; the same fault is told once
                if str(exc) != told:
                    told = str(exc)
                    self._tell(told)
            self._ended.wait(STEP_S)
