"""A run as files of Rerun and Foxglove: what stands in them, on which clock, and what is refused."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers.cli_helpers import Robin
from helpers.decision_samples import record_samples, sample_decision, sample_frame, sample_outcome, sample_scene

from edge_adapt.decision import Decision
from edge_adapt.decision_store import DecisionStore
from edge_adapt.recording import pick_images
from robin_grasp.picks.traces import PickTraces
from robin_perception.core.errors import Code, RobinError
from robin_view.exports.picks import cloud, cup_centres, shown_picks

TRACES = PickTraces(100.0, np.full((200, 8), 5e3, np.float32), np.full(200, 7.0, np.float32), {"vacuum": 0})


def run_with_traces(folder: Path) -> list[Decision]:
    """Two picks of which each took two seconds, recorded at once."""
    rng, made = np.random.default_rng(3), []
    with DecisionStore(folder) as store:
        for pick in range(2):
            frame = sample_frame(rng)
            scene = sample_scene(frame)
            outcome = replace(sample_outcome("clean"), traces=TRACES)
            decision = sample_decision(pick, "clean", frame, scene)
            made.append(store.append(decision, pick_images(frame, scene, None, outcome)))
    return made


def test_the_cloud_stands_where_the_camera_saw_it() -> None:
    frame = sample_frame(np.random.default_rng(1))
    points, colours = cloud(frame, step=1)
    assert len(points) == len(colours) == np.count_nonzero(frame.depth)
    y, x = np.nonzero(frame.depth)
    assert np.allclose(frame.pixels(points.astype(np.float64)), np.stack([x, y], axis=1), atol=1e-2)
    assert (colours == frame.rgb[y, x]).all()
    assert len(cloud(frame, step=2)[0]) < len(points) / 3


def test_cups_stand_on_the_tool_plane(tmp_path: Path) -> None:
    decision = record_samples(tmp_path)[0]
    chosen = decision.chosen
    assert chosen is not None
    centres = cup_centres(decision, chosen)
    assert len(centres) == len(decision.context.tool.cup_centres_m)
    spread = np.linalg.norm(centres - np.asarray(chosen.position_m), axis=1)
    assert spread.max() < 0.2 and np.linalg.matrix_rank(centres - centres.mean(axis=0), tol=1e-6) == 2


def test_picks_never_reach_into_each_other(tmp_path: Path) -> None:
    run_with_traces(tmp_path)
    first, second = shown_picks(tmp_path)
    last_ns = [at_ns for at_ns, _, _ in first.traced()][-1]
    assert first.at_ns < last_ns < second.at_ns


def test_records_without_pictures_are_told_all_the_same(tmp_path: Path) -> None:
    made = record_samples(tmp_path)
    (tmp_path / "images" / made[0].decision_id / "color.png").unlink()
    picks = list(shown_picks(tmp_path))
    assert len(picks) == len(made)
    assert picks[0].frame is None and picks[1].frame is not None


def test_foxglove_file_holds_each_topic(tmp_path: Path) -> None:
    pytest.importorskip("foxglove", reason="foxglove-sdk is not installed")
    from mcap.reader import make_reader

    from robin_view.exports.foxglove_file import TOPICS, write_foxglove

    made = run_with_traces(tmp_path / "run")
    path = tmp_path / "run.mcap"
    assert write_foxglove(tmp_path / "run", path) == 2
    found: dict[str, list[tuple[str, int, bytes]]] = {}
    with path.open("rb") as stream:
        for schema, channel, message in make_reader(stream).iter_messages():
            kind = schema.name if schema else ""
            found.setdefault(channel.topic, []).append((kind, message.log_time, message.data))
    assert set(found) == set(TOPICS)
    assert {len(found[topic]) for topic in set(TOPICS) - {"/traces"}} == {2}
    assert [json.loads(data)["decision_id"] for _, _, data in found["/decision"]] == [d.decision_id for d in made]
    assert json.loads(found["/traces"][0][2]) == {"vacuum_pa": [5e3] * 8, "weight_n": 7.0}
    assert len(found["/traces"]) == 2 * TRACES.samples
    kinds = {topic: messages[0][0] for topic, messages in found.items()}
    assert kinds["/points"] == "foxglove.PointCloud" and kinds["/grasps"] == "foxglove.SceneUpdate"
    assert kinds["/decision"] == "Decision" and kinds["/traces"] == "Traces"
    assert [at for _, at, _ in found["/decision"]] == [pick.at_ns for pick in shown_picks(tmp_path / "run")]


def test_layout_names_what_the_foxglove_file_holds() -> None:
    pytest.importorskip("foxglove", reason="foxglove-sdk is not installed")
    from robin_view.exports.foxglove_file import TOPICS

    layout = Path(__file__).resolve().parents[2] / "launch" / "robin_bringup" / "config" / "foxglove_layout.json"
    text = layout.read_text()
    assert [topic for topic in TOPICS if f'"{topic}' not in text] == ["/tf"]  # every panel uses it by itself


def test_rerun_file_is_read_by_rerun(tmp_path: Path) -> None:
    reader = pytest.importorskip("rerun.chunk", reason="rerun-sdk is not installed")
    from robin_view.exports.rerun_file import write_rerun

    made = run_with_traces(tmp_path / "run")
    path = tmp_path / "run.rrd"
    assert write_rerun(tmp_path / "run", path) == len(made)
    assert path.read_bytes().startswith(b"RRF2")
    rows: Counter[str] = Counter()
    static: set[str] = set()
    for chunk in reader.RrdReader(path).stream():
        rows[chunk.entity_path] += chunk.num_rows
        if chunk.is_static:
            static.update(column for column in chunk.to_record_batch().schema.names)
    assert rows["/base_link/cloud"] == rows["/base_link/camera/image/masks"] == rows["/decision"] == len(made)
    assert rows["/base_link/grasps/0"] == len(made)
    assert rows["/vacuum_pa"] == rows["/weight_n"] == TRACES.samples * len(made)
    assert any("AnnotationContext" in column for column in static)  # the viewer heeds no other


def test_a_missing_run_leaves_no_file(tmp_path: Path) -> None:
    pytest.importorskip("foxglove", reason="foxglove-sdk is not installed")
    from robin_view.exports.foxglove_file import write_foxglove

    with pytest.raises(RobinError) as refused:
        write_foxglove(tmp_path / "nowhere", tmp_path / "out.mcap")
    assert refused.value.code is Code.INPUT_MISSING
    assert list(tmp_path.iterdir()) == []


def test_the_command_makes_a_file_of_one_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("foxglove", reason="foxglove-sdk is not installed")
    robin = Robin(capsys)
    for name in ("one", "two"):
        record_samples(tmp_path / "runs" / name)
    out = tmp_path / "out.mcap"
    done = robin("view", tmp_path / "runs" / "one", "--foxglove", out)
    assert done.status == 0 and out.is_file(), done.err
    refused = robin("view", tmp_path / "runs", "--foxglove", tmp_path / "both.mcap")
    assert refused.status == 2 and "2 runs" in refused.error_line


def test_a_file_of_somebody_else_is_not_replaced(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = tmp_path / "notes.txt"
    other.write_text("mine")
    assert Robin(capsys)("view", tmp_path, "--foxglove", other).status == 2
    assert other.read_text() == "mine"
