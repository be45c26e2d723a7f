"""What the camera sees now, as one small picture in a file: written beside the pick path, read by the page."""

from __future__ import annotations

import contextlib
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from robin_perception.core.bounded import read_plain_bytes
from robin_perception.core.disk import make_folder
from robin_perception.core.errors import RobinError
from robin_perception.core.latest_worker import LatestWorker
from robin_perception.core.output import locked
from robin_perception.segmentation.overlay import draw_labels

PICTURE = "now.jpg"
WIDTH = 640
RATE_HZ = 6.0
_AGAIN_S = 10.0
_QUALITY = 80
_LARGEST = 4_000_000


class _Look(NamedTuple):
    rgb: NDArray[np.uint8]
    labels: NDArray[np.uint16] | None


class LivePicture:
    """Keeps ``folder/now.jpg`` at the newest picture, at most ``rate_hz`` times a second. Thread-safe.

    Drawn and written in a thread of its own: what comes while that one is at work replaces what waits, and nobody waits
    for a disk. A folder shows one cell; where another process shows its own there, nothing is written. After a
    disk failed it is tried again some seconds later.
    """

    def __init__(self, folder: Path, rate_hz: float = RATE_HZ) -> None:
        self.folder, self._pause_s, self._due_s = folder, 1.0 / rate_hz, 0.0
        self._held = contextlib.ExitStack()
        self._worker: LatestWorker[_Look] | None = None
        with contextlib.suppress(RobinError):
            make_folder(folder)
            self._held.enter_context(locked(folder))
            self._worker = LatestWorker("live picture", self._show, lambda: None, self._failed, self._wait_s)

    def offer(self, rgb: NDArray[np.uint8], labels: NDArray[np.uint16] | None = None) -> None:
        """rgb uint8 [H, W, 3], labels [H, W] of its masks where they are known. Both are read later: nobody may write
        into them. Returns at once."""
        if self._worker is not None:
            self._worker.offer(_Look(rgb, labels))

    def close(self) -> None:
        """The picture goes: it is of now, or it is nothing."""
        if self._worker is not None:
            self._worker.stop()
            self._worker = None
            remove_picture(self.folder)
        self._held.close()

    def _wait_s(self) -> float:
        return self._due_s - time.monotonic()

    def _show(self, look: _Look) -> None:
        self._due_s = time.monotonic() + self._pause_s
        aside = self.folder / f".{PICTURE}"
        aside.write_bytes(drawn(look.rgb, look.labels))
        os.replace(aside, self.folder / PICTURE)  # without fsync: after a power cut nobody asks for it

    def _failed(self, exc: Exception) -> None:
        self._due_s = time.monotonic() + _AGAIN_S


def remove_picture(folder: Path) -> None:
    """Also of a process that was killed."""
    with contextlib.suppress(OSError):
        (folder / PICTURE).unlink(missing_ok=True)
        folder.rmdir()


def drawn(rgb: NDArray[np.uint8], labels: NDArray[np.uint16] | None) -> bytes:
    """JPEG, WIDTH pixels wide at most, with the masks."""
    if (scale := WIDTH / rgb.shape[1]) < 1:
        size = (WIDTH, max(1, round(rgb.shape[0] * scale)))
        rgb = np.asarray(cv2.resize(rgb, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)
        if labels is not None:
            labels = np.asarray(cv2.resize(labels, size, interpolation=cv2.INTER_NEAREST), dtype=np.uint16)
    if labels is not None:
        rgb = draw_labels(rgb, labels, 0.3)
    _, data = cv2.imencode(".jpg", cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
    return data.tobytes()


@dataclass(frozen=True)
class LiveReader:
    """The other end, in the page's process."""

    folder: Path

    def stamp(self) -> int:
        """Changes with every picture; 0 where there is none."""
        try:
            return (self.folder / PICTURE).stat().st_mtime_ns
        except OSError:
            return 0

    def read(self) -> bytes:
        """Raises RobinError INPUT_MISSING, INPUT_TOO_LARGE."""
        return read_plain_bytes(self.folder / PICTURE, _LARGEST)
