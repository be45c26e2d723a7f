"""What a robot should not send: quarantine tells the reason, and nothing of it costs more than a look."""

from __future__ import annotations

import io
import json
import struct
import zlib
from typing import Any

import numpy as np
import pytest
import zstandard
from helpers.fleet_ingest import booked, refused, told
from helpers.fleet_samples import incoming, packed, tiny_sample, whole_sample

from edge_adapt.recording import png_bytes
from edge_adapt.store.blobs import blob_name
from edge_adapt.store.runs import decode_labels
from robin_fleet.ingest.ingest import Answer, Ingest
from robin_fleet.ledger import events
from robin_fleet.ledger.core import Ledger
from robin_fleet.objects.own_folder import FolderObjects
from robin_perception.core.errors import Code


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
    "a format that never was": {"format": 0},
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
