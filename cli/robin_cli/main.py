"""Entry point of ``robin``. Every failure ends in one line on stderr and an exit status, never in a traceback.

Exit status: 0 done (also when "no grasp" is the answer), 1 failure, 2 bad input, option or configuration, 70 a bug,
130 Ctrl-C.
Only what the command line itself needs is imported here; a command imports its rooms when it runs.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from robin_cli import fleet
from robin_cli.commands import (
    adapt,
    bench,
    card,
    cups,
    dataset,
    demo,
    doctor,
    engine,
    evaluate,
    film,
    help_desk,
    novelty,
    pickcheck,
    plan,
    record,
    recovery,
    replay,
    ros,
    sim,
    station,
    store,
    trace,
    train,
    uplink,
    view,
)
from robin_cli.failures import (
    EXIT_FAILURE,
    EXIT_INTERRUPTED,
    drop_stdout,
    exit_status,
    reason_of,
)
from robin_cli.terminal import note, prepare_streams, print_error
from robin_perception.core.errors import RobinError

VERSION = "0.1.0"

app = typer.Typer(
    name="robin",
    help="RGB-D parcel picking for a suction tool of one to eight cups: see, choose, check, record.",
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
app.add_typer(novelty.app, name="novelty")
app.add_typer(film.app, name="film")
app.add_typer(dataset.app, name="dataset")
app.command("train")(train.train)
app.add_typer(engine.app, name="engine")
app.command("export")(train.export)
app.command("calibrate")(train.calibrate)
app.add_typer(pickcheck.app, name="pickcheck")
app.command("card")(card.card)
app.command("cups")(cups.cups)
app.command("trace")(trace.trace)
app.add_typer(recovery.app, name="recovery")
app.add_typer(help_desk.app, name="help")
app.command("record")(record.record)
app.command("replay")(replay.replay)
app.add_typer(bench.app, name="bench")
app.add_typer(ros.app, name="ros")
app.add_typer(station.app, name="station")
app.add_typer(store.app, name="store")
app.add_typer(uplink.app, name="uplink")
app.add_typer(adapt.app, name="adapt")
app.add_typer(fleet.app, name="fleet")
app.command("view")(view.view)
app.command("doctor")(doctor.doctor)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status. Whatever ends it is one numbered line."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    prepare_streams()
    try:
        status = app(args=given, prog_name="robin", standalone_mode=False)
        sys.stdout.flush()
    except (KeyboardInterrupt, typer.Abort):
        status = EXIT_INTERRUPTED
    except BrokenPipeError:  # of a short answer, met by the flush; typer ends a longer one with the same status
        drop_stdout()
        return EXIT_FAILURE
    except Exception as exc:
        return _told(reason_of(exc, ("robin", *given)))
    if status == EXIT_INTERRUPTED:  # typer turns Ctrl-C into this status
        note("interrupted")
    return status if isinstance(status, int) else 0


def _told(reason: RobinError) -> int:
    try:
        sys.stdout.flush()
    except OSError:
        drop_stdout()
    print_error(reason)
    return exit_status(reason.code)


if __name__ == "__main__":
    sys.exit(main())
