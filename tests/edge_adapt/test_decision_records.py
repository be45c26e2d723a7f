"""Decision records: what goes in comes back, damage is told apart, a full disk leaves nothing half-written."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from helpers.decision_samples import RESULTS, record_samples, sample_decision, sample_frame, sample_plan, sample_scene

from edge_adapt.decision import (
    MAX_REJECTED,
    Decision,
    DecisionContext,
    ToolRecord,
    build_decision,
)
from edge_adapt.decision_store import DecisionStore, read_decisions
from edge_adapt.record_build import frame_digest
from edge_adapt.recording import DEPTH_SCALE_M
from edge_adapt.trace import cups_text, trace_text
from robin_grasp.tool import ToolConfig
from robin_perception.core.config import config_digest
from robin_perception.core.errors import Code, RobinError
from robin_perception.core.image_folder import load_frame
from robin_perception.core.scene import CLASSES


def test_records_come_back_as_written(tmp_path: Path) -> None:
    written = record_samples(tmp_path)
    log = read_decisions(tmp_path)
    assert list(log.decisions) == written
    assert not log.truncated
    assert [d.result for d in log.decisions] == list(RESULTS)
    assert read_decisions(tmp_path / "decisions.jsonl").decisions == log.decisions


def test_a_record_traces_the_choice(tmp_path: Path) -> None:
    decision = record_samples(tmp_path)[0]
    assert decision.chosen is not None
    assert decision.chosen.cups == (1, 2, 5, 6)
    assert decision.chosen.terms["holding_margin"] == 1.25
    assert decision.rejected_counts == {"NO_CUP_SEALS": 3, "OUTRANKED_ON_INSTANCE": 400}
    assert decision.outcome is not None
    assert decision.outcome.truth["delivered"] == [0]
    assert decision.timings_ms == {"network": 20.0, "plan": 12.0, "frame_to_plan": 40.0}


def test_recorded_images_are_an_image_folder(tmp_path: Path) -> None:
    decision = record_samples(tmp_path)[0]
    rng = np.random.default_rng(5)
    original = sample_frame(rng)
    folder = (tmp_path / decision.images["color"]).parent
    frame = load_frame(folder)
    assert frame_digest(original) == decision.frame.digest
    np.testing.assert_array_equal(frame.rgb, original.rgb)
    np.testing.assert_allclose(frame.depth, original.depth, atol=DEPTH_SCALE_M)
    np.testing.assert_allclose(frame.T_base_camera, original.T_base_camera)
    assert all((tmp_path / path).exists() for path in decision.images.values())


def test_find_by_whole_id_or_unique_ending(tmp_path: Path) -> None:
    record_samples(tmp_path)
    log = read_decisions(tmp_path)
    assert log.find("sample-run-00000-002").result == "infeasible"
    assert log.find("002").context.pick == 2
    for unknown in ("nothing", "00"):
        with pytest.raises(RobinError) as info:
            log.find(f"{unknown}-")
        assert info.value.code is Code.RECORD_INVALID


def test_truncated_last_line_is_left_out_and_reported(tmp_path: Path) -> None:
    record_samples(tmp_path)
    path = tmp_path / "decisions.jsonl"
    path.write_bytes(path.read_bytes()[:-40])
    log = read_decisions(path)
    assert log.truncated
    assert len(log.decisions) == len(RESULTS) - 1


def test_only_a_truncated_line_is_an_empty_log(tmp_path: Path) -> None:
    record_samples(tmp_path, ("clean",))
    path = tmp_path / "decisions.jsonl"
    path.write_bytes(path.read_bytes()[:200])
    log = read_decisions(path)
    assert log.truncated and log.decisions == ()


def test_appending_after_a_truncated_line_drops_it(tmp_path: Path) -> None:
    record_samples(tmp_path)
    path = tmp_path / "decisions.jsonl"
    path.write_bytes(path.read_bytes()[:-40])
    frame = sample_frame(np.random.default_rng(0))
    with DecisionStore(tmp_path) as store:
        store.append(sample_decision(9, "clean", frame, sample_scene(frame)))
    log = read_decisions(path)
    assert not log.truncated
    assert [d.context.pick for d in log.decisions] == [0, 1, 2, 9]


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"hello\n", "not JSON"),
        (b"hello", "not a decision record"),
        (b'{"a": 1}\n', "no version"),
        (b"[1, 2]\n", "no version"),
        (b'{"version": 99}\n', "version"),
        (b'{"version": 1, "decision_id": "x"}\n', "context"),
        (b"\x89PNG\r\n\x1a\n\x00", "not a decision record"),
    ],
)
def test_foreign_file_is_refused_with_its_line(tmp_path: Path, content: bytes, text: str) -> None:
    path = tmp_path / "decisions.jsonl"
    path.write_bytes(content)
    with pytest.raises(RobinError) as info:
        read_decisions(path)
    assert info.value.code is Code.RECORD_INVALID
    assert str(path) in info.value.text
    assert text in info.value.text


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(RobinError) as info:
        read_decisions(tmp_path)
    assert info.value.code is Code.INPUT_MISSING


def test_unknown_key_in_a_record_is_refused(tmp_path: Path) -> None:
    record_samples(tmp_path, ("clean",))
    path = tmp_path / "decisions.jsonl"
    path.write_bytes(path.read_bytes().replace(b'"planner":', b'"plannner":', 1))
    with pytest.raises(RobinError, match="planner"):
        read_decisions(path)


def test_record_of_a_large_pile_stays_small() -> None:
    frame = sample_frame(np.random.default_rng(0))
    scene = sample_scene(frame)
    many = tuple(scene.instances[i % 2] for i in range(60))
    terms = {f"term_number_{i}": 0.123456789 for i in range(20)}
    plan = sample_plan(rejected=900)
    crowded = type(plan)(
        plan.code,
        plan.message,
        tuple(type(g)(g.T_base_tool, g.cups, g.instance_id, g.score, terms) for g in plan.grasps * 30),
        tuple(type(r)(r.instance_id, r.T_base_tool, r.cups, r.reason, terms) for r in plan.rejected),
        plan.planner,
        rejected_counts=plan.rejected_counts,
    )
    context = DecisionContext(run_id="r", pile=0, pick=0)
    large = type(scene)(0.0, "m", scene.labels, many, scene.boundary)
    decision = build_decision(context, frame, large, crowded, None)
    assert len(decision.rejected) <= MAX_REJECTED
    assert decision.rejected_counts["NO_CUP_SEALS"] == 900
    assert len(decision.model_dump_json()) < 50_000


def test_full_disk_latches_off_and_leaves_nothing_half_written(tmp_path: Path) -> None:
    """A real write failure: a process that may not write files beyond a size fills the record file up to it."""
    script = """
import resource, signal, sys
from pathlib import Path
import numpy as np
from helpers.decision_samples import sample_decision, sample_frame, sample_scene
from edge_adapt.decision_store import DecisionStore
from robin_perception.core.errors import Code, RobinError

folder = Path(sys.argv[1])
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, resource.RLIM_INFINITY))
frame = sample_frame(np.random.default_rng(0))
store = DecisionStore(folder)
written = 0
try:
    for pick in range(100):
        store.append(sample_decision(pick, "clean", frame, sample_scene(frame)), {"note.txt": b"x"})
        written += 1
except RobinError as failure:
    assert failure.code is Code.DISK_FULL, failure
    assert "decisions.jsonl" in failure.text
assert not store.recording
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
try:
    store.append(sample_decision(500, "clean", frame, sample_scene(frame)))
except RobinError as failure:
    assert failure.code is Code.DISK_FULL
else:
    raise AssertionError("a latched store must refuse")
store.close()
print(written)
"""
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)],
        capture_output=True,
        text=True,
        env={"PYTHONPATH": str(Path(__file__).parents[1]), "PATH": "/usr/bin:/bin"},
    )
    assert done.returncode == 0, done.stderr
    log = read_decisions(tmp_path)
    assert not log.truncated
    assert len(log.decisions) == int(done.stdout) > 0
    assert len(list((tmp_path / "images").iterdir())) == len(log.decisions)


def test_image_too_large_for_the_disk_leaves_no_record(tmp_path: Path) -> None:
    script = """
import resource, signal, sys
from pathlib import Path
import numpy as np
from helpers.decision_samples import sample_decision, sample_frame, sample_scene
from edge_adapt.decision_store import DecisionStore
from robin_perception.core.errors import Code, RobinError

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
frame = sample_frame(np.random.default_rng(0))
store = DecisionStore(Path(sys.argv[1]))
try:
    store.append(sample_decision(0, "clean", frame, sample_scene(frame)), {"a.bin": b"x", "color.png": b"x" * 50_000})
except RobinError as failure:
    print(failure.code.name, failure.text)
"""
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)],
        capture_output=True,
        text=True,
        env={"PYTHONPATH": str(Path(__file__).parents[1]), "PATH": "/usr/bin:/bin"},
    )
    assert done.stdout.startswith("DISK_FULL"), done.stdout + done.stderr
    assert "color.png" in done.stdout
    assert read_decisions(tmp_path).decisions == ()
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == [tmp_path / "decisions.jsonl"]


def test_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(RobinError) as info:
        DecisionStore(tmp_path / "file" / "out")
    assert str(tmp_path / "file" / "out") in info.value.text


def test_trace_tells_the_story(tmp_path: Path) -> None:
    decisions = record_samples(tmp_path)
    text = trace_text(decisions[1])
    for expected in (
        "sample-run-00000-001",
        "MISS",
        "Best of 2 ranked grasps on 2 parcels with score 0.91",
        "holding_margin",
        "Ruled out: 400 × another pose of the same parcel promised more; 3 × no cup would seal there.",
        "Rejected candidates (403 in all)",
        "NO_CUP_SEALS: no cup would seal there",
        "… and 400 more",
        "failed before at (0.700, 0.100, 0.100) m",
        "<no cup sealed>",
        "1: 55",
    ):
        assert expected in text
    assert "2 parcels, no grasp" in trace_text(decisions[2])


def test_every_record_field_survives_json() -> None:
    frame = sample_frame(np.random.default_rng(1))
    decision = sample_decision(0, "multi", frame, sample_scene(frame))
    assert Decision.model_validate_json(decision.model_dump_json()) == decision


def test_a_record_of_version_1_is_read_and_told(tmp_path: Path) -> None:
    frame = sample_frame(np.random.default_rng(1))
    values = json.loads(sample_decision(0, "miss", frame, sample_scene(frame)).model_dump_json())
    values["version"] = 1
    assert values.pop("class_names") == list(CLASSES)
    (tmp_path / "decisions.jsonl").write_text(json.dumps(values) + "\n")
    (decision,) = read_decisions(tmp_path).decisions
    assert decision.class_names == () and decision.instances[0].class_name in CLASSES
    assert "of 8 cups" in trace_text(decision)


def test_config_digest_depends_on_values_only() -> None:
    assert config_digest(ToolConfig()) == config_digest(ToolConfig(cup_radius_m=0.015))
    assert config_digest(ToolConfig()) != config_digest(ToolConfig(cup_radius_m=0.016))
    assert config_digest({"a": 1, "b": 2}) == config_digest({"b": 2, "a": 1})


def test_cups_text_shows_the_tool_from_above() -> None:
    assert cups_text((0, 7), ToolRecord.of(ToolConfig())) == "●○○○ / ○○○●"
    ring = ((0.05, 0.0), (0.0, 0.05), (-0.05, 0.0), (0.0, -0.05), (0.0, 0.0))
    assert cups_text((0, 3), ToolRecord.of(ToolConfig(cup_centres_m=ring))) == "● / ○○● / ○"
    assert cups_text((0,), ToolRecord.of(ToolConfig(cup_centres_m=((0.0, 0.0),)))) == "●"


def test_one_process_records_into_a_folder(tmp_path: Path) -> None:
    """A simulated run into a robot's own folder, say: its records and pictures are not deleted."""
    samples = record_samples(tmp_path / "run")
    before = (tmp_path / "run/decisions.jsonl").read_bytes()
    with DecisionStore(tmp_path / "run"):
        for fresh in (False, True):
            with pytest.raises(RobinError) as caught:
                DecisionStore(tmp_path / "run", fresh=fresh)
            assert caught.value.code is Code.OPTION_INVALID and "another process" in caught.value.text
    assert (tmp_path / "run/decisions.jsonl").read_bytes() == before
    assert len(read_decisions(tmp_path / "run").decisions) == len(samples)
    with DecisionStore(tmp_path / "run", fresh=True):
        assert read_decisions(tmp_path / "run").decisions == ()


def test_records_behind_a_link_stay_behind_it(tmp_path: Path) -> None:
    record_samples(tmp_path / "far")
    (tmp_path / "run").mkdir()
    (tmp_path / "run/decisions.jsonl").symlink_to(tmp_path / "far/decisions.jsonl")
    with DecisionStore(tmp_path / "run", fresh=True):
        assert (tmp_path / "run/decisions.jsonl").is_symlink()
    assert (tmp_path / "far/decisions.jsonl").read_bytes() == b""
