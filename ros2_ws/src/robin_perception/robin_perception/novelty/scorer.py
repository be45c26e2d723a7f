"""How unlike known goods each parcel of a scene looks, scaled to the station's limit."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from robin_perception.core.config import StrictConfig
from robin_perception.core.scene import Instance, Scene
from robin_perception.model.bundle import Bundle
from robin_perception.novelty.appearance import appearance
from robin_perception.novelty.calibration import NoveltyCalibration, read_calibration
from robin_perception.novelty.statistics import NoveltyStatistics, load_statistics
from robin_perception.segmentation.view import View


class NoveltyConfig(StrictConfig):
    """Which instances are measured, and against which limit."""

    enabled: bool = Field(True, description="Measure how unlike known goods each parcel looks.")
    calibration: Path | None = Field(
        None, description="The station's limit, of robin novelty calibrate; empty = the bundle's own."
    )
    min_detection: float = Field(0.8, ge=0, le=1, description="Least detection score of an instance that is measured.")
    min_mask_quality: float = Field(0.8, ge=0, le=1, description="Least mask quality of one that is measured.")
    min_visible: float = Field(0.8, ge=0, le=1, description="Least visible fraction of one that is measured.")
    min_area_px: float = Field(
        2000.0, ge=0, le=1e6, description="Least area of one that is measured, pixels of the network's image."
    )


class NoveltyScorer:
    """Scores the instances of a scene. Raises what ``load_statistics`` and ``read_calibration`` raise."""

    def __init__(self, bundle: Bundle, config: NoveltyConfig) -> None:
        self.config = config
        self.statistics: NoveltyStatistics = load_statistics(bundle)
        self.calibration: NoveltyCalibration | None = None
        if config.calibration is not None:
            self.calibration = read_calibration(config.calibration, self.statistics)
        self._middle = 0.0 if self.calibration is None else self.calibration.middle
        self._limit = self.statistics.limit if self.calibration is None else self.calibration.limit

    @property
    def limit_text(self) -> str:
        """Whose limit it is, for diagnostics and the terminal."""
        if self.calibration is None:
            return f"the bundle's, {self.statistics.rate:.1%} of known goods"
        return f"of station {self.calibration.station}, {self.calibration.rate:.1%} of known goods"

    def measured(self, maps: NDArray[np.uint8], view: View, scene: Scene) -> tuple[Instance, ...]:
        """The scene's instances with their novelty, NaN for those that are not confident. maps: ``skin_maps(view)``."""
        novelty = self._scaled(self.scores(maps, view, scene))
        return tuple(replace(one, novelty=float(value)) for one, value in zip(scene.instances, novelty, strict=True))

    def novelty_of(self, appearances: NDArray[np.float32]) -> NDArray[np.float64]:
        """Novelty of appearances [n, SIZE], float64 [n]."""
        return self._scaled(self.statistics.score(appearances).astype(np.float64))

    def scores(self, maps: NDArray[np.uint8], view: View, scene: Scene) -> NDArray[np.float64]:
        """On the statistics' own scale, float64 [instances]; NaN for those that are not confident."""
        scores = np.full(len(scene.instances), np.nan)
        chosen = np.flatnonzero(confident(scene, view, self.config))
        if len(chosen):
            scores[chosen] = self.statistics.score(appearance(maps, view, scene)[chosen])
        return scores

    def _scaled(self, scores: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.maximum((scores - self._middle) / (self._limit - self._middle), 0)


def confident(scene: Scene, view: View, config: NoveltyConfig) -> NDArray[np.bool_]:
    """Instances that are seen well enough to be judged, bool [instances]: of a covered or small one too little is
    seen, and a doubtful mask holds another's skin."""
    scale = float(view.box.scale.prod())
    return np.array(
        [
            one.detection >= config.min_detection
            and one.mask_quality >= config.min_mask_quality
            and one.visible_fraction >= config.min_visible
            and one.area_px * scale >= config.min_area_px
            for one in scene.instances
        ],
        dtype=bool,
    )
