"""Unfamiliar goods as a node tells of them: conditions in the scene, faults of the limit and of the folder."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from robin_perception.core.errors import Code
from robin_perception.core.frame import Frame
from robin_perception.core.scene import Scene
from robin_perception.nodes.base import RobinNode
from robin_perception.novelty.watch import NoveltyWatch, WatchConfig, held_flags, sightings
from robin_perception.segmentation.segmenter import Segmenter


class GoodsWatch:
    """``look`` is called in the one thread that takes the frames, ``tell_off`` and ``values`` in any."""

    def __init__(self, node: RobinNode[Any], config: WatchConfig, segmenter: Segmenter) -> None:
        manifest = segmenter.bundle.manifest
        self._network_size = manifest.input_width, manifest.input_height
        self._node = node
        self._watch = NoveltyWatch(config)
        self._told: str | None = None

    def look(self, frame: Frame, scene: Scene) -> Scene:
        """The scene with what is known of its unfamiliar parcels; after the environment's conditions stand in it."""
        conditions = self._watch.count(sightings(frame, scene, self._network_size), scene.stamp_s)
        if (fault := self._watch.fault) is not None and fault.text != self._told:
            self._node.report(fault.code, fault.text, warning=True)
        self._told = None if fault is None else fault.text
        return replace(scene, conditions=(*scene.conditions, *conditions), flags=(*scene.flags, *held_flags(scene)))

    def tell_off(self, segmenter: Segmenter) -> None:
        """What should be there and cannot be used is a warning that lasts. A bundle that never had statistics is no
        fault: ``values`` says so."""
        off = segmenter.novelty_off
        if off is not None and off.code is not Code.NOVELTY_STATISTICS_MISSING:
            self._node.report(off.code, off.text, warning=True, lasting=True)
        if (film := segmenter.film_off) is not None:
            self._node.report(film.code, film.text, warning=True, lasting=True)

    def values(self, segmenter: Segmenter) -> dict[str, str]:
        """For /diagnostics."""
        if segmenter.novelty is None:
            off = segmenter.novelty_off
            return {"novelty": "off" if off is None else f"off: {off}"}
        named = sum(bool(look.name) for look in self._watch.looks)
        return {"novelty": f"limit {segmenter.novelty.limit_text}", "novelty_recurring": str(named)}
