"""Known scenes, rendered once for each user of this machine; the later ones while the first ones are taught."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from multiprocessing import get_context
from multiprocessing.process import BaseProcess
from pathlib import Path

from robin_cli.terminal import progress_bar
from robin_perception.core.errors import RobinError

SEED = 141500
_NICE = 10


class KnownScenes:
    """Called with how many have to be there, and how many will be asked for later: gives their data set. given: a data
    set that is used instead; None: the machine's own."""

    def __init__(self, given: Path | None, workers: int) -> None:
        self._given, self._workers = given, workers
        self._ahead: BaseProcess | None = None

    def __call__(self, now: int, later: int) -> Path:
        """Raises RobinError as ``make_dataset``."""
        if self._given is not None:
            return self._given
        from robin_perception.engines.cache import cache_root

        out = cache_root().parent / "core"
        self.close()
        with progress_bar("rendering known scenes, once", "scenes") as advance:
            _render(out, now, self._workers, lambda done, total: advance(done, total, ""))
        if later > now:
            self._ahead = get_context("spawn").Process(target=_render_ahead, args=(out, later), daemon=True)
            self._ahead.start()
        return out

    def close(self) -> None:
        """What is made ahead ends; its finished scenes are kept."""
        if self._ahead is not None:
            self._ahead.terminate()
            self._ahead.join()
            self._ahead = None


def _render(out: Path, scenes: int, workers: int, progress: Callable[[int, int], None] | None = None) -> None:
    from robin_sim.dataset import make_dataset
    from robin_sim.training_scenes import DatasetConfig

    make_dataset(out, scenes, SEED, workers, DatasetConfig(fitted_share=1.0, views_per_pile=1), progress)


def _render_ahead(out: Path, scenes: int) -> None:
    """On one core, giving way to what waits for it. What goes wrong is told when the scenes are asked for."""
    os.nice(_NICE)
    with contextlib.suppress(RobinError):
        _render(out, scenes, 1)
