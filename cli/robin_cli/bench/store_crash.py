"""Kill the writer of a store, and cut the power under it, again and again; each time everything is looked at.

It runs in a process of its own without threads (``python -m robin_cli.bench.store_crash SPEC``), so that victims can
be forked off, and prints a line of counts after each round. A power cut is real: the store lies in an ext4 file system
on a loop device, which is shut down without writing back its journal, unmounted, mounted again and looked at.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edge_adapt.store.blobs import Files
from edge_adapt.store.config import StoreConfig
from edge_adapt.store.reservoir import Stratum
from edge_adapt.store.sample import Sample
from edge_adapt.store.store import SampleStore
from edge_adapt.store.verify import remove_orphans, verify
from robin_cli.bench.cut_disk import CutDisk

CONFIG = StoreConfig(budget_mb=3, least_free_mb=0, core_per_stratum=4)
READY = b"ready\n"
_LONGEST_S = 0.35  # of a writer's life
_EARLY = 0.2  # share of the rounds that may end it before it has begun
_FRESH_AFTER = 60  # rounds with one store


@dataclass
class CrashCounts:
    """acknowledged: samples that ``add`` returned for. missing: of these, not there. torn: blobs or tables that are not
    whole. orphans: blobs without a sample, which harm nothing."""

    rounds: int = 0
    acknowledged: int = 0
    missing: int = 0
    torn: int = 0
    orphans: int = 0


def small_sample(rng: np.random.Generator, number: int, before: bytes) -> Sample:
    """A few kilobytes; its frame before is the one after the last pick."""
    files = {"color.png": before, "after.png": rng.bytes(int(rng.integers(200, 40_000)))}
    decision = {"decision_id": f"crash-{number}-{rng.integers(1 << 40)}", "filler": "x" * int(rng.integers(3000))}
    name, result = str(rng.choice(["carton", "tube"])), str(rng.choice(["clean", "clean", "miss"]))
    return Sample(decision["decision_id"], json.dumps(decision), name, result, bool(rng.random() < 0.1), files=files)


class CarelessFiles(Files):
    """Syncs nothing: what the counts look like when a store only seems to be durable."""

    def sync(self, path: Path) -> None:
        """Nothing."""

    def sync_folder(self, path: Path) -> None:
        """Nothing."""


def write_until_killed(folder: Path, seed: int, pipe: int, files: Files) -> None:
    """The victim: a line per acknowledged sample."""
    rng, after = np.random.default_rng(seed), b"first"
    with SampleStore(folder, CONFIG, files=files) as store:
        os.write(pipe, READY)
        for number in range(1_000_000):
            sample = small_sample(rng, number, after)
            receipt = store.add(sample)
            told = [receipt.seq, list(receipt.stratum), receipt.figure, receipt.kept, sample.decision_id]
            os.write(pipe, json.dumps(told).encode() + b"\n")
            after = sample.files["after.png"]


class Witness:
    """What was acknowledged of one store, and what is found of it."""

    def __init__(self) -> None:
        self.kept: dict[int, tuple[Stratum, float, str]] = {}
        self.offered = 0

    def hear(self, lines: list[bytes]) -> int:
        for line in lines:
            seq, stratum, figure, kept, decision = json.loads(line)
            self.offered = max(self.offered, seq)
            if kept:
                self.kept[seq] = (Stratum(*stratum), figure, decision)
        return len(lines)

    def look(self, folder: Path) -> tuple[int, int, int]:
        """(missing, torn, orphans). A sample that is gone was removed by the rules where its figure is not below its
        stratum's threshold; the core loses none."""
        with SampleStore(folder) as store:
            report = verify(store)
            found = {row.seq: row for row in store.samples()}
            limits = {Stratum(*row[1:5]): row.threshold for row in store.strata()}
            missing = int(store.state.offered < self.offered)
            for seq, (stratum, figure, decision) in self.kept.items():
                row = found.get(seq)
                if row is None:
                    missing += figure < limits.get(stratum, 1.0)
                else:
                    missing += row.decision != decision or store.read(row).record.decision_id != decision
            torn = len(report.damaged) + len(report.missing) + len(report.problems)
            remove_orphans(store)
        return missing, torn, report.orphans


def in_child(work: Callable[[int], object]) -> tuple[int, int]:
    """Fork; ``work`` gets the writing end of a pipe. Returns (pid, reading end)."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid:
        os.close(writing)
        return pid, reading
    os.close(reading)
    status = 1
    with contextlib.suppress(BaseException):
        work(writing)
        status = 0
    os._exit(status)


def said_by_now(pipe: int) -> bytes:
    """What stands in the pipe."""
    os.set_blocking(pipe, False)
    said = b""
    with contextlib.suppress(BlockingIOError):
        while more := os.read(pipe, 1 << 16):
            said += more
    os.set_blocking(pipe, True)
    return said


def live_and_die(
    folder: Path, rng: np.random.Generator, files: Files, cut: Callable[[], object] | None = None
) -> list[bytes]:
    """A writer for a random while, then ``cut``, then SIGKILL. Returns its acknowledgements.

    Only those that had come when the power was cut. ext4 tells a few syncs that run into the shutdown that they have
    succeeded, since the write-back under them fails unheard; where the power truly fails, nobody hears that.
    """
    seed = int(rng.integers(1 << 31))
    pid, pipe = in_child(lambda writing: write_until_killed(folder, seed, writing, files))
    said = os.read(pipe, len(READY)) if rng.random() >= _EARLY else b""  # nothing, where it cannot even begin
    time.sleep(float(rng.uniform(0, _LONGEST_S)))
    said += said_by_now(pipe)
    if cut is not None:
        cut()
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    with open(pipe, "rb") as stream:
        said += b"" if cut is not None else stream.read()
    return [line for line in said.removeprefix(READY).splitlines(keepends=True) if line.endswith(b"\n")]


def look_in_child(witness: Witness, folder: Path) -> tuple[int, int, int]:
    """As ``Witness.look``; a store that cannot be opened counts as torn."""
    pid, pipe = in_child(lambda writing: os.write(writing, json.dumps(witness.look(folder)).encode() + b"\n"))
    with open(pipe, "rb") as stream:
        said = stream.read()
    os.waitpid(pid, 0)
    missing, torn, orphans = json.loads(said) if said.endswith(b"\n") else (0, 1, 0)
    return missing, torn, orphans


def kill_rounds(folder: Path, rounds: int, rng: np.random.Generator, files: Files) -> Iterator[CrashCounts]:
    """SIGKILL alone."""
    store = folder / "store"

    def live() -> list[bytes]:
        return live_and_die(store, rng, files)

    yield from _rounds(store, rounds, live, lambda: shutil.rmtree(store, ignore_errors=True))


def cut_rounds(folder: Path, rounds: int, rng: np.random.Generator, files: Files) -> Iterator[CrashCounts]:
    """Power cuts, in a mount namespace of this process."""
    disk = CutDisk(folder)

    def live() -> list[bytes]:
        with disk.until_cut() as cut:
            return live_and_die(disk.mount / "store", rng, files, cut)

    yield from _rounds(disk.mount / "store", rounds, live, disk.make_fresh, disk.unmount)


def _rounds(
    store: Path,
    rounds: int,
    live: Callable[[], list[bytes]],
    fresh: Callable[[], None],
    after: Callable[[], None] = lambda: None,
) -> Iterator[CrashCounts]:
    counts, witness = CrashCounts(), Witness()
    for number in range(rounds):
        if number % _FRESH_AFTER == 0:
            fresh()
            witness = Witness()
        counts.acknowledged += witness.hear(live())
        missing, torn, orphans = look_in_child(witness, store)
        after()
        counts.rounds += 1
        counts.missing += missing
        counts.torn += torn
        counts.orphans += orphans
        yield counts


def crash_rounds(
    kind: str, rounds: int, seed: int, place: Path | None = None, *, careless: bool = False
) -> Iterator[CrashCounts]:
    """kind: "kills" or "cuts". The counts after each round, from a process of its own. place: a folder to work in;
    None: memory, where a round takes least. careless: the store syncs nothing, which the counts must show."""
    memory = Path("/dev/shm")
    place = place or (memory if os.access(memory, os.W_OK) else Path(tempfile.gettempdir()))
    spec = json.dumps({"kind": kind, "rounds": rounds, "seed": seed, "place": str(place), "careless": careless})
    command = [sys.executable, "-m", "robin_cli.bench.store_crash", spec]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        for line in child.stdout:
            yield CrashCounts(**json.loads(line))
    if child.returncode:
        raise subprocess.CalledProcessError(child.returncode, command)


def main(spec: dict[str, Any]) -> None:
    """Print the counts after each round, as JSON."""
    rng = np.random.default_rng([spec["seed"], spec["kind"] == "cuts"])
    files = CarelessFiles() if spec["careless"] else Files()
    with tempfile.TemporaryDirectory(prefix="robin-crash-", dir=spec["place"]) as folder:
        run = cut_rounds if spec["kind"] == "cuts" else kill_rounds
        for counts in run(Path(folder), spec["rounds"], rng, files):
            print(json.dumps(asdict(counts)), flush=True)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
