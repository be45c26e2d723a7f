"""Kill either end of an uplink, and cut the power under both, again and again, behind a wire that resets, stalls,
repeats and mixes up, with disks that are full or broken now and then; each time what was acknowledged is looked for.

It runs in a process of its own without threads (``python -m robin_cli.bench.durability SPEC``), so that victims can be
forked off, and prints a line of counts after each round.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from robin_cli.bench import durability_parts as parts
from robin_cli.bench.budgets import budget
from robin_cli.bench.cut_disk import CutDisk, cuts_unavailable
from robin_cli.bench.figures import Figure
from robin_cli.bench.store_crash import in_child, said_by_now
from robin_cli.doctor.machine import machine_facts

KILLS, CUTS = "kills", "cuts"
_ENDS: dict[str, Callable[[parts.World, int, int], None]] = {
    "send": parts.send,
    "serve": parts.serve,
    "carry": parts.carry,
}
_VICTIMS, _ODDS = ("send", "serve", "record"), (0.45, 0.4, 0.15)
_FORKED_WITH = ("pysqlite3.dbapi2", "robin_fleet.ledger.migrate")  # or each victim imports them anew
_LONGEST_S = 0.3  # of a life between two kills
_LOOK_EVERY, _FRESH_AFTER = 20, 200  # rounds
_FRESH_CUTS = 30
_FAULTS = 0.01
_EARLY, _UNHEARD = 0.15, 0.4  # shares of the rounds that may end before the server is up, and has said anything
_UP_S = 20.0
Progress = Callable[[int, int, str], None]


@dataclass
class Counts:
    """acknowledged: blobs that the robot has written down as stored. missing: of these, and of those that its index
    calls stored, not whole at the fleet. duplicated: samples booked twice. unexplained: blobs in quarantine, worlds
    that could not be looked at, and samples that never arrived although the uplink was left in peace at the end."""

    rounds: int = 0
    acknowledged: int = 0
    missing: int = 0
    duplicated: int = 0
    unexplained: int = 0
    resets: int = 0


@dataclass(frozen=True)
class DurabilityBench:
    kills: int
    cuts: int
    seed: int
    place: Path | None = None


def measure_durability(bench: DurabilityBench, progress: Progress) -> dict[str, Any]:
    """Keys ``kills cuts acknowledged missing duplicated unexplained``, and more."""
    facts, skipped = machine_facts(), cuts_unavailable() if bench.cuts else None
    totals = {KILLS: Counts(), CUTS: Counts()}
    for kind, rounds in ((KILLS, bench.kills), (CUTS, 0 if skipped else bench.cuts)):
        for counts in rounds_of(kind, rounds, bench.seed, bench.place) if rounds else ():
            totals[kind] = counts
            progress(counts.rounds, rounds, f"{kind}: {counts.acknowledged} acknowledged, {counts.missing} missing")
    keys = ("acknowledged", "missing", "duplicated", "unexplained", "resets")
    sums = {key: sum(getattr(counts, key) for counts in totals.values()) for key in keys}
    done = {kind: counts.rounds for kind, counts in totals.items()}
    return {**done, **sums, "cuts_skipped": skipped, "seed": bench.seed, "machine": facts}


def durability_figures(result: dict[str, Any]) -> list[Figure]:
    """The lines of the table."""
    told = f"{result['kills']} kills, {result['cuts']} power cuts, {result['acknowledged']} blobs acknowledged"
    return [
        Figure("uplink", "acknowledged and missing", result["missing"], "", budget("uplink.missing"), told),
        Figure("uplink", "stored twice", result["duplicated"], "", budget("uplink.duplicated")),
        Figure("uplink", "unexplained", result["unexplained"], "", budget("uplink.unexplained")),
    ]


class _Run:
    """One world, its processes, and what was acknowledged in it."""

    def __init__(self, folder: Path, rng: np.random.Generator, pictures: list[bytes], careless: bool = False) -> None:
        self.world = parts.World(folder, *free_ports(), _FAULTS, careless)
        self.acknowledged: list[str] = []
        self.resets = 0
        self._rng, self._pictures = rng, pictures
        self._alive: dict[str, tuple[int, int]] = {}
        self._tails: dict[str, bytes] = {}
        self._up = False

    def make(self) -> None:
        """Keys and ledger, by a child: this process opens no database."""
        world = self.world

        def work() -> dict[str, int]:
            world.make()
            return {}

        _asked(work)

    def start(self) -> None:
        """Whoever does not run."""
        works = {**_ENDS, "record": self._record}
        for name, work in works.items():
            if name not in self._alive:
                seed = int(self._rng.integers(1 << 31))
                self._alive[name] = in_child(partial(_victim, work, self.world, seed))
                self._tails[name] = b""
                self._up &= name != "serve"

    def live(self) -> None:
        """For a random while, as a rule from the first word of the fleet on."""
        heard, odds = len(self.acknowledged), self._rng.random()
        ending = time.monotonic() + (0.0 if odds < _EARLY else _UP_S)
        while time.monotonic() < ending and len(self.acknowledged) == heard and not (self._up and odds < _UNHEARD):
            time.sleep(0.005)
            self.hear()
        time.sleep(float(self._rng.uniform(0, _LONGEST_S)))
        self.hear()

    def hear(self) -> None:
        """What they have said by now."""
        for name, (_, pipe) in self._alive.items():
            lines = (self._tails[name] + said_by_now(pipe)).split(b"\n")
            self._tails[name] = lines.pop()
            if name == "send":
                self.acknowledged.extend(blob for line in lines for blob in json.loads(line))
            self._up |= name == "serve" and bool(lines)
            self.resets += len(lines) if name == "carry" else 0

    def kill(self, *names: str, hear: bool = True) -> None:
        for name in names or tuple(self._alive):
            os.kill(self._alive[name][0], signal.SIGKILL)
        for name in names or tuple(self._alive):
            os.waitpid(self._alive[name][0], 0)
        if hear:
            self.hear()
        for name in names or tuple(self._alive):
            os.close(self._alive.pop(name)[1])

    def look(self) -> dict[str, int]:
        return _asked(lambda: parts.look(self.world, self.acknowledged)) or {"unexplained": 1}

    def drain(self) -> dict[str, int]:
        return _asked(lambda: {"unexplained": parts.drain(self.world)}) or {"unexplained": 1}

    def _record(self, world: parts.World, seed: int, pipe: int) -> None:
        parts.record(world, self._pictures, seed, pipe)


def _victim(work: Callable[[parts.World, int, int], None], world: parts.World, seed: int, pipe: int) -> None:
    with open(os.devnull, "w") as null:
        os.dup2(null.fileno(), 2)
        work(world, seed, pipe)


def _asked(work: Callable[[], dict[str, int]]) -> dict[str, int] | None:
    """Of a child, which may open what this process must not; None where it failed."""
    pid, pipe = in_child(lambda writing: os.write(writing, json.dumps(work()).encode() + b"\n"))
    with open(pipe, "rb") as stream:
        said = stream.read()
    os.waitpid(pid, 0)
    return json.loads(said) if said.endswith(b"\n") else None


def kill_rounds(folder: Path, rounds: int, rng: np.random.Generator) -> Iterator[Counts]:
    counts, run, heard = Counts(), None, 0
    pictures = _pictures(rng)
    for number in range(rounds):
        if run is None:
            run, heard = _Run(folder / f"world-{number}", rng, pictures), 0
            run.make()
        run.start()
        run.live()
        run.kill(str(rng.choice(_VICTIMS, p=_ODDS)))
        counts.rounds += 1
        counts.acknowledged, heard = counts.acknowledged + len(run.acknowledged) - heard, len(run.acknowledged)
        is_last = number == rounds - 1 or (number + 1) % _FRESH_AFTER == 0
        if is_last or (number + 1) % _LOOK_EVERY == 0:
            run.kill()
            counts.acknowledged, heard = counts.acknowledged + len(run.acknowledged) - heard, len(run.acknowledged)
            found = run.look()
            counts.missing += found.get("missing", 0)
            counts.unexplained += found.get("unexplained", 0)
            counts.duplicated += found.get("duplicated", 0)
        if is_last:
            counts.unexplained += run.drain()["unexplained"]
            counts.resets += run.resets
            shutil.rmtree(run.world.folder, ignore_errors=True)
            run = None
        yield counts


def cut_rounds(folder: Path, rounds: int, rng: np.random.Generator, careless: bool) -> Iterator[Counts]:
    """Everything lies on one disk, and loses its power at once."""
    disk, counts, pictures = CutDisk(folder), Counts(), _pictures(rng)
    run = _Run(disk.mount / "world", rng, pictures, careless)
    for number in range(rounds):
        if number % _FRESH_CUTS == 0:
            disk.make_fresh()
            run = _Run(disk.mount / "world", rng, pictures, careless)
            disk.remount()
            run.make()
            os.sync()
            disk.unmount()
        heard, resets = len(run.acknowledged), run.resets
        with disk.until_cut() as cut:
            run.start()
            run.live()
            cut()
            run.kill(hear=False)
        found = run.look()
        disk.unmount()
        counts.rounds += 1
        counts.acknowledged += len(run.acknowledged) - heard
        counts.resets += run.resets - resets
        for key in ("missing", "duplicated", "unexplained"):
            setattr(counts, key, getattr(counts, key) + found.get(key, 0))
        yield counts


def _pictures(rng: np.random.Generator) -> list[bytes]:
    """Small ones, and some of several chunks."""
    from edge_adapt.recording import png_bytes

    shapes = [(8, 8 + number) for number in range(60)] + [(300, 400 + number) for number in range(6)]
    return [png_bytes(rng.integers(0, 256, (*shape, 3), dtype=np.uint8)) for shape in shapes]


def free_ports() -> tuple[int, int]:
    """For the server, which takes the port above as well, and for the wire."""
    while True:
        with contextlib.ExitStack() as held:
            first = held.enter_context(socket.create_server(("127.0.0.1", 0)))
            port = int(first.getsockname()[1])
            try:
                held.enter_context(socket.create_server(("127.0.0.1", port + 1)))
                return port, int(held.enter_context(socket.create_server(("127.0.0.1", 0))).getsockname()[1])
            except OSError:
                continue


def rounds_of(
    kind: str, rounds: int, seed: int, place: Path | None = None, *, careless: bool = False
) -> Iterator[Counts]:
    """The counts after each round, from a process of its own. place: a folder to work in; None: memory. careless: the
    fleet's objects are not synced, which power cuts must show."""
    memory = Path("/dev/shm")
    place = place or (memory if os.access(memory, os.W_OK) else Path(tempfile.gettempdir()))
    spec = json.dumps({"kind": kind, "rounds": rounds, "seed": seed, "place": str(place), "careless": careless})
    command = [sys.executable, "-m", "robin_cli.bench.durability", spec]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        for line in child.stdout:
            yield Counts(**json.loads(line))
    if child.returncode:
        raise subprocess.CalledProcessError(child.returncode, command)


def main(spec: dict[str, Any]) -> None:
    """Print the counts after each round, as JSON."""
    for module in _FORKED_WITH:
        with contextlib.suppress(ImportError):
            importlib.import_module(module)
    rng = np.random.default_rng([spec["seed"], spec["kind"] == CUTS])
    with tempfile.TemporaryDirectory(prefix="robin-durability-", dir=spec["place"]) as folder:
        place, rounds = Path(folder), spec["rounds"]
        is_cut = spec["kind"] == CUTS
        for counts in cut_rounds(place, rounds, rng, spec["careless"]) if is_cut else kill_rounds(place, rounds, rng):
            print(json.dumps(asdict(counts)), flush=True)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
