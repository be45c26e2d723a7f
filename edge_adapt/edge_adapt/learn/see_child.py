"""The process that teaches, as the one that started it sees it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

from edge_adapt.learn.see_job import JOB_FILE, TeachJob
from robin_perception.core.disk import make_folder, write_atomic
from robin_perception.core.errors import Code, RobinError
from robin_perception.model.bundle import Bundle, load_bundle

MODULE = "edge_adapt.training.teach_process"
LOG_FILE = "log.txt"
_LAST_BYTES = 2000

Progress = Callable[[str, int, int], None]
"""What is done, how much of it, of how much."""


def run_job(job: TeachJob, progress: Progress) -> Bundle:
    """Run ``job`` in a process of its own and load the bundle that it wrote. Blocks; the process ends with this one.

    Raises RobinError with the code that the process told, TEACHING_ENDED for one that was killed or crashed.
    """
    make_folder(job.work)
    order, text = job.work / JOB_FILE, (job.model_dump_json(indent=1) + "\n").encode()
    if job.out.is_dir() and order.is_file() and order.read_bytes() == text:
        return load_bundle(job.out)
    write_atomic(order, text)
    environment = {**os.environ, "OMP_NUM_THREADS": str(job.threads), "PYTHONPATH": os.pathsep.join(sys.path)}
    with (job.work / LOG_FILE).open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", MODULE, str(order), str(os.getpid())],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
            env=environment,
            start_new_session=True,
        )
        try:
            told = _listen(process.stdout, progress)
            status = process.wait()
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
    if status == 0:
        return load_bundle(job.out)
    raise _reason(told, status, job.work / LOG_FILE)


def _listen(stream: IO[bytes] | None, progress: Progress) -> dict[str, Any]:
    """Pass progress on; the last line that was told."""
    told: dict[str, Any] = {}
    for line in stream or ():
        try:
            found = json.loads(line)
        except ValueError:  # what a library printed
            continue
        told = found if isinstance(found, dict) else {}
        if "done" in told:
            progress(str(told["what"]), int(told["done"]), int(told["total"]))
    return told


def _reason(told: dict[str, Any], status: int, log: Path) -> RobinError:
    if "code" in told:
        return RobinError(Code(told["code"]), str(told["text"]))
    if status < 0:
        how = f"was ended by {signal.Signals(-status).name}; the same command goes on where it was"
        return RobinError(Code.TEACHING_ENDED, f"the process that teaches {how}")
    last = log.read_bytes()[-_LAST_BYTES:].decode(errors="replace").strip().splitlines()
    return RobinError(Code.TEACHING_ENDED, f"the process that teaches failed: {last[-1] if last else status} ({log})")
