"""``robin trace``: why this parcel, these cups."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from robin_cli.options import JsonOption
from robin_cli.terminal import note, print_table, require_writable, write_json
from robin_perception.core.errors import Code, RobinError


def trace(
    decision: Annotated[
        str | None,
        typer.Argument(metavar="DECISION", help="Id of a decision, or its last part. Without it: a list of all."),
    ] = None,
    run: Annotated[
        Path, typer.Option("--run", metavar="DIR", help="Folder of a run with records, or its decisions.jsonl.")
    ] = Path("out/demo"),
    report: Annotated[
        Path | None,
        typer.Option("--report", metavar="FILE", help="Write the run's records, as far as they go, as one HTML page."),
    ] = None,
    json_file: JsonOption = None,
) -> None:
    """Explain one decision of a run: what was seen, what was weighed, what was ruled out, what became of it."""
    require_writable(json_file)
    require_writable(report, begins=(b"<",))
    from edge_adapt.decision_store import read_decisions
    from edge_adapt.picture_keeper import removed_pictures
    from edge_adapt.trace import cups_text, trace_text

    if not run.exists():
        raise RobinError(Code.INPUT_MISSING, f"{run}: no such run; robin demo makes one, --run names another")
    log = read_decisions(run)
    if log.truncated:
        note(f"{run}: the last record was cut short and is left out")
    if report is not None:
        from edge_adapt.report import write_report

        note(f"report: {write_report(run, report)}")
    if decision is not None:
        found = log.find(decision)
        write_json(json_file, found.model_dump(mode="json"))
        print(trace_text(found), end="")
        if (reason := removed_pictures(log.folder).get(found.decision_id)) is not None:
            print(f"\nPictures\n  removed by rule: {reason}")
        return
    if json_file is not None:
        write_json(json_file, [d.model_dump(mode="json") for d in log.decisions])
    rows = [
        (
            d.decision_id,
            d.result,
            f"{len(d.instances)}",
            cups_text(d.chosen.cups, d.context.tool) if d.chosen else "",
            f"{d.chosen.score:.3f}" if d.chosen and d.chosen.score is not None else "",
        )
        for d in log.decisions
    ]
    print_table(f"{len(rows)} decisions in {log.folder}", ("decision", "result", "parcels seen", "cups", "score"), rows)
