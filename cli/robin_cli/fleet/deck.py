"""``robin fleet deck``: training decks of labelled samples."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from robin_cli.fleet.options import (
    FleetOption,
    PersonOption,
    RobotOption,
    SinceOption,
    SiteOption,
    StationOption,
    moment_s,
    shown_time,
)
from robin_cli.options import JsonOption
from robin_cli.terminal import print_table, progress_bar, require_writable, write_json

if TYPE_CHECKING:
    from robin_fleet.decks.manifest import Manifest
    from robin_fleet.ledger.decks import DeckRow

app = typer.Typer(
    help="Training decks: what is taught and what judges, in versions that never change.", no_args_is_help=True
)
# As robin_fleet.decks.export has them, which is not asked so that --help stays quick. A test compares.
FORMATS = ("folders", "webdataset")

DeckArgument = Annotated[str, typer.Argument(metavar="DECK", help="NAME for the newest version, or NAME:VERSION.")]
ConfigOption = Annotated[
    Path | None,
    typer.Option(
        "--config", metavar="FILE", help="YAML: least_confidence, held_share, juxtapose ... Default: built in."
    ),
]


def add_to(fleet: typer.Typer) -> None:
    fleet.add_typer(app, name="deck")


@app.command("make")
def make(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Of the deck; its versions count up.")],
    fleet: FleetOption,
    by: PersonOption,
    robot: RobotOption = None,
    site: SiteOption = None,
    station: StationOption = None,
    since: SinceOption = None,
    licence: Annotated[
        str, typer.Option("--licence", metavar="TEXT", help="Under which the pictures may be used.")
    ] = "internal use only",
    config: ConfigOption = None,
    json_file: JsonOption = None,
) -> None:
    """Make a version of a deck from labelled samples; labels that samples lack are filled in from picks."""
    require_writable(json_file)
    import time

    since_s = moment_s(since, time.time())
    from robin_fleet.decks.make import make_deck, read_deck
    from robin_fleet.decks.manifest import DeckConfig
    from robin_fleet.folder import open_fleet
    from robin_fleet.ledger.samples import SampleFilter, find_samples
    from robin_perception.core.config import load_config

    settings = load_config(DeckConfig, config)
    chosen = SampleFilter(robot=robot, site=site, station=station, since_s=since_s)
    with open_fleet(fleet) as opened:
        with opened.ledger.read() as connection:
            rows = find_samples(connection, chosen)
        row = make_deck(opened.ledger, opened.objects, name, rows, by, licence, settings)
        deck = read_deck(opened.objects, row)
    write_json(json_file, _values(row, deck))
    _tell(row, deck)


@app.command("show")
def show(
    fleet: FleetOption,
    deck: Annotated[str | None, typer.Argument(metavar="DECK", help="NAME or NAME:VERSION. Default: all.")] = None,
    picture: Annotated[
        Path | None, typer.Option("--picture", metavar="FILE", help="Write pictures with parcels laid in, as one JPEG.")
    ] = None,
    json_file: JsonOption = None,
) -> None:
    """What a deck holds: strata with their shares, what is held out, origin and licence."""
    require_writable(json_file)
    from robin_fleet.decks.make import find_deck, read_deck
    from robin_fleet.decks.sheet import juxtaposition_sheet
    from robin_fleet.folder import open_fleet
    from robin_fleet.ledger.decks import decks

    with open_fleet(fleet) as opened:
        if deck is not None:
            row = find_deck(opened.ledger, deck)
            manifest = read_deck(opened.objects, row)
            if picture is not None:
                _write_picture(picture, juxtaposition_sheet(opened.objects, manifest))
            write_json(json_file, _values(row, manifest))
            _tell(row, manifest)
            return
        with opened.ledger.read() as connection:
            found = decks(connection)
    write_json(json_file, {"decks": [row._asdict() for row in found]})
    rows = [
        (f"{row.deck}:{row.version}", row.made_by, shown_time(row.made_s), str(row.members), str(row.held))
        for row in found
    ]
    print_table(f"{len(found)} decks", ("deck", "by", "made (UTC)", "samples", "held out"), rows, text_columns=3)


@app.command("diff")
def diff(
    old: DeckArgument,
    new: Annotated[str, typer.Argument(metavar="OTHER", help="NAME or NAME:VERSION.")],
    fleet: FleetOption,
    json_file: JsonOption = None,
) -> None:
    """What changed from one deck to another."""
    require_writable(json_file)
    from robin_fleet.decks.make import find_deck, read_deck
    from robin_fleet.decks.manifest import difference
    from robin_fleet.folder import open_fleet

    with open_fleet(fleet) as opened:
        first, second = (read_deck(opened.objects, find_deck(opened.ledger, name)) for name in (old, new))
    found = difference(first, second)
    write_json(json_file, found)
    print(", ".join(f"{len(found[key])} {key}" for key in ("added", "removed", "relabelled", "moved")))
    rows = [(name, f"{before:.1%}", f"{after:.1%}") for name, (before, after) in found["strata"].items()]
    print_table("shares that changed", ("stratum", "before", "after"), rows)
    if found["config"]:
        print(f"settings that changed: {', '.join(found['config'])}")


@app.command("export")
def export(
    deck: DeckArgument,
    fleet: FleetOption,
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="New folder.")],
    kind: Annotated[str, typer.Option("--format", metavar="F", help=" or ".join(FORMATS))] = FORMATS[0],
    json_file: JsonOption = None,
) -> None:
    """Write a deck as image folders or as WebDataset shards; the same deck gives the same bytes."""
    require_writable(json_file)
    from robin_fleet.decks.export import export_deck
    from robin_fleet.decks.make import find_deck, read_deck
    from robin_fleet.folder import open_fleet

    with open_fleet(fleet) as opened, progress_bar("writing", "samples") as advance:
        manifest = read_deck(opened.objects, find_deck(opened.ledger, deck))
        counts = export_deck(opened.objects, manifest, out, kind, lambda done, total: advance(done, total, ""))
    write_json(json_file, {"out": out, "format": kind, **counts})
    print(f"{out}: {counts['train']} scenes to teach, {counts['held']} held out")


def _write_picture(path: Path, sheet: Any) -> None:
    import cv2

    from robin_perception.core.disk import write_atomic

    require_writable(path, begins=(b"\xff\xd8",))
    write_atomic(path, cv2.imencode(".jpg", sheet[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, 85])[1].tobytes())


def _values(row: DeckRow, deck: Manifest) -> dict[str, Any]:
    return {**row._asdict(), "deck_manifest": deck.model_dump(mode="json")}


def _tell(row: DeckRow, deck: Manifest) -> None:
    title = f"{row.deck}:{row.version}, {row.members} samples, {row.held} held out, {row.manifest[:12]}"
    rows = [(name, str(one.train), f"{one.share:.1%}", str(one.held)) for name, one in sorted(deck.strata.items())]
    print_table(title, ("stratum", "taught", "share", "held out"), rows)
    print(f"origin: {deck.origin}; licence: {deck.licence}; made by {row.made_by}")
    held = [*deck.held_stations, *(f"{name} from {shown_time(at)}" for name, at in deck.held_after_s.items())]
    print(f"held out: {'; '.join(held)}")
    for why, count in deck.left_out.items():
        print(f"left out: {count} {why}")
