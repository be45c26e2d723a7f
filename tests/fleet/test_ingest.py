"""What comes in from robots: booked once, or in quarantine with its reason, and never half of it."""

from __future__ import annotations

import errno
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.fleet_ingest import Clock, booked, refused, told
from helpers.fleet_samples import incoming, packed, tiny_sample, whole_sample
from helpers.store_samples import FullFiles

from edge_adapt.store.blobs import Files, blob_name
from robin_fleet.ingest.ingest import WAIT_S, Answer, Incoming, Ingest
from robin_fleet.ingest.looks import NEAR_WITHIN_S
from robin_fleet.ledger import events, robots, samples
from robin_fleet.ledger.core import Ledger
from robin_fleet.objects.own_folder import FolderObjects
from robin_perception.core.errors import Code, RobinError


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


def test_a_record_of_newer_software_is_booked_or_says_what_to_do(ingest: Ingest, ledger: Ledger) -> None:
    blobs = packed(tiny_sample(1))[1]
    _, record = blobs.popitem()
    ingest.blobs([Incoming("r1", file, "file", data) for file, data in blobs.items()])
    major, minor = (
        json.dumps({**json.loads(record), **more}).encode() for more in ({"format": 2}, {"weather": "rain"})
    )
    outcome = ingest.blob("r1", blob_name(major, ".json"), "record", major)
    assert (outcome.answer, outcome.code) == (Answer.QUARANTINED, Code.FORMAT_NEWER) and booked(ledger) == []
    assert ingest.blob("r1", blob_name(minor, ".json"), "record", minor).answer is Answer.STORED
    assert [row.sample for row in booked(ledger)] == [blob_name(minor, ".json")]


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
