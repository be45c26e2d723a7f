"""``robin store``: what the robot keeps of its picks on its own disk."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from robin_cli.options import JsonOption
from robin_cli.terminal import note, print_table, progress_bar, require_writable, write_json
from robin_perception.core.errors import Code, RobinError

if TYPE_CHECKING:
    from edge_adapt.store.verify import StoreReport

app = typer.Typer(help="The store of samples: what is kept of the picks of long runs.", no_args_is_help=True)
# As edge_adapt.store has them, which is not asked so that --help stays quick. A test compares.
FORMATS = ("folders", "coco", "mcap")
SHARES = ("novelty", "failure", "core", "balanced")

StoreArgument = Annotated[Path, typer.Argument(metavar="STORE", help="Folder of the store.")]


@app.command("status")
def status(store: StoreArgument, json_file: JsonOption = None) -> None:
    """How much is kept of what, how much of it the fleet lacks, and what had to go before it was uploaded."""
    require_writable(json_file)
    from edge_adapt.store.status import store_status

    values = store_status(store)
    write_json(json_file, values)
    rows = [
        (
            s["share"],
            s["name"],
            s["result"],
            *(f"{s[key]}" for key in ("seen", "kept", "lost")),
            f"{s['bytes'] / 1e6:.1f}",
        )
        for s in values["strata"]
    ]
    used = f"{values['bytes'] / 1e6:.1f} of {values['budget_mb']:g} MB"
    title = f"{values['samples']} samples, {used}, {values['pending']} not uploaded, {values['lost']} lost"
    print_table(title, ("share", "goods", "result", "seen", "kept", "lost", "MB"), rows, text_columns=3)


@app.command("verify")
def verify(
    store: StoreArgument,
    repair: Annotated[
        bool,
        typer.Option("--repair", help="Put damaged blobs aside, take their samples out; make a lost index anew."),
    ] = False,
    json_file: JsonOption = None,
) -> None:
    """Read every blob and compare it with its name, and the index with the blobs. Status 1 where something is damaged.

    It may run beside the writer; with --repair the store must be free.
    """
    require_writable(json_file)
    from edge_adapt.store import verify as checks
    from edge_adapt.store.store import StoreReader

    with progress_bar("verifying", "blobs") as advance:
        if repair:
            report = checks.repair(store, lambda done, total: advance(done, total, ""))
        else:
            with StoreReader(store) as reader:
                report = checks.verify(reader, lambda done, total: advance(done, total, ""))
    write_json(json_file, report.to_json())
    _tell(report)
    if not report.whole and not repair:
        raise _first_fault(store, report)


@app.command("export")
def export(
    store: StoreArgument,
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="New folder.")],
    kind: Annotated[
        str, typer.Option("--format", metavar="KIND", help="folders (image folders), coco, or mcap (a bag).")
    ] = "folders",
    share: Annotated[
        str | None, typer.Option("--share", metavar="S", help=f"Only of this share: {', '.join(SHARES)}.")
    ] = None,
    result: Annotated[
        str | None, typer.Option("--result", metavar="R", help="Only picks of this result: clean, miss, multi ...")
    ] = None,
    limit: Annotated[int | None, typer.Option("--limit", metavar="N", min=1, help="The first N. Default: all.")] = None,
    json_file: JsonOption = None,
) -> None:
    """Write samples for other tools. Their masks are what the network saw, no truth."""
    require_writable(json_file)
    if kind not in FORMATS:
        raise RobinError(Code.OPTION_INVALID, f"--format '{kind}': known are {', '.join(FORMATS)}")
    if share is not None and share not in SHARES:
        raise RobinError(Code.OPTION_INVALID, f"--share '{share}': known are {', '.join(SHARES)}")
    from edge_adapt.store.export import export as write
    from edge_adapt.store.store import StoreReader

    with progress_bar(f"exporting {kind}", "samples") as advance, StoreReader(store) as reader:
        done = write(
            reader,
            out,
            kind,
            share=share,
            result=result,
            limit=-1 if limit is None else limit,
            progress=lambda at, total: advance(at, total, ""),
        )
    write_json(json_file, {"out": str(out), "format": kind, "samples": done.samples, "skipped": done.skipped})
    print(f"{done.samples} samples in {out}" + (f", {done.skipped} skipped (damaged, or gone)" if done.skipped else ""))


@app.command("prune")
def prune(
    store: StoreArgument,
    budget_mb: Annotated[
        float | None, typer.Option("--budget-mb", metavar="MB", min=0.001, help="Default: the store's own.")
    ] = None,
    least_free_mb: Annotated[
        float | None,
        typer.Option("--free-mb", metavar="MB", min=0, help="Room on the disk. Default: as it was."),
    ] = None,
    json_file: JsonOption = None,
) -> None:
    """Remove samples until budget and free disk are kept, and what crashes left behind. The store must be free."""
    require_writable(json_file)
    from edge_adapt.store.status import prune_store

    with progress_bar("pruning", "samples") as advance:
        values = prune_store(store, budget_mb, least_free_mb, lambda done, total: advance(done, total, ""))
    write_json(json_file, values)
    print(f"{values['removed']} samples and {values['orphans']} orphans removed, {values['bytes'] / 1e6:.1f} MB left")


def _tell(report: StoreReport) -> None:
    values: dict[str, Any] = report.to_json()
    rows = [("samples", str(report.samples)), ("blobs", f"{report.blobs}, {report.bytes / 1e6:.1f} MB")]
    rows += [(name, str(len(values[name]))) for name in ("damaged", "missing")]
    rows.append(("orphans", f"{report.orphans}, {report.orphan_bytes / 1e6:.1f} MB"))
    if report.rebuilt is not None:
        rows.append(("samples of the new index", f"{report.rebuilt}, {report.incomplete} lacked a blob"))
    if report.removed:
        rows.append(("samples taken out", str(report.removed)))
    print_table("store", ("", ""), rows)
    for problem in report.problems:
        note(f"index: {problem}")


def _first_fault(store: Path, report: StoreReport) -> RobinError:
    hint = "robin store verify --repair puts it right"
    if report.problems:
        return RobinError(Code.STORE_INDEX_DAMAGED, f"{store}: {report.problems[0]}; {hint}")
    code = Code.STORE_BLOB_DAMAGED if report.damaged else Code.STORE_BLOB_MISSING
    count, name = len(report.damaged) + len(report.missing), (report.damaged or report.missing)[0]
    return RobinError(code, f"{store}: {count} blobs, {name} is the first; {hint}")
