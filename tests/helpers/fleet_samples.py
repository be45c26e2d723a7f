"""Samples as robots send them: a record and its files, by the names of their content."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from edge_adapt.recording import png_bytes
from edge_adapt.store.blobs import blob_name
from edge_adapt.store.sample import RECORD_SUFFIX, Sample, SampleRecord, sample_of
from helpers.decision_samples import sample_decision, sample_frame, sample_scene
from robin_fleet.ingest.ingest import Incoming

Blobs = dict[str, bytes]
"""Name -> content."""


def tiny_sample(number: int, **changes: Any) -> Sample:
    """One picture that no other number has, and no frame."""
    pixels = np.random.default_rng(number).integers(0, 255, (6, 8, 3), dtype=np.uint8)
    usual = {"name": "carton", "result": "clean", "novel": False, "files": {"color.png": png_bytes(pixels)}}
    decision = changes.pop("decision", {"decision_id": f"d{number:06d}", "model_id": "m@1"})
    return Sample(f"d{number:06d}", json.dumps(decision), **{**usual, **changes})


def whole_sample(seed: int, result: str = "clean", pick: int = 0) -> Sample:
    """With frame, masks and a decision."""
    frame = sample_frame(np.random.default_rng(seed))
    scene = sample_scene(frame)
    return sample_of(sample_decision(pick, result, frame, scene), frame, scene)


def packed(sample: Sample, seq: int = 1, **changes: Any) -> tuple[str, Blobs]:
    """Name of its record, and all its blobs, the record last."""
    names = {name: blob_name(data, Path(name).suffix) for name, data in sample.files.items()}
    values: dict[str, Any] = {
        "seq": seq,
        "share": "balanced",
        "name": sample.name,
        "result": sample.result,
        "block": 0,
        "figure": 0.5,
        "threshold": 1.0,
        "seen": 1,
        "at_s": 1000.0 + seq,
        "station": "belt-1",
        "camera": dict(sample.camera),
        "masks": dict(sample.masks),
        "files": {name: (names[name], len(data)) for name, data in sample.files.items()},
        "decision": json.loads(sample.decision),
    }
    record = SampleRecord(**{**values, **changes}).model_dump_json().encode()
    name = blob_name(record, RECORD_SUFFIX)
    return name, {**{names[file]: data for file, data in sample.files.items()}, name: record}


def incoming(blobs: Mapping[str, bytes], robot: str = "r1") -> list[Incoming]:
    """As a robot offers them."""
    return [
        Incoming(robot, name, "record" if name.endswith(RECORD_SUFFIX) else "file", data)
        for name, data in blobs.items()
    ]
