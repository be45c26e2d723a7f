"""``robin fleet novelties``: unfamiliar goods of all robots, what comes again first."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from robin_cli.fleet.options import FleetOption, PersonOption, shown_time
from robin_cli.options import JsonOption
from robin_cli.terminal import note, print_table, progress_bar, require_writable, write_json

if TYPE_CHECKING:
    from robin_fleet.folder import Fleet
    from robin_fleet.ledger.novelties import NoveltyRow
    from robin_fleet.novelties.review import Ranked

app = typer.Typer(help="Goods that nobody taught, over all robots: what comes again first.", no_args_is_help=True)

NoveltyArgument = Annotated[str, typer.Argument(metavar="NOVELTY", help="Id such as nov-0003, or name.")]


def add_to(fleet: typer.Typer) -> None:
    fleet.add_typer(app, name="novelties")


@app.command("list")
def list_novelties(
    fleet: FleetOption,
    first: Annotated[int, typer.Option("--first", metavar="N", min=1, help="So many.")] = 20,
    json_file: JsonOption = None,
) -> None:
    """Look at what came in since, and list what a person should look at, the most urgent first."""
    require_writable(json_file)
    from robin_fleet.folder import open_fleet
    from robin_fleet.novelties.review import ranked

    with open_fleet(fleet) as opened:
        updated = _updated(opened)
        found = ranked(opened.ledger)
    write_json(json_file, {"updated": updated, "novelties": [_values(one) for one in found]})
    rows = [
        (
            str(one.rank),
            one.row.novelty,
            one.row.name or "-",
            one.row.state,
            *(str(value) for value in (one.standing.seen, one.standing.failed)),
            ", ".join(one.standing.sites),
            shown_time(one.standing.last_s),
        )
        for one in found[:first]
    ]
    header = ("rank", "id", "name", "state", "seen", "failed", "sites", "latest (UTC)")
    print_table(f"{len(found)} novelties", header, rows, text_columns=4)


@app.command("show")
def show(
    novelty: NoveltyArgument,
    fleet: FleetOption,
    picture: Annotated[
        Path | None, typer.Option("--picture", metavar="FILE", help="Write its pictures as one PNG.")
    ] = None,
    json_file: JsonOption = None,
) -> None:
    """Where and when one novelty was seen, with its pictures."""
    require_writable(json_file)
    from robin_fleet.folder import open_fleet
    from robin_fleet.novelties.review import contact_sheet, of_novelty

    with open_fleet(fleet) as opened:
        row, seen = of_novelty(opened.ledger, novelty)
        if picture is not None:
            _write_picture(picture, contact_sheet(opened.objects, seen))
    sightings = [{key: value for key, value in one._asdict().items() if key != "look"} for one in seen]
    write_json(json_file, {**row._asdict(), "sightings": sightings})
    title = f"{row.novelty} {row.name}: {row.state}, seen {len(seen)} times"
    rows = [
        (one.site, one.station, shown_time(one.at_s), f"{one.level:.2f}", "yes" if one.failed else "") for one in seen
    ]
    print_table(title, ("site", "station", "at (UTC)", "novelty", "failed"), rows, text_columns=3)


@app.command("confirm")
def confirm(novelty: NoveltyArgument, fleet: FleetOption, by: PersonOption, json_file: JsonOption = None) -> None:
    """Say that these are goods to be taught."""
    _decide("confirm", fleet, json_file, novelty, by)


@app.command("dismiss")
def dismiss(novelty: NoveltyArgument, fleet: FleetOption, by: PersonOption, json_file: JsonOption = None) -> None:
    """Say that this is nothing to teach; what comes again of it is not shown."""
    _decide("dismiss", fleet, json_file, novelty, by)


@app.command("name")
def name(
    novelty: NoveltyArgument,
    called: Annotated[str, typer.Argument(metavar="NAME", help="What it is called from now on.")],
    fleet: FleetOption,
    by: PersonOption,
    json_file: JsonOption = None,
) -> None:
    """Confirm a novelty and give it a name."""
    _decide("name", fleet, json_file, novelty, called, by)


@app.command("merge")
def merge(
    novelty: NoveltyArgument,
    other: Annotated[str, typer.Argument(metavar="OTHER", help="What becomes a part of it.")],
    fleet: FleetOption,
    by: PersonOption,
    json_file: JsonOption = None,
) -> None:
    """Say that two are the same goods."""
    _decide("merge", fleet, json_file, novelty, other, by)


@app.command("technicians")
def technicians(fleet: FleetOption, json_file: JsonOption = None) -> None:
    """Faults of light, lens, depth and camera by station: what they showed is kept out of the novelties."""
    require_writable(json_file)
    from robin_fleet.folder import open_fleet
    from robin_fleet.ledger.novelties import faults_by_station

    with open_fleet(fleet) as opened:
        _updated(opened)
        with opened.ledger.read() as connection:
            found = faults_by_station(connection)
    write_json(json_file, {"stations": found})
    rows = [
        (
            one["site"],
            one["station"],
            f"E{one['code']} {one['condition']}",
            *(str(one[key]) for key in ("samples", "kept_out")),
            shown_time(one["first_s"]),
            shown_time(one["last_s"]),
        )
        for one in found
    ]
    header = ("site", "station", "condition", "samples", "sightings kept out", "first (UTC)", "latest (UTC)")
    print_table(f"{len(found)} faults of stations", header, rows, text_columns=3)


def _updated(fleet: Fleet) -> dict[str, int]:
    from robin_fleet.novelties.update import update_fleet

    with progress_bar("looking at samples", "samples") as advance:
        done = update_fleet(fleet, lambda done, total: advance(done, total, ""))
    if done.unreadable:
        note(f"{done.unreadable} samples cannot be read")
    return dict(vars(done))


def _decide(what: str, fleet: Path, json_file: Path | None, *given: str) -> None:
    require_writable(json_file)
    from robin_fleet.folder import open_fleet
    from robin_fleet.novelties import review

    with open_fleet(fleet) as opened:
        row: NoveltyRow = getattr(review, what)(opened.ledger, *given)
    write_json(json_file, row._asdict())
    print(f"{row.novelty} {row.name}: {row.state}".replace(" :", ":"))


def _write_picture(path: Path, sheet: Any) -> None:
    import cv2

    from robin_perception.core.disk import write_atomic

    require_writable(path, begins=(b"\x89PNG",))
    write_atomic(path, cv2.imencode(".png", sheet)[1].tobytes())


def _values(one: Ranked) -> dict[str, Any]:
    return {"rank": one.rank, **one.row._asdict(), **vars(one.standing)}
