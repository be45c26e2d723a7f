"""What can happen to a store's disk: a number, one line, and nothing half-kept."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import apsw
import numpy as np
import pytest
from helpers.store_samples import SMALL, FullFiles, kept_ids, quick_folder, small_sample

from edge_adapt.store.sample import Sample
from edge_adapt.store.store import SampleStore, StoreReader
from edge_adapt.store.verify import StoreReport, repair, verify
from edge_adapt.store.writer import StoreWriter
from robin_perception.core.errors import Code, RobinError

ROOMY = SMALL.model_copy(update={"budget_mb": 1.0})


@pytest.fixture
def folder() -> Iterator[Path]:
    with quick_folder() as path:
        yield path


def refused(code: Code) -> pytest.RaisesExc[RobinError]:
    return pytest.RaisesExc(RobinError, check=lambda exc: exc.code is code)


def filled(folder: Path, count: int = 5, **more: object) -> list[str]:
    """A store of ``count`` samples; the names of their first pictures."""
    with SampleStore(folder, ROOMY, seed=1) as store:
        for number in range(count):
            store.add(small_sample(number))
        return [store.read(row).record.files["color.png"][0] for row in store.samples()]


def blob(folder: Path, name: str) -> Path:
    return folder / "blobs" / name[:2] / name[2:4] / name


def verified(folder: Path) -> StoreReport:
    with StoreReader(folder) as store:
        return verify(store)


def read_first(folder: Path) -> bytes:
    with StoreReader(folder) as store:
        return store.read(next(store.samples())).file("color.png")


@pytest.mark.parametrize("harm", ["torn", "flipped", "empty"])
def test_a_damaged_blob_is_found_and_put_aside(folder: Path, harm: str) -> None:
    path = blob(folder, filled(folder)[0])
    data = bytearray(path.read_bytes())
    data[7] ^= 1
    path.write_bytes({"torn": bytes(data[:100]), "flipped": bytes(data), "empty": b""}[harm])
    with refused(Code.STORE_BLOB_DAMAGED):
        read_first(folder)
    assert verified(folder).damaged == [path.name]
    assert verified(folder).samples == 5  # nothing changes unless asked for
    report = repair(folder)
    assert (report.removed, report.samples) == (1, 5)
    assert (folder / "quarantine" / path.name).exists() and not path.exists()
    after = verified(folder)
    assert after.whole and after.samples == 4 and after.orphans == 0


def test_a_missing_blob_is_found_and_its_sample_taken_out(folder: Path) -> None:
    path = blob(folder, filled(folder)[0])
    path.unlink()
    with refused(Code.STORE_BLOB_MISSING):
        read_first(folder)
    assert verified(folder).missing == [path.name]
    repair(folder)
    assert verified(folder).whole and verified(folder).samples == 4


def test_a_damaged_blob_that_two_samples_use_takes_both(folder: Path) -> None:
    shared = b"the same belt" * 50
    with SampleStore(folder, ROOMY) as store:
        for number in range(2):
            store.add(
                Sample(f"d{number}", f'{{"decision_id": "d{number}"}}', "a", "clean", files={"color.png": shared})
            )
        store.add(small_sample(7))
        name = store.read(next(store.samples())).record.files["color.png"][0]
    blob(folder, name).write_bytes(b"")
    assert repair(folder).removed == 2
    with SampleStore(folder) as store:
        assert kept_ids(store) == ["d000007"]


def test_what_a_crash_left_behind_is_collected(folder: Path) -> None:
    filled(folder)
    orphan = "ab" + "0" * 62 + ".png"
    blob(folder, orphan).parent.mkdir(parents=True, exist_ok=True)
    blob(folder, orphan).write_bytes(b"x" * 10)
    (folder / "incoming" / "half").write_bytes(b"y")
    report = verified(folder)
    assert (report.orphans, report.orphan_bytes, report.whole) == (1, 10, True)
    repair(folder)
    assert not blob(folder, orphan).exists() and not (folder / "incoming" / "half").exists()
    assert verified(folder).samples == 5


@pytest.mark.parametrize("harm", ["noise", "gone", "older", "newer", "empty"])
def test_a_lost_index_is_made_anew_from_the_records(folder: Path, harm: str) -> None:
    with SampleStore(folder, SMALL, seed=5) as store:
        for number in range(60):
            store.add(small_sample(number, name=("carton", "tube")[number % 2]))
        ids, strata, offered = kept_ids(store), store.strata(), store.state.offered
        latest = max(row.seq for row in store.samples())
    index = folder / "index.sqlite"
    if harm in ("noise", "empty"):
        index.write_bytes(np.random.default_rng(1).bytes(20_000) if harm == "noise" else b"")
    elif harm == "gone":
        index.unlink()
    else:
        connection = apsw.Connection(str(index))
        connection.execute(f"PRAGMA user_version = {0 if harm == 'older' else 99}")
        connection.close()
    code = Code.STORE_VERSION if harm in ("older", "newer") else Code.STORE_INDEX_DAMAGED
    with refused(code):
        SampleStore(folder)
    with refused(Code.STORE_MISSING if harm == "gone" else code):
        StoreReader(folder)
    report = repair(folder)
    assert report.rebuilt == len(ids) and report.whole and report.incomplete == 0
    with SampleStore(folder, SMALL) as store:
        assert kept_ids(store) == ids
        assert store.state.offered == latest <= offered
        again = {row[1:5]: row for row in store.strata()}
        assert {key: row.kept for key, row in again.items()} == {row[1:5]: row.kept for row in strata if row.kept}
        for row in strata:  # counters as they stood at the newest sample
            if row.kept:
                assert row.kept <= again[row[1:5]].seen <= row.seen
                assert row.threshold <= again[row[1:5]].threshold <= 1
        assert store.add(small_sample(999)).seq == latest + 1
        assert verify(store).whole


def test_pages_of_the_index_that_are_damaged_are_found(folder: Path) -> None:
    filled(folder, 40)
    index = folder / "index.sqlite"
    data = bytearray(index.read_bytes())
    for page in range(2, len(data) // 4096):
        data[page * 4096 : page * 4096 + 64] = b"\xff" * 64
    index.write_bytes(bytes(data))
    with refused(Code.STORE_INDEX_DAMAGED), SampleStore(folder) as store:
        for number in range(100, 140):
            store.add(small_sample(number))
    assert repair(folder).rebuilt == 40
    assert verified(folder).whole


def test_a_record_that_lacks_a_blob_is_no_sample_again(folder: Path) -> None:
    names = filled(folder)
    (folder / "index.sqlite").unlink()
    blob(folder, names[2]).unlink()
    report = repair(folder)
    assert (report.rebuilt, report.incomplete) == (4, 1)
    assert verified(folder).whole and verified(folder).orphans == 0


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with refused(Code.OPTION_INVALID):
        SampleStore(tmp_path)
    with refused(Code.STORE_MISSING):
        StoreReader(tmp_path)
    with refused(Code.STORE_MISSING):
        repair(tmp_path)
    with refused(Code.STORE_MISSING):
        repair(tmp_path / "nowhere")
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_full_disk_refuses_one_sample_and_not_the_next(folder: Path) -> None:
    files = FullFiles(10_000)
    with SampleStore(folder, ROOMY, files=files) as store:
        store.add(small_sample(1))
        with refused(Code.DISK_FULL):
            store.add(small_sample(2, 20_000))
        assert not any((folder / "incoming").iterdir())
        files.room = 10_000
        assert store.add(small_sample(3)).seq == 2  # the draw is not spent
        assert kept_ids(store) == ["d000001", "d000003"]
        report = verify(store)
        assert report.whole and report.orphans == 0


FULL_SCRIPT = """
import subprocess, sys, json
sys.path[:0] = json.loads(sys.argv[2])
from helpers.store_samples import SMALL, small_sample
from edge_adapt.store.store import SampleStore
from edge_adapt.store.verify import verify
from robin_perception.core.errors import RobinError
from pathlib import Path
place = Path(sys.argv[1])
subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "none", str(place)], check=True)
codes, acknowledged = [], []
with SampleStore(place / "store", SMALL.model_copy(update={"budget_mb": 100, "core_per_stratum": 0})) as store:
    for number in range(60):
        try:
            acknowledged.append(store.add(small_sample(number, 100_000, name=f"goods-{number}")).seq)
        except RobinError as exc:
            codes.append(int(exc.code))
    there = [row.seq for row in store.samples()]
    report = verify(store)
with SampleStore(place / "store", SMALL.model_copy(update={"budget_mb": 1.5, "core_per_stratum": 0})) as store:
    while store.evict_step() is not None:
        pass
    again = store.add(small_sample(999, name="again")).kept
print(json.dumps([codes, set(there) <= set(acknowledged), report.whole, report.orphans, again]))
"""


def test_a_disk_that_is_really_full(tmp_path: Path) -> None:
    """A file system of 3 MB in memory."""
    command = [
        "unshare",
        "-m",
        "--propagation",
        "private",
        sys.executable,
        "-c",
        FULL_SCRIPT,
        str(tmp_path),
        json.dumps(sys.path),
    ]
    try:
        probe = subprocess.run(["unshare", "-m", "mount", "-t", "tmpfs", "none", str(tmp_path)], capture_output=True)
    except FileNotFoundError:
        pytest.skip("unshare is not installed")
    if probe.returncode:
        pytest.skip("no file system can be mounted here")
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    codes, acknowledged, whole, orphans, again = json.loads(done.stdout)
    assert set(codes) == {int(Code.DISK_FULL)}
    assert (acknowledged, whole, again, orphans) == (True, True, True, 0)


def test_a_failing_sync_acknowledges_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    filled(folder, 1)
    with SampleStore(folder) as store:
        monkeypatch.setattr("os.fsync", lambda _: (_ for _ in ()).throw(OSError(5, "Input/output error")))
        with pytest.raises(RobinError):
            store.add(small_sample(9))
        monkeypatch.undo()
        assert kept_ids(store) == ["d000000"]
        assert verify(store).whole


def test_the_writer_drops_what_it_cannot_take_and_goes_on(folder: Path) -> None:
    files = FullFiles(8_000)
    writer = StoreWriter(SampleStore(folder, ROOMY, files=files), queue_limit=2)
    told = []
    for number in range(4):
        assert writer.put(lambda number=number: small_sample(number), told.append, wait=True)
    state = writer.close()
    assert state.offered == 4 and state.written == len(told) == 2
    assert state.dropped == 2 and state.failure is not None and state.failure.code is Code.DISK_FULL
    assert not writer.put(lambda: small_sample(9))
    with SampleStore(folder) as store:
        assert [receipt.seq for receipt in told] == [row.seq for row in store.samples()]


def test_a_full_queue_drops_the_newest_without_a_wait(folder: Path) -> None:
    import threading

    busy, go_on = threading.Event(), threading.Event()

    def slow() -> Sample:
        busy.set()
        go_on.wait(30)
        return small_sample(0)

    writer = StoreWriter(SampleStore(folder, ROOMY), queue_limit=2)
    writer.put(slow)
    busy.wait(30)
    assert [writer.put(lambda n=n: small_sample(n)) for n in (1, 2, 3, 4)] == [True, True, False, False]
    go_on.set()
    assert writer.close().dropped == 2
    with SampleStore(folder) as store:
        assert kept_ids(store) == ["d000000", "d000001", "d000002"]
