"""Rounds beside another process, on a full disk, from a damaged store, under a clock that jumps: what ran goes on."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from helpers.full_disk import files_up_to
from helpers.stored_piles import fill

from edge_adapt.learn import see
from edge_adapt.learn.rounds import RoundsConfig, RoundsState, SeeRounds, split_rows
from edge_adapt.models.registry import ModelRegistry
from edge_adapt.store.store import StoreReader
from robin_perception.core.errors import Code, RobinError
from robin_perception.core.output import locked
from robin_perception.engines.testing.tiny_bundle import tiny_bundle


@pytest.fixture
def rounds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SeeRounds:
    """Of a store of four piles. No lesson begins: each fault comes before."""
    monkeypatch.setattr(see, "run_job", lambda *_: pytest.fail("a lesson began"))
    factory = tiny_bundle(tmp_path / "factory").directory
    fill(tmp_path / "store", 4)
    registry = ModelRegistry(tmp_path / "models", factory)
    return SeeRounds(tmp_path / "store", registry, tmp_path / "work", lambda: tmp_path, RoundsConfig(first_picks=8))


def refused(rounds: SeeRounds, tmp_path: Path, code: Code) -> None:
    with pytest.raises(RobinError) as caught:
        rounds.step(lambda *_: None)
    assert caught.value.code is code, caught.value
    assert rounds.state() == RoundsState(), "the round is due again"
    assert ModelRegistry(tmp_path / "models", tmp_path / "factory").load().version == 0
    assert not list((tmp_path / "work").glob("round-*/.*")), "nothing half"


def test_two_processes_do_not_teach_the_same_robot(rounds: SeeRounds, tmp_path: Path) -> None:
    with locked(tmp_path / "work"):
        refused(rounds, tmp_path, Code.OPTION_INVALID)


def test_a_full_disk_leaves_no_part_of_a_lesson(rounds: SeeRounds, tmp_path: Path) -> None:
    with files_up_to(40_000):  # less than a picture, and what a reader of the store needs
        refused(rounds, tmp_path, Code.DISK_FULL)
    assert list((tmp_path / "work" / "round-0001").iterdir()) == []


def test_a_damaged_blob_is_told(rounds: SeeRounds, tmp_path: Path) -> None:
    blobs = [path for path in (tmp_path / "store").rglob("*") if path.is_file() and path.stat().st_size > 10_000]
    for path in blobs:
        if path.suffix != ".sqlite" and "index" not in path.name:
            data = bytearray(path.read_bytes())
            data[len(data) // 2] ^= 1
            path.write_bytes(data)
    refused(rounds, tmp_path, Code.STORE_BLOB_DAMAGED)


def test_a_clock_that_jumps_orders_no_lesson(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    splits = []
    for name, jumps in (("steady", [1e9 + k for k in range(4000)]), ("jumping", [2e9, 0.0, 1e10, 5.0] * 1000)):
        clock = iter(jumps)
        monkeypatch.setattr(time, "time", lambda clock=clock: next(clock))
        fill(tmp_path / name, 6)
        with StoreReader(tmp_path / name) as reader:
            splits.append([[row.decision for row in part] for part in split_rows(list(reader.samples()))])
    assert splits[0] == splits[1] and all(splits[0])
