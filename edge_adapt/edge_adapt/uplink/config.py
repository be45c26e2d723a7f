"""Settings of the uplink."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from edge_adapt.uplink.protocol import TRANSFERS
from robin_perception.core.config import StrictConfig


class UplinkConfig(StrictConfig):
    """What is sent, and how fast. All waits go by a clock that nobody sets."""

    store: Path = Field(Path("store"), description="Store of samples whose content is sent (robin store).")
    folder: Path = Field(Path("uplink"), description="Folder of the robot's key, its reports and the uplink's state.")
    decisions: Path | None = Field(
        None, description="Folder of decisions.jsonl: each decision is sent without pictures too; empty: none."
    )
    rate_mbit: float = Field(
        16.0, ge=0, le=100_000, description="Bandwidth for samples and reports, 1e6 bits per second; 0: no limit."
    )
    transfers: int = Field(16, ge=1, le=TRANSFERS, description="Blobs under way at a time.")
    report_s: float = Field(60.0, ge=1, le=86_400, description="The uplink reports its counters so often, s.")
    outbox_mb: float = Field(
        64.0, gt=0, le=10_000, description="Reports that wait; beyond it the oldest go, 1e6 bytes."
    )
    poll_s: float = Field(2.0, ge=0.1, le=3600, description="An idle uplink looks into the store so often, s.")
    check_s: float = Field(60.0, ge=0.1, le=86_400, description="It looks for samples to ask again for so often, s.")
    retry_s: float = Field(
        60.0, ge=0.1, le=86_400, description="What the fleet put off is offered again after this, s."
    )
    reply_s: float = Field(60.0, ge=1, le=3600, description="A fleet that is silent longer is connected to anew, s.")
    backoff_least_s: float = Field(1.0, ge=0.01, le=3600, description="Wait before the second try to connect, s.")
    backoff_most_s: float = Field(300.0, ge=0.1, le=86_400, description="Longest wait between two tries, s.")
