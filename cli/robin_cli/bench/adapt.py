"""``robin bench adapt``: a cell that learns beside one that does not, on the same piles."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any

import typer

from robin_cli.known_scenes import KnownScenes
from robin_cli.options import (
    CoreOption,
    EngineByNameOption,
    JsonOption,
    ModelOption,
    PicksOption,
    RoundsConfigOption,
    ScenarioOption,
    SeedOption,
    model_path,
)
from robin_cli.terminal import note, print_table, progress_bar, require_writable, write_json
from robin_perception.core.errors import Code, RobinError


def adapt(
    scenario: ScenarioOption = "clear_bags",
    picks: PicksOption = 600,
    seed: SeedOption = 1,
    engine: EngineByNameOption = "onnxruntime",
    model: ModelOption = None,
    core: CoreOption = None,
    config: RoundsConfigOption = None,
    work: Annotated[
        Path,
        typer.Option("--work", metavar="DIR", help="What the cell learns stands there, and the run without learning."),
    ] = Path("out/bench-adapt"),
    json_file: JsonOption = None,
) -> None:
    """Pick the same piles with learning from picks and without: failed tries, by what would have had to be known."""
    require_writable(json_file)
    if find_spec("torch") is None:
        raise RobinError(Code.DEPENDENCY_MISSING, "torch is not installed; teaching needs it: make setup-dev")
    from edge_adapt.learn.rounds import RoundsConfig
    from robin_perception.core.config import load_config
    from robin_sim.learning import compare_learning
    from robin_sim.runs.request import RunRequest

    settings = load_config(RoundsConfig, config)
    request = RunRequest(scenario, picks, seed, engine=engine, model=model_path(model))
    with progress_bar(f"{scenario}, seed {seed}", "picks") as advance:
        result = compare_learning(
            request,
            work / f"{scenario}-{seed}",
            KnownScenes(core, 1),
            lambda what, done, total: advance(done, total, what),
            settings,
        )
    write_json(json_file, result)
    _print(result)


def _print(result: dict[str, Any]) -> None:
    sides = ("static", "adapted")
    names = ("first 64", "65 to 128", "last 200")
    rows = [(name, *(str(result[side]["failures"][k]) for side in sides)) for k, name in enumerate(names)]
    rows.append(("65 on", *(str(result[side]["failures_65_on"]) for side in sides)))
    rows.append(("a person was asked", *(str(result[side]["helps"]) for side in sides)))
    for cause in ("see", "hold", "tool", "stop"):
        rows.append((f"cause: {cause}", *(str(sum(w[cause] for w in result[side]["causes"])) for side in sides)))
    title = f"{result['scenario']}, seed {result['seed']}: failed tries of {result['picks']}"
    print_table(title, ("tries", "without", "with learning"), rows)
    for step in result["steps"]:
        note(f"{step['what']} {step['number']}: {'passed' if step['passed'] else 'refused'}: {step['text']}")
