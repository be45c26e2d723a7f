"""``robin fleet demo``: the whole way of a fleet on one machine, on simulated cells."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any

import typer

from robin_cli.known_scenes import KnownScenes
from robin_cli.options import CoreOption, JsonOption, ModelOption, SeedOption, WorkersOption, model_path, worker_count
from robin_cli.terminal import note, print_table, progress_bar, require_writable, write_json
from robin_perception.core.errors import Code, RobinError

SEED, PICKS = 160531, 18


def add_to(app: typer.Typer) -> None:
    app.command("demo")(demo)


def demo(
    out: Annotated[
        Path, typer.Option("--out", metavar="DIR", help="Folder for the page and all that it tells of.")
    ] = Path("out/fleet-demo"),
    picks: Annotated[
        int, typer.Option("--picks", metavar="N", min=8, max=1000, help="Of each simulated cell.")
    ] = PICKS,
    seed: SeedOption = SEED,
    model: ModelOption = None,
    core: CoreOption = None,
    workers: WorkersOption = 0,
    json_file: JsonOption = None,
) -> None:
    """Three simulated cells meet new packaging; it is found, taught, judged, rolled out. A bad model is stopped.

    Picks of an earlier demo in the same folder are kept, all else is made anew.
    """
    require_writable(json_file)
    if find_spec("torch") is None:
        raise RobinError(Code.DEPENDENCY_MISSING, "torch is not installed; training needs it: make setup-dev")
    from robin_cli.fleet_demo.story import Order
    from robin_cli.fleet_demo.tell import tell_demo

    count = worker_count(workers)
    order = Order(out, model_path(model), KnownScenes(core, count), picks, seed, count)
    with progress_bar("fleet demo", "") as advance:
        story, page = tell_demo(order, advance, note)
    values = story.to_json()
    write_json(json_file, values)
    print_table("a fleet learns", ("", "", ""), _rows(values))
    note(f"page: {page.resolve()}")


def _rows(told: dict[str, Any]) -> list[tuple[str, str, str]]:
    rows = [(line, found["goods"], f"{found.get('clean', 0)} picks clean") for line, found in told["cells"].items()]
    novelty = told["novelty"]
    rows.append((novelty["id"], novelty["name"], f"seen {novelty['seen']} times at {', '.join(novelty['sites'])}"))
    for name, training in told["trainings"].items():
        rows.append((f"lesson {name}", training["state"], training["result"].get("closed_loop", {}).get("text", "")))
        if name in told["rollouts"]:
            rolled = told["rollouts"][name]
            what = f"{rolled['robots_that_ran_it']} robots ran it, {rolled['robots_that_went_back']} went back"
            rows.append((f"roll-out {name}", rolled["phase"], f"{what}, in {rolled['hours']:.1f} h"))
    return rows
