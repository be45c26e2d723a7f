"""How the chosen parcels look, measured in their pictures as the fleet does it, one after another in the background."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict

import numpy as np
from numpy.typing import NDArray

from edge_adapt.evidence import Evidence, frame_of
from robin_perception.core.errors import RobinError
from robin_view.archive.archive import Archive

MOST = 20_000
"""Looks that are kept, of the latest decisions: 400 bytes each."""
_NICE = 10


class Looks:
    """Thread-safe. Nothing is measured until somebody asks what is alike."""

    def __init__(self, archive: Archive) -> None:
        self._archive = archive
        self._known: OrderedDict[str, NDArray[np.float16] | None] = OrderedDict()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._stopped = threading.Event()

    def like(self, decision_id: str, rows: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.float32], int]:
        """Of ``rows`` those whose looks are known, most alike first, and how alike (cosine, 1 the same); and how many
        of ``rows`` are still to be measured. Raises RobinError VIEW_UNKNOWN and what reading a record raises."""
        with self._lock:
            look = self._known.get(decision_id)
        if look is None:
            look = _look(self._archive.evidence(decision_id))
        self._start()
        ids = self._archive.index.names(rows[:MOST])
        with self._lock:
            known = [
                (row, found)
                for row, name in zip(rows.tolist(), ids, strict=False)
                if (found := self._known.get(name)) is not None
            ]
            waiting = sum(name not in self._known for name in ids)
        if look is None or not known:
            return np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.float32), waiting if look is not None else 0
        alike = np.stack([found for _, found in known]).astype(np.float32) @ look.astype(np.float32)
        order = np.argsort(-alike, kind="stable")
        return np.array([row for row, _ in known])[order], alike[order], waiting

    def close(self) -> None:
        self._stopped.set()
        if self._thread is not None:
            self._thread.join(5.0)

    def _start(self) -> None:
        with self._lock:
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._measure, name="looks", daemon=True)
                self._thread.start()

    def _measure(self) -> None:
        """All that is not known yet, the latest first; behind everything else that this machine does."""
        if hasattr(os, "setpriority"):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICE)
        for name in self._archive.index.names(self._archive.index.latest(MOST)):
            if self._stopped.is_set():
                return
            if name in self._known:
                continue
            try:
                look = _look(self._archive.evidence(name))
            except (RobinError, OSError):
                look = None
            with self._lock:
                self._known[name] = look
                while len(self._known) > MOST:
                    self._known.popitem(last=False)


def _look(evidence: Evidence) -> NDArray[np.float16] | None:
    """float16 [SIZE] of unit length; None where nothing was chosen or its picture is gone."""
    from robin_fleet.ingest.looks import look_in

    chosen = evidence.decision.chosen
    labels = evidence.labels() if chosen is not None else None
    try:
        frame = frame_of(evidence) if labels is not None else None
    except RobinError:
        return None
    if chosen is None or frame is None or labels is None:
        return None
    data = look_in(frame, labels, chosen.instance)
    return None if data is None else np.frombuffer(data, dtype="<f2")
