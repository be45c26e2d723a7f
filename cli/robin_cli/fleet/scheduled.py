"""Trainings that an aggregator begins by itself: the command that a person would give, in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from robin_fleet.folder import TrainingConfig
from robin_perception.core.parent_death import end_child, end_with_parent

LOG_FILE = "training.log"
_NICE = 10
_LOOK_S = 0.5
_END_S = 30.0  # a training that is asked to end saves first


def train_command(folder: Path, config: TrainingConfig) -> list[str]:
    """``robin fleet train run`` as it is scheduled."""
    program = [sys.executable, "-m", "robin_cli.main", "fleet", "train", "run"]
    due = ["--every", f"{config.every_h}h", "--renew", *(["--quick"] if config.quick else [])]
    return [*program, config.deck, "--fleet", str(folder), *due]


class ScheduledTrainings:
    """A thread that asks every ``look_every_h`` whether a training is due and waits for its end, from ``start`` to
    ``close``. What the training says goes to ``training.log`` in the folder, its last line to ``tell``. A training that
    ``close`` ends goes on with the next look."""

    def __init__(self, folder: Path, command: Sequence[str], look_every_s: float, tell: Callable[[str], None]) -> None:
        self._folder, self._command, self._tell = folder, list(command), tell
        self._look_every_s = look_every_s
        self._ended = threading.Event()
        self._told = ""
        self._thread = threading.Thread(target=self._run, name="trainings")

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        """A training that runs is asked to end."""
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._ended.is_set():
            try:
                said = self._look()
            except OSError as exc:
                said = f"training: {exc.strerror or exc}"
            if said != self._told:  # the same fault, or nothing due, is told once
                self._told = said
                self._tell(said)
            self._ended.wait(self._look_every_s)

    def _look(self) -> str:
        """One look, to the end of the training where one was due; the last line that it said."""
        parent, log = os.getpid(), self._folder / LOG_FILE

        def begin() -> None:
            end_with_parent(parent)
            os.nice(_NICE)

        with log.open("ab") as output:
            output.write(time.strftime("%Y-%m-%d %H:%M:%S UTC\n", time.gmtime()).encode())
            output.flush()
            begun = output.tell()
            child = subprocess.Popen(self._command, stdout=output, stderr=subprocess.STDOUT, preexec_fn=begin)
            while child.poll() is None and not self._ended.wait(_LOOK_S):
                pass
            if child.poll() is None:
                end_child(child, _END_S)
                return "training: stopped; it goes on when the aggregator is up again"
        with log.open("rb") as written:
            written.seek(begun)
            lines = written.read().decode(errors="replace").strip().splitlines()
        return f"training: {lines[-1] if lines else f'ended with {child.returncode}'}"
