"""Unfamiliar goods over time: looks that come again get a name, a count and pictures."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from robin_perception.core.condition import Condition, Family, PickingEffect
from robin_perception.core.config import StrictConfig
from robin_perception.core.errors import Code, RobinError
from robin_perception.core.frame import Frame
from robin_perception.core.scene import Scene
from robin_perception.novelty.appearance import appearance, skin_maps
from robin_perception.novelty.store import Look, NoveltyStore
from robin_perception.segmentation.view import View

HELD_FLAG = "novelty_held"
"""Of a scene whose unfamiliar looks are not counted, since an environment condition is active."""


class WatchConfig(StrictConfig):
    """When unfamiliar goods are the same ones again, and how much of them is kept."""

    folder: Path | None = Field(None, description="Where names, counts and pictures are kept; empty = in memory only.")
    same_look: float = Field(
        0.35, gt=0, le=1.5, description="Looks nearer than this, as a share of their length, are of the same goods."
    )
    recurring_after: int = Field(3, ge=2, le=1000, description="A look gets a name when it has come so often.")
    same_sighting_s: float = Field(
        60.0, ge=0, le=86_400, description="What lies in one place for no longer than this is counted once, s."
    )
    most_looks: int = Field(64, ge=1, le=1000, description="Looks that are remembered; the stalest one goes.")
    most_pictures: int = Field(8, ge=0, le=100, description="Pictures kept of each look, the first and the latest.")


@dataclass
class _Place:
    """Where a look was seen last: (x0, y0, x1, y1) in frame pixels and when."""

    boxes: list[tuple[int, int, int, int]] = field(default_factory=list)
    stamp_s: float = -np.inf


@dataclass(frozen=True)
class Sighting:
    """An unfamiliar parcel in one scene: its instance, how it looks (float32 [SIZE]), and its picture as JPEG."""

    instance: int
    novelty: float
    bbox: tuple[int, int, int, int]
    appearance: NDArray[np.float32]
    picture: bytes


def sightings(frame: Frame, scene: Scene, network_size: tuple[int, int] = (512, 384)) -> tuple[Sighting, ...]:
    """The scene's unfamiliar parcels. None where an environment condition is active: bad light makes known goods look
    odd. network_size: width, height that looks are measured at."""
    if held_back(scene) or not any(one.novelty > 1 for one in scene.instances):
        return ()
    view = View.of(frame, network_size, 0.0)  # looks know no belt
    seen = appearance(skin_maps(view), view, scene)
    return tuple(
        Sighting(one.id, one.novelty, one.bbox, row, _crop(frame, one.bbox))
        for row, one in zip(seen, scene.instances, strict=True)
        if one.novelty > 1
    )


class NoveltyWatch:
    """Counts what comes again among the unfamiliar parcels of scene after scene. Not thread-safe.

    ``fault``: what keeps the folder from being written, None while it works; counts go on in memory.
    """

    def __init__(self, config: WatchConfig) -> None:
        self.config = config
        self._store = NoveltyStore(config.folder, config.most_looks, config.most_pictures)
        self._places: dict[str, _Place] = {}
        self._since_s: dict[str, float] = {}

    @property
    def fault(self) -> RobinError | None:
        return self._store.fault

    @property
    def looks(self) -> tuple[Look, ...]:
        """Everything that is remembered, the most frequent first."""
        return tuple(sorted(self._store.looks.values(), key=lambda look: (-look.count, look.key)))

    def count(self, seen: tuple[Sighting, ...], stamp_s: float) -> tuple[Condition, ...]:
        """Count the unfamiliar parcels of a scene and tell of them: one condition for those that are new, one for each
        look that recurs."""
        if not seen:
            self._since_s.clear()
            return ()
        looks: dict[str, list[Sighting]] = {}
        for one in seen:
            looks.setdefault(self._look_of(one, stamp_s), []).append(one)
        self._store.save()
        return self._told(looks, stamp_s)

    def exchanged(self) -> None:
        """Other goods lie there now: whatever comes next is another sighting."""
        self._places.clear()
        self._since_s.clear()

    def _look_of(self, one: Sighting, stamp_s: float) -> str:
        """Key of the look that ``one`` belongs to, counted once while it stays."""
        look = self._store.nearest(one.appearance, self.config.same_look)
        if look is None:
            look = self._store.add(one.appearance, stamp_s)
        place = self._places.setdefault(look.key, _Place())
        stays = abs(stamp_s - place.stamp_s) <= self.config.same_sighting_s and any(
            _overlap(one.bbox, box) for box in place.boxes
        )
        if stamp_s != place.stamp_s:
            place.boxes, place.stamp_s = ([] if not stays else place.boxes), stamp_s
        place.boxes = [*place.boxes[-31:], one.bbox]
        if not stays:
            self._store.count(look, one.appearance, stamp_s, one.picture)
            if look.count >= self.config.recurring_after:
                self._store.give_name(look)
        return look.key

    def _told(self, looks: dict[str, list[Sighting]], stamp_s: float) -> tuple[Condition, ...]:
        told: dict[str, tuple[Code, list[Sighting], str]] = {}
        for key, found in looks.items():
            look = self._store.looks.get(key)
            if look is not None and look.name:
                text = f"{look.name}: seen {look.count} times since {look.first_s:.0f}"
                told[look.name] = (Code.GOODS_RECURRING, found, text)
            else:
                before = told.get("unfamiliar", (Code.GOODS_UNFAMILIAR, [], ""))[1]
                told["unfamiliar"] = (Code.GOODS_UNFAMILIAR, before + found, "looks like nothing that was taught")
        self._since_s = {name: self._since_s.get(name, stamp_s) for name in told}
        return tuple(
            Condition(
                code=code,
                name=name,
                family=Family.NOVELTY,
                value=max(one.novelty for one in found),
                limit=1.0,
                unit="",
                since_s=self._since_s[name],
                effect=PickingEffect.GO_ON,
                text=text,
                instances=tuple(one.instance for one in found),
            )
            for name, (code, found, text) in told.items()
        )


def held_back(scene: Scene) -> bool:
    """Whether an environment condition keeps unfamiliar looks from being counted."""
    return any(condition.family is Family.ENVIRONMENT for condition in scene.conditions)


def held_flags(scene: Scene) -> tuple[str, ...]:
    """``HELD_FLAG`` where unfamiliar parcels are seen and not counted."""
    return (HELD_FLAG,) if held_back(scene) and any(one.novelty > 1 for one in scene.instances) else ()


def _overlap(a: tuple[int, int, int, int], b: tuple[int, int, int, int]) -> bool:
    """Whether two boxes have an intersection over union of a third or more."""
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return False
    shared = width * height
    area = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared
    return 3 * shared >= area


def _crop(frame: Frame, box: tuple[int, int, int, int]) -> bytes:
    """The parcel and a little around it, as JPEG."""
    x0, y0, x1, y1 = box
    pad = 8
    part = frame.rgb[max(y0 - pad, 0) : y1 + pad, max(x0 - pad, 0) : x1 + pad]
    _, data = cv2.imencode(".jpg", cv2.cvtColor(part, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 88])
    return bytes(data.tobytes())
