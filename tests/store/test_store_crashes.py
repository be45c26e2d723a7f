"""Nothing that was acknowledged is lost, nothing is torn, and no crash bends the sample."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from helpers.store_samples import (
    SMALL,
    ForgetfulFiles,
    NoFiles,
    PowerCut,
    Steps,
    counted_index,
    kept_ids,
    quick_folder,
    small_sample,
)

from edge_adapt.store.config import StoreConfig
from edge_adapt.store.sample import Sample
from edge_adapt.store.store import Receipt, SampleStore
from edge_adapt.store.verify import remove_orphans, verify
from robin_cli.bench.cut_disk import cuts_unavailable
from robin_cli.bench.store_crash import CrashCounts, crash_rounds

TIGHT = SMALL.model_copy(update={"budget_mb": 0.012, "core_per_stratum": 1})
SCRIPT = [small_sample(number, result=("clean", "miss")[number % 3 == 2]) for number in range(7)]


def noon() -> float:
    """A record's time is part of its size, and so of what there is room for."""
    return 1_800_000_000.25


def write_from(start: int, folder: Path, files: ForgetfulFiles, acknowledged: list[Receipt]) -> None:
    store = SampleStore(folder, TIGHT, seed=21, clock=noon, files=files)
    try:
        counted_index(store, files.steps)
        for sample in SCRIPT[start:]:
            acknowledged.append(store.add(sample))
    finally:
        store.close()


def looked_at(folder: Path, acknowledged: list[Receipt]) -> int:
    """How many offers the store has counted, after a look at all of it."""
    with SampleStore(folder, TIGHT, seed=21) as store:
        report = verify(store)
        assert report.whole, report
        limits = {row[1:5]: row.threshold for row in store.strata()}
        there = {row.seq for row in store.samples()}
        assert [r for r in acknowledged if r.kept and r.seq not in there and r.figure < limits[r.stratum]] == []
        assert len(acknowledged) <= store.state.offered <= len(acknowledged) + 1
        remove_orphans(store)
        return store.state.offered


def test_a_power_cut_before_every_single_step() -> None:
    """In process, on a disk that forgets; what SQLite itself does is left to the real cuts below."""
    with quick_folder() as folder:
        quiet = ForgetfulFiles(Steps())
        write_from(0, folder, quiet, [])
        with SampleStore(folder) as store:
            expected = kept_ids(store)
    assert quiet.steps.taken > 100
    rng = np.random.default_rng(140811)
    for at in range(quiet.steps.taken):
        with quick_folder() as folder:
            files, acknowledged = ForgetfulFiles(Steps(at)), list[Receipt]()
            with pytest.raises(PowerCut):
                write_from(0, folder, files, acknowledged)
            files.power_cut(rng)
            offered = looked_at(folder, acknowledged)
            write_from(offered, folder, ForgetfulFiles(Steps()), [])
            with SampleStore(folder) as store:
                assert kept_ids(store) == expected, at


def test_the_steps_are_told_apart_from_a_store_that_does_not_sync() -> None:
    """The check above can fail: without syncs it finds blobs that are torn."""
    harmed = 0
    for seed in range(5):
        with quick_folder() as folder:
            files = ForgetfulFiles(Steps())
            files.sync = lambda path: None  # type: ignore[method-assign]
            with SampleStore(folder, SMALL, files=files) as store:
                store.add(SCRIPT[0])
            files.power_cut(np.random.default_rng(seed))
            with SampleStore(folder) as store:
                harmed += not verify(store).whole
    assert harmed > 0


INSERTS = 100_000
MANY = StoreConfig(budget_mb=0.06, least_free_mb=0, core_per_stratum=0, block_h=8760)  # a core takes what comes first
TINY = {"color.png": b"\0" * 40}


def tiny(number: int) -> Sample:
    name, result = ("carton", "carton", "tube")[number % 3], ("clean", "clean", "clean", "miss")[number % 4]
    return Sample(f"d{number}", f'{{"decision_id": "d{number}"}}', name, result, number % 50 == 0, files=TINY)


def inserted(crash_odds: float, *, again: bool, count: int) -> tuple[list[int], int]:
    """Numbers of the samples that are kept of ``count``, offered in order, and how many crashes there were. again:
    what was not acknowledged is offered again; else it is lost."""
    rng, steps, crashes = np.random.default_rng(140812), Steps(), 0
    with quick_folder() as folder:
        number = 0
        while number < count:
            store = SampleStore(folder, MANY, seed=77, clock=noon, files=NoFiles(steps))
            counted_index(store, steps)
            steps.cut_at = steps.taken + int(rng.geometric(crash_odds)) if crash_odds else None
            try:
                while number < count:
                    before = store.state.offered
                    store.add(tiny(number))
                    number += 1
            except PowerCut:
                crashes += 1
            finally:
                steps.cut_at = None
                store.close()
            with SampleStore(folder, files=NoFiles(steps)) as opened:
                committed = opened.state.offered > before
            if number < count and (committed or not again):
                number += 1
        with SampleStore(folder, files=NoFiles(steps)) as store:
            return [int(decision[1:]) for decision in kept_ids(store)], crashes


def uniform(numbers: list[int], count: int) -> float:
    """Chi-square of ten equal parts of the order in which they came; 9 degrees of freedom."""
    found = np.histogram(numbers, bins=10, range=(0, count))[0]
    return float(((found - found.mean()) ** 2 / found.mean()).sum())


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_crashes_do_not_bend_the_sample() -> None:
    quiet, _ = inserted(0.0, again=True, count=INSERTS)
    crashed, crashes = inserted(0.003, again=True, count=INSERTS)
    assert crashes > 300
    assert crashed == quiet
    few = INSERTS // 4
    lossy, _ = inserted(0.02, again=False, count=few)
    for kept, count in ((quiet, INSERTS), (lossy, few)):
        plain = [n for n in kept if n % 50 and n % 4 != 3]  # of the balanced share
        assert len(plain) > 50
        assert uniform(plain, count) < 33.7  # p = .0001


def test_some_crashes_do_not_bend_a_small_sample() -> None:
    quiet, _ = inserted(0.0, again=True, count=1500)
    crashed, crashes = inserted(0.02, again=True, count=1500)
    assert crashes > 20
    assert crashed == quiet


def ended(kind: str, rounds: int, **more: bool) -> CrashCounts:
    return list(crash_rounds(kind, rounds, 140813, **more))[-1]


@pytest.mark.slow
def test_kills_lose_nothing() -> None:
    counts = ended("kills", 25)
    assert counts.acknowledged > 25
    assert (counts.missing, counts.torn) == (0, 0)


@pytest.mark.slow
@pytest.mark.skipif(bool(cuts_unavailable()), reason=f"no power can be cut here: {cuts_unavailable()}")
def test_power_cuts_lose_nothing() -> None:
    """A real ext4 file system is shut down under the writer."""
    counts = ended("cuts", 25)
    assert counts.acknowledged > 25
    assert (counts.missing, counts.torn) == (0, 0)


@pytest.mark.slow
@pytest.mark.skipif(bool(cuts_unavailable()), reason=f"no power can be cut here: {cuts_unavailable()}")
def test_power_cuts_find_a_store_that_does_not_sync() -> None:
    counts = ended("cuts", 6, careless=True)
    assert counts.missing + counts.torn > 0
