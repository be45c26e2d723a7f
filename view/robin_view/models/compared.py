"""What a version of the model changed: the latest frames of this robot as seen by the model before it, and by it."""

from __future__ import annotations

from typing import Any

from edge_adapt.models.registry import ModelRegistry
from edge_adapt.models.state import FACTORY
from robin_perception.core.errors import RobinError
from robin_view.decision.pages import Side, picture_address, seen_of, side_of
from robin_view.decision.worker import Seen
from robin_view.state import ViewState

FRAMES = 3
_LOOKED_THROUGH = 40  # pictures of older decisions may be gone


def compared(view: ViewState, registry: ModelRegistry, number: int) -> list[dict[str, Any]]:
    """Keys of each of FRAMES frames: id, color (address), sides (before, after). Raises RobinError VERSION_UNKNOWN,
    MODEL_*, VIEW_WORKER_LOST."""
    after = registry.path(number)
    older = [version.number for version in registry.state().versions if version.number < number]
    earlier = max(older, default=FACTORY)
    before = registry.path(earlier)
    frames = _latest(view)
    names = ("the factory's" if earlier == FACTORY else f"version {earlier}", f"version {number}")
    made: list[list[Side]] = [[] for _ in frames]
    for bundle, name in ((before, names[0]), (after, names[1])):  # each network is loaded once
        for sides, (_, seen) in zip(made, frames, strict=True):
            sides.append(side_of(name, view.worker.replan(seen, bundle)))
    return [
        {"id": key, "color": picture_address(key, view.archive.evidence(key))("color"), "sides": sides}
        for (key, _), sides in zip(frames, made, strict=True)
    ]


def _latest(view: ViewState) -> list[tuple[str, Seen]]:
    found = list[tuple[str, Seen]]()
    for row in view.archive.index.latest(_LOOKED_THROUGH):
        key = view.archive.index.name(int(row))
        try:
            found.append((key, seen_of(view.archive.evidence(key))))
        except RobinError:
            continue  # its frame was not kept
        if len(found) == FRAMES:
            break
    return found
