<<<<<<< HEAD
"""Samples as robots send them: a record and its files, by the names of their content."""
=======
"""Samples of robots as an aggregator has them booked, with goods that look familiar or not."""
>>>>>>> 4b1917a (Novelties by recurrence over all robots: ledger, review by persons, robin fleet novelties, robin bench recurrence)

from __future__ import annotations

import json
<<<<<<< HEAD
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
=======
from dataclasses import replace
from pathlib import Path

import numpy as np

from edge_adapt.decision import DecisionContext, build_decision
from edge_adapt.record_build import judgement_record
from edge_adapt.store.blobs import blob_name
from edge_adapt.store.sample import Sample, SampleRecord, sample_of
from helpers.decision_samples import sample_outcome, tool_pose
from helpers.label_samples import judgement
from helpers.novelty_samples import frame_with, scene_of
from robin_fleet.folder import Fleet
from robin_fleet.ledger.samples import SampleRow, add_blobs, add_samples
from robin_grasp.picks.outcome import PickResult
from robin_grasp.plan import Grasp, Plan
from robin_perception.core.condition import Condition, Family, PickingEffect
from robin_perception.core.errors import Code

DARK = Condition(Code.LIGHT_LOW, "dark", Family.ENVIRONMENT, 3.0, 1.0, "", 0.0, PickingEffect.GO_ON, "dark")
RED, BLUE, GREEN = (190, 40, 40), (30, 60, 190), (30, 170, 60)


def unfamiliar(
    colour: tuple[int, int, int], number: int, *, result: str = "clean", novelty: float = 2.0, dark: bool = False
) -> Sample:
    """A pick of one parcel of that colour, with a little noise that no other number has."""
    rng = np.random.default_rng(number)
    frame = frame_with(colour, colour, stamp_s=float(number))
    noisy = np.clip(frame.rgb.astype(np.int16) + rng.integers(-6, 7, frame.rgb.shape), 0, 255).astype(np.uint8)
    frame = replace(frame, rgb=noisy)
    scene = replace(scene_of(1, novelty, stamp_s=float(number)), conditions=(DARK,) if dark else ())
    plan = Plan(Code.OK, "1 grasp", (Grasp(tool_pose(0.7, 0.1), 0b110, 1, 0.9, {"p_clean": 0.9}),), (), "by hand")
    told = judgement_record(judgement(PickResult(result)))
    context = DecisionContext(run_id="run", pile=number, pick=0)
    decision = build_decision(context, frame, scene, plan, sample_outcome(result), judgement=told)
    return sample_of(decision, frame, scene, None, sample_outcome(result))


def book(fleet: Fleet, sample: Sample, site: str, station: str, at_s: float, seq: int = 1) -> str:
    """As ingest books it; returns the name of its record's blob."""
    robot, files, sizes = f"{site}-{station}", {}, {}
    for file, data in sample.files.items():
        files[file] = blob_name(data, Path(file).suffix)
        sizes[files[file]] = len(data)
        fleet.objects.put(files[file], data)
    decision = json.loads(sample.decision)
    record = SampleRecord(
        seq=seq,
        share="core",
        name=sample.name,
        result=sample.result,
        block=0,
        figure=0.1,
        threshold=1.0,
        seen=1,
        at_s=at_s,
        station=station,
        camera=dict(sample.camera),
        masks=json.loads(json.dumps(sample.masks)),
        files={file: (blob, sizes[blob]) for file, blob in files.items()},
        decision=decision,
    )
    data = record.model_dump_json().encode()
    name = blob_name(data, ".json")
    fleet.objects.put(name, data)
    stood = any(one["family"] == "environment" for one in decision.get("conditions", ()))
    place = robot, site, station, sample.decision_id, seq, sample.name, sample.result, sample.novel
    row = SampleRow(name, *place, "core", "model", at_s, at_s, sum(sizes.values()) + len(data), stood)
    with fleet.ledger.write() as connection:
        add_blobs(connection, {**sizes, name: len(data)}, at_s)
        add_samples(connection, {row: files})
    return name
>>>>>>> 4b1917a (Novelties by recurrence over all robots: ledger, review by persons, robin fleet novelties, robin bench recurrence)
