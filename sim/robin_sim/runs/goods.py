"""Unfamiliar goods of a run: counted where its records are written, in the order of its piles, so that names do not
depend on the number of processes."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

from edge_adapt.decision import Decision
from edge_adapt.record_build import condition_record
from edge_adapt.store.sample import Sample, kind_of
from robin_perception.core.errors import Code, RobinError
from robin_perception.novelty.store import STORE_FILE
from robin_perception.novelty.watch import NoveltyWatch, Sighting, WatchConfig

GOODS_FOLDER = "goods"


def refuse_foreign_goods(run: Path) -> None:
    """A new run deletes an earlier one's looks. Raises RobinError OPTION_INVALID where the folder holds others."""
    folder = run / GOODS_FOLDER
    if folder.exists() and not (folder / STORE_FILE).is_file():
        text = f"not of a recorded run (no {STORE_FILE} in it), and a run would write there; name another folder"
        raise RobinError(Code.OPTION_INVALID, f"{folder}: {text}")


class RunGoods:
    """What the goods of a run tell its records. run: its folder, where an earlier run's looks are removed; None: looks
    are remembered and not kept."""

    def __init__(self, run: Path | None) -> None:
        folder = None if run is None else run / GOODS_FOLDER
        if run is not None and folder is not None:
            refuse_foreign_goods(run)
            shutil.rmtree(folder, ignore_errors=True)
        self._watch = NoveltyWatch(WatchConfig(folder=folder))
        self._pile = -1

    def told(self, decision: Decision, seen: tuple[Sighting, ...]) -> Decision:
        """The record with the conditions of its goods. Raises RobinError DISK_FULL."""
        if decision.context.pile != self._pile:
            self._watch.exchanged()
            self._pile = decision.context.pile
        conditions = self._watch.count(seen, decision.stamp_s)
        if self._watch.fault is not None:
            raise self._watch.fault
        held = (*decision.conditions, *(condition_record(condition) for condition in conditions))
        return decision.model_copy(update={"conditions": held})


def retold(sample: Sample, decision: Decision) -> Sample:
    """The sample with its record as it stands now, under the name that its goods have there."""
    name, novel = kind_of(decision)
    return replace(sample, decision=decision.model_dump_json(), name=name, novel=novel)
