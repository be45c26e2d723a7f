"""A small recorded run with real pictures: labelled frames, their true masks taken for what was seen, planned."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from edge_adapt.decision import Decision, DecisionContext, build_decision
from edge_adapt.decision_store import DecisionStore
from edge_adapt.record_build import judgement_record
from edge_adapt.recording import pick_images
from helpers.pick_samples import load_view, pick_traces
from robin_grasp.picks.outcome import PickOutcome, PickResult
from robin_grasp.picks.pick_check import PickJudgement
from robin_grasp.planner.registry import make_planner
from robin_grasp.tool import CellConfig
from robin_perception.core.condition import Condition, Family, PickingEffect
from robin_perception.core.errors import Code
from robin_perception.core.image_folder import IGNORE_LABEL, load_frame, load_labels, load_scene_info
from robin_perception.core.scene import CLASSES, Instance, Scene

LABELLED = Path(__file__).resolve().parents[1] / "data/labelled"
RESULTS = (PickResult.CLEAN, PickResult.MISS, PickResult.CLEAN, PickResult.DROP, PickResult.MULTI, PickResult.CLEAN)
_LEAST_PX = 60


def true_scene(folder: Path, stamp_s: float) -> Scene:
    """What a faultless network would see in that frame."""
    labels = load_labels(folder)
    labels[labels == IGNORE_LABEL] = 0
    kinds = {seen["id"]: seen for seen in load_scene_info(folder)["instances"]}
    instances = []
    for i in np.unique(labels[labels > 0]).tolist():
        v, u = np.nonzero(labels == i)
        if len(v) < _LEAST_PX:
            continue
        kind = kinds.get(i, {"kind": "carton", "visible_fraction": 1.0})
        votes = np.full(len(CLASSES), 0.02, dtype=np.float32)
        votes[CLASSES.index(kind["kind"]) if kind["kind"] in CLASSES else 0] = 0.92
        box = (int(u.min()), int(v.min()), int(u.max()) + 1, int(v.max()) + 1)
        scores = (0.97, 0.9, float(kind["visible_fraction"]), 1.5)
        instances.append(Instance(i, box, len(v), votes, *scores, np.zeros(16, np.float32), 0.3 + 0.1 * (i % 12)))
    height, width = labels.shape
    boundary = np.zeros((height // 4, width // 4), dtype=np.float32)
    odd = Condition(
        Code.GOODS_UNFAMILIAR, "unfamiliar", Family.NOVELTY, 1.2, 1.0, "", stamp_s, PickingEffect.GO_ON, "new"
    )
    return Scene(stamp_s, "true@00000000", labels, tuple(instances), boundary, conditions=(odd,))


def record_run(folder: Path, count: int = 4) -> list[Decision]:
    """``count`` picks, each of another frame."""
    cell = CellConfig()
    planner = make_planner("geometric", cell)
    written = []
    with DecisionStore(folder) as store:
        for pick, source in enumerate(sorted(path for path in LABELLED.iterdir() if path.is_dir())[:count]):
            frame = replace(load_frame(source), stamp_s=100.0 + pick)
            after = load_frame(source)
            scene = true_scene(source, frame.stamp_s)
            plan = planner.plan(frame, scene)
            result = RESULTS[pick % len(RESULTS)]
            outcome = PickOutcome(result, (0, 5e4, 5e4, 0, 0, 4e4, 4e4, 0), 7.5, 3.2, {}, pick_traces(), load_view())
            odds = dict(zip(PickResult, (0.1, 0.05, 0.05, 0.7, 0.1), strict=True))
            judgement = judgement_record(PickJudgement(result, 0.7, ("4 of 4 cups hold",), 0.9, (), probabilities=odds))
            context = DecisionContext(run_id="view-run", pile=0, pick=pick, source="tests", engine="none")
            outcome = None if plan.best is None else outcome
            record = build_decision(context, frame, scene, plan, outcome, judgement=judgement, flags=(f"pick_{pick}",))
            written.append(store.append(record, pick_images(frame, scene, after, outcome)))
    return written
