"""Settings of the server."""

from __future__ import annotations

from pydantic import Field

from edge_adapt.uplink.protocol import CHUNK_BYTES, UPLOAD_BYTES
from robin_perception.core.config import StrictConfig


class ServerConfig(StrictConfig):
    """What the server may hold at a time, and of whom."""

    credit_mb: float = Field(
        64.0, ge=4, le=100_000, description="Bytes that all robots together may have on the way here, 1e6 bytes."
    )
    window_kb: float = Field(
        2048.0, ge=CHUNK_BYTES / 1e3, le=1e6, description="Of these for one blob, at most, 1e3 bytes."
    )
    partial_mb: float = Field(
        2000.0, gt=0, le=1e7, description="Unfinished uploads on the disk, 1e6 bytes; the oldest go beyond it."
    )
    upload_mb: float = Field(UPLOAD_BYTES / 1e6, gt=0, le=UPLOAD_BYTES / 1e6, description="One blob, 1e6 bytes.")
    messages_per_s: float = Field(5000.0, ge=10, le=1e6, description="Of one robot; what comes beyond is dropped.")
    idle_s: float = Field(30.0, ge=0.5, le=3600, description="An upload that is silent longer loses its credit, s.")
    keys_s: float = Field(1.0, ge=0.05, le=60, description="Keys are read from the ledger so often, s.")
