"""Starts a station without the ``launch`` package: the same processes, from the same description.

``robin ros up`` and the tests use it where ROS 2 comes from PyPI wheels. It starts and restarts processes and stops
them in order; bringing the nodes up is the lifecycle manager's work, as with ``ros2 launch``.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from robin_bringup.environment import require_usable_environment
from robin_bringup.node_table import MANAGER
from robin_bringup.stations import STOP_S, Process, Station, StationOptions, check_parameters, station_processes
from robin_perception.core.errors import Code, RobinError

_SIGTERM_S = 2.0
_POLL_S = 0.1


@dataclass
class Running:
    """One process of the station. restart_at: time of the next start while it is down."""

    process: Process
    popen: subprocess.Popen[bytes]
    restarts: int = 0
    restart_at: float | None = None


@dataclass(frozen=True)
class StationState:
    """What the manager wrote last. nodes: name -> phase, state, code, text, recovered. settled: every node is active,
    given up or held."""

    all_active: bool = False
    settled: bool = False
    nodes: dict[str, dict[str, Any]] = field(default_factory=dict)

    @property
    def summary(self) -> str:
        """One line: who is not active, and why."""
        wrong = [(n, v) for n, v in self.nodes.items() if v["phase"] != "active"]
        if not wrong:
            return "all nodes active" if self.nodes else "the lifecycle manager has not reported yet"
        return "; ".join(f"{n} {v['phase']}" + (f" (E{v['code']} {v['text']})" if v["text"] else "") for n, v in wrong)


def require_ros() -> None:
    """Raises RobinError DEPENDENCY_MISSING, saying how to get what is missing."""
    for module, cure in (
        ("rclpy", "install ROS 2, or run `make ros`"),
        ("robin_msgs", "build the workspace: `make ros`"),
    ):
        if find_spec(module) is None:
            raise RobinError(
                Code.DEPENDENCY_MISSING, f"{module} cannot be imported: {cure}, then `. scripts/ros_env.sh`"
            )


class StationRunner:
    """One station on this machine. Use as a context manager; owned by one thread, the one that started it.

    log: gets one line per event. output: where the processes' output goes, None = this process's own.
    """

    def __init__(
        self,
        station: Station,
        options: StationOptions,
        log: Callable[[str], None],
        output: IO[bytes] | None = None,
        environ: Mapping[str, str] | None = None,
    ) -> None:
        self.station = station
        self.exit_status: int | None = None
        self._log, self._output = log, output
        self._environ = dict(os.environ if environ is None else environ)
        self._scratch = tempfile.TemporaryDirectory(prefix=f"robin_{station.name}_")
        self._status_file = Path(self._scratch.name) / "status.json"
        self._processes = station_processes(station, options, self._status_file)
        check_parameters(station, options)
        self._running: list[Running] = []
        self._started_s = 0.0

    def start(self) -> None:
        """Start every process. Raises RobinError DEPENDENCY_MISSING where ROS cannot be imported, and what the
        variables of ROS are refused with."""
        require_ros()
        for environ in {tuple(process.environment.items()) for process in self._processes}:
            require_usable_environment({**self._environ, **dict(environ)})
        self._started_s = time.monotonic()
        for process in self._processes:
            self._running.append(Running(process, self._spawn(process)))

    def step(self) -> bool:
        """Look after the processes once. Returns whether the station goes on; else ``exit_status`` is set."""
        for running in self._running:
            if running.restart_at is not None:
                if time.monotonic() >= running.restart_at:
                    running.popen, running.restart_at = self._spawn(running.process), None
                continue
            status = running.popen.poll()
            if status is not None:
                self._ended(running, status)
        return self.exit_status is None

    def run(self, stopping: Callable[[], bool]) -> int:
        """Look after the station until it ends or ``stopping``; says when nodes change. Returns the exit status."""
        said = ""
        while self.step() and not stopping():
            summary = self.state.summary
            if summary != said:
                self._log(f"{self.station.name}: {summary}")
                said = summary
            time.sleep(_POLL_S)
        return self.exit_status or 0

    @property
    def state(self) -> StationState:
        """What the manager wrote last; an empty state before it did."""
        try:
            values = json.loads(self._status_file.read_text())
        except (OSError, ValueError):
            return StationState()
        return StationState(values["all_active"], values["settled"], values["nodes"])

    @property
    def processes(self) -> dict[str, int]:
        """Name -> process id of what runs now."""
        return {r.process.name: r.popen.pid for r in self._running if r.restart_at is None and r.popen.poll() is None}

    def wait_active(self, timeout_s: float, stopping: Callable[[], bool] = lambda: False) -> float:
        """Wait until all nodes are active; returns the seconds since the processes were started.

        Raises RobinError NODE_NOT_ACTIVE (a node was given up, time is up, or ``stopping``) or PROCESS_ENDED.
        """
        ending = time.monotonic() + timeout_s
        while not (state := self.state).all_active:
            if not self.step():
                raise RobinError(Code.PROCESS_ENDED, f"{self.station.name}: ended with status {self.exit_status}")
            if state.settled or stopping() or time.monotonic() >= ending:
                raise RobinError(Code.NODE_NOT_ACTIVE, f"{self.station.name}: {state.summary}")
            time.sleep(_POLL_S)
        return time.monotonic() - self._started_s

    def stop(self) -> None:
        """Manager first, so that it takes the nodes down in order; then everything else. Harmless when called twice."""
        managers = [r for r in self._running if r.process.name == MANAGER]
        others = [r for r in self._running if r.process.name != MANAGER]
        self._end([r for r in others if r.process.respawn is None], STOP_S)
        self._end(managers, STOP_S)
        self._end(others, STOP_S)
        self._running.clear()
        self._scratch.cleanup()

    def __enter__(self) -> StationRunner:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _spawn(self, process: Process) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "robin_bringup.child", process.program.module, str(os.getpid())]
        namespace = ["-r", f"__ns:=/{process.namespace.strip('/')}"] if process.namespace else []
        command += [*process.arguments, "--ros-args", *process.all_ros_arguments(Path(self._scratch.name)), *namespace]
        environ = {**self._environ, **process.environment}
        # A session of its own, so that Ctrl-C reaches this runner alone, which then stops the others in order.
        return subprocess.Popen(command, env=environ, stdout=self._output, stderr=self._output, start_new_session=True)

    def _ended(self, running: Running, status: int) -> None:
        process, respawn = running.process, running.process.respawn
        if respawn is None:
            self._log(f"{process.name}: ended with status {status}")
            self.exit_status = status if status >= 0 else 1
        elif running.restarts >= respawn.limit:
            code = Code.PROCESS_ENDED
            self._log(f"E{int(code)} {code.name}: {process.name}: ended {running.restarts + 1} times, given up")
            self.exit_status = 1
        else:
            running.restarts += 1
            running.restart_at = time.monotonic() + respawn.delay_s
            self._log(
                f"{process.name}: ended with status {status}, again in {respawn.delay_s:g} s "
                f"({running.restarts} of {respawn.limit})"
            )

    def _end(self, group: list[Running], patience_s: float) -> None:
        """SIGINT, then SIGTERM, then SIGKILL to those processes that are still there."""
        for number, seconds in (
            (signal.SIGINT, patience_s),
            (signal.SIGTERM, _SIGTERM_S),
            (signal.SIGKILL, _SIGTERM_S),
        ):
            alive = [running.popen for running in group if running.popen.poll() is None]
            for popen in alive:
                popen.send_signal(number)
            ending = time.monotonic() + seconds
            for popen in alive:
                try:
                    popen.wait(max(0.0, ending - time.monotonic()))
                except subprocess.TimeoutExpired:
                    self._log(f"process {popen.pid} did not end on {signal.Signals(number).name}")
