"""Cut the power under an object folder that takes many blobs at once (``python fleet_power.py FOLDER ROUNDS KIND``).

It runs in a process of its own, with mounts of its own, and prints what was acknowledged and what of it is missing.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path

import numpy as np

from edge_adapt.store.blobs import blob_name
from robin_cli.bench.cut_disk import CutDisk
from robin_cli.bench.store_crash import CarelessFiles, in_child, said_by_now
from robin_fleet.objects.own_folder import FolderObjects, ManyFiles
from robin_perception.core.errors import RobinError

_TOGETHER = 16


def put_until_killed(folder: Path, seed: int, pipe: int, careless: bool) -> None:
    """A line for each batch that is durable, with the names of its blobs."""
    rng = np.random.default_rng(seed)
    objects = FolderObjects(folder, CarelessFiles() if careless else ManyFiles())
    for _ in range(100_000):
        contents = [rng.bytes(int(rng.integers(1, 5000))) for _ in range(_TOGETHER)]
        blobs = {blob_name(data, ".bin"): data for data in contents}
        objects.put_all(blobs)
        os.write(pipe, json.dumps(list(blobs)).encode() + b"\n")


def lost(folder: Path, names: list[str]) -> int:
    objects = FolderObjects(folder)
    missing = 0
    for name in names:
        try:
            objects.get(name)
        except RobinError:
            missing += 1
    objects.close()
    return missing


def one_round(disk: CutDisk, seed: int, careless: bool) -> tuple[int, int]:
    """(acknowledged, missing)"""
    disk.make_fresh()
    folder = disk.mount / "objects"
    with disk.until_cut() as cut:
        pid, pipe = in_child(lambda writing: put_until_killed(folder, seed, writing, careless))
        said = os.read(pipe, 1 << 16)  # the first batch is durable
        time.sleep(float(np.random.default_rng(seed).uniform(0, 0.3)))
        said += said_by_now(pipe)
        cut()
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        os.close(pipe)
    names = [name for line in said.splitlines(keepends=True) if line.endswith(b"\n") for name in json.loads(line)]
    missing = lost(folder, names)
    disk.unmount()
    return len(names), missing


def main(folder: Path, rounds: int, kind: str) -> None:
    disk = CutDisk(folder)
    found = [one_round(disk, seed, kind == "careless") for seed in range(rounds)]
    print(json.dumps({"acknowledged": sum(one[0] for one in found), "missing": sum(one[1] for one in found)}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3])
