"""Processes of `robin bench ros`: real nodes in a ROS domain of their own, with one parameter file and one log each."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

import psutil
import yaml

from robin_bringup.nodes.bench_client import BenchClient
from robin_cli.bench.figures import Figure
from robin_perception.core.errors import Code, RobinError

HOST_MODULE = "robin_bringup.nodes.bench_host"
HOSTED = ("segmentation", "planning", "camera")  # the camera last: it begins when it is active
PATIENCE_S = 60.0  # for whatever a node is asked

Progress = Callable[[int, int, str], None]
_STOP_S = 15.0
_LOG_TAIL = 3


def private_domain() -> int:
    """A ROS domain, 1..100, where the nodes of a cell that runs beside this are not met."""
    return 1 + os.getpid() % 100


class NodeProcess:
    """One process with nodes. parameters: node -> parameter -> value. Use as a context manager; its end is a SIGINT."""

    def __init__(
        self,
        module: str,
        parameters: dict[str, dict[str, Any]],
        folder: Path,
        domain: int,
        arguments: tuple[str, ...] = (),
    ) -> None:
        name = module.rpartition(".")[2]
        file, self._log_path = folder / f"{name}.yaml", folder / f"{name}.log"
        content = {f"/**/{node}": {"ros__parameters": values} for node, values in parameters.items()}
        file.write_text(yaml.safe_dump(content, sort_keys=False))
        self._name = name
        self._log = self._log_path.open("ab")
        environment = {
            **os.environ,
            "ROS_DOMAIN_ID": str(domain),
            "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST",
            "ROS_LOG_DIR": str(folder / "ros_log"),
            "PYTHONUNBUFFERED": "1",
        }
        command = [sys.executable, "-m", module, *arguments, "--ros-args", "--params-file", str(file)]
        self._popen = subprocess.Popen(command, stdout=self._log, stderr=subprocess.STDOUT, env=environment)
        self._process = psutil.Process(self._popen.pid)

    def __enter__(self) -> NodeProcess:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._popen.poll() is None:
            self._popen.send_signal(signal.SIGINT)
        try:
            self._popen.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            self._popen.kill()
            self._popen.wait()
        self._log.close()

    def check(self) -> None:
        """Raises RobinError PROCESS_ENDED with the end of its log where it is gone."""
        if self._popen.poll() is not None:
            raise RobinError(Code.PROCESS_ENDED, f"{self._name} ended: {self.log_tail()}")

    def log_tail(self) -> str:
        lines = self._log_path.read_text(errors="replace").split("\n")
        return " | ".join([line.strip() for line in lines if line.strip()][-_LOG_TAIL:])

    def rss_mb(self) -> float:
        """Resident memory, 1e6 bytes. Raises RobinError PROCESS_ENDED."""
        self.check()
        return float(self._process.memory_info().rss) / 1e6

    def cpu_s(self) -> float:
        """Processor time used so far by its threads, seconds. Raises RobinError PROCESS_ENDED."""
        self.check()
        times = self._process.cpu_times()
        return float(times.user + times.system)


def host_parameters(
    frames: Path, model: Path, engine: str, threads: int, rate_hz: float, plan_every_scene: bool
) -> dict[str, dict[str, Any]]:
    """Of the host process: a camera that shows the image folders ``frames`` at ``rate_hz``, from memory."""
    return {
        "camera": {
            "source": "folder",
            "path": str(frames),
            "folder.rate_hz": float(rate_hz),
            "folder.keep_in_memory": True,
        },
        "segmentation": {
            "model": str(model.absolute()),
            "engine": engine,
            "engine_options.intra_threads": threads,
            "gate.frozen_after": 0,  # folders are shown again and again
        },
        # However late a busy machine is: what is timed must not turn into a refusal.
        "planning": {"plan_every_scene": plan_every_scene, "frame_age_limit_s": 60.0},
    }


@dataclass(frozen=True)
class RosBench:
    """What to measure with. frames: folder of image folders. scratch: for logs, bags and builds; removed afterwards.

    pixels: of one frame. rate_hz: of the camera in latency and recorder. seconds: of latency, nodes and direct call
    together; the recorder takes half of it.
    """

    frames: Path
    pixels: int
    scratch: Path
    model: Path
    engine: str
    threads: int
    domain: int
    rate_hz: float
    seconds: float
    memory_seconds: float
    memory_rate_hz: float
    requests: int
    starts: int


@dataclass(frozen=True)
class PartResult:
    """values: all samples' spreads and counts, for the JSON. figures: the lines of the table."""

    values: dict[str, Any]
    figures: list[Figure] = field(default_factory=list)


@contextlib.contextmanager
def workcell(bench: RosBench, rate_hz: float, plan_every_scene: bool) -> Iterator[tuple[NodeProcess, BenchClient]]:
    """The host process with segmentation and planning active and the camera inactive.

    plan_every_scene: plans are made and received without being asked for; else only on request.
    """
    parameters = host_parameters(bench.frames, bench.model, bench.engine, bench.threads, rate_hz, plan_every_scene)
    with (
        NodeProcess(HOST_MODULE, parameters, bench.scratch, bench.domain) as process,
        BenchClient(bench.domain) as client,
        explained(process),
    ):
        if plan_every_scene:
            client.listen_to_plans()
        for node in HOSTED:
            client.change(node, "configure", PATIENCE_S)
            if node != "camera":
                client.change(node, "activate", PATIENCE_S)
        yield process, client


@contextlib.contextmanager
def explained(process: NodeProcess) -> Iterator[None]:
    """A node that did not answer or refused: say what its process said last."""
    try:
        yield
    except RobinError as exc:
        process.check()
        raise RobinError(exc.code, f"{exc.text}; {process.log_tail()}") from None
