"""Samples of robots as an aggregator has them booked, with goods that look familiar or not."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from edge_adapt.decision import DecisionContext, build_decision
from edge_adapt.record_build import judgement_record
from edge_adapt.store.sample import Sample, SampleRecord, sample_of
from helpers.decision_samples import sample_outcome, tool_pose
from helpers.fleet_samples import packed
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
    name, blobs = packed(sample, seq, share="core", at_s=at_s, station=station)
    record = SampleRecord.parse(blobs[name], name)
    fleet.objects.put_all(blobs)
    stood = any(one["family"] == "environment" for one in record.decision.get("conditions", ()))
    told = sample.decision_id, seq, sample.name, sample.result, sample.novel, "core", "model", at_s, at_s
    row = SampleRow(name, f"{site}-{station}", site, station, *told, sum(map(len, blobs.values())), stood)
    with fleet.ledger.write() as connection:
        add_blobs(connection, {blob: len(data) for blob, data in blobs.items()}, at_s)
        add_samples(connection, {row: {file: blob for file, (blob, _) in record.files.items()}})
    return name
