"""``robin record``: what a cell saw and decided, as a bag that ROS 2 tools and ``robin replay`` read."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from robin_cli.options import (
    CellOption,
    EngineByNameOption,
    JsonOption,
    ModelOption,
    PlannerConfigOption,
    RecordedPicksOption,
    SeedOption,
    model_path,
    size_px,
)
from robin_cli.terminal import note, print_table, progress_bar, require_writable, write_json


def record(
    out: Annotated[Path, typer.Option("--out", metavar="BAG", help="Folder of the new bag; must not exist.")],
    scenario: Annotated[
        str, typer.Option("--scenario", metavar="S", help="Scenario of the simulated cell, by name or as a YAML file.")
    ] = "mixed",
    picks: RecordedPicksOption = 36,
    seed: SeedOption = 1,
    planner: Annotated[
        str | None, typer.Option("--planner", metavar="P", help="Planner by name. Default: the one that is shipped.")
    ] = None,
    engine: EngineByNameOption = "onnxruntime",
    model: ModelOption = None,
    cell: CellOption = None,
    planner_config: PlannerConfigOption = None,
    recovery: Annotated[
        bool,
        typer.Option("--recovery/--no-recovery", help="Watch the station, judge each load, put right what is wrong."),
    ] = True,
    learn_hold: Annotated[
        Path | None, typer.Option("--learn-hold", metavar="FILE", help="Learn from pick to pick to hold, in this file.")
    ] = None,
    picks_per_pile: Annotated[
        int | None, typer.Option("--picks-per-pile", metavar="N", min=1, max=200, help="Default: the scenario's.")
    ] = None,
    size: Annotated[
        str | None, typer.Option("--size", metavar="WxH", help="Size of the images, pixels. Default: the scenario's.")
    ] = None,
    jpeg: Annotated[
        int, typer.Option("--jpeg", metavar="QUALITY", min=0, max=100, help="Colour as JPEG of this quality; 0: raw.")
    ] = 0,
    zstd_level: Annotated[
        int, typer.Option("--zstd-level", metavar="L", min=1, max=19, help="Compression: 1 fast, 19 small.")
    ] = 3,
    live: Annotated[
        bool, typer.Option("--live", help="Record a running station's ROS 2 topics instead, until Ctrl-C.")
    ] = False,
    namespace: Annotated[str, typer.Option("--namespace", metavar="NS", help="Of the station, with --live.")] = "",
    camera_prefix: Annotated[
        str, typer.Option("--camera-prefix", metavar="P", help="What the camera's topics begin with, with --live.")
    ] = "camera",
    seconds: Annotated[
        float | None, typer.Option("--seconds", metavar="S", min=0.1, help="With --live: record so long.")
    ] = None,
    json_file: JsonOption = None,
) -> None:
    """Run the simulated cell, closed loop, and write a bag of it: frames, scenes, plans, outcomes, decisions.

    With **--live**, record a running station instead. The bag is MCAP as rosbag2 writes it. What is decided on is
    exactly what is recorded (depth in whole millimetres, colour after its JPEG), so that **robin replay** makes the
    same decisions bit for bit on the same machine.
    """
    require_writable(json_file)
    if live:
        _record_live(out, namespace, camera_prefix, seconds, json_file)
        return
    image_size = None if size is None else size_px(size, "--size")
    from edge_adapt.bag.mcap_file import StorageConfig
    from robin_grasp.planner.config import PlannerConfig
    from robin_grasp.planner.registry import DEFAULT_PLANNER
    from robin_grasp.recovery.config import RecoveryConfig
    from robin_grasp.tool import CellConfig
    from robin_perception.bags.frames import ImageCoding
    from robin_perception.core.config import load_config
    from robin_perception.monitors.config import MonitorsConfig
    from robin_sim.runs.recorded import CellRecording, record_cell
    from robin_sim.scenario import load_scenario

    spec = CellRecording(
        scenario=load_scenario(scenario),
        picks=picks,
        seed=seed,
        model=model_path(model),
        engine=engine,
        planner=planner if planner is not None else DEFAULT_PLANNER,
        planner_config=load_config(PlannerConfig, planner_config),
        cell=load_config(CellConfig, cell),
        recovery=RecoveryConfig() if recovery else None,
        monitors=MonitorsConfig() if recovery else None,
        learn_hold=learn_hold,
        picks_per_pile=picks_per_pile,
        image_size=image_size,
        images=ImageCoding(jpeg_quality=jpeg),
        storage=StorageConfig(zstd_level=zstd_level),
    )
    with progress_bar(f"recording {spec.scenario.name}", "picks") as advance:
        result = record_cell(spec, out, advance)
    written = {"bag": str(result.bag), "bytes": result.size_bytes, "messages": result.messages}
    write_json(json_file, {**written, "piles": result.piles, "results": result.results})
    _print(f"{picks} picks of {result.piles} piles", written)


def _record_live(out: Path, namespace: str, camera_prefix: str, seconds: float | None, json_file: Path | None) -> None:
    from robin_cli.commands.record_station import record_station

    note(f"recording into {out}; Ctrl-C ends it")
    written = record_station(out, namespace, camera_prefix, seconds)
    write_json(json_file, written)
    _print("recorded", written)


def _print(what: str, written: dict[str, Any]) -> None:
    rows = [(topic, str(count)) for topic, count in written["messages"].items() if count]
    print_table(f"{what}, {written['bytes'] / 1e6:.2f} MB", ("topic", "messages"), rows)
    note(f"bag: {Path(written['bag']).resolve()}")
    note(f"again: robin replay {written['bag']}")
