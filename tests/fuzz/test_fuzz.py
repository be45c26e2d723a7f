"""Whatever a file holds: it is read, or refused in one numbered line, within 2 s of processor time and 500 MB.

Valid samples are made for each door and changed at random: bytes, values of documents, nodes of graphs, the kind of a
file. FUZZ_EXAMPLES sets how many changed samples each door gets; see docs/security.md.
"""

from __future__ import annotations

import json
import os
import random
import select
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fuzz.fuzz_doors import DOORS
from fuzz.fuzz_mutations import mutate

TESTS = Path(__file__).resolve().parents[1]
EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "25"))
MOST_CPU_S, MOST_MEMORY_MB = 2.0, 500.0
HANGS_S = 120.0  # finds what waits for ever, on a loaded machine too; what works for long shows in cpu_s
SETTINGS = settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize="FUZZ_EXAMPLES" not in os.environ,
    database=None,
    suppress_health_check=list(HealthCheck),
)
COUNTS: Counter[tuple[str, str]] = Counter()


class Worker:
    """Enters doors in a process of its own, which is started anew after it died or hung."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None

    def enter(self, door: str, folder: Path) -> dict[str, Any]:
        process = self._process = self._process or self._started()
        assert process.stdin is not None and process.stdout is not None
        process.stdin.write(json.dumps({"door": door, "folder": str(folder)}) + "\n")
        process.stdin.flush()
        ready, _, _ = select.select([process.stdout], [], [], HANGS_S)
        line = process.stdout.readline() if ready else ""
        if line:
            found: dict[str, Any] = json.loads(line)
            return found
        self.stop()
        return {
            "outcome": "beyond",
            "why": "it died" if ready else f"it hung for {HANGS_S:g} s",
        }

    def _started(self) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "fuzz.fuzz_worker"]
        paths = os.pathsep.join([str(TESTS), os.environ.get("PYTHONPATH", "")])
        environment = {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}
        return subprocess.Popen(
            command, cwd=TESTS, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None


@pytest.fixture(scope="module")
def worker() -> Iterator[Worker]:
    made = Worker()
    yield made
    made.stop()


@pytest.fixture(scope="module", autouse=True)
def told() -> Iterator[None]:
    yield
    for door in DOORS:
        counts = {outcome: COUNTS[door, outcome] for outcome in ("accepted", "refused", "beyond")}
        print(f"{door}: {sum(counts.values())} cases, " + ", ".join(f"{n} {name}" for name, n in counts.items()))


def fault_of(door: str, found: dict[str, Any]) -> str:
    """Why the case is beyond the limits; empty where it is not."""
    why = found["why"] if found["outcome"] == "beyond" else ""
    if found.get("cpu_s", 0.0) > MOST_CPU_S:
        why = f"{found['cpu_s']} s"
    if found.get("memory_mb", 0.0) > MOST_MEMORY_MB:
        why = f"{found['memory_mb']} MB"
    COUNTS[door, "beyond" if why else found["outcome"]] += 1
    return why


@pytest.mark.slow
@pytest.mark.timeout(0)
@pytest.mark.parametrize("door", DOORS)
def test_changed_files_are_read_or_refused(door: str, worker: Worker, tmp_path: Path) -> None:
    valid = tmp_path / "valid"
    valid.mkdir()
    DOORS[door].make(valid)
    first = worker.enter(door, valid)  # also loads what the door needs
    assert first["outcome"] == "accepted", first["line"] + first["why"]

    @SETTINGS
    @given(seed=st.integers(0, 2**48))
    def changed(seed: int) -> None:
        folder = tmp_path / "changed"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(valid, folder, symlinks=True)
        done = mutate(folder, random.Random(seed))
        why = fault_of(door, worker.enter(door, folder))
        assert not why, f"{done}: {why}"

    changed()
