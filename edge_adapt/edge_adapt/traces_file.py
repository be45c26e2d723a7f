"""Traces of a pick as a small safetensors file beside its record: plain arrays, read without running anything."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from robin_grasp.picks.traces import PickTraces
from robin_perception.core.bounded import parse_json, read_plain_bytes
from robin_perception.core.errors import Code, RobinError

TRACES_FILE = "traces.safetensors"
TRACES_BYTES = 2_000_000
"""Of a file; the longest traces of eight cups take less than half."""


def traces_bytes(traces: PickTraces) -> bytes:
    """float32 "vacuum_pa" [T, cups] in Pa and "weight_n" [T] in N; rate and marks stand in the file's metadata."""
    tensors = {
        "vacuum_pa": np.ascontiguousarray(traces.vacuum_pa, dtype=np.float32),
        "weight_n": np.ascontiguousarray(traces.weight_n, dtype=np.float32),
    }
    return save(tensors, {"rate_hz": repr(float(traces.rate_hz)), "marks": json.dumps(dict(traces.marks))})


def read_traces(path: Path, cups: int) -> PickTraces:
    """cups: of the tool. Raises RobinError INPUT_*, RECORD_INVALID for what is no such file, TRACES_INVALID."""
    return parse_traces(read_plain_bytes(path, TRACES_BYTES), str(path), cups)


def parse_traces(data: bytes, source: str, cups: int) -> PickTraces:
    """The same of a file's bytes. source: how messages call it."""
    try:
        tensors = load(data)
        told = _metadata(data, source)
        rate_hz, marks = float(told["rate_hz"]), parse_json(told["marks"], source, Code.RECORD_INVALID)
        vacuum, weight = tensors["vacuum_pa"].astype(np.float32), tensors["weight_n"].astype(np.float32)
        named = {str(name): int(sample) for name, sample in marks.items()}
    except (SafetensorError, KeyError, TypeError, ValueError, AttributeError) as exc:
        raise RobinError(Code.RECORD_INVALID, f"{source}: no traces of a pick: {exc}") from None
    return PickTraces(rate_hz, vacuum, weight, named).validated(cups)


def _metadata(data: bytes, source: str) -> dict[str, Any]:
    length = int.from_bytes(data[:8], "little")
    header = parse_json(data[8 : 8 + length], source, Code.RECORD_INVALID)
    found: dict[str, Any] = header["__metadata__"]
    return found
