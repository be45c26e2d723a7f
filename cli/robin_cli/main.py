"""Entry point of ``robin``. Every expected failure ends in one line on stderr and an exit status, never in a traceback.

Exit status: 0 done (also when "no grasp" is the answer), 1 failure, 2 bad input, option or configuration, 130 Ctrl-C.
Only what the command line itself needs is imported here; a command imports its rooms when it runs.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from robin_cli.commands import (
    bench,
    card,
    dataset,
    demo,
    doctor,
    engine,
    evaluate,
    plan,
    ranker,
    record,
    replay,
    ros,
    sim,
    trace,
    train,
)
from robin_cli.terminal import EXIT_INTERRUPTED, exit_status, note, print_error, reason_of

VERSION = "0.1.0"

app = typer.Typer(
    name="robin",
    help="RGB-D parcel picking for an eight-cup suction tool: see, choose, check, record.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"robin {VERSION}")
        raise typer.Exit()


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    del version


app.command("demo")(demo.demo)
app.add_typer(sim.app, name="sim")
app.command("plan")(plan.plan)
app.add_typer(evaluate.app, name="eval")
app.add_typer(dataset.app, name="dataset")
app.command("train")(train.train)
app.add_typer(engine.app, name="engine")
app.command("export")(train.export)
app.command("calibrate")(train.calibrate)
app.add_typer(ranker.app, name="ranker")
app.command("card")(card.card)
app.command("trace")(trace.trace)
app.command("record")(record.record)
app.command("replay")(replay.replay)
app.add_typer(bench.app, name="bench")
app.add_typer(ros.app, name="ros")
app.command("doctor")(doctor.doctor)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status. Unexpected exceptions (bugs) are not caught."""
    try:
        status = app(args=None if arguments is None else list(arguments), prog_name="robin", standalone_mode=False)
    except (KeyboardInterrupt, typer.Abort):
        status = EXIT_INTERRUPTED
    except Exception as exc:
        found = reason_of(exc)
        if found is None:
            raise
        code, text = found
        print_error(code, text)
        return exit_status(code)
    if status == EXIT_INTERRUPTED:  # typer turns Ctrl-C into this status
        note("interrupted")
    return status if isinstance(status, int) else 0


if __name__ == "__main__":
    sys.exit(main())
