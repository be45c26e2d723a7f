"""What the uplink has heard reaches the index, whatever is cut off where."""

from __future__ import annotations

from pathlib import Path

import apsw
import numpy as np
import pytest
from helpers.store_samples import SMALL, ForgetfulFiles, PowerCut, Steps, quick_folder, small_sample

from edge_adapt.store import uploads
from edge_adapt.store.acks import ACK_FILE, Ack, AckLog, AckReader, Word
from edge_adapt.store.store import SampleStore, StoreReader
from edge_adapt.store.verify import verify

NAMES = [f"{number:064x}.png" for number in range(8)]
STORED = [Ack(Word.STORED, name) for name in NAMES]


def blobs_of(store: StoreReader, seq: int) -> list[str]:
    return [name for sample in store.pending() if sample.seq == seq for name, _ in sample.blobs]


def test_the_writer_takes_over_what_the_uplink_heard(tmp_path: Path) -> None:
    folder = tmp_path / "store"
    with SampleStore(folder, SMALL) as store:
        for number in range(3):
            store.add(small_sample(number))
        log = AckLog(folder)
        log.add(Ack(Word.STORED, name) for name in blobs_of(store, 1))
        assert {p.seq for p in store.pending()} == {1, 2, 3}
        store.add(small_sample(3))
        assert {p.seq for p in store.pending()} == {2, 3, 4}
        assert uploads.unfolded(store.index.db, log) == []
        log.add(Ack(Word.STORED, name) for name in blobs_of(store, 2))
    with SampleStore(folder) as store:
        assert {p.seq for p in store.pending()} == {3, 4}


def test_what_the_fleet_lost_is_pending_again(tmp_path: Path) -> None:
    folder = tmp_path / "store"
    with SampleStore(folder, SMALL) as store:
        store.add(small_sample(0))
        names = blobs_of(store, 1)
        log = AckLog(folder)
        log.add([*(Ack(Word.STORED, name) for name in names), Ack(Word.CHECKED, names[-1])])
        store.evict_step()
        assert store.pending() == [] and store.unchecked(1e12) == []
        log.add([Ack(Word.GONE, names[0])])
        store.evict_step()
        assert blobs_of(store, 1) == names[:1]
        log.add([Ack(Word.STORED, names[0])])
        store.evict_step()
        assert [p.seq for p in store.unchecked(1e12)] == [1], "it is asked for once more"


def test_a_file_that_was_replaced_is_read_from_its_start(tmp_path: Path) -> None:
    log, reader = AckLog(tmp_path), AckReader(tmp_path)
    log.add(STORED[:3])
    assert reader.new() == STORED[:3] and reader.new() == []
    log.keep(STORED[2:3])
    log.add(STORED[3:5])
    assert reader.new() == STORED[2:5]
    reader.close()


def test_torn_lines_are_no_lines(tmp_path: Path) -> None:
    log, reader = AckLog(tmp_path), AckReader(tmp_path)
    log.add(STORED[:2])
    with (tmp_path / ACK_FILE).open("ab") as stream:
        stream.write(b"s ../../etc/passwd\nx y\n\0\0\0\0\ns 0123")
    assert reader.new() == STORED[:2]
    assert list(AckLog(tmp_path)) == STORED[:2]
    log = AckLog(tmp_path)
    log.add(STORED[2:3])
    assert reader.new() == STORED[2:3] and list(AckLog(tmp_path)) == STORED[:3]
    log.keep(STORED[:1])
    assert (tmp_path / ACK_FILE).read_bytes().count(b"\n") == 1
    reader.close()


def test_a_power_cut_at_every_step_keeps_what_add_returned_for() -> None:
    rng = np.random.default_rng(7)
    for at in range(40):
        with quick_folder() as folder:
            folder.mkdir()
            files, told = ForgetfulFiles(Steps(at)), list[Ack]()
            with pytest.raises(PowerCut):
                log = AckLog(folder, files)
                for ack in STORED * 9:
                    log.add([ack])
                    told.append(ack)
            files.power_cut(rng)
            assert set(told) <= set(AckLog(folder)), at


def test_an_index_of_the_version_before_is_brought_forward(tmp_path: Path) -> None:
    folder = tmp_path / "store"
    with SampleStore(folder, SMALL) as store:
        store.add(small_sample(0))
    db = apsw.Connection(str(folder / "index.sqlite"))
    db.execute("DROP INDEX samples_unchecked; ALTER TABLE samples DROP COLUMN checked_s; PRAGMA user_version = 1")
    db.close()
    with StoreReader(folder) as reader:
        assert len(reader.pending()) == 1 and reader.unchecked(1e12) == []
    with SampleStore(folder) as store:
        store.mark_stored(blobs_of(store, 1))
        assert len(store.unchecked(1e12)) == 1 and verify(store).whole
