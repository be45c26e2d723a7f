"""``robin fleet annotate``: samples for persons to label, and their labels back."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from robin_cli.fleet.options import FleetOption, PersonOption, RobotOption, SiteOption, StationOption
from robin_cli.options import JsonOption
from robin_cli.terminal import require_writable, write_json
from robin_perception.core.errors import Code, RobinError

app = typer.Typer(help="Labels of samples: filled in from picks, corrected by persons.", no_args_is_help=True)
# As robin_fleet.annotation.exchange has them, which is not asked so that --help stays quick. A test compares.
KINDS = ("coco", "label-studio")


def add_to(fleet: typer.Typer) -> None:
    fleet.add_typer(app, name="annotate")


@app.command("export")
def export(
    fleet: FleetOption,
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="New folder.")],
    kind: Annotated[str, typer.Option("--kind", metavar="K", help=" or ".join(KINDS))] = KINDS[0],
    novelty: Annotated[
        str | None, typer.Option("--novelty", metavar="N", help="Only samples that show this novelty.")
    ] = None,
    robot: RobotOption = None,
    site: SiteOption = None,
    station: StationOption = None,
    limit: Annotated[int, typer.Option("--limit", metavar="N", min=1, max=100_000, help="At most.")] = 100,
    json_file: JsonOption = None,
) -> None:
    """Write pictures with depth, camera, and labels that are filled in: a person corrects instead of drawing."""
    require_writable(json_file)
    if kind not in KINDS:
        raise RobinError(Code.OPTION_INVALID, f"--kind {kind}: {' or '.join(KINDS)}")
    from robin_fleet.annotation.exchange import hand_out
    from robin_fleet.folder import open_fleet
    from robin_fleet.ledger.samples import SampleFilter, find_samples
    from robin_fleet.novelties.review import of_novelty

    chosen = SampleFilter(robot=robot, site=site, station=station)
    with open_fleet(fleet) as opened:
        shown = None if novelty is None else {one.sample for one in of_novelty(opened.ledger, novelty)[1]}
        with opened.ledger.read() as connection:
            rows = find_samples(connection, chosen, limit if shown is None else None)
        rows = [row for row in rows if shown is None or row.sample in shown][:limit]
        done = hand_out(opened.ledger, opened.objects, rows, out, kind)
    write_json(json_file, {"out": out, "kind": kind, **vars(done)})
    print(f"{out}: {done.samples} samples, {done.labels} labels to correct")


@app.command("import")
def take(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="COCO or Label Studio JSON of what was handed out.")],
    fleet: FleetOption,
    by: PersonOption,
    json_file: JsonOption = None,
) -> None:
    """Take labels back, all of the file or none. What came back unchanged keeps where it came from."""
    require_writable(json_file)
    from robin_fleet.annotation.exchange import take_back
    from robin_fleet.folder import open_fleet

    with open_fleet(fleet) as opened:
        done = take_back(opened.ledger, file, by)
    write_json(json_file, vars(done))
    print(f"{done.samples} samples, {done.labels} labels, {done.kept} of them as they were handed out")
