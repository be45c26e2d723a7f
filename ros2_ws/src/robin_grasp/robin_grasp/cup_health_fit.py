"""The fitted tables of the cups' health: how likely each reading is of a good, a weak and a blocked cup."""

from __future__ import annotations

from functools import cache, cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from robin_grasp.planner.fit import Provenance
from robin_perception.core.config import StrictConfig, load_config

SHIPPED_CUP_FIT = Path(__file__).parent / "data" / "cup_health_fit.yaml"
CUP_FIT_VERSION = 1

Floats = NDArray[np.float64]
Row = tuple[float, ...]


class CupHealthFit(StrictConfig):
    """C classes of picks, S bins of expected seal, B bins of the share of the vacuum that a cup reached.

    Bins are cut at the edges given, ascending, so S and B are one more than there are edges. Rows of ``good`` and
    ``weak`` are distributions over the B bins.
    """

    version: int = Field(ge=CUP_FIT_VERSION, le=CUP_FIT_VERSION, description="of the file's keys")
    name: str = Field(min_length=1, description="names this set of figures in records")
    provenance: tuple[Provenance, ...] = Field(min_length=1)
    reading_edges: Row = Field(min_length=1, description="of the share of the vacuum; below the first nothing held")
    seal_edges: Row = Field(min_length=1, description="of P(seal) as the planner expects it")
    class_share: Row = Field(min_length=1, description="share of each class of picks")
    good: tuple[tuple[Row, ...], ...] = Field(description="class, bin of expected seal, bin of the reading")
    weak: tuple[Row, ...] = Field(description="class, bin of the reading")
    blocked: Row = Field(description="bin of the reading: noise of the sensor, and little else")
    lost_in_lift: float = Field(ge=0, lt=1, description="of cups that held, share without vacuum after the lift")

    @model_validator(mode="after")
    def _check(self) -> CupHealthFit:
        classes, seals, readings = len(self.class_share), len(self.seal_edges) + 1, len(self.reading_edges) + 1
        shapes = {"good": (classes, seals, readings), "weak": (classes, readings), "blocked": (readings,)}
        for name, shape in shapes.items():
            try:
                table = np.array(getattr(self, name), dtype=np.float64)
            except ValueError:
                raise ValueError(f"{name}: rows are of different lengths") from None
            if table.shape != shape:
                raise ValueError(f"{name}: must have shape {shape}, has {table.shape}")
            if (table <= 0).any() or not np.allclose(table.sum(axis=-1), 1.0, atol=1e-3):
                raise ValueError(f"{name}: rows must be above 0 and sum to 1")
        if min(self.class_share) <= 0 or not np.isclose(sum(self.class_share), 1.0, atol=1e-3):
            raise ValueError("class_share: must be above 0 and sum to 1")
        for name in ("reading_edges", "seal_edges"):
            if not (np.diff((0.0, *getattr(self, name), 1.0)) > 0).all():
                raise ValueError(f"{name}: must ascend within 0..1")
        return self

    @property
    def class_shares(self) -> Floats:
        """float64 [C]."""
        return np.array(self.class_share)

    def likelihoods(self, reached: Floats, seals: Floats, after_lift: bool) -> Floats:
        """Of N cups' readings: float64 [N, states, C], states in the order good, weak, blocked.

        reached [N]: share of the vacuum; seals [N]: P(seal) as expected. after_lift: the reading was taken after the
        lift, in which a cup may have come off.
        """
        good, weak, blocked = self._tables_after_lift if after_lift else self._tables
        reading = np.searchsorted(self.reading_edges, reached, side="right")
        seal = np.searchsorted(self.seal_edges, seals, side="right")
        none = np.broadcast_to(blocked[reading, None], (len(reading), len(self.class_share)))
        return np.stack([good[:, seal, reading].T, weak[:, reading].T, none], axis=1)

    @cached_property
    def _tables(self) -> tuple[Floats, Floats, Floats]:
        return np.array(self.good), np.array(self.weak), np.array(self.blocked)

    @cached_property
    def _tables_after_lift(self) -> tuple[Floats, Floats, Floats]:
        good, weak, blocked = self._tables
        return self._lost(good), self._lost(weak), blocked

    def _lost(self, table: Floats) -> Floats:
        held = (1.0 - self.lost_in_lift) * table[..., 1:]
        return np.concatenate([1.0 - held.sum(axis=-1, keepdims=True), held], axis=-1)


@cache
def shipped_cup_fit() -> CupHealthFit:
    """Raises RobinError as ``load_config``."""
    return load_config(CupHealthFit, SHIPPED_CUP_FIT)
