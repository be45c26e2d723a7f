"""What a cell measures of one pick: traces and a look at the load, small and without the simulator."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
from scipy.spatial.transform import Rotation

from edge_adapt.decision import Decision, DecisionContext, build_decision
from edge_adapt.decision_store import DecisionStore
from edge_adapt.record_build import judgement_record
from edge_adapt.record_parts import CupRecord, HelpRecord, RecoveryStepRecord
from edge_adapt.recording import pick_images
from helpers.decision_samples import sample_frame, sample_outcome, sample_plan, sample_scene
from robin_grasp.picks.outcome import PickResult
from robin_grasp.picks.outcome_report import OutcomeReport, Stage
from robin_grasp.picks.pick_check import PickJudgement
from robin_grasp.picks.traces import LoadView, PickTraces
from robin_perception.core.condition import Condition, Family, PickingEffect
from robin_perception.core.errors import Code
from robin_perception.core.frame import Frame

STAMP_S = 1_790_000_000.123456
CONDITIONS = (
    Condition(
        code=Code.PICTURE_FROZEN,
        name="frozen",
        family=Family.ENVIRONMENT,
        value=11.5,
        limit=10.0,
        unit="frames",
        since_s=STAMP_S - 7.25,
        effect=PickingEffect.STOP,
        text="the same picture, to the bit, 11 times",
    ),
    Condition(
        code=Code.DEPTH_CONSTANT,
        name="novel-03",
        family=Family.NOVELTY,
        value=1.75,
        limit=1.0,
        unit="",
        since_s=STAMP_S,
        effect=PickingEffect.GO_ON,
        text="seen 12 times",
        instances=(1, 2),
    ),
)


def pick_traces(samples: int = 40, cups: int = 8, seed: int = 0) -> PickTraces:
    """Cups 1, 2, 5 and 6 draw up; cup 5 lets go in the transfer."""
    rng = np.random.default_rng(seed)
    t = np.arange(samples)
    open_cups = [cup for cup in (1, 2, 5, 6) if cup < cups]
    vacuum = rng.normal(0, 120, (samples, cups)).astype(np.float32)
    vacuum[:, open_cups] += (60_000 * (1 - np.exp(-t / 4.0))).astype(np.float32)[:, None]
    if 5 in open_cups:
        vacuum[int(0.8 * samples) :, 5] = 0
    weight = (4.0 + 4.0 * np.tanh((t - 0.4 * samples) / 3.0) + rng.normal(0, 0.1, samples)).astype(np.float32)
    marks = {"vacuum": 0, "lift": int(0.3 * samples), "weigh": int(0.5 * samples), "transfer": int(0.6 * samples)}
    return PickTraces(50.0, vacuum, weight, {**marks, "arrive": samples - 3})


def load_view(seed: int = 0, width: int = 64, height: int = 48) -> LoadView:
    """A box of noise before nothing, seen from below; depth in whole millimetres, poses that no float holds exactly."""
    rng = np.random.default_rng(seed)
    depth = np.zeros((height, width), dtype=np.float32)
    units = rng.integers(980, 1_020, (height // 2, width // 2)).astype(np.float32)
    depth[height // 4 : height // 4 + height // 2, width // 4 : width // 4 + width // 2] = units * np.float32(0.001)
    camera, tool = np.eye(4), np.eye(4)
    camera[:3, :3], camera[:3, 3] = Rotation.from_euler("xyz", [0.01, 0.02, 0.3]).as_matrix(), (0.75, 0.8, -0.8)
    tool[:3, :3], tool[:3, 3] = Rotation.from_euler("xyz", [np.pi, 0.02, 0.3]).as_matrix(), (0.7, 0.8, 0.35)
    K = np.array([[58.0, 0.0, 31.5], [0.0, 58.5, 23.5], [0.0, 0.0, 1.0]])
    rgb = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    return LoadView(Frame(rgb, depth, K, camera, STAMP_S, "load_camera"), tool)


def judged_report(cups: int = 8) -> OutcomeReport:
    """A held load with something in every field."""
    vacuum = (0.0, 41_000.0, 40_500.5, 0.0, 0.0, 5.5, 60_000.0, 0.0)[:cups]
    return OutcomeReport(
        plan_id="p1-000001",
        grasp=1,
        ended_s=STAMP_S,
        result=PickResult.MULTI,
        vacuum_pa=vacuum,
        lifted_weight_n=12.25,
        duration_s=3.5,
        truth={"target": 3, "moved": [1, 2]},
        probability=0.7,
        reasons=("4 cups hold", "1.9 times the expected weight"),
        check_digest="c" * 64,
        target_gone=0.92,
        neighbours_gone=(4, 7),
        stage=Stage.HELD,
        traces=pick_traces(cups=cups),
        load=load_view(),
        probabilities=dict(zip(PickResult, (0.1, 0.05, 0.05, 0.7, 0.1), strict=True)),
        features={"log_load": 0.64, "load_instances": 2.0},
        after_s=STAMP_S + 0.25,
        action="put_back",
        action_reason="two parcels hang on the tool",
        help_id="help-0003",
    )


FILM_FACE = (1.125, 0.01, -0.02, 0.003, 0.0, -0.004)


def told_decision() -> Decision:
    """A record with something in every part: conditions, novelty, a judged load, what was done, help, cups."""
    frame = sample_frame(np.random.default_rng(2))
    seen = sample_scene(frame)
    first, second = seen.instances
    conditions = tuple(
        replace(c, since_s=frame.stamp_s - age_s) for c, age_s in zip(CONDITIONS, (7.25, 86_400.0 * 3), strict=True)
    )
    seen = replace(seen, instances=(replace(first, novelty=1.375, film_depth=FILM_FACE), second))
    scene = replace(seen, conditions=conditions)
    plan = sample_plan()
    best = replace(plan.grasps[0], cup_seal=(math.nan, 0.75, 0.5, math.nan, math.nan, 1.0, 0.25, math.nan))
    plan = replace(plan, grasps=(best, *plan.grasps[1:]))
    outcome = replace(sample_outcome("drop"), traces=pick_traces(), load=load_view())
    judged = PickJudgement(
        PickResult.MULTI,
        0.7,
        ("4 of 4 cups hold", "1.9 times the expected weight"),
        0.92,
        (2,),
        probabilities=dict(zip(PickResult, (0.1, 0.05, 0.05, 0.7, 0.1), strict=True)),
        features={"weight_ratio": 1.9, "load_area_ratio": math.nan},
    )
    judgement = judgement_record(judged)
    asked = HelpRecord(
        help_id="h000003", code=651, text="two parcels hang on the tool", answer="set_down", answered_by="eve"
    )
    steps = (
        RecoveryStepRecord(
            **judgement.model_dump(), state="held", action="ask_help", reason="put back once already", help=asked
        ),
        RecoveryStepRecord(**judgement.model_dump(), state="held", action="set_down", came_of="back", took_s=4.5),
        RecoveryStepRecord(state="ended", action="other_cups", reason="it failed with these"),
    )
    names = ("good", "weak", "blocked")
    cups = tuple(
        CupRecord(
            cup=cup,
            state="blocked" if cup == 6 else "good",
            share=0.0 if cup == 6 else 1.0,
            probabilities=dict(zip(names, (0.01, 0.02, 0.97) if cup == 6 else (0.99, 0.01, 0.0), strict=True)),
            picks=12,
            held=1 if cup == 6 else 11,
            text="replace it" if cup == 6 else "",
        )
        for cup in range(8)
    )
    return build_decision(
        DecisionContext(run_id="told-run", pile=0, pick=0, source="sample"),
        frame,
        scene,
        plan,
        outcome,
        judgement=judgement,
        steps=steps,
        cup_health=cups,
        digests={
            "monitors": "a" * 64,
            "novelty": "b" * 64,
            "recovery": "c" * 64,
            "cup_health": "",
            "pick_check": "d" * 64,
        },
    )


def record_told(folder: Path) -> Decision:
    """``told_decision`` in a record folder with all that lies beside it."""
    frame = sample_frame(np.random.default_rng(2))
    outcome = replace(sample_outcome("drop"), traces=pick_traces(), load=load_view())
    with DecisionStore(folder) as store:
        images = pick_images(frame, sample_scene(frame), sample_frame(np.random.default_rng(3)), outcome)
        return store.append(told_decision(), images)
