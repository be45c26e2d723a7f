"""The doors through which a stranger's files come in, and small valid files for each."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from helpers.bag_samples import TOPICS, camera_frame, encoded, frames_bag, grasp_plan
from helpers.decision_samples import record_samples
from helpers.hostile_bags import channel, encoded_message, message, packed, write_bag
from helpers.pick_samples import record_told

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Door:
    """make: writes a valid sample into an empty folder. enter: what the product does with such a folder."""

    make: Callable[[Path], object]
    enter: Callable[[Path], object]


def _make_settings(folder: Path) -> None:
    """A little of everything that configuration files hold."""
    (folder / "cell.yaml").write_text(
        "workspace: {centre_m: [0.7, 0.0], size_m: [0.8, 0.6]}\ntool: {cup_radius_m: 0.015}\n"
    )
    (folder / "planner.yaml").write_text("explore: {probability: 0.3}\n")
    (folder / "piles.yaml").write_text(
        "description: a few\nbelt_parcels: {least: 3, most: 5}\ncontainers: &c {belt: 1.0}\n"
    )
    (folder / "nodes.yaml").write_text("/**/planning:\n  ros__parameters:\n    frame_age_limit_s: 2.0\n")


def _enter_settings(folder: Path) -> None:
    from robin_bringup.parameter_files import check_parameter_file
    from robin_grasp.planner.config import PlannerConfig
    from robin_grasp.tool import CellConfig
    from robin_perception.core.config import load_config
    from robin_sim.scenario import load_scenario

    load_config(CellConfig, folder / "cell.yaml")
    load_config(PlannerConfig, folder / "planner.yaml")
    load_scenario(folder / "piles.yaml")
    check_parameter_file(folder / "nodes.yaml", ["planning"])


def _pictures() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(1)
    return rng.integers(0, 256, (24, 32, 3), dtype=np.uint8), rng.integers(900, 1200, (24, 32), dtype=np.uint16)


def _make_images(folder: Path) -> None:
    rgb, depth = _pictures()
    (folder / "color.png").write_bytes(cv2.imencode(".png", rgb)[1].tobytes())
    (folder / "depth.png").write_bytes(cv2.imencode(".png", depth)[1].tobytes())
    (folder / "labels.png").write_bytes(cv2.imencode(".png", (depth > 1000).astype(np.uint16))[1].tobytes())
    (folder / "camera.json").write_text(
        '{"fx": 30.0, "fy": 30.0, "cx": 16.0, "cy": 12.0, "width": 32, "height": 24, "depth_scale": 0.001, '
        '"T_base_camera": [[1, 0, 0, 0], [0, -1, 0, 0], [0, 0, -1, 1], [0, 0, 0, 1]]}'
    )
    (folder / "scene.json").write_text('{"instances": [{"id": 1, "kind": "carton"}], "strata": {}}')


def _enter_images(folder: Path) -> None:
    from robin_perception.core.image_folder import load_frame, load_labels, load_scene_info

    load_frame(folder)
    load_labels(folder)
    load_scene_info(folder)


def _make_arrays(folder: Path) -> None:
    _make_images(folder)
    rgb, depth = _pictures()
    (folder / "color.jpg").write_bytes(cv2.imencode(".jpg", rgb)[1].tobytes())
    np.save(folder / "depth.npy", depth.astype(np.float32) * np.float32(0.001))


def _enter_arrays(folder: Path) -> None:
    from robin_perception.core.image_folder import load_frame_files

    load_frame_files(folder / "color.jpg", folder / "depth.npy", folder / "camera.json")


def _make_bag(folder: Path) -> None:
    frames_bag(folder / "bag", 2)
    frames_bag(folder / "jpeg", 2, jpeg_quality=80)


def _make_open_bag(folder: Path) -> None:
    """Records that stand in the file as they are, so that a changed byte reaches definitions and messages."""
    text = "std_msgs/msg/String"
    note = encoded_message(1, text, data="a note")
    nested = "Part[] parts\nstring[<=4] names\n" + "=" * 80 + "\nMSG: x_msgs/Part\nuint8[3] a\nfloat64[] b\n"
    data = b"\x00\x01\x00\x00" + (1).to_bytes(4, "little") + bytes(20)
    records = (*channel(1, "/note", text), note, *channel(2, "/parts", "x_msgs/msg/Parts", nested), message(2, data))
    write_bag(folder / "open.mcap", *records, packed(b"", compression=""))


def _enter_bag(folder: Path) -> None:
    from robin_perception.bags.frames import FrameAssembler, FrameTopics
    from robin_perception.bags.reader import BagReader

    for bag in sorted(folder.iterdir()):
        reader, assembler = BagReader(bag), FrameAssembler(FrameTopics())
        for found in reader.messages():
            found.values()
        for found in reader.messages(FrameTopics().all):
            assembler.add(found)


def _make_replay(folder: Path) -> None:
    """A frame, what made its plan, the plan and its decision, records that stand in the file as they are."""
    from edge_adapt.bag.pipeline import PipelineRecord

    topics, kinds = TOPICS, {topic: kind for topic, (kind, _) in TOPICS.types().items()}
    sample = encoded(camera_frame(np.random.default_rng(1)))
    plan = {**grasp_plan(np.random.default_rng(1)), "plan_id": "p-1"}
    plan["header"] = {"stamp": {"sec": 1, "nanosec": 0}, "frame_id": "base_link"}
    for grasp in plan["grasps"]:
        grasp["pose"]["orientation"] = {"x": 1.0, "y": 0.0, "z": 0.0, "w": 0.0}
    pipeline = PipelineRecord(engine="onnxruntime", planner="geometric").model_dump_json()
    messages = [
        (topics.pipeline, {"data": pipeline}),
        (topics.frames.tf_static, sample.pose),
        *((topic, values) for topic, (_, values) in sample.messages.items()),
        (topics.plan, plan),
        (topics.decision, {"plan_id": "p-1", "decision_id": "run-00000-000"}),
    ]
    records = []
    for number, (topic, values) in enumerate(messages, start=1):
        records += [*channel(number, topic, kinds[topic]), encoded_message(number, kinds[topic], **values)]
    write_bag(folder / "replay.mcap", *records)


def _enter_replay(folder: Path) -> None:
    from edge_adapt.bag.replay import Replay

    with tempfile.TemporaryDirectory() as scratch:
        _make_bundle(Path(scratch))
        list(Replay(folder / "replay.mcap", Path(scratch) / "tiny").run())


def _make_bundle(folder: Path) -> None:
    from robin_perception.engines.testing.tiny_bundle import tiny_bundle

    tiny_bundle(folder / "tiny")


def _enter_bundle(folder: Path) -> None:
    """Load it and, where it passes, segment a frame with it."""
    from robin_perception.core.frame import Frame
    from robin_perception.segmentation.segmenter import load_segmenter

    segmenter = load_segmenter(folder / "tiny", "onnxruntime")
    try:
        rgb, depth = _pictures()
        K = np.array([[30.0, 0, 16], [0, 30.0, 12], [0, 0, 1]])
        pose = np.diag([1.0, -1.0, -1.0, 1.0])
        pose[2, 3] = 1.1
        segmenter.segment(Frame(rgb, depth.astype(np.float32) * np.float32(0.001), K, pose))
    finally:
        segmenter.close()


def _make_judge(folder: Path) -> None:
    from robin_grasp.picks.pick_judge import SHIPPED_JUDGE

    shutil.copy(SHIPPED_JUDGE, folder / "judge.npz")


def _enter_judge(folder: Path) -> None:
    from robin_grasp.picks.pick_features import FEATURE_NAMES
    from robin_grasp.picks.pick_judge import load_judge

    load_judge(folder / "judge.npz").probabilities("tool", np.zeros((1, len(FEATURE_NAMES))))


def _make_records(folder: Path) -> None:
    record_samples(folder, ("clean", "infeasible"))
    record_told(folder)
    (folder / "removed_pictures.jsonl").write_text('{"decision_id": "a", "reason": "age", "bytes": 1, "at_s": 1.0}\n')


def _enter_records(folder: Path) -> None:
    from edge_adapt.decision import DecisionContext
    from edge_adapt.decision_store import read_decisions
    from edge_adapt.pick_recorder import PickRecorder
    from edge_adapt.report import render_report
    from edge_adapt.trace import trace_text

    log = read_decisions(folder)
    for decision in log.decisions:
        trace_text(decision)
    render_report(log)
    PickRecorder(folder, DecisionContext(run_id="again", pile=0, pick=0)).shut()


def _make_results(folder: Path) -> None:
    text = '{"machine": {"cpu": "x"}, "a_ms": {"p50": 1.0, "p95": 2.0, "sd": 0.1, "count": 30}}'
    for name in ("a.json", "b.json"):
        (folder / name).write_text(text)


def _enter_results(folder: Path) -> None:
    from robin_cli.bench.compare import compare_results, read_result

    compare_results(read_result(folder / "a.json"), read_result(folder / "b.json"))


DOORS = {
    "configuration": Door(_make_settings, _enter_settings),
    "image folder": Door(_make_images, _enter_images),
    "arrays and JPEG": Door(_make_arrays, _enter_arrays),
    "bag": Door(_make_bag, _enter_bag),
    "open bag": Door(_make_open_bag, _enter_bag),
    "replay": Door(_make_replay, _enter_replay),
    "bundle": Door(_make_bundle, _enter_bundle),
    "judge": Door(_make_judge, _enter_judge),
    "records": Door(_make_records, _enter_records),
    "bench results": Door(_make_results, _enter_results),
}
