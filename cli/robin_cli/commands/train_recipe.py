"""A training's data as one file: which scenes are rendered, from which seeds, and how often each set is drawn from.

Rendering goes on beside the training in rounds of all sets, so that the training starts after the first one and takes
in what comes. Both continue where they stopped.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pydantic import Field

from robin_perception.core.config import StrictConfig, load_config
from robin_perception.core.errors import Code, RobinError
from robin_perception.core.parent_death import end_with_parent
from robin_sim.dataset import make_dataset
from robin_sim.runs.workers import process_context
from robin_sim.training_scenes import DatasetConfig


class SceneSet(StrictConfig):
    """One data set of a recipe. config: settings of ``robin dataset make``, beside the recipe's file."""

    config: str = Field(pattern=r"^[\w.-]+\.yaml$")
    seed: int = Field(ge=0)
    scenes: int = Field(ge=1)
    share: float = Field(1.0, gt=0, description="how often a training draws from it, beside the others")


class TrainRecipe(StrictConfig):
    """sets: by name. rounds: the sets grow together in so many steps; the first one is waited for. settings: of
    ``TrainConfig``."""

    sets: dict[str, SceneSet] = Field(min_length=1)
    validation: SceneSet
    rounds: int = Field(20, ge=1, le=1000)
    settings: dict[str, Any] = Field(default_factory=dict)


class RecipeRun:
    """A recipe with its data under ``out/data``. scale: so many times as many training scenes."""

    def __init__(self, path: Path, out: Path, scale: float, workers: int) -> None:
        self.recipe = load_config(TrainRecipe, path)
        self.data = out / "data"
        self._folder, self._scale, self._workers = path.parent, scale, workers
        for part in (*self.recipe.sets.values(), self.recipe.validation):
            self._config(part)

    def _config(self, part: SceneSet) -> DatasetConfig:
        return load_config(DatasetConfig, self._folder / part.config)

    @property
    def values(self) -> dict[str, Any]:
        """What the recipe says of a ``TrainConfig``."""
        return {
            **self.recipe.settings,
            "data": [self.data / name for name in self.recipe.sets],
            "shares": [part.share for part in self.recipe.sets.values()],
            "validation_data": self.data / "validation",
        }

    def render(self, first: int, last: int) -> None:
        """Scenes of rounds ``first`` to ``last``, counted from 1; those that are there are kept."""
        held_out = self.recipe.validation
        make_dataset(self.data / "validation", held_out.scenes, held_out.seed, self._workers, self._config(held_out))
        for number in range(first, last + 1):
            for name, part in self.recipe.sets.items():
                scenes = max(1, round(part.scenes * self._scale * number / self.recipe.rounds))
                make_dataset(self.data / name, scenes, part.seed, self._workers, self._config(part))

    def render_rest(self, parent: int) -> None:
        """In a process of its own, which ends with ``parent``."""
        end_with_parent(parent)
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides what an interrupt means
        self.render(2, self.recipe.rounds)

    @contextmanager
    def rendering(self) -> Iterator[None]:
        """The first round is there; the rest is rendered meanwhile. Raises RobinError ENGINE_FAILED at the end where
        the rendering failed, after the training has been saved."""
        self.render(1, 1)
        child = process_context().Process(target=self.render_rest, args=(os.getpid(),))
        child.start()
        try:
            yield
        finally:
            failed = child.exitcode not in (None, 0)
            child.terminate()
            child.join()
        if failed:
            raise RobinError(Code.ENGINE_FAILED, f"{self.data}: the rendering beside the training failed, see above")
