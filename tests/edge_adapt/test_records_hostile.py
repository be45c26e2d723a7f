"""Records of a stranger: whatever a line holds is a record that can be told and drawn, or one refusal."""

from __future__ import annotations

import json
import os
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from helpers.decision_samples import record_samples

from edge_adapt.decision_store import LONGEST_RECORD, DecisionStore, read_decisions
from edge_adapt.report import render_report
from edge_adapt.trace import trace_text
from robin_perception.core.errors import Code, RobinError

Change = Callable[[dict[str, Any]], object]
GIGANTIC = 10**400


def with_changes(folder: Path, change: Change) -> Path:
    """A recorded run whose first line was changed."""
    record_samples(folder, ("clean",))
    path = folder / "decisions.jsonl"
    values = json.loads(path.read_bytes())
    change(values)
    path.write_text(json.dumps(values) + "\n")
    return folder


HOSTILE: dict[str, Change] = {
    "choice beyond": lambda d: d.update(choice=99),
    "choice before": lambda d: d.update(choice=-1),
    "choice without candidates": lambda d: d.update(candidates=[]),
    "no rotation": lambda d: d["candidates"][0].update(quaternion_xyzw=[0, 0, 0, 0]),
    "huge rotation": lambda d: d["rejected"][0].update(quaternion_xyzw=[1e300, 0, 0, 0]),
    "no rotation of the camera": lambda d: d["frame"].update(camera_quaternion_xyzw=[0, 0, 0, 0]),
    "no vacuum": lambda d: d["context"]["tool"].update(vacuum_pa=0),
    "no cups": lambda d: d["context"]["tool"].update(cup_centres_m=[]),
    "a thousand cups": lambda d: d["context"]["tool"].update(cup_centres_m=[[0, 0]] * 1000),
    "cup that is none": lambda d: d["candidates"][0].update(cups=[99]),
    "cup without end": lambda d: d["candidates"][0].update(cups=[GIGANTIC]),
    "gigantic parcel": lambda d: d["instances"][0].update(id=GIGANTIC),
    "gigantic box": lambda d: d["instances"][0].update(bbox=[0, 0, GIGANTIC, 1]),
    "gigantic place": lambda d: d["candidates"][0].update(position_m=[1e308, 0, 0]),
    "gigantic frame": lambda d: d["frame"].update(width=GIGANTIC),
    "unknown result": lambda d: d["outcome"].update(result="great"),
    "seals of another type": lambda d: d["outcome"]["truth"].update(seals=[{"cup": "x"}]),
    "seals that are text": lambda d: d["outcome"]["truth"].update(seals="none"),
    "a share that is text": lambda d: d["outcome"]["truth"].update(
        seals=[{"cup": 1, "held": [[1, "1"]], "pressure_pa": 1.0, "leak_mm2": 1.0}]
    ),
    "releases of another type": lambda d: d["outcome"]["truth"].update(releases=[1]),
    "picture outside": lambda d: d["images"].update(color="/etc/hostname"),
    "picture above": lambda d: d["images"].update(color="../secret.png"),
    "picture below and above": lambda d: d["images"].update(color="images/../../secret.png"),
    "id that leaves": lambda d: d.update(decision_id=".."),
    "negative pile": lambda d: d["context"].update(pile=-1),
    "not a number": lambda d: d.update(stamp_s=float("nan")),
    "another version": lambda d: d.update(version=GIGANTIC),
    "text for a number": lambda d: d["candidates"][0].update(score="high"),
    "lone surrogate": lambda d: d.update(message="\ud800"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_records_are_refused_with_their_line(name: str, tmp_path: Path) -> None:
    folder = with_changes(tmp_path, HOSTILE[name])
    with pytest.raises(RobinError) as refused:
        read_decisions(folder)
    assert refused.value.code is Code.RECORD_INVALID
    assert "decisions.jsonl:1: " in str(refused.value) and len(str(refused.value)) < 1000


@pytest.mark.parametrize("line", [b"[" * 100_000, b'{"version":' * 1000, b'{"version": 1, "a": ' + b"9" * 5000 + b"}"])
def test_nesting_and_digits_are_bounded(line: bytes, tmp_path: Path) -> None:
    (tmp_path / "decisions.jsonl").write_bytes(line + b"\n")
    with pytest.raises(RobinError) as refused:
        read_decisions(tmp_path)
    assert refused.value.code is Code.RECORD_INVALID


@pytest.mark.parametrize("end", [b"", b"\n"])
def test_a_line_without_end_is_refused_in_little_memory(end: bytes, tmp_path: Path) -> None:
    with (tmp_path / "decisions.jsonl").open("wb") as stream:
        stream.write(b'{"version":')
        stream.truncate(500_000_000)
        stream.seek(0, os.SEEK_END)
        stream.write(end)
    tracemalloc.start()
    with pytest.raises(RobinError) as refused:
        read_decisions(tmp_path)
    assert refused.value.code is Code.RECORD_INVALID
    assert tracemalloc.get_traced_memory()[1] < 10 * LONGEST_RECORD
    tracemalloc.stop()


def test_many_records_are_not_kept_in_memory(tmp_path: Path) -> None:
    record_samples(tmp_path, ("clean",))
    path = tmp_path / "decisions.jsonl"
    line = path.read_bytes()
    count = 2000
    path.write_bytes(line * count)
    tracemalloc.start()
    log = read_decisions(tmp_path)
    assert len(log.decisions) == count and log.decisions[-1] == log.decisions[0]
    assert log.find(log.decisions.ids[0]).result == "clean"
    assert tracemalloc.get_traced_memory()[1] < count * len(line) / 2
    tracemalloc.stop()
    html = render_report(log)
    assert html.count("<article") == count


def test_what_is_no_plain_record_file_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "decisions.jsonl")
    with pytest.raises(RobinError) as refused:
        read_decisions(tmp_path)
    assert refused.value.code is Code.INPUT_UNREADABLE
    zero = tmp_path / "zero"
    zero.symlink_to("/dev/zero")
    with pytest.raises(RobinError):
        read_decisions(zero)


def test_control_characters_never_reach_the_terminal(tmp_path: Path) -> None:
    def change(values: dict[str, Any]) -> None:
        values.update(message="\x1b[2Jwiped", flags=["a\rb"])
        values["outcome"]["truth"]["reason"] = "\x07"

    (decision,) = read_decisions(with_changes(tmp_path, change)).decisions
    assert all(line.isprintable() for line in trace_text(decision).split("\n"))
    assert "\\x1b[2Jwiped" in trace_text(decision)


@pytest.mark.filterwarnings("error")
def test_figures_at_their_bounds_are_drawn(tmp_path: Path) -> None:
    def change(values: dict[str, Any]) -> None:
        camera_m = values["frame"]["camera_position_m"]
        values["frame"].update(intrinsics=[0, 0, 1e9, -1e9])
        values["context"]["tool"].update(plate_half_size_m=[0, -1e9], vacuum_pa=1e9)
        values["candidates"][0].update(position_m=camera_m, score=1e308, terms={"x": -1e308})
        values["rejected"][0].update(position_m=[1e9, -1e9, 0])
        values["instances"][0].update(bbox=[65536, -65536, -65536, 65536])
        values["outcome"].update(vacuum_pa=[1e9] * 3, lifted_weight_n=-1e9)
        values["timings_ms"]["frame_to_plan"] = 1e308

    log = read_decisions(with_changes(tmp_path, change))
    assert "</html>" in render_report(log) and trace_text(log.decisions[0])


def picture_of(folder: Path, name: str) -> Path:
    return folder / record_samples(folder, ("clean",))[0].images[name]


@pytest.mark.parametrize("kind", ["pipe", "device", "bomb", "link outside", "loop", "three channels"])
@pytest.mark.parametrize("name", ["color", "depth", "labels", "after"])
def test_pictures_that_are_none_leave_their_place_empty(kind: str, name: str, tmp_path: Path) -> None:
    run = tmp_path / "run"
    path = picture_of(run, name)
    whole = path.read_bytes()
    path.unlink()
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    elif kind == "link outside":
        (tmp_path / "secret.png").write_bytes(whole)
        path.symlink_to(tmp_path / "secret.png")
    elif kind == "loop":
        path.symlink_to(path)
    elif kind == "bomb":
        path.write_bytes(whole[:16] + b"\x00\x00\xff\xff" * 2 + whole[24:])
    else:
        path.write_bytes(cv2.imencode(".png", np.zeros((4, 4, 3), np.uint8))[1].tobytes())
    html = render_report(read_decisions(run))
    expected = {"color": 0, "depth": 2, "labels": 3, "after": 2}[name]  # without colour there is nothing to lay out
    if kind == "three channels" and name in ("color", "after"):
        expected = 3
    assert html.count("data:image/webp") == expected
    assert ('class="mask' in html) == (expected > 0 and name != "labels")


def test_a_record_that_could_not_be_read_back_is_not_written(tmp_path: Path) -> None:
    (good,) = record_samples(tmp_path, ("clean",))
    with DecisionStore(tmp_path) as store:
        for change in ({"choice": 99}, {"message": "\ud800"}, {"flags": ("x" * LONGEST_RECORD,)}):
            with pytest.raises(RobinError) as refused:
                store.append(good.model_copy(update=change))
            assert refused.value.code is Code.RECORD_INVALID and store.recording
        store.append(good)
    assert len(read_decisions(tmp_path).decisions) == 2
