"""Why a simulated pick failed, in one line, from the physics' truth."""

from __future__ import annotations

from collections import Counter
from typing import Any

from robin_grasp.picks.outcome import PickOutcome, PickResult


def failure_reason(outcome: PickOutcome) -> str:
    """One short line for people; empty for a clean pick. Reads the truth that ``execute_pick`` leaves."""
    truth: dict[str, Any] = outcome.truth
    target = truth.get("target")
    holding = [seal for seal in truth.get("seals", ()) if seal["pressure_pa"] > 0]
    parcels_held = {parcel for seal in holding for parcel, _ in seal["held"]}
    if outcome.result is PickResult.CLEAN:
        return ""
    if target is None:
        return "the mask shows no parcel"
    if not holding and (blocked := truth.get("blocked")):
        return f"blocked by {blocked['by']} in {blocked['phase']}, {1000 * blocked['short_m']:.0f} mm before contact"
    if not holding:
        return _nothing_sealed(truth.get("seals", ()))
    if outcome.result is PickResult.MULTI:
        if len(parcels_held) > 1:
            return f"cups held {len(parcels_held)} parcels"
        return f"{len(truth.get('lifted', ())) - 1} more lay on it or was dragged along"
    if target not in parcels_held:
        return "the cups held another parcel, none the target"
    if outcome.result is PickResult.WRONG:
        return "the target was lost, another parcel arrived"
    return _let_go(truth.get("releases", ()), len(holding))


def _nothing_sealed(seals: Any) -> str:
    if all(not seal["held"] for seal in seals):
        return f"none of {len(seals)} open cups met a surface"
    return f"none of {len(seals)} open cups sealed"


def _let_go(releases: Any, sealed: int) -> str:
    if not releases:
        return f"held by {sealed} cups, but it did not come along"
    first = releases[0]
    kinds = ", ".join(f"{n} {kind}" for kind, n in Counter(release["reason"] for release in releases).most_common())
    return f"{len(releases)} of {sealed} cups let go, first in {first['phase']} ({kinds})"
