"""What comes in from robots: booked once, or in quarantine with its reason, and never half of it."""

from __future__ import annotations

import errno
import io
import json
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zstandard
from helpers.fleet_samples import incoming, packed, tiny_sample, whole_sample
from helpers.store_samples import FullFiles

from edge_adapt.recording import png_bytes
from edge_adapt.store.blobs import Files, blob_name
from edge_adapt.store.runs import decode_labels
from robin_fleet.ingest.ingest import WAIT_S, Answer, Incoming, Ingest
from robin_fleet.ingest.looks import NEAR_WITHIN_S
from robin_fleet.ledger import events, robots, samples
from robin_fleet.ledger.core import Ledger, open_ledger
from robin_fleet.ledger.samples import SampleFilter, SampleRow
from robin_fleet.objects.own_folder import FolderObjects
from robin_perception.core.errors import Code, RobinError


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with open_ledger(f"sqlite:///{tmp_path}/l.sqlite") as opened:
        with opened.write() as connection:
            robots.enrol(connection, "r1", "lyon", "", "key1", 1.0)
        yield opened


@pytest.fixture
def objects(tmp_path: Path) -> FolderObjects:
    return FolderObjects(tmp_path / "objects")


class Clock:
    now_s = 5000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def ingest(ledger: Ledger, objects: FolderObjects) -> Ingest:
    return Ingest(ledger, objects, clock=Clock())


def booked(ledger: Ledger) -> list[SampleRow]:
    with ledger.read() as connection:
        return samples.find_samples(connection, SampleFilter())


def told(ledger: Ledger) -> list[events.Event]:
    with ledger.read() as connection:
        return events.latest_events(connection, 100)


def refused(code: Code) -> pytest.RaisesExc[RobinError]:
    return pytest.RaisesExc(RobinError, check=lambda exc: exc.code is code)


def test_a_sample_comes_in_blob_by_blob(ingest: Ingest, ledger: Ledger, objects: FolderObjects) -> None:
    record, blobs = packed(whole_sample(1), seq=7)
    assert ingest.has(blobs) == set()
    for one in incoming(blobs):
        assert ingest.blob(*one).answer is Answer.STORED
        assert ingest.blob(*one).answer is Answer.HAVE
    assert ingest.has([*blobs, "../x", "f" * 64]) == set(blobs)
    (row,) = booked(ledger)
    size = sum(map(len, blobs.values()))
    assert (row.sample, row.site, row.station, row.seq, row.result) == (record, "lyon", "belt-1", 7, "clean")
    assert (row.bytes, row.received_s, row.at_s, row.model) == (size, 5000.0, 1007.0, "sample@0123abcd")
    assert row.embedding is not None and len(row.embedding) == 2 * 196
    with ledger.read() as connection:
        files = samples.files_of(connection, record)
    assert {file: objects.get(blob) for file, blob in files.items()} == dict(whole_sample(1).files)
    assert told(ledger) == []


def test_a_batch_is_one_transaction(ingest: Ingest, ledger: Ledger) -> None:
    batch = [one for number in range(20) for one in incoming(packed(tiny_sample(number), number + 1)[1])]
    assert {outcome.answer for outcome in ingest.blobs(batch)} == {Answer.STORED}
    assert {outcome.answer for outcome in ingest.blobs(batch)} == {Answer.HAVE}
    assert len(booked(ledger)) == 20
    assert all(row.embedding is None for row in booked(ledger))


def test_the_record_may_come_before_its_files_in_a_batch(ingest: Ingest, ledger: Ledger) -> None:
    batch = incoming(packed(tiny_sample(1))[1])
    assert [outcome.answer for outcome in ingest.blobs(batch[::-1])] == [Answer.STORED, Answer.STORED]
    assert len(booked(ledger)) == 1


def test_what_comes_twice_in_a_batch_is_there_once(ingest: Ingest, ledger: Ledger) -> None:
    batch = incoming(packed(tiny_sample(1))[1])
    answers = [outcome.answer for outcome in ingest.blobs([*batch, *batch])]
    assert answers == [Answer.STORED, Answer.STORED, Answer.HAVE, Answer.HAVE]
    bad = Incoming("r1", "0" * 64 + ".png", "file", b"x")
    assert [outcome.answer for outcome in ingest.blobs([bad, bad])] == [Answer.QUARANTINED] * 2


def test_two_robots_with_the_same_picture_share_it(ingest: Ingest, ledger: Ledger) -> None:
    shared = tiny_sample(1).files
    for seq, robot in enumerate(("r1", "r2"), start=1):
        batch = incoming(packed(tiny_sample(seq, files=shared), seq)[1], robot)
        ingest.blobs(batch)
    assert {row.robot for row in booked(ledger)} == {"r1", "r2"}
    with ledger.read() as connection:
        assert samples.blob_counts(connection)[0] == 3


def test_the_station_of_the_enrolment_counts(ingest: Ingest, ledger: Ledger) -> None:
    with ledger.write() as connection:
        robots.enrol(connection, "r2", "turin", "belt-9", "key2", 1.0)
    for seq, robot in enumerate(("r2", "r3"), start=1):
        ingest.blobs(incoming(packed(tiny_sample(seq), seq, station="belt-1")[1], robot))
    assert {(row.robot, row.site, row.station) for row in booked(ledger)} == {
        ("r2", "turin", "belt-9"),
        ("r3", "", "belt-1"),
    }


def test_conditions_of_the_station_are_booked(ingest: Ingest, ledger: Ledger) -> None:
    def decision(number: int, **more: Any) -> dict[str, Any]:
        return {"decision_id": f"d{number}", "choice": 0, "candidates": [{"instance": 4}], **more}

    cases = {
        1: ({}, (False, False)),
        2: ({"conditions": [{"family": "environment", "instances": []}]}, (True, False)),
        3: ({"conditions": [{"family": "novelty", "instances": [4]}]}, (False, True)),
        4: ({"conditions": [{"family": "novelty", "instances": [5]}]}, (False, False)),
        5: ({"instances": [{"id": 4, "novelty": 1.2}]}, (False, True)),
        6: ({"instances": [{"id": 4, "novelty": 0.9}], "choice": None}, (False, False)),
    }
    for number, (more, _) in cases.items():
        ingest.blobs(incoming(packed(tiny_sample(number, decision=decision(number, **more)), number)[1]))
    found = {row.seq: (row.environment, row.novel) for row in booked(ledger)}
    assert found == {number: expected for number, (_, expected) in cases.items()}


# What does not verify


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_of_size(width: int, height: int) -> bytes:
    """Small, and claims to be of that size."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    pixels = zlib.compress(b"\0" * 1000)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def npy_of(shape: tuple[int, ...], dtype: str = "<u2") -> bytes:
    stream = io.BytesIO()
    np.save(stream, np.zeros(shape, dtype))
    return stream.getvalue()


def zst_of_size(claimed: int) -> bytes:
    """A Zstandard frame whose header claims ``claimed`` bytes, of which few are there."""
    return b"\x28\xb5\x2f\xfd" + bytes([0b1110_0000]) + struct.pack("<Q", claimed) + b"\x01\x00\x00"


def zst_without_size(count: int) -> bytes:
    return zstandard.ZstdCompressor(write_content_size=False).compress(b"\0" * count)


zst = zstandard.ZstdCompressor().compress
BAD_FILES = {
    "empty": (b"", ".png", Code.INPUT_UNREADABLE),
    "no picture": (b"GIF89a nonsense", ".png", Code.INPUT_UNREADABLE),
    "cut short": (png_bytes(np.zeros((40, 40, 3), np.uint8))[:60], ".png", Code.INPUT_UNREADABLE),
    "pixel bomb": (png_of_size(60_000, 60_000), ".png", Code.INPUT_TOO_LARGE),
    "just too many pixels": (png_of_size(4096, 4097), ".png", Code.INPUT_TOO_LARGE),
    "no depth": (b"nonsense", ".zst", Code.RECORD_INVALID),
    "depth bomb by its header": (zst_of_size(1 << 40), ".zst", Code.INPUT_TOO_LARGE),
    "depth bomb without a size": (zst_without_size(200_000_000), ".zst", Code.INPUT_TOO_LARGE),
    "depth that is more than it claims": (zst_of_size(50), ".zst", Code.RECORD_INVALID),
    "depth of another kind": (zst(npy_of((4, 4, 4))), ".zst", Code.RECORD_INVALID),
    "depth of floats": (zst(npy_of((4, 4), "<f8")), ".zst", Code.RECORD_INVALID),
    "depth whose shape is a bomb": (
        zst(npy_of((4, 4)).replace(b"(4, 4)", b"(1<<40, 4)")),
        ".zst",
        Code.INPUT_UNREADABLE,
    ),
    "no features": (b"\xff" * 100, ".safetensors", Code.INPUT_UNREADABLE),
    "features whose header is a bomb": (struct.pack("<Q", 1 << 60) + b"{}", ".safetensors", Code.INPUT_UNREADABLE),
    "a program": (b"#!/bin/sh", ".sh", Code.BLOB_REFUSED),
    "without a kind": (b"anything", "", Code.BLOB_REFUSED),
}


@pytest.mark.parametrize("case", BAD_FILES)
def test_a_file_that_does_not_verify(ingest: Ingest, ledger: Ledger, objects: FolderObjects, case: str) -> None:
    data, suffix, code = BAD_FILES[case]
    name = blob_name(data, suffix)
    for _ in range(2):
        outcome = ingest.blob("r1", name, "file", data)
        assert (outcome.answer, outcome.code) == (Answer.QUARANTINED, code), outcome
    assert ingest.has([name]) == set() and objects.size(name) is None
    (event,) = told(ledger)  # once
    assert (event.kind, event.robot, event.data["code"]) == ("quarantined", "r1", int(code))
    assert objects.get(f"quarantine/{name}") == data
    with ledger.read() as connection:
        assert events.refused_by_code(connection) == {int(code): 1}


def test_a_robot_cannot_fill_the_disk_with_rubbish(
    ingest: Ingest, objects: FolderObjects, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("robin_fleet.ingest.ingest.MOST_REFUSED", 3)
    for number in range(6):
        data = b"rubbish %d" % number
        assert ingest.blob("r1", blob_name(data, ".png"), "file", data).answer is Answer.QUARANTINED
    assert len(list(objects.names("quarantine/"))) == 3


BAD_NAMES = ("../../etc/passwd", "a" * 63, "A" * 64, "b" * 64 + ".png/../x", "", "c" * 64 + ".x\0y", "d" * 5000)


@pytest.mark.parametrize("name", [*BAD_NAMES, "0" * 64 + ".png"])
def test_a_name_that_is_not_the_content(ingest: Ingest, ledger: Ledger, objects: FolderObjects, name: str) -> None:
    outcome = ingest.blob("r1", name, "file", b"data")
    assert (outcome.answer, outcome.code) == (Answer.QUARANTINED, Code.BLOB_REFUSED)
    assert list(objects.names()) == []
    assert len(told(ledger)) == 1


def test_an_unknown_kind_and_a_blob_that_is_too_large(ingest: Ingest) -> None:
    large = b"[" + b" " * 1_000_000 + b"]"
    assert ingest.blob("r1", blob_name(b"x"), "program", b"x").code is Code.BLOB_REFUSED
    assert ingest.blob("r1", blob_name(large, ".json"), "metrics", large).code is Code.INPUT_TOO_LARGE


def test_a_blob_that_was_torn_on_the_way_comes_whole_later(ingest: Ingest, ledger: Ledger) -> None:
    (name, data), _ = packed(tiny_sample(1))[1].items()
    assert ingest.blob("r1", name, "file", data[:-3]).answer is Answer.QUARANTINED
    assert ingest.blob("r1", name, "file", data).answer is Answer.STORED
    with ledger.read() as connection:
        assert events.refused_by_code(connection) == {}
    assert [event.kind for event in told(ledger)] == ["quarantined"]  # it stays told


BLOB = "e" * 64 + ".png"
BAD_RECORDS: dict[str, dict[str, Any]] = {
    "a key of another release": {"colour": 1},
    "another format": {"format": 2},
    "a sequence number of no robot": {"seq": 1 << 70},
    "a path for a file name": {"files": {"../../x.png": (BLOB, 3)}},
    "a path for a blob": {"files": {"x.png": ("../x", 3)}},
    "a negative size": {"files": {"x.png": (BLOB, -1)}},
    "more files than a sample has": {"files": {f"{n}.png": (BLOB, 3) for n in range(65)}},
    "no id": {"decision": {}},
    "an id that is a path": {"decision": {"decision_id": "../d"}},
    "goods with a NUL": {"name": "car\0ton"},
    "goods without end": {"name": "x" * 201},
    "a time without end": {"at_s": 1e300},
    "candidates of another kind": {"decision": {"decision_id": "d", "choice": 0, "candidates": "no"}},
}


@pytest.mark.parametrize("case", BAD_RECORDS)
def test_a_record_that_does_not_verify(ingest: Ingest, ledger: Ledger, case: str) -> None:
    values = json.loads(packed(tiny_sample(1))[1].popitem()[1])
    data = json.dumps({**values, **BAD_RECORDS[case]}).encode()
    outcome = ingest.blob("r1", blob_name(data, ".json"), "record", data)
    assert (outcome.answer, outcome.code) == (Answer.QUARANTINED, Code.RECORD_INVALID), outcome
    assert booked(ledger) == []


@pytest.mark.parametrize(
    "data", [b"", b"{", b"[]", b"\xff\xfe", b'"x"', b"[" * 100_000, b'{"a": "\\ud800"}', b"1" * 9999]
)
@pytest.mark.parametrize("kind", ["record", "metrics", "decision"])
def test_json_that_is_none(ingest: Ingest, data: bytes, kind: str) -> None:
    outcome = ingest.blob("r1", blob_name(data, ".json"), kind, data)
    assert (outcome.answer, outcome.code) == (Answer.QUARANTINED, Code.RECORD_INVALID)


def test_hostile_masks_and_cameras_cost_a_look_and_no_more(ingest: Ingest, ledger: Ledger) -> None:
    whole = packed(whole_sample(1))[1]
    values = json.loads(whole[next(reversed(whole))])
    masks = values["masks"]
    cases = [
        {"masks": {**masks, "height": 1 << 20, "width": 1 << 20}},
        {"masks": {**masks, "height": -5}},
        {"masks": {**masks, "counts": dict.fromkeys(map(str, range(1, 65_000)), "0PPY9")}},
        {"camera": {"width": "no"}},
        {"decision": {**values["decision"], "stamp_s": "never"}},
        {"decision": {**values["decision"], "frame": None}},
    ]
    ingest.blobs(incoming(whole)[:-1])
    for seq, case in enumerate(cases, start=100):
        data = json.dumps({**values, **case, "seq": seq}).encode()
        outcome = ingest.blob("r1", blob_name(data, ".json"), "record", data)
        assert outcome.answer is Answer.STORED, (case, outcome)
    assert {row.embedding for row in booked(ledger)} == {None}


def test_masks_that_overlap_are_none() -> None:
    with refused(Code.RECORD_INVALID):
        decode_labels(2, 2, {1: "04", 2: "04"})
    with refused(Code.RECORD_INVALID):
        decode_labels(1 << 20, 1 << 20, {})
    assert decode_labels(2, 2, {1: "04"}).all()


# Records whose files are not there


def test_a_record_waits_for_its_files(ingest: Ingest, ledger: Ledger) -> None:
    record, blobs = packed(tiny_sample(1))
    file, last = incoming(blobs)
    for _ in range(3):
        outcome = ingest.blob(*last)
        assert (outcome.answer, outcome.code) == (Answer.WAITING, Code.SAMPLE_WAITING)
        assert outcome.missing == (file.name,)
    assert booked(ledger) == [] and ingest.has([record]) == set()
    (event,) = told(ledger)
    assert (event.kind, event.data["missing"]) == ("waiting", [file.name])
    assert [outcome.answer for outcome in ingest.blobs([file, last])] == [Answer.STORED, Answer.STORED]
    assert len(booked(ledger)) == 1
    with ledger.read() as connection:
        assert events.refused_by_code(connection) == {}


def test_files_that_stay_missing_are_told(ledger: Ledger, objects: FolderObjects) -> None:
    clock = Clock()
    ingest = Ingest(ledger, objects, clock=clock)
    last = incoming(packed(tiny_sample(1))[1])[-1]
    assert ingest.blob(*last).answer is Answer.WAITING
    clock.now_s += WAIT_S + 1
    assert ingest.blob(*last).answer is Answer.QUARANTINED
    assert [event.kind for event in told(ledger)] == ["quarantined", "waiting"]


def test_a_record_of_a_refused_file_does_not_wait(ingest: Ingest) -> None:
    sample = tiny_sample(1, files={"color.png": b"no picture"})
    file, last = incoming(packed(sample)[1])
    assert [outcome.answer for outcome in ingest.blobs([file, last])] == [Answer.QUARANTINED, Answer.WAITING]
    outcome = ingest.blob(*last)
    assert (outcome.answer, outcome.code) == (Answer.QUARANTINED, Code.SAMPLE_INCOMPLETE)
    assert "was refused" in outcome.reason


def test_a_file_of_another_size_than_its_record_says(ingest: Ingest) -> None:
    values = json.loads(packed(tiny_sample(1))[1].popitem()[1])
    blob, size = values["files"]["color.png"]
    values["files"]["color.png"] = [blob, size + 1]
    data = json.dumps(values).encode()
    ingest.blobs(incoming(packed(tiny_sample(1))[1])[:1])
    assert ingest.blob("r1", blob_name(data, ".json"), "record", data).code is Code.RECORD_INVALID


# Nearly the same


def noisy(seed: int, noise: int, pick: int) -> Any:
    """The same pile again, a little noisier."""
    import dataclasses

    from helpers.decision_samples import sample_decision, sample_frame, sample_scene

    from edge_adapt.store.sample import sample_of

    frame = sample_frame(np.random.default_rng(seed))
    added = np.random.default_rng(pick).integers(0, noise + 1, frame.rgb.shape)
    frame = dataclasses.replace(frame, rgb=np.clip(frame.rgb.astype(int) + added, 0, 255).astype(np.uint8))
    scene = sample_scene(frame)
    return sample_of(sample_decision(pick, "clean", frame, scene), frame, scene)


def test_nearly_the_same_is_told(ingest: Ingest, ledger: Ledger) -> None:
    first = packed(noisy(1, 0, 0), 1)
    again = packed(noisy(1, 1, 1), 2)
    later = packed(noisy(1, 1, 2), 3, at_s=1000.0 + NEAR_WITHIN_S + 5)
    elsewhere = packed(noisy(1, 1, 3), 4, station="belt-2")
    for _, blobs in (first, again, later, elsewhere):
        ingest.blobs(incoming(blobs))
    near = {row.seq: row.near_of for row in booked(ledger)}
    assert near == {1: None, 2: first[0], 3: None, 4: None}


def test_nearly_the_same_in_one_batch(ingest: Ingest, ledger: Ledger) -> None:
    first, again = packed(noisy(1, 0, 0), 1), packed(noisy(1, 1, 1), 2)
    ingest.blobs([*incoming(first[1]), *incoming(again[1])])
    assert {row.seq: row.near_of for row in booked(ledger)} == {1: None, 2: first[0]}


# Reports, and what others book with them


def test_reports_are_booked_by_their_handlers(ledger: Ledger, objects: FolderObjects) -> None:
    taken = []

    def handler(connection: Any, incoming: Incoming, now_s: float) -> None:
        if b"bad" in incoming.data:
            events.add_event(connection, now_s, "half", "")
            raise RobinError(Code.RECORD_INVALID, "no such metric")
        taken.append((incoming.robot, json.loads(incoming.data), now_s))

    ingest = Ingest(ledger, objects, {"metrics": handler}, Clock())
    reports = [Incoming("r1", blob_name(data, ".json"), "metrics", data) for data in (b'{"picks": 3}', b'{"bad": 1}')]
    assert [outcome.answer for outcome in ingest.blobs(reports)] == [Answer.STORED, Answer.QUARANTINED]
    assert ingest.blobs(reports)[0].answer is Answer.HAVE
    assert taken == [("r1", {"picks": 3}, 5000.0)]
    assert [event.kind for event in told(ledger)] == ["quarantined"]


# Disks and databases that fail


class BrokenFiles(Files):
    """A disk that fails at one kind of step."""

    def __init__(self) -> None:
        self.fails = ""

    def _try(self, step: str, path: Path) -> None:
        if step == self.fails:
            raise OSError(errno.EIO, "Input/output error", str(path))

    def write(self, path: Path, data: bytes) -> None:
        self._try("write", path)
        super().write(path, data)

    def sync(self, path: Path) -> None:
        self._try("sync", path)
        super().sync(path)

    def rename(self, path: Path, target: Path) -> None:
        self._try("rename", path)
        super().rename(path, target)

    def sync_folder(self, path: Path) -> None:
        self._try("sync_folder", path)
        super().sync_folder(path)


@pytest.mark.parametrize("step", ["write", "sync", "rename", "sync_folder"])
def test_a_disk_that_fails_books_nothing(ledger: Ledger, tmp_path: Path, step: str) -> None:
    files = BrokenFiles()
    ingest = Ingest(ledger, FolderObjects(tmp_path / "objects", files))
    batch = incoming(packed(tiny_sample(1))[1])
    files.fails = step
    with refused(Code.OBJECTS_UNREACHABLE):
        ingest.blobs(batch)
    assert booked(ledger) == [] and ingest.has(one.name for one in batch) == set()
    files.fails = ""
    assert [outcome.answer for outcome in ingest.blobs(batch)] == [Answer.STORED, Answer.STORED]


def test_a_full_disk_books_nothing(ledger: Ledger, tmp_path: Path) -> None:
    files = FullFiles(100)
    ingest = Ingest(ledger, FolderObjects(tmp_path / "objects", files))
    batch = incoming(packed(tiny_sample(1))[1])
    with refused(Code.DISK_FULL):
        ingest.blobs(batch)
    assert booked(ledger) == [] and not any((tmp_path / "objects/incoming").iterdir())
    files.room = 100_000
    assert [outcome.answer for outcome in ingest.blobs(batch)] == [Answer.STORED, Answer.STORED]


def test_an_object_that_is_gone_is_taken_again(ingest: Ingest, ledger: Ledger, objects: FolderObjects) -> None:
    batch = incoming(packed(tiny_sample(1))[1])
    ingest.blobs(batch)
    objects.remove(batch[0].name)
    assert ingest.has(one.name for one in batch) == {batch[1].name}
    assert ingest.blob(*batch[0]).answer is Answer.STORED
    assert objects.get(batch[0].name) == batch[0].data
    assert [event.kind for event in told(ledger)] == ["restored"]
    assert len(booked(ledger)) == 1
