"""Counts of a server on the disk, where whoever serves them to Prometheus finds them, also while the ledger is away."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from robin_perception.core.bounded import CONFIG_BYTES, parse_json, read_plain_bytes
from robin_perception.core.disk import write_atomic
from robin_perception.core.errors import RobinError

FIGURES_FILE = "server.json"


class ServerFigures(BaseModel):
    """at_s: when they were written, since 1970. values: counts since the start, and what is in hand."""

    at_s: float
    values: dict[str, float]


def write_figures(folder: Path, values: Mapping[str, Any], now_s: float) -> None:
    """Raises RobinError DISK_FULL."""
    write_atomic(folder / FIGURES_FILE, json.dumps({"at_s": now_s, "values": dict(values)}).encode())


def read_figures(folder: Path) -> ServerFigures | None:
    """None where no server has written any, or the file is damaged."""
    try:
        return ServerFigures.model_validate(
            parse_json(read_plain_bytes(folder / FIGURES_FILE, CONFIG_BYTES), FIGURES_FILE)
        )
    except (RobinError, ValidationError):
        return None
