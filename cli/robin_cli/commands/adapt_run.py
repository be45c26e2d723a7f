"""``robin adapt run``: the network learns from the picks in the store, beside picking."""

from __future__ import annotations

import time
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from robin_cli.known_scenes import KnownScenes
from robin_cli.options import (
    CellOption,
    CoreOption,
    EngineByNameOption,
    JsonOption,
    ModelOption,
    RoundsConfigOption,
    SeedOption,
    WorkersOption,
    model_path,
    worker_count,
)
from robin_cli.terminal import note, progress_bar, require_writable, write_json
from robin_perception.core.errors import Code, RobinError

if TYPE_CHECKING:
    from edge_adapt.learn.rounds import RoundStep, SeeRounds


def run(
    store: Annotated[Path, typer.Option("--store", metavar="DIR", help="Samples of picks (robin store).")],
    models: Annotated[
        Path,
        typer.Option(
            "--models", metavar="DIR", envvar="ROBIN_MODELS", help="Versions of the model; made where there is none."
        ),
    ],
    work: Annotated[
        Path,
        typer.Option("--work", metavar="DIR", help="State, pages of the lessons, and what a stopped one goes on with."),
    ] = Path("out/learning"),
    once: Annotated[
        bool, typer.Option("--once", help="One lesson now, whatever has come since the last one; then end.")
    ] = False,
    deep: Annotated[
        bool, typer.Option("--deep", help="Teach the whole network, not its head alone: when there is time.")
    ] = False,
    every: Annotated[
        float, typer.Option("--every", metavar="S", min=1.0, max=86_400.0, help="Look at the store so often, seconds.")
    ] = 60.0,
    cell: CellOption = None,
    model: ModelOption = None,
    core: CoreOption = None,
    config: RoundsConfigOption = None,
    seed: SeedOption = 0,
    engine: EngineByNameOption = "onnxruntime",
    workers: WorkersOption = 0,
    json_file: JsonOption = None,
) -> None:
    """Learn to see from picks: teach, hold against later picks and known scenes, try in the shadow, put to work.

    Runs until it is stopped (Ctrl-C). --json is written after each step.
    """
    require_writable(json_file)
    if find_spec("torch") is None:
        raise RobinError(Code.DEPENDENCY_MISSING, "torch is not installed; teaching needs it: make setup-dev")
    from edge_adapt.learn.rounds import RoundsConfig, SeeRounds
    from edge_adapt.models.registry import ModelRegistry
    from robin_grasp.tool import CellConfig
    from robin_perception.core.config import load_config

    settings, own = load_config(RoundsConfig, config), load_config(CellConfig, cell)
    rounds = SeeRounds(
        store,
        ModelRegistry(models, model_path(model)),
        work,
        KnownScenes(core, worker_count(workers)),
        settings,
        belt_z_m=own.workspace.belt_z_m,
        engine=engine,
        deep=deep,
        seed=seed,
    )
    done: list[RoundStep] = []
    while True:
        try:
            step = _step(rounds, now=once)
        except RobinError as exc:
            if once:
                raise
            step = None
            note(f"{exc}; the model that runs goes on, tried again in {every:.0f} s")
        if step is not None:
            done.append(step)
            _tell(step)
            write_json(json_file, {"steps": [one.to_json() for one in done]})
        if once:
            if step is None:
                waits = "until the other is unpinned" if rounds.pinned else "for more frames in the shadow"
                note(f"version {rounds.state().pending} waits {waits}")
            return
        if step is None:
            time.sleep(every)


def _step(rounds: SeeRounds, *, now: bool) -> RoundStep | None:
    with progress_bar("learning", "steps") as advance:
        return rounds.step(lambda what, done, total: advance(done, total, what), now=now)


def _tell(step: RoundStep) -> None:
    if step.what == "lesson":
        how = f"accepted as version {step.version}" if step.passed else "refused"
    else:
        how = f"version {step.version} " + ("runs from now on" if step.passed else "is not used")
    print(f"{step.what} {step.number}, {step.took_s:.0f} s: {how}: {step.text}")
