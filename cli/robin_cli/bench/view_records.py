"""Made-up records for `robin bench view`: true to the schema, varied where a search looks."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from edge_adapt.decision import Decision, DecisionContext, build_decision
from edge_adapt.decision_store import DecisionStore
from edge_adapt.record_file import RECORD_FILE
from edge_adapt.recording import pick_images
from robin_grasp.picks.outcome import PickOutcome, PickResult
from robin_grasp.plan import Grasp, Plan, Reject, Rejected
from robin_perception.core.errors import Code
from robin_perception.core.frame import Frame
from robin_perception.core.scene import CLASSES, Instance, Scene

PARCELS, COLUMNS, ROWS = 60, 10, 6
TERMS = 46
CROWDED = "crowded-00000-000"
"""Id of the decision with PARCELS parcels and all its pictures."""
_RESULTS = ("clean", "clean", "clean", "clean", "miss", "drop", "multi", "wrong")
_WORDS = ("seal lost at the edge", "a cup slipped", "the weight was as expected", "two parcels moved", "light was low")


def write_records(folder: Path, count: int, seed: int, advance: Callable[[int, int, str], None]) -> None:
    """``count`` records in ``folder``; the last one is CROWDED."""
    rng = np.random.default_rng(seed)
    frame, scene = _crowd(rng)
    few = Scene(scene.stamp_s, scene.model_id, scene.labels, scene.instances[:6], scene.boundary)
    pattern = _decision("pattern", frame, few, grasps=3, rejected=4).model_dump(mode="json")
    with (folder / RECORD_FILE).open("w") as file:
        for number in range(count - 1):
            file.write(json.dumps(_varied(pattern, number, rng), separators=(",", ":")) + "\n")
            if number % 1000 == 0:
                advance(number, count, "records")
    with DecisionStore(folder) as store:
        crowded = _decision("crowded", frame, scene, grasps=12, rejected=200)
        store.append(crowded, pick_images(frame, scene, frame))


def _varied(pattern: dict[str, Any], number: int, rng: np.random.Generator) -> dict[str, Any]:
    """Changes what facets, ranges and words look at; the rest stays."""
    chosen = pattern["candidates"][0]
    pattern["decision_id"] = f"bench-{number // 100:05d}-{number % 100:03d}"
    pattern["recorded_at"] = (
        f"2026-{1 + number % 12:02d}-{1 + number % 28:02d}T{number % 24:02d}:{number % 60:02d}:00+00:00"
    )
    pattern["model_id"] = f"base-{number // 20_000:08x}"
    pattern["context"]["source"] = f"station-{number % 7}"
    pattern["flags"] = [f"flag_{int(rng.integers(12))}"]
    chosen["score"] = round(float(rng.random()), 6)
    for seen in pattern["instances"]:
        seen["class_name"] = CLASSES[int(rng.integers(len(CLASSES)))]
        seen["novelty"] = round(float(rng.gamma(2.0, 0.3)), 4)
    outcome = pattern["outcome"]
    outcome["result"] = _RESULTS[int(rng.integers(len(_RESULTS)))]
    outcome["reasons"] = [_WORDS[int(rng.integers(len(_WORDS)))], f"{number % 997} g of {number % 89}"]
    return pattern


def _crowd(rng: np.random.Generator) -> tuple[Frame, Scene]:
    """A 1280x720 frame of PARCELS boxes side by side."""
    height, width = 720, 1280
    rgb = np.full((height, width, 3), 90, dtype=np.uint8)
    depth, labels = np.full((height, width), 1.2, dtype=np.float32), np.zeros((height, width), dtype=np.uint16)
    instances = []
    for i in range(PARCELS):
        x, y = 20 + (i % COLUMNS) * 125, 15 + (i // COLUMNS) * 116
        box = (slice(y, y + 100), slice(x, x + 108))
        rgb[box], depth[box], labels[box] = rng.integers(40, 240, 3), 1.2 - 0.005 * (1 + i % 20), i + 1
        votes = np.full(len(CLASSES), 0.02, dtype=np.float32)
        votes[i % len(CLASSES)] = 0.92
        place = (x, y, x + 108, y + 100)
        instances.append(
            Instance(i + 1, place, 10_800, votes, 0.95, 0.9, 0.8, 1.2, np.zeros(16, np.float32), 0.1 * (i % 15))
        )
    rgb += rng.integers(0, 8, rgb.shape, dtype=np.uint8)
    pose = np.diag([1.0, -1.0, -1.0, 1.0])
    pose[2, 3] = 1.2
    K = np.array([[900.0, 0.0, 639.5], [0.0, 900.0, 359.5], [0.0, 0.0, 1.0]])
    frame = Frame(rgb, depth, K, pose, stamp_s=1.0)
    boundary = np.zeros((height // 4, width // 4), dtype=np.float32)
    return frame, Scene(1.0, "base-00000000", labels, tuple(instances), boundary)


def _decision(run: str, frame: Frame, scene: Scene, grasps: int, rejected: int) -> Decision:
    terms = {f"term_{i:02d}": 0.123456 + i for i in range(TERMS)}
    pose = np.diag([1.0, -1.0, -1.0, 1.0])
    ranked = tuple(Grasp(pose, 0b01100110, 1 + i, 0.9 - 0.01 * i, terms) for i in range(grasps))
    out = tuple(Rejected(1 + i % len(scene.instances), pose, 0b11, Reject.NO_CUP_SEALS, terms) for i in range(rejected))
    plan = Plan(Code.OK, f"{grasps} grasps on {grasps} parcels", ranked, out, "geometric")
    outcome = PickOutcome(PickResult.CLEAN, (0, 5e4, 5e4, 0, 0, 5e4, 5e4, 0), 7.5, 3.2)
    context = DecisionContext(run_id=run, pile=0, pick=0, source="station-0")
    return build_decision(context, frame, scene, plan, outcome, timings_ms={"frame_to_plan": 60.0})
