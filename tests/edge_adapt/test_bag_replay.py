"""Lock-step replay: the same decisions from the same bag, and what is said where they are not."""

from __future__ import annotations

import copy
import json
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from helpers.bag_samples import SECOND, TOPICS, grasp_plan
from helpers.cli_helpers import Robin, colours, pickable_folder

from edge_adapt.bag.compare import IGNORED_FIELDS, MachineTolerances, exact_differences, machine_differences
from edge_adapt.bag.messages import OUTCOME_TYPE, PLAN_TYPE, with_named_terms
from edge_adapt.bag.pick_writer import FrameInput, PickWriter, RecordedPick
from edge_adapt.bag.pipeline import (
    PipelineRecord,
    bundle_calibration,
    code_digest,
    start_planner,
    start_segmenter,
    this_machine,
)
from edge_adapt.bag.replay import Replay
from edge_adapt.bag.writer import BagWriter
from edge_adapt.decision import DecisionContext, build_decision
from robin_grasp.picks.plan_server import IssuedPlan, without_instances
from robin_grasp.plan import ALL_SOUND, CupTrust, FailedPick
from robin_grasp.tool import CellConfig, ToolConfig, WorkspaceConfig
from robin_perception.bags import cdr
from robin_perception.bags.definitions import full_text, parse_full_text, short_name
from robin_perception.bags.frames import ImageCoding
from robin_perception.bags.reader import BagReader
from robin_perception.core.errors import RobinError
from robin_perception.core.image_folder import load_frame
from robin_perception.engines import EngineConfig

CELL = CellConfig(workspace=WorkspaceConfig(centre_m=(0.0, 0.0), size_m=(3.0, 3.0), reach_min_m=0.0, reach_max_m=3.0))


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return colours(tmp_path_factory.mktemp("model") / "colours")


def station_bag(folder: Path, model: Path, scratch: Path, cell: CellConfig = CELL) -> list[IssuedPlan]:
    """Three picks of twelve boxes: plain, after a failure and with two cups in doubt, and with an instance excluded."""
    engine = EngineConfig(intra_threads=1, spin=False)
    record = PipelineRecord(engine="onnxruntime", engine_config=engine, planner="geometric", cell=cell)
    segmenter, planner = start_segmenter(record, model), start_planner(record)
    changes = {"model_id": segmenter.model_id, "calibration": bundle_calibration(segmenter.bundle)}
    record = record.model_copy(update={**changes, "machine": this_machine(), "code": code_digest()})
    source = load_frame(pickable_folder(scratch / "boxes"))
    frames, issued = FrameInput(TOPICS.frames, ImageCoding()), []
    failed: tuple[FailedPick, ...] = ()
    with BagWriter(folder) as writer:
        picks = PickWriter(writer, ImageCoding(), TOPICS)
        picks.pipeline(record, SECOND)
        for index in range(3):
            taken = replace(source, stamp_s=1.0 + index / 3)
            frame = frames.of(taken)
            scene = segmenter.segment(frame)
            excluded = (issued[1].plan.grasps[0].instance_id,) if index == 2 else ()
            cups = CupTrust((1.0, 0.0, 0.4, *[1.0] * (cell.tool.cup_count - 3)), 0b10) if index == 1 else ALL_SOUND
            plan = without_instances(planner.plan(frame, scene, failed, cups), excluded)
            assert plan.best is not None, plan.message
            done = IssuedPlan(f"p-{index}", True, plan, frame, scene, failed, excluded)
            context = DecisionContext(run_id="test", pile=0, pick=index)
            decision = build_decision(context, frame, scene, plan, None, failed=failed)
            picks.pick(RecordedPick(frames.encoded(taken), done, decision))
            x, y, z = (float(v) for v in plan.best.T_base_tool[:3, 3])
            failed = (*failed, FailedPick((x, y, z), plan.best.cups))
            issued.append(done)
    segmenter.close()
    return issued


@pytest.fixture(scope="module")
def bag(tmp_path_factory: pytest.TempPathFactory, bundle: Path) -> Path:
    folder = tmp_path_factory.mktemp("bag")
    plans = station_bag(folder / "station", bundle, folder)
    best = [issued.plan.best for issued in plans]
    assert best[0] is not None and best[1] is not None and best[2] is not None
    assert best[2].instance_id != best[1].instance_id
    return folder / "station"


@pytest.fixture
def robin(capsys: pytest.CaptureFixture[str]) -> Robin:
    return Robin(capsys)


def test_replay_is_the_same_to_the_last_bit(bag: Path, bundle: Path, robin: Robin, tmp_path: Path) -> None:
    done = robin("replay", bag, "--model", bundle, "--json", tmp_path / "r.json", "--out", tmp_path / "pictures")
    assert done.status == 0, done.out + done.err
    assert done.out.splitlines()[-1] == "same: 3 of 3 plans agree to the last bit"
    report = json.loads((tmp_path / "r.json").read_text())
    assert report["same"] and report["tolerance"] == "exact" and report["changes"] == [] and report["warnings"] == []
    assert not (tmp_path / "pictures").exists()


def former_text(kind: str) -> str:
    """The definition of a message before cups and classes were sequences, and before a plan told its motion."""
    later = ("PickMotion motion", "geometry_msgs/Point[] cup_centres", "string[] class_names")
    kept = [line for line in full_text(kind).splitlines() if not line.startswith(later)]
    return "\n".join(kept).replace("float64[] vacuum_pa", "float64[8] vacuum_pa")


def test_a_bag_of_the_former_messages_is_read_and_replayed(bag: Path, bundle: Path, tmp_path: Path) -> None:
    former, vacuum = tmp_path / "former", np.arange(8.0)
    with BagWriter(former) as writer:
        for topic, (kind, qos) in TOPICS.types().items():
            writer.add_topic(topic, kind, qos, former_text(kind))
        for message in BagReader(bag).messages():
            definitions = parse_full_text(message.type, former_text(message.type))
            known = {field.name for field in definitions[short_name(message.type)]}
            values = {name: value for name, value in message.values().items() if name in known}
            writer.write_cdr(message.topic, cdr.encode(message.type, values, definitions), message.log_ns)
        outcome = {"plan_id": "p-0", "vacuum_pa": vacuum}
        definitions = parse_full_text(OUTCOME_TYPE, former_text(OUTCOME_TYPE))
        writer.write_cdr(TOPICS.outcome, cdr.encode(OUTCOME_TYPE, outcome, definitions), 9 * SECOND)
    read = {message.topic: message.values() for message in BagReader(former).messages()}
    assert read[TOPICS.outcome]["vacuum_pa"].tolist() == vacuum.tolist()
    assert read[TOPICS.plan]["cup_centres"] == [] and read[TOPICS.scene]["class_names"] == []
    replay = Replay(former, bundle)
    assert [plan.differences for plan in replay.run()] == [(), (), ()]


def test_a_plan_with_cups_in_doubt_is_made_again_with_the_same_doubt(bag: Path, bundle: Path) -> None:
    (plan,) = [m.values() for m in BagReader(bag).messages() if m.type == PLAN_TYPE and m.values()["plan_id"] == "p-1"]
    told = dict(zip(plan["threshold_names"], plan["thresholds"], strict=True))
    assert (told["cup_1_share"], told["cup_2_share"], told["cups_probed"]) == (0.0, 0.4, 2.0)
    assert [done.differences for done in Replay(bag, bundle).run()] == [(), (), ()]


def test_recorded_failures_and_exclusions_are_what_the_replay_plans_with(bag: Path, bundle: Path) -> None:
    """Without them the second and third plan would come out as the first did."""
    replay = Replay(bag, bundle)
    plans = list(replay.run())
    assert [plan.differences for plan in plans] == [(), (), ()]
    chosen = [plan.replayed for plan in plans]
    assert len({(g.instance_id, g.cups, tuple(g.T_base_tool[:3, 3])) for g in chosen if g is not None}) == 3


def test_another_planner_configuration_is_told_field_by_field_with_a_picture(
    bag: Path, bundle: Path, robin: Robin, tmp_path: Path
) -> None:
    config = tmp_path / "planner.yaml"
    config.write_text("rank:\n  fail_cost: 5.0\n")
    options = ("--model", bundle, "--planner-config", config, "--out", tmp_path / "pictures", "--pictures", 2)
    done = robin("replay", bag, *options, "--json", tmp_path / "r.json")
    assert done.status == 1
    assert "planner_config: not the recorded one" in done.err
    assert "test-00000-000 (plan 0):" in done.out and "].score: recorded 0." in done.out
    assert "differs: 0 of 3 plans agree" in done.out
    pictures = sorted(path.name for path in (tmp_path / "pictures").iterdir())
    assert pictures == ["test-00000-000.png", "test-00000-001.png"]
    picture = cv2.imread(str(tmp_path / "pictures" / pictures[0]))
    assert picture is not None and picture.shape[1] == 2 * 640
    report = json.loads((tmp_path / "r.json").read_text())
    first = report["decisions"][0]["differences"][0]
    assert first["recorded"] != first["replayed"] and first["field"].startswith("plan.")


def test_another_bundle_is_named(bag: Path, tmp_path: Path, robin: Robin) -> None:
    from helpers.perception_graphs import colour_bundle

    colour_bundle(tmp_path / "other", count=21)
    done = robin("replay", bag, "--model", tmp_path / "other", "--out", tmp_path)
    assert "model_id: recorded colours-" in done.err


def test_recorded_pipeline_of_unknown_keys_is_refused(bag: Path, bundle: Path, robin: Robin, tmp_path: Path) -> None:
    with BagWriter(tmp_path / "bag") as writer:
        for topic, (kind, qos) in TOPICS.types().items():
            writer.add_topic(topic, kind, qos)
        writer.write(TOPICS.pipeline, {"data": '{"version": 1, "colour": "red"}'}, SECOND)
        writer.write(TOPICS.plan, grasp_plan(np.random.default_rng(0)), SECOND)
    done = robin("replay", tmp_path / "bag", "--model", bundle)
    assert done.status == 2 and "BAG_INVALID" in done.error_line and "'colour'" in done.error_line


def cut(bag: Path, to: Path, share: float) -> Path:
    data = next(bag.glob("*.mcap")).read_bytes()
    to.write_bytes(data[: int(share * len(data))])
    return to


def test_a_truncated_bag_is_replayed_as_far_as_it_goes(bag: Path, bundle: Path, robin: Robin, tmp_path: Path) -> None:
    done = robin("replay", cut(bag, tmp_path / "cut.mcap", 0.7), "--model", bundle)
    assert done.status == 0
    assert "warning: cut.mcap: the file was not closed" in done.err
    assert "2 of 2 plans agree" in done.out or "1 of 1 plans agree" in done.out


def garbage(bag: Path, folder: Path) -> Path:
    (folder / "x.mcap").write_bytes(b"\x89MCAP1\r\n" * 100)
    return folder / "x.mcap"


def beginning(bag: Path, folder: Path) -> Path:
    return cut(bag, folder / "x.mcap", 0.02)


def no_frames(bag: Path, folder: Path) -> Path:
    with BagWriter(folder / "plans") as writer:
        writer.add_topic(TOPICS.plan, PLAN_TYPE)
        writer.write(TOPICS.plan, grasp_plan(np.random.default_rng(0)), SECOND)
    return folder / "plans"


def missing(bag: Path, folder: Path) -> Path:
    return folder / "nowhere"


@pytest.mark.parametrize(
    ("make", "code"),
    [
        (garbage, "E504 BAG_INVALID"),
        (beginning, "E505 BAG_TOPIC_MISSING"),
        (no_frames, "E505 BAG_TOPIC_MISSING"),
        (missing, "E101 INPUT_MISSING"),
    ],
)
def test_bad_bags_end_in_one_line(
    make: Callable[[Path, Path], Path], code: str, bag: Path, bundle: Path, robin: Robin, tmp_path: Path
) -> None:
    done = robin("replay", make(bag, tmp_path), "--model", bundle)
    assert done.status == 2
    assert done.error_line.startswith(f"error {code}: ")


def test_bad_options_end_in_one_line(bag: Path, bundle: Path, robin: Robin, tmp_path: Path) -> None:
    assert "tolerance must be one of" in robin("replay", bag, "--model", bundle, "--tolerance", "some").error_line
    assert robin("record", "--out", tmp_path, "--picks", "1", "--size", "big").error_line.startswith("error E405")
    (tmp_path / "x").write_text("here")
    planner = tmp_path / "p.yaml"
    planner.write_text("explore:\n  probability: 0.5\n")
    done = robin("record", "--out", tmp_path / "b", "--picks", "1", "--planner-config", planner)
    assert done.status == 2 and "cannot be replayed" in done.error_line and not (tmp_path / "b").exists()


# What counts as a difference


def test_ignored_fields_are_names_and_times_only() -> None:
    a = {"plan": with_named_terms(cdr.decode(PLAN_TYPE, cdr.encode(PLAN_TYPE, grasp_plan(np.random.default_rng(3)))))}
    b = json.loads(json.dumps(a, default=lambda v: v.tolist()))
    for name in ("excluded_instances", "rejected_codes", "rejected_counts"):
        b["plan"][name] = a["plan"][name]
    b["plan"]["motion"] = a["plan"]["motion"]
    for kept, changed in zip(a["plan"]["grasps"], b["plan"]["grasps"], strict=True):
        changed["cup_seal"] = kept["cup_seal"]
    assert exact_differences(a, b) == []
    for name in ("plan_id", "model_id"):
        b["plan"][name] = "another"
    b["plan"]["timings"] = []
    assert exact_differences(a, b) == []
    b["plan"]["grasps"][1]["pose"]["position"]["x"] = float(
        np.nextafter(a["plan"]["grasps"][1]["pose"]["position"]["x"], 9)
    )
    found = exact_differences(a, b)
    assert [d.field for d in found] == ["plan.grasps[1].pose.position.x"]
    assert found[0].recorded != found[0].replayed
    untouched = {"plan.grasps", "plan.rejected", "plan.code", "plan.failed", "scene.instances", "scene.label_image"}
    assert not untouched & IGNORED_FIELDS


def test_score_terms_are_compared_by_name() -> None:
    recorded = grasp_plan(np.random.default_rng(3))
    replayed = copy.deepcopy(recorded)
    replayed["term_names"] = recorded["term_names"][::-1]  # another order says the same
    for candidate in replayed["grasps"] + replayed["rejected"]:
        candidate["term_indices"] = 3 - candidate["term_indices"]
    a, b = ({"plan": with_named_terms(plan)} for plan in (recorded, replayed))
    assert a["plan"]["rejected"][0]["terms"].keys() < {*recorded["term_names"]}
    assert exact_differences(a, b) == []
    name, value = next(iter(b["plan"]["grasps"][1]["terms"].items()))
    b["plan"]["grasps"][1]["terms"][name] = float(np.nextafter(value, 9))
    assert [d.field for d in exact_differences(a, b)] == [f"plan.grasps[1].terms.{name}"]
    del b["plan"]["grasps"][1]["terms"][name]
    assert [d.replayed for d in exact_differences(a, b)] == ["None"]


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda plan: plan.pop("term_names"), "no field 'term_names'"),
        (lambda plan: plan["term_names"].clear(), "of 0"),
        (lambda plan: plan["rejected"][0].update(term_values=np.zeros(7)), "longer"),
    ],
)
def test_a_plan_whose_terms_do_not_fit_is_refused(change: Callable[[dict[str, Any]], Any], text: str) -> None:
    plan = grasp_plan(np.random.default_rng(3))
    change(plan)
    with pytest.raises(RobinError, match=f"E504 .*{text}"):
        with_named_terms(plan)


def test_across_machines_equal_contacts_are_the_same_and_others_are_not() -> None:
    limits, tool = MachineTolerances(), ToolConfig()

    def plan(x: float, cups: int, score: float, turned: bool = False) -> dict[str, Any]:
        facing = {"x": 1.0, "y": 0.0, "z": 0.0, "w": 0.0} if not turned else {"x": 0.0, "y": 1.0, "z": 0.0, "w": 0.0}
        pose = {"position": {"x": x, "y": 0.0, "z": 0.1}, "orientation": facing}
        grasp = {"instance_id": 1, "pose": pose, "cups": cups, "score": score, "terms": {}}
        return {"plan": {"code": 0, "text": "", "grasps": [grasp]}}

    base = plan(0.5, 0b0011, 0.9)
    assert machine_differences(base, plan(0.505, 0b0011, 0.895), limits, tool) == []
    assert machine_differences(base, plan(0.5 - 0.048, 0b0110, 0.9), limits, tool) == []  # moved by one cup's pitch
    assert machine_differences(base, plan(0.5, 0b11000000, 0.9, turned=True), limits, tool) == []  # by half a turn
    for other in (plan(0.52, 0b0011, 0.9), plan(0.5, 0b0111, 0.9), plan(0.5, 0b0011, 0.8)):
        assert len(machine_differences(base, other, limits, tool)) == 1
    refused = {"plan": {"code": 302, "text": "none", "grasps": []}}
    assert [d.field for d in machine_differences(base, refused, limits, tool)] == ["plan.code"]


# The simulated cell


@pytest.mark.slow
def test_a_fresh_bag_of_the_cell_is_replayed_to_the_last_bit(robin: Robin, tmp_path: Path) -> None:
    options = ("--scenario", "mixed", "--picks", 4, "--picks-per-pile", 2, "--seed", 5, "--json", tmp_path / "rec.json")
    done = robin("record", *options, "--out", tmp_path / "bag")
    assert done.status == 0, done.err
    recorded = json.loads((tmp_path / "rec.json").read_text())
    assert recorded["messages"]["/plan"] >= 4 and recorded["piles"] == 2
    done = robin("replay", tmp_path / "bag", "--tolerance", "exact", "--out", tmp_path / "pictures")
    assert done.status == 0, done.out
    assert "plans agree to the last bit" in done.out


@pytest.mark.slow
def test_a_killed_recording_is_replayed(tmp_path: Path, robin: Robin) -> None:
    command = [sys.executable, "-m", "robin_cli.main", "record", "--picks", "30", "--seed", "5", "--out"]
    process = subprocess.Popen([*command, str(tmp_path / "bag")], stderr=subprocess.DEVNULL)
    file = tmp_path / "bag/bag_0.mcap"
    while process.poll() is None and not (file.exists() and file.stat().st_size > 1_500_000):
        try:
            process.wait(0.1)
        except subprocess.TimeoutExpired:
            continue
    process.send_signal(signal.SIGKILL)
    process.wait()
    done = robin("replay", tmp_path / "bag", "--tolerance", "exact", "--out", tmp_path / "pictures")
    assert done.status == 0, done.out + done.err
    assert "not closed" in done.err and "plans agree to the last bit" in done.out
