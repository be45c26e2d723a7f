"""``robin fleet train``: retraining from a deck, its report, and a person's decision on it."""

from __future__ import annotations

import time
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from robin_cli.fleet.options import FleetOption, PersonOption, shown_time
from robin_cli.known_scenes import KnownScenes
from robin_cli.options import (
    CoreOption,
    EngineByNameOption,
    JsonOption,
    ModelOption,
    SeedOption,
    WorkersOption,
    model_path,
    worker_count,
)
from robin_cli.terminal import note, print_table, progress_bar, require_writable, write_json
from robin_perception.core.errors import Code, RobinError

if TYPE_CHECKING:
    from robin_fleet.folder import Fleet
    from robin_fleet.ledger.decks import DeckRow, TrainingRow

app = typer.Typer(
    help="Retraining from a deck: when it is due, the gate, a report that a person signs.", no_args_is_help=True
)


def add_to(fleet: typer.Typer) -> None:
    fleet.add_typer(app, name="train")


@app.command("run")
def run(
    deck: Annotated[str, typer.Argument(metavar="DECK", help="NAME for the newest version, or NAME:VERSION.")],
    fleet: FleetOption,
    every: Annotated[
        str | None,
        typer.Option(
            "--every", metavar="T", help="Only when due: 84h or 7d since the last one, or a novelty past its bar."
        ),
    ] = None,
    renew: Annotated[
        bool, typer.Option("--renew", help="First make the deck's next version, of all samples that came in.")
    ] = False,
    quick: Annotated[bool, typer.Option("--quick", help="Teach the head alone, not the whole network.")] = False,
    closed_loop: Annotated[
        int,
        typer.Option("--closed-loop", metavar="N", min=0, help="Both models also make so many picks in simulation."),
    ] = 0,
    scenario: Annotated[str, typer.Option("--scenario", metavar="S", help="Of these picks.")] = "mixed",
    model: ModelOption = None,
    core: CoreOption = None,
    config: Annotated[
        Path | None, typer.Option("--config", metavar="FILE", help="YAML: teach, history, replayed. Default: built in.")
    ] = None,
    seed: SeedOption = 0,
    engine: EngineByNameOption = "onnxruntime",
    workers: WorkersOption = 0,
    json_file: JsonOption = None,
) -> None:
    """Teach the running bundle from a deck and judge the outcome; a run that was stopped goes on where it was."""
    require_writable(json_file)
    every_s = None if every is None else _seconds(every)
    if find_spec("torch") is None:
        raise RobinError(Code.DEPENDENCY_MISSING, "torch is not installed; training needs it: make setup-dev")
    from robin_cli.closed_loop import closed_loop as picking
    from robin_fleet.decks.make import find_deck
    from robin_fleet.folder import open_fleet
    from robin_fleet.training.run import FOLDER, PAGE, TrainConfig, TrainOrder, train
    from robin_perception.core.config import load_config
    from robin_sim.runs.request import RunRequest

    settings = load_config(TrainConfig, config)
    scenes = KnownScenes(core, worker_count(workers))
    with open_fleet(fleet) as opened:
        row = find_deck(opened.ledger, deck)
        why, names = ("asked for", ()) if every_s is None else due(opened, row.deck, every_s)
        if why is None:
            write_json(json_file, {"due": False})
            print("not due")
            return
        if (stopped := None if every_s is None else unfinished(opened, row.deck)) is not None:
            row = find_deck(opened.ledger, f"{stopped.deck}:{stopped.version}")
        elif renew:
            row = renewed(opened, row)
        with progress_bar("training", "steps") as advance:
            loop = f"{scenario}: {closed_loop} picks, seed {seed}" if closed_loop else ""
            request = RunRequest(
                scenario, closed_loop, seed, engine=engine, workers=worker_count(workers), recovery=True
            )
            pick = picking(request, advance) if closed_loop else None
            order = TrainOrder(row, model_path(model), scenes, why, not quick, seed, engine, names, pick, loop)
            done = train(opened, order, settings, lambda what, n, total: advance(n, total, what))
    write_json(json_file, {"due": True, **done._asdict()})
    note(why)
    print(f"{done.training}: {done.state}: {done.result['text']}; {fleet / FOLDER / done.training / PAGE}")


@app.command("status")
def status(fleet: FleetOption, json_file: JsonOption = None) -> None:
    """Trainings with what the gate said and what persons decided, the latest first."""
    require_writable(json_file)
    from robin_fleet.folder import open_fleet
    from robin_fleet.ledger.decks import signatures, trainings

    with open_fleet(fleet) as opened, opened.ledger.read() as connection:
        found = [(row, signatures(connection, row.training)) for row in trainings(connection)]
    values = [{**row._asdict(), "signatures": [one._asdict() for one in signed]} for row, signed in found]
    write_json(json_file, {"trainings": values})
    rows = [
        (
            row.training,
            f"{row.deck}:{row.version}",
            row.candidate or "-",
            row.state,
            "; ".join(f"{one.decision} by {one.signed_by}" for one in signed) or "-",
            shown_time(row.started_s),
        )
        for row, signed in found
    ]
    header = ("training", "deck", "model", "gate", "signed", "began (UTC)")
    print_table(f"{len(found)} trainings", header, rows, text_columns=6)


@app.command("sign")
def sign(
    training: Annotated[str, typer.Argument(metavar="TRAINING", help="As robin fleet train status tells it.")],
    fleet: FleetOption,
    by: PersonOption,
    decision: Annotated[str, typer.Option("--decision", metavar="D", help="accept or reject.")],
    text: Annotated[str, typer.Option("--text", metavar="TEXT", help="Why.")] = "",
    json_file: JsonOption = None,
) -> None:
    """Write into the ledger, for good, what a person decided on the report. What the gate refused stays refused."""
    require_writable(json_file)
    from robin_fleet.folder import open_fleet
    from robin_fleet.training.run import sign as signed

    with open_fleet(fleet) as opened:
        done = signed(opened, training, by, decision, text)
    write_json(json_file, done._asdict())
    print(f"{training}: {decision} by {done.signed_by}, {shown_time(done.at_s)}")


def renewed(fleet: Fleet, row: DeckRow) -> DeckRow:
    """The deck's next version, of all samples, under its licence and settings; itself where nothing came in."""
    from robin_fleet.decks.make import make_deck, read_deck
    from robin_fleet.ledger.samples import SampleFilter, find_samples

    with fleet.ledger.read() as connection:
        rows = find_samples(connection, SampleFilter())
    earlier = read_deck(fleet.objects, row)
    return make_deck(fleet.ledger, fleet.objects, row.deck, rows, "robin fleet train", earlier.licence, earlier.config)


def unfinished(fleet: Fleet, deck: str) -> TrainingRow | None:
    """The latest training on that deck, where it was stopped before it was judged: it goes on first."""
    from robin_fleet.ledger.decks import RUNNING, trainings

    with fleet.ledger.read() as connection:
        latest = next((row for row in trainings(connection) if row.deck == deck), None)
    return latest if latest is not None and latest.state == RUNNING else None


def due(fleet: Fleet, deck: str, every_s: float) -> tuple[str | None, tuple[str, ...]]:
    """Why a training is due, None where none is; and the novelties that it is about."""
    from robin_fleet.ledger.decks import trainings
    from robin_fleet.novelties.review import ranked
    from robin_fleet.novelties.update import update_fleet
    from robin_fleet.training.schedule import due as due_now
    from robin_fleet.training.schedule import past_bar

    if (stopped := unfinished(fleet, deck)) is not None:
        return stopped.why, tuple(stopped.result.get("novelties", ()))
    update_fleet(fleet)
    found = ranked(fleet.ledger)
    with fleet.ledger.read() as connection:
        earlier = trainings(connection)
    taught = {novelty for row in earlier for novelty in row.result.get("novelties", ())}
    last_s = max((row.started_s for row in earlier), default=None)
    why = due_now(time.time(), last_s, every_s, found, taught)
    return why, tuple(one.row.novelty for one in past_bar(found))


def _seconds(text: str) -> float:
    """Of "84h", "7d". Raises RobinError OPTION_INVALID."""
    number, unit = text[:-1], text[-1:]
    if not number.isdigit() or unit not in ("h", "d") or int(number) < 1:
        raise RobinError(Code.OPTION_INVALID, f"--every {text}: 84h or 7d is needed")
    return int(number) * (3600.0 if unit == "h" else 86_400.0)
