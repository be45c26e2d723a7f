"""Cut the power under an object folder that takes many blobs at once (``python fleet_power.py FOLDER ROUNDS KIND``).

It runs in a process of its own, with mounts of its own, and prints what was acknowledged and what of it is missing.
"""

from __future__ import annotations

import fcntl
import json
import os
import signal
import struct
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from edge_adapt.store.blobs import blob_name
from robin_cli.bench.store_crash import CarelessFiles, enter_namespace, in_child, said_by_now
from robin_fleet.objects.own_folder import FolderObjects, ManyFiles
from robin_perception.core.errors import RobinError

_SHUTDOWN, _WITHOUT_JOURNAL = 0x8004587D, 2  # ioctl of ext4
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


def one_round(folder: Path, seed: int, careless: bool) -> tuple[int, int]:
    """(acknowledged, missing)"""
    disk, mount = folder / "disk", folder / "mount"
    with disk.open("wb") as stream:
        stream.truncate(96_000_000)
    subprocess.run(["mkfs.ext4", "-q", "-F", str(disk)], check=True)
    subprocess.run(["mount", "-o", "loop", str(disk), str(mount)], check=True)
    handle = os.open(mount, os.O_RDONLY | os.O_DIRECTORY)
    pid, pipe = in_child(lambda writing: put_until_killed(mount / "objects", seed, writing, careless))
    said = os.read(pipe, 1 << 16)  # the first batch is durable
    time.sleep(float(np.random.default_rng(seed).uniform(0, 0.3)))
    said += said_by_now(pipe)
    fcntl.ioctl(handle, _SHUTDOWN, struct.pack("I", _WITHOUT_JOURNAL))
    os.close(handle)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    os.close(pipe)
    names = [name for line in said.splitlines(keepends=True) if line.endswith(b"\n") for name in json.loads(line)]
    subprocess.run(["umount", str(mount)], check=True)
    subprocess.run(["mount", "-o", "loop", str(disk), str(mount)], check=True)
    missing = lost(mount / "objects", names)
    subprocess.run(["umount", str(mount)], check=True)
    return len(names), missing


def main(folder: Path, rounds: int, kind: str) -> None:
    enter_namespace()
    (folder / "mount").mkdir(parents=True)
    found = [one_round(folder, seed, kind == "careless") for seed in range(rounds)]
    print(json.dumps({"acknowledged": sum(one[0] for one in found), "missing": sum(one[1] for one in found)}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3])
