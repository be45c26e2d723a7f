"""What a store holds, in figures; and making room in it."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from edge_adapt.store.index import guarded
from edge_adapt.store.store import SampleStore, StoreReader
from edge_adapt.store.verify import remove_orphans


def store_status(folder: Path) -> dict[str, Any]:
    """Counts of the whole and of each stratum, its time blocks added up. seen / kept is how many picks a sample stands
    for. Raises RobinError STORE_*."""
    with StoreReader(folder) as store:
        with guarded(store.index.path):
            pending = store.index.pending_counts()
        strata: dict[tuple[str, str, str], Counter[str]] = {}
        for row in store.strata():
            counts = strata.setdefault((row.share, row.name, row.result), Counter())
            counts.update(seen=row.seen, kept=row.kept, lost=row.lost, bytes=row.bytes, blocks=1)
        return {
            "store": str(folder),
            "samples": len(store),
            "offered": store.state.offered,
            "bytes": store.state.bytes,
            "budget_mb": store.config.budget_mb,
            "least_free_mb": store.config.least_free_mb,
            "free_mb": round(shutil.disk_usage(folder).free / 1e6, 1),
            "pending": sum(pending.values()),
            "pending_by_share": pending,
            "lost": sum(counts["lost"] for counts in strata.values()),
            "strata": [
                {"share": share, "name": name, "result": result, **counts}
                for (share, name, result), counts in sorted(strata.items())
            ],
        }


def prune_store(
    folder: Path,
    budget_mb: float | None = None,
    least_free_mb: float | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, Any]:
    """Remove orphans, then samples until the limits are kept, which become the store's own; None: as they were.
    Raises RobinError STORE_BUSY, STORE_MISSING, DISK_FULL."""
    with StoreReader(folder) as reader:
        limits = {"budget_mb": budget_mb, "least_free_mb": least_free_mb}
        given = {name: value for name, value in limits.items() if value is not None}
        config, before = reader.config.model_copy(update=given), len(reader)
    with SampleStore(folder, config) as store:
        orphans, orphan_bytes = remove_orphans(store)
        removed = 0
        while store.evict_step() is not None:
            removed += 1
            progress(removed, before)
        return {
            "removed": removed,
            "orphans": orphans,
            "orphan_bytes": orphan_bytes,
            "bytes": store.state.bytes,
            "samples": len(store),
        }
