"""What is put into a store comes out again, within a budget, by fair chance."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers.decision_samples import RESULTS, sample_decision, sample_frame, sample_outcome, sample_scene
from helpers.store_samples import SMALL, index_of, kept_ids, quick_folder, small_sample
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_adapt.decision_store import read_decisions
from edge_adapt.recording import png_bytes
from edge_adapt.store.acks import Ack, AckLog, Word
from edge_adapt.store.config import StoreConfig
from edge_adapt.store.export import Exported, export
from edge_adapt.store.reservoir import block_after, draw, split
from edge_adapt.store.runs import decode_labels, encode_labels
from edge_adapt.store.sample import AFTER, Features, StoredSample, sample_of
from edge_adapt.store.store import SampleStore, StoreReader
from edge_adapt.store.verify import verify
from robin_perception.core.config import parse_config
from robin_perception.core.errors import Code, RobinError
from robin_perception.core.frame import depth_units

RECORDS = Path(__file__).parents[1] / "data/records"


@pytest.fixture
def folder() -> Iterator[Path]:
    with quick_folder() as path:
        yield path


def refused(code: Code) -> pytest.RaisesExc[RobinError]:
    return pytest.RaisesExc(RobinError, check=lambda exc: exc.code is code)


def only(store: StoreReader) -> StoredSample:
    (row,) = store.samples()
    return store.read(row)


def test_a_pick_is_read_back_as_it_was(folder: Path) -> None:
    rng = np.random.default_rng(140810)
    frame, after = sample_frame(rng), sample_frame(rng)
    scene = sample_scene(frame)
    decision = sample_decision(1, "miss", frame, scene)
    features = Features(rng.random((4, 3, 5), dtype=np.float32), "t" * 64)
    pictures = {"help_1.jpg": b"jpg"}
    sample = sample_of(decision, frame, scene, after, sample_outcome("miss"), features=features, pictures=pictures)
    with SampleStore(folder, StoreConfig(least_free_mb=0, station="west")) as store:
        assert store.add(sample).kept
    with StoreReader(folder) as reader:
        stored = only(reader)
        assert stored.decision() == decision
        assert stored.record.station == "west"
        assert np.array_equal(stored.frame().rgb, frame.rgb)
        assert np.array_equal(stored.frame(AFTER).rgb, after.rgb)
        assert np.array_equal(stored.depth_units(), depth_units(frame.depth, 1e-4))
        assert np.array_equal(stored.frame().K, frame.K)
        assert stored.frame().stamp_s == frame.stamp_s
        assert np.array_equal(stored.labels(), scene.labels)
        assert np.array_equal(stored.features("t" * 64), features.values.astype(np.float16))
        assert stored.file("help_1.jpg") == b"jpg"
        with refused(Code.RECORD_INVALID):
            stored.features("u" * 64)
        with refused(Code.INPUT_MISSING):
            stored.file("load.png")


def test_a_sample_with_a_look_from_above_is_read_and_exported(folder: Path, tmp_path: Path) -> None:
    (record,) = read_decisions(RECORDS / "version_5.jsonl").decisions
    frame = sample_frame(np.random.default_rng(2))
    sample = sample_of(record, frame, sample_scene(frame), pictures={"load_above.png": png_bytes(frame.rgb)})
    with SampleStore(folder, StoreConfig(least_free_mb=0)) as store:
        store.add(replace(sample, decision=(RECORDS / "version_5.jsonl").read_text()))
    with StoreReader(folder) as reader:
        assert "load_above" in only(reader).record.decision["outcome"] and only(reader).decision() == record
        assert np.array_equal(only(reader).colour("load_above"), frame.rgb)
        assert export(reader, tmp_path / "out", "folders") == Exported(1, 0)


def test_the_frame_after_one_pick_is_kept_once_with_the_frame_before_the_next(folder: Path) -> None:
    rng = np.random.default_rng(5)
    frames = [sample_frame(rng) for _ in range(3)]
    with SampleStore(folder, StoreConfig(least_free_mb=0)) as store:
        for pick in range(2):
            scene = sample_scene(frames[pick])
            decision = sample_decision(pick, "clean", frames[pick], scene)
            store.add(sample_of(decision, frames[pick], scene, frames[pick + 1]))
        pictures = [name for name, _ in store.index.blobs() if name.endswith(".png")]
        assert len(pictures) == 3
        assert store.state.bytes == sum(size for _, size in store.index.blobs())


def test_strata_are_goods_results_and_novelty(folder: Path) -> None:
    rng = np.random.default_rng(6)
    with SampleStore(folder, StoreConfig(least_free_mb=0, core_per_stratum=0)) as store:
        for pick, result in enumerate(RESULTS):
            frame = sample_frame(rng)
            scene = sample_scene(frame)
            store.add(sample_of(sample_decision(pick, result, frame, scene), frame, scene))
        store.add(small_sample(9, name="novel-01", result="miss", novel=True))
        found = {(row.share, row.name, row.result) for row in store.strata()}
    goods = "flat_mailer"
    assert found == {
        ("balanced", goods, "clean"),
        ("failure", goods, "miss"),
        ("failure", "none", "infeasible"),
        ("failure", goods, "multi"),
        ("novelty", "novel-01", "miss"),
    }


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 2**32 - 1), st.integers(1, 6))
def test_labels_survive_their_run_lengths(height: int, width: int, seed: int, most: int) -> None:
    rng = np.random.default_rng(seed)
    labels = np.repeat(rng.integers(0, most, (height, 1 + width // 3)), 3, axis=1)[:, :width].astype(np.uint16) * 9000
    assert np.array_equal(decode_labels(*labels.shape, encode_labels(labels)), labels)


def test_run_lengths_are_those_of_coco() -> None:
    """The texts are what pycocotools 2.0 writes for these masks."""
    labels = np.zeros((5, 7), np.uint16)
    labels[1:4, 2:5], labels[3:, 4:], labels[0, 0] = 1, 2, 3
    assert encode_labels(labels) == {1: ";3200O:", 2: "g023000", 3: "01R1"}
    wide = np.zeros((720, 1280), np.uint16)
    wide[0, 0], wide[719, 1279], wide[:, 1000] = 2, 3, 40000
    assert encode_labels(wide) == {2: "01ooSl0", 3: "ooSl01", 40000: "PToe0`f0`UT6"}


@pytest.mark.parametrize("text", ["", "\x00", "o", "ooSl01" * 3, "é", "ooooooooooo0", "O:"])
def test_runs_that_fit_no_picture_are_refused(text: str) -> None:
    with refused(Code.RECORD_INVALID):
        decode_labels(5, 7, {1: text})


def test_the_budget_holds_and_every_stratum_has_its_part(folder: Path) -> None:
    config = SMALL.model_copy(update={"budget_mb": 0.2})
    with SampleStore(folder, config, seed=3) as store:
        for number in range(400):
            goods = "carton" if number % 10 else "tube"
            store.add(small_sample(number, name=goods, result="miss" if number % 8 == 0 else "clean"))
            assert store.state.bytes <= config.budget_bytes
        kept = {(r.share, r.name): r.kept for r in store.strata() if r.result == "clean" and r.share == "balanced"}
        assert abs(kept["balanced", "carton"] - kept["balanced", "tube"]) <= 1  # ten times as many were offered
        shares = Counter({share: size / config.budget_bytes for share, size in store.index.share_bytes().items()})
        assert shares["core"] <= config.core
        assert shares["failure"] > 0.3 and shares["balanced"] > 0.4  # what novelties do not need, the others use
        assert verify(store).whole
        assert sum(row.seen for row in store.strata()) == store.state.offered == 400


def test_what_is_kept_is_what_drew_least(folder: Path) -> None:
    with SampleStore(folder, SMALL, seed=11) as store:
        receipts = [store.add(small_sample(number)) for number in range(200)]
        (row,) = [row for row in store.strata() if row.share == "balanced"]
        drew = [(receipt.figure, receipt.seq) for receipt in receipts if receipt.stratum.share == "balanced"]
        least = sorted(seq for _, seq in sorted(drew)[: row.kept])
        assert [s.seq for s in store.samples() if s.stratum == row.id] == least
        assert row.seen == len(drew)


def test_the_core_is_never_removed(folder: Path) -> None:
    config = SMALL.model_copy(update={"budget_mb": 0.1})
    with SampleStore(folder, config, seed=11) as store:
        receipts = [store.add(small_sample(number)) for number in range(200)]
        core = [r.seq for r in receipts if r.stratum.share == "core"]
        assert len(core) == SMALL.core_per_stratum
        assert set(core) <= {row.seq for row in store.samples()}
    with SampleStore(folder, SMALL.model_copy(update={"budget_mb": 0.001})) as store:
        while store.evict_step() is not None:
            pass
        assert [row.seq for row in store.samples()] == core
        with refused(Code.STORE_FULL):
            store.add(small_sample(1000, name="tube"))
        assert [row.seq for row in store.samples()] == core


def test_one_step_removes_one_sample_and_a_full_disk_asks_for_it(folder: Path) -> None:
    free = [10**9]
    config = StoreConfig(least_free_mb=100, core_per_stratum=0)
    with SampleStore(folder, config, free_bytes=lambda: free[0]) as store:
        for number in range(5):
            store.add(small_sample(number))
        assert store.evict_step() is None
        free[0] = 10**7
        removed = [store.evict_step(), store.evict_step()]
        assert len({*removed, None}) == 3 and len(store) == 3
        assert len(list(store.blobs.names())) == store.index.db.execute("SELECT COUNT(*) FROM blobs").get
        free[0] = 10**9
        assert store.evict_step() is None
    with SampleStore(folder, config, free_bytes=lambda: 0) as store, refused(Code.STORE_FULL):
        for number in range(100, 110):
            store.add(small_sample(number, name=f"goods-{number}"))


def test_what_goes_before_it_was_uploaded_is_counted(folder: Path) -> None:
    now = [1_000_000.0]
    config = SMALL.model_copy(update={"core_per_stratum": 0, "grace_h": 1.0})
    with SampleStore(folder, config, clock=lambda: now[0], seed=1) as store:
        for number in range(4):
            store.add(small_sample(number, result="miss"))
        pending = store.pending()
        assert [p.seq for p in pending] == [1, 2, 3, 4]
        stored = [name for p in pending[:2] for name, _ in p.blobs]
        assert store.mark_stored(stored[:2]) == 0  # the record lacks
        assert store.mark_stored(stored) == 2
        assert [p.seq for p in store.pending()] == [3, 4]
        assert store.index.pending_counts() == {"failure": 2}
        assert store.unchecked(now[0] + 3599) == []
        assert [p.seq for p in store.unchecked(now[0] + 3600)] == [1, 2]
        assert [p.seq for p in store.unchecked(now[0] - 1)] == [1, 2], "the clock was set back"
    checked = pending[0].blobs[-1][0]
    AckLog(folder).add([Ack(Word.CHECKED, checked)])
    within = config.model_copy(update={"budget_mb": 0.0005})
    with SampleStore(folder, within, clock=lambda: now[0]) as store:
        gone = [store.evict_step() for _ in range(4)]
        assert sum(row.lost for row in store.strata()) == sum(seq in (2, 3, 4) for seq in gone) < 4


def test_novelties_are_offered_first_and_records_last(folder: Path) -> None:
    with SampleStore(folder, StoreConfig(least_free_mb=0, core_per_stratum=0)) as store:
        for number, (result, novel) in enumerate([("clean", False), ("miss", False), ("clean", True)]):
            store.add(small_sample(number, result=result, novel=novel))
        pending = store.pending()
        assert [p.share for p in pending] == ["novelty", "failure", "balanced"]
        assert all(p.blobs[-1][0].endswith(".json") and len(p.blobs) == 3 for p in pending)
        assert [p.seq for p in store.pending(2)] == [3, 2]


def test_a_clock_that_jumps_orders_nothing(folder: Path) -> None:
    now = [1_000_000.0]
    config = StoreConfig(least_free_mb=0, core_per_stratum=0, block_h=1.0)
    with SampleStore(folder, config, clock=lambda: now[0]) as store:
        blocks = []
        for number, at_s in enumerate([0, 10, -500_000, -499_000, -490_000, 9e9, 0, 10]):
            now[0] = 1_000_000.0 + at_s
            blocks.append(store.add(small_sample(number)).stratum.block)
        assert [row.seq for row in store.samples()] == list(range(1, 9))
    assert blocks == sorted(blocks) == [0, 0, 0, 0, 1, 2, 2, 2]
    assert block_after(4, 100.0, 50.0, 10.0) == (4, 50.0)


def test_draws_are_uniform_and_the_same_for_a_seed() -> None:
    figures = np.array([draw(7, n) for n in range(20_000)])
    counts = np.histogram(figures, bins=20, range=(0, 1))[0]
    assert ((counts - 1000.0) ** 2 / 1000.0).sum() < 45  # chi-square, 19 degrees of freedom, p = .0007
    assert draw(7, 3) == figures[3] and draw(8, 3) != figures[3]
    assert abs(np.corrcoef(figures[:-1], figures[1:])[0, 1]) < 0.03


def test_what_the_core_leaves_is_drawn_like_what_comes_when_it_is_full() -> None:
    drawn = [split(draw(7, n), 0.1) for n in range(40_000)]
    for hit, share in ((True, 0.1), (False, 0.9)):
        figures = [figure for was_hit, figure in drawn if was_hit is hit]
        assert abs(len(figures) / len(drawn) - share) < 0.01
        counts = np.histogram(figures, bins=20, range=(0, 1))[0]
        expected = len(figures) / 20
        assert ((counts - expected) ** 2 / expected).sum() < 45
    assert split(np.nextafter(0.1, 0), 0.1)[1] < 1 > split(np.nextafter(1, 0), 0.1)[1]


def test_a_core_that_fills_up_leaves_the_others_a_fair_sample(folder: Path) -> None:
    """Half of the picks come while the core takes some of them, half when it is full."""
    config = SMALL.model_copy(update={"core": 0.3, "balanced": 0.2, "core_per_stratum": 60, "budget_mb": 0.25})
    late = 0
    for seed in range(8):
        with SampleStore(folder.with_name(f"store{seed}"), config, seed=seed) as store:
            plain = [store.add(small_sample(n, 900)) for n in range(400)]
            core = {row.id for row in store.strata() if row.share == "core"}
            kept = [row.seq for row in store.samples() if row.stratum not in core]
            offered = [receipt.seq for receipt in plain if receipt.stratum.share != "core"]
            middle = offered[len(offered) // 2]
            late += sum(seq > middle for seq in kept) - sum(seq < middle for seq in kept)
            count = len(kept)
    assert count > 60
    assert abs(late) < 4 * np.sqrt(8 * count)


def test_a_second_writer_is_refused_and_readers_are_not(folder: Path) -> None:
    with SampleStore(folder, SMALL) as store:
        store.add(small_sample(1))
        with refused(Code.STORE_BUSY):
            SampleStore(folder)
        with StoreReader(folder) as reader:
            assert len(reader) == 1
            store.add(small_sample(2))
            assert len(reader) == 2
    with SampleStore(folder) as again:
        assert again.config == SMALL
        assert kept_ids(again) == ["d000001", "d000002"]


def test_settings_that_do_not_add_up_are_refused() -> None:
    with refused(Code.CONFIG_OUT_OF_RANGE):
        parse_config(StoreConfig, {"balanced": 0.5}, "store")


def test_an_old_sqlite_is_refused(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    monkeypatch.setattr("apsw.sqlite_lib_version", lambda: "3.51.2")
    with refused(Code.STORE_SQLITE_OLD):
        SampleStore(folder)
    monkeypatch.undo()
    with SampleStore(folder):
        pass
    with index_of(folder).db as db:
        assert db.execute("PRAGMA journal_mode").get == "wal"
        assert db.execute("PRAGMA synchronous").get == 2


def test_a_store_is_opened_without_what_it_does_not_need() -> None:
    heavy = ("torch", "scipy", "cv2", "mujoco", "onnxruntime")
    code = f"import sys, edge_adapt.store.verify\nprint([m for m in {heavy!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
