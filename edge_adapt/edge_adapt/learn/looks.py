"""Goods told apart by their looks: a bounded number of clusters that grow as picks come in, each with its evidence."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_adapt.learn.evidence import Evidence
from robin_perception.core.condition import Family
from robin_perception.core.scene import Scene
from robin_perception.novelty.appearance import SIZE

Appearance = NDArray[np.float32]
_LEAST_LEARN = 0.1  # share that a new pick has in a look's middle, at least


@dataclass(eq=False)
class GoodsLook:
    """One cluster. middle: float32 [SIZE], mean appearance. name: of the novelty watch, empty without one. seen: picks,
    not fading."""

    middle: Appearance
    name: str = ""
    seen: int = 0
    evidence: Evidence = field(default_factory=Evidence)

    def to_json(self) -> dict[str, Any]:
        middle = [round(float(v), 5) for v in self.middle]
        return {"name": self.name, "seen": self.seen, "middle": middle, "evidence": self.evidence.to_json()}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> GoodsLook:
        """Raises KeyError, TypeError, ValueError for what cannot be one."""
        middle = np.array(values["middle"], dtype=np.float32)
        if middle.shape != (SIZE,) or not np.isfinite(middle).all():
            raise ValueError(f"'middle' needs {SIZE} finite figures")
        return cls(middle, str(values["name"]), int(values["seen"]), Evidence.from_json(values["evidence"]))


class Looks:
    """The clusters. within: farthest from a middle, as a share of the appearance's length. most: kept; the one with
    least evidence goes."""

    def __init__(self, within: float, most: int) -> None:
        self._within, self._most = within, most
        self.all: list[GoodsLook] = []

    def find(self, seen: Appearance, name: str = "") -> GoodsLook | None:
        """The look of that name, else the nearest one that is near enough and has no other name."""
        if name and (named := next((look for look in self.all if look.name == name), None)) is not None:
            return named
        able = [look for look in self.all if not (name and look.name)]
        length = float(np.linalg.norm(seen))
        if not able or length == 0:
            return None
        distances = np.linalg.norm(np.stack([look.middle for look in able]) - seen, axis=1) / length
        best = int(np.argmin(distances))
        return able[best] if distances[best] <= self._within else None

    def learn(self, seen: Appearance, name: str = "") -> GoodsLook:
        """The look that it belongs to, moved towards it; a new one where there is none."""
        look = self.find(seen, name)
        if look is None:
            if len(self.all) >= self._most:
                self.all.remove(min(self.all, key=lambda one: one.evidence.tries))
            look = GoodsLook(seen.copy())
            self.all.append(look)
        look.seen += 1
        look.name = look.name or name
        look.middle += np.float32(max(1.0 / look.seen, _LEAST_LEARN)) * (seen - look.middle)
        return look


def novelty_names(scene: Scene) -> dict[int, str]:
    """Instance id -> name of its look, of those that came again."""
    told = (c for c in scene.conditions if c.family is Family.NOVELTY and c.name.startswith("novel-"))
    return {instance: condition.name for condition in told for instance in condition.instances}
