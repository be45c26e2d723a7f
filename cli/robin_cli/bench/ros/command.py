"""``robin bench ros``: the ROS 2 nodes against their budgets, as real processes over real DDS."""

from __future__ import annotations

import hashlib
import os
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from robin_cli.options import (
    EngineOption,
    FramesOption,
    HeightOption,
    JsonOption,
    ModelOption,
    SeedOption,
    ThreadsOption,
    WidthOption,
    model_path,
)
from robin_cli.terminal import progress_bar, require_writable, write_json
from robin_perception.core.errors import Code, RobinError
from robin_perception.core.output import scratch_folder

if TYPE_CHECKING:
    from robin_cli.bench.figures import Figure
    from robin_cli.bench.pipeline import PipelineBench
    from robin_cli.bench.ros.station import PartResult, RosBench

PARTS = ("latency", "service", "startup", "recorder", "build", "memory")


def ros(
    part: Annotated[
        str, typer.Option("--part", metavar="LIST", help=f"all, or some of {', '.join(PARTS)}, with commas.")
    ] = "all",
    seconds: Annotated[
        float, typer.Option("--seconds", metavar="S", min=10, help="Length of latency; recorder takes half of it.")
    ] = 120.0,
    memory_seconds: Annotated[
        float, typer.Option("--memory-seconds", metavar="S", min=10, help="Length of memory.")
    ] = 600.0,
    rate: Annotated[
        float, typer.Option("--rate", metavar="HZ", min=0.5, max=120, help="Camera rate of latency and recorder.")
    ] = 15.0,
    memory_rate: Annotated[
        float, typer.Option("--memory-rate", metavar="HZ", min=0.5, max=120, help="Camera rate of memory.")
    ] = 30.0,
    requests: Annotated[int, typer.Option("--requests", metavar="N", min=5, help="Plan requests of service.")] = 100,
    starts: Annotated[int, typer.Option("--starts", metavar="N", min=1, help="Starts of each node in startup.")] = 5,
    frames: FramesOption = 8,
    width: WidthOption = 1280,
    height: HeightOption = 720,
    threads: ThreadsOption = 0,
    seed: SeedOption = 7,
    model: ModelOption = None,
    engine: EngineOption = "auto",
    json_file: JsonOption = None,
) -> None:
    """Time the ROS 2 nodes: published to plan, plan service, start, recorder, build, memory; each beside its budget."""
    parts = _parts(part)
    require_writable(json_file)
    from robin_bringup.runner import require_ros

    require_ros()
    from robin_cli.bench.figures import print_figures, print_verdict
    from robin_cli.bench.pipeline import PipelineBench
    from robin_cli.bench.ros.station import RosBench, private_domain
    from robin_cli.doctor.machine import machine_facts
    from robin_perception.model.bundle import load_bundle

    bundle = load_bundle(model_path(model))
    drawn = PipelineBench(frames, 1, width, height, threads, "geometric", seed, bundle.directory, engine)
    values: dict[str, Any] = {
        "machine": {**machine_facts(), **_ros_facts()},
        "model": bundle.model_id,
        "bundle_sha256": dict(bundle.manifest.files),
        "engine": engine,
        "threads": threads,
        "frames": frames,
        "width": width,
        "height": height,
        "seed": seed,
        "parts": {},
        "figures": [],
    }
    figures: list[Figure] = []
    with scratch_folder("robin-bench-ros-") as scratch:
        if set(parts) != {"build"}:
            values["input_sha256"] = _draw(drawn, scratch / "frames")
        bench = RosBench(
            frames=scratch / "frames",
            pixels=width * height,
            scratch=scratch,
            model=bundle.directory,
            engine=engine,
            threads=threads,
            domain=private_domain(),
            rate_hz=rate,
            seconds=seconds,
            memory_seconds=memory_seconds,
            memory_rate_hz=memory_rate,
            requests=requests,
            starts=starts,
        )
        for name in parts:
            load = round(os.getloadavg()[0], 2)
            result = _measured(name, bench)
            values["parts"][name] = {**result.values, "load_1min": load}
            values["figures"] += [figure.to_json() for figure in result.figures]
            figures += result.figures
            write_json(json_file, values)  # after each part: the last ones take their time
    title = f"{width}x{height}, {rate:g} Hz, {bundle.model_id}"
    print_figures(title, figures)
    over = [figure.name for figure in figures if figure.within is False]
    print_verdict(over, values["machine"], "no figure to quote")


def _parts(chosen: str) -> tuple[str, ...]:
    """The parts asked for, in the order in which they run. Raises RobinError OPTION_INVALID."""
    names = PARTS if chosen == "all" else tuple(name.strip() for name in chosen.split(","))
    for name in names:
        if name not in PARTS:
            raise RobinError(Code.OPTION_INVALID, f"unknown part '{name}'; known: all, {', '.join(PARTS)}")
    return tuple(name for name in PARTS if name in names)


def _measured(name: str, bench: RosBench) -> PartResult:
    from robin_cli.bench.ros import parts as bench_ros_parts
    from robin_cli.bench.ros import processes as bench_ros_processes

    measure = {
        "latency": bench_ros_parts.measure_latency,
        "service": bench_ros_parts.measure_service,
        "startup": bench_ros_processes.measure_startup,
        "recorder": bench_ros_processes.measure_recorder,
        "build": bench_ros_processes.measure_build,
        "memory": bench_ros_parts.measure_memory,
    }[name]
    with progress_bar(name) as advance:
        return measure(bench, advance)


def _draw(bench: PipelineBench, folder: Path) -> str:
    """Render the frames into image folders below ``folder``; returns the hash of their content."""
    from edge_adapt.record_build import frame_digest
    from robin_cli.bench.pipeline import simulated_frames
    from robin_perception.core.image_folder import load_frame, save_frame

    digests = []
    with progress_bar("rendering", "frames") as advance:
        for number, frame in enumerate(simulated_frames(bench)):
            save_frame(folder / f"{number:04d}", frame)
            digests.append(frame_digest(load_frame(folder / f"{number:04d}")))
            advance(number + 1, bench.frames, "")
    return hashlib.sha256("".join(digests).encode()).hexdigest()


def _ros_facts() -> dict[str, Any]:
    """Middleware and versions of ROS beside the machine's facts."""
    from robin_bringup.nodes.bench_client import middleware

    def version(name: str) -> str:
        try:
            return metadata.version(name)
        except metadata.PackageNotFoundError:
            return "unknown version"

    distribution = os.environ.get("ROS_DISTRO", "wheels")
    return {"ros": {"distribution": distribution, "middleware": middleware(), "rclpy": version("rclpy")}}
