"""Start of the nodes, bag recorder and build of the workspace in `robin bench ros`."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections import Counter
from pathlib import Path
from typing import Any

from robin_bringup.node_table import NODES, WORKCELL
from robin_bringup.nodes.bench_client import BenchClient
from robin_cli.bench.budgets import budget
from robin_cli.bench.figures import Figure, spread
from robin_cli.bench.ros.figures import counted, dropped, short_of_rate
from robin_cli.bench.ros.station import (
    PATIENCE_S,
    NodeProcess,
    PartResult,
    Progress,
    RosBench,
    explained,
    host_parameters,
    workcell,
)
from robin_cli.options import repository_root
from robin_perception.bags.reader import BagReader
from robin_perception.core.errors import Code, RobinError
from robin_perception.topics import camera_topics

_DISCOVERY_S = 2.0
_SETTLE_S = 2.0
_RECORDER = "edge_adapt.nodes.bag_recorder_node"
_STARTED = ("segmentation", "planning", "pick_check", "recorder", "camera")
_BYTES_PER_PIXEL = 7  # colour, depth and labels before compression
_BUILD_TIMEOUT_S = 1800.0


def measure_startup(bench: RosBench, progress: Progress) -> PartResult:
    """Start of a process until its nodes are active, brought up over ROS; each node alone, then all in one process."""
    of_host = host_parameters(bench.frames, bench.model, bench.engine, bench.threads, bench.rate_hz, False)
    # A pose each: ROS reads no YAML with aliases, which is what the same list twice becomes.
    parameters = {name: {**_looking_down(), **of_host.get(name, {})} for name in _STARTED}
    parameters["recorder"]["folder"] = str(bench.scratch / "decisions")
    cases = {name: (NODES[name].module, (name,), ()) for name in _STARTED}
    one_process = (WORKCELL.module, _STARTED, ("--nodes", ",".join(_STARTED)))
    samples: dict[str, list[float]] = {}
    total = bench.starts * (len(cases) + 1)
    for _ in range(bench.starts):
        for name, (module, nodes, arguments) in {**cases, "all in one process": one_process}.items():
            begun = time.monotonic()
            with (
                NodeProcess(module, parameters, bench.scratch, bench.domain, arguments) as process,
                BenchClient(bench.domain) as client,
                explained(process),
            ):
                for node in nodes:
                    client.change(node, "configure", PATIENCE_S)
                    client.change(node, "activate", PATIENCE_S)
                samples.setdefault(name, []).append(time.monotonic() - begun)
            progress(sum(len(times) for times in samples.values()), total, name)
    figures = [
        Figure(
            "startup",
            f"{name}: start to active, p50",
            spread(times)["p50"],
            "s",
            budget("ros.node_start_s"),
            f"max {max(times):.2f}, n {len(times)}",
        )
        for name, times in samples.items()
    ]
    return PartResult({"start_to_active_s": {name: spread(times, 3) for name, times in samples.items()}}, figures)


def _looking_down() -> dict[str, Any]:
    """Pose of a camera straight above the workspace, which nodes that take frames from topics ask for."""
    return {"camera_pose_xyz_m": [0.75, 0.0, 1.3], "camera_pose_xyzw": [1.0, 0.0, 0.0, 0.0]}


def measure_recorder(bench: RosBench, progress: Progress) -> PartResult:
    """The bag recorder in a process of its own beside the pipeline: what was published, and what is in the bag."""
    bag = bench.scratch / "bag"
    duration_s = bench.seconds / 2  # as long as the nodes have their turns in latency
    _require_space(bench, duration_s)
    parameters = {"bag_recorder": {"bag": str(bag), "diagnostics_rate_hz": 10.0}}
    high_water_mb, latency = 0.0, []
    with (
        workcell(bench, bench.rate_hz, plan_every_scene=True) as (host, client),
        NodeProcess(_RECORDER, parameters, bench.scratch, bench.domain) as recorder,
        explained(recorder),
    ):
        client.change("bag_recorder", "configure", PATIENCE_S)
        client.change("bag_recorder", "activate", PATIENCE_S)
        time.sleep(_DISCOVERY_S)
        before = host.cpu_s(), recorder.cpu_s()
        client.take_plans()
        client.change("camera", "activate", PATIENCE_S)
        begun = time.monotonic()
        while (elapsed := time.monotonic() - begun) < duration_s:
            high_water_mb = max(high_water_mb, float(client.values("bag_recorder").get("queue_mb", "0")))
            latency += [plan.latency_ms for plan in client.take_plans()]
            progress(int(elapsed), int(duration_s), f"queue {high_water_mb:.1f} MB")
            time.sleep(0.1)
        seconds = time.monotonic() - begun
        cpu = [
            round((now - old) / seconds, 3) for now, old in zip((host.cpu_s(), recorder.cpu_s()), before, strict=True)
        ]
        client.change("camera", "deactivate", PATIENCE_S)
        time.sleep(_SETTLE_S)
        published = counted(client.fresh_values("camera", PATIENCE_S), "frames")
        scenes = counted(client.fresh_values("segmentation", PATIENCE_S), "scenes")
        drops = dropped(client.fresh_values("bag_recorder", PATIENCE_S))
        client.change("bag_recorder", "deactivate", PATIENCE_S)  # writes what waits and ends the bag
    size = sum(file.stat().st_size for file in bag.glob("*.mcap"))
    messages, raw_bytes = _in_bag(bag)
    topics = camera_topics("camera")
    missing = {
        name: expected - messages[f"/{topic}"]
        for name, topic, expected in (
            ("color", topics.color, published),
            ("depth", topics.depth, published),
            ("scene", "scene", scenes),
        )
    }
    lost, said = sum(missing.values()), sum(drops.values())
    silent, shown = max(0, lost - said), f"colour, depth, scenes; {published} frames"
    figures = [
        short_of_rate("recorder", published, seconds, bench.rate_hz),
        Figure("recorder", "messages lost", lost, "messages", budget("ros.recorder_lost"), shown),
        Figure("recorder", "dropped, as it says itself", said, "messages"),
        Figure("recorder", "lost without being counted", silent, "messages", budget("ros.recorder_uncounted")),
        Figure("recorder", "taken in", round(raw_bytes / seconds / 1e6, 2), "MB/s"),
        Figure("recorder", "written", round(size / seconds / 1e6, 2), "MB/s"),
        Figure("recorder", "queue, high-water mark", high_water_mb, "MB"),
        Figure("recorder", "processor time of the recorder", cpu[1], "cores", None, f"pipeline {cpu[0]:.2f}"),
    ]
    values = {
        "seconds": round(seconds, 2),
        "rate_hz": bench.rate_hz,
        "published_frames": published,
        "published_scenes": scenes,
        "missing": missing,
        "dropped": drops,
        "in_bag": dict(messages),
        "bag_bytes": size,
        "message_bytes": raw_bytes,
        "bytes_per_s": round(size / seconds),
        "queue_high_water_mb": high_water_mb,
        "cpu_cores": {"pipeline": cpu[0], "recorder": cpu[1]},
        "published_to_plan_ms": spread(latency) if latency else None,
    }
    return PartResult(values, figures)


def _require_space(bench: RosBench, seconds: float) -> None:
    """Raises RobinError DISK_FULL: a bag that ends in a full disk would be taken for a slow recorder."""
    needed = seconds * bench.rate_hz * bench.pixels * _BYTES_PER_PIXEL
    free = shutil.disk_usage(bench.scratch).free
    if free < needed:
        text = f"{bench.scratch}: the bag may take {needed / 1e9:.1f} GB, {free / 1e9:.1f} GB are free"
        raise RobinError(Code.DISK_FULL, f"{text}: give fewer --seconds, or another TMPDIR")


def _in_bag(bag: Path) -> tuple[Counter[str], int]:
    """Messages by topic, and the bytes of all of them as they were on the wire."""
    messages: Counter[str] = Counter()
    size = 0
    for message in BagReader(bag).messages():
        messages[message.topic] += 1
        size += len(message.data)
    return messages, size


def measure_build(bench: RosBench, progress: Progress) -> PartResult:
    """The workspace with colcon from nothing into a temporary folder. Raises RobinError DEPENDENCY_MISSING."""
    script = repository_root() / "scripts" / "ros.sh"
    if not script.is_file():
        raise RobinError(Code.DEPENDENCY_MISSING, "the workspace is built from a checkout of the repository only")
    folder = bench.scratch / "workspace"
    with (bench.scratch / "build.log").open("w+") as log:
        begun = time.monotonic()
        popen = subprocess.Popen(["sh", str(script), "build", str(folder)], stdout=log, stderr=subprocess.STDOUT)
        try:
            while popen.poll() is None and time.monotonic() - begun < _BUILD_TIMEOUT_S:
                progress(int(time.monotonic() - begun), int(budget("ros.workspace_build_s").limit), "s")
                time.sleep(0.2)
            seconds = time.monotonic() - begun
        finally:
            if popen.poll() is None:
                popen.terminate()
                popen.wait()
        log.seek(0)
        last = [line.strip() for line in log.read().split("\n") if line.strip()][-3:]
    packages = sorted(path.name for path in (folder / "install").glob("*") if (path / "share" / path.name).is_dir())
    if popen.returncode != 0 or "robin_msgs" not in packages:
        raise RobinError(Code.DEPENDENCY_MISSING, f"the workspace does not build: {' | '.join(last)}")
    note = f"{len(packages)} packages"
    figure = Figure("build", "workspace from nothing", round(seconds, 1), "s", budget("ros.workspace_build_s"), note)
    return PartResult({"seconds": round(seconds, 2), "packages": packages}, [figure])
