"""Stored picks seen once more, by another model than the one that saw them: what it would have lost."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from edge_adapt.learn.lessons import StoredPick, stored_picks
from edge_adapt.models.shadow import Shadow, ShadowConfig
from edge_adapt.store.index import SampleRow
from edge_adapt.store.store import StoreReader
from robin_perception.core.errors import RobinError
from robin_perception.segmentation.segmenter import Segmenter, load_segmenter


def seen_again(
    store: StoreReader, rows: Sequence[SampleRow], bundle: Path, engine: str, config: ShadowConfig
) -> Shadow:
    """The bundle on the frames of ``rows``, beside what was seen and picked then. Raises RobinError MODEL_*, ENGINE_*
    where it cannot start."""
    shadow = Shadow(config)
    candidate = load_segmenter(bundle, engine)
    try:
        for pick in stored_picks(store, rows):
            _note(shadow, candidate, pick)
    finally:
        candidate.close()
    return shadow


def _note(shadow: Shadow, candidate: Segmenter, pick: StoredPick) -> None:
    if shadow.failure is not None:
        return
    try:
        seen = candidate.segment(pick.seen.before)
    except RobinError as exc:
        shadow.note(pick.seen.scene, exc)
        return
    shadow.note(pick.seen.scene, seen, pick.seen.target if pick.clean else 0)
