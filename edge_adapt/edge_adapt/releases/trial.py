"""A release that was fetched for trial, on this robot's own record: what it would have lost of the picks that went
well, and the report of it to the fleet."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from edge_adapt.learn.seen_again import seen_again
from edge_adapt.models.registry import ModelRegistry
from edge_adapt.models.shadow import ShadowConfig
from edge_adapt.releases.install import version_of
from edge_adapt.store.store import StoreReader
from robin_perception.core.errors import Code, RobinError

SOURCE = "trial"
STAGES = ("replay", "shadow", "acceptance")
"""Of a roll-out, in which no pick depends on the release; a report names them by number."""
StageName = Literal["replay", "shadow"]


@dataclass(frozen=True)
class TrialFound:
    """picks: that went well and were seen again; lost: of these, not seen as one parcel. fault: number of the code why
    it cannot run at all, 0 for none. rollout: that the release came with. latest: sequence number of the newest sample
    that was looked at; a shadow that follows begins behind it."""

    release: str
    rollout: str
    stage: StageName
    picks: int
    lost: int
    fault: int
    text: str
    latest: int

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    def report(self, at_s: float) -> bytes:
        """As the uplink's outbox takes it. Raises RobinError OPTION_INVALID for a release that no roll-out brought."""
        number = self.rollout.removeprefix("r")
        if not number.isdigit():
            raise RobinError(Code.OPTION_INVALID, f"release {self.release}: came with no roll-out to report to")
        values = {"rollout": int(number), "stage": STAGES.index(self.stage)}
        values |= {"picks": self.picks, "lost": self.lost, "fault": self.fault}
        return json.dumps({"format": 1, "source": SOURCE, "at_s": at_s, "values": values}).encode()


def try_release(
    store: Path,
    registry: ModelRegistry,
    release: str,
    stage: StageName,
    *,
    frames: int = 400,
    after: int = 0,
    engine: str = "onnxruntime",
) -> TrialFound:
    """replay: the newest ``frames`` samples of the store; shadow: those behind sequence number ``after``. Raises
    RobinError RELEASE_UNKNOWN for a release that was not fetched, STORE_MISSING."""
    version = version_of(registry, release)
    if version is None:
        raise RobinError(Code.RELEASE_UNKNOWN, f"release {release}: was not fetched; robin adapt fetch")
    entry = next(
        e for e in reversed(registry.story().entries) if e.data.get("version") == version and e.event == "added"
    )
    with StoreReader(store) as reader:
        rows = list(reader.samples(after))[-frames:]
        try:
            shadow = seen_again(reader, rows, registry.path(version), engine, ShadowConfig(frames=max(1, len(rows))))
            failure, picks, lost = shadow.failure, shadow.picked, shadow.picked - shadow.seen
        except RobinError as exc:
            failure, picks, lost = exc, 0, 0
    fault, text = (0, f"{lost} of {picks} lost") if failure is None else (int(failure.code), str(failure))
    latest = rows[-1].seq if rows else after
    return TrialFound(release, str(entry.data.get("rollout", "")), stage, picks, lost, fault, text, latest)
