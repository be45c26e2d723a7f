"""``robin fleet rollout``: a release on its way to all robots, stage by stage."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from robin_cli.fleet.options import FleetOption, shown_time
from robin_cli.options import JsonOption
from robin_cli.terminal import print_table, require_writable, write_json
from robin_perception.core.errors import Code, RobinError

if TYPE_CHECKING:
    from robin_fleet.folder import Fleet
    from robin_fleet.rollout.runner import RolloutRunner
    from robin_fleet.rollout.state import RolloutState

WhyOption = Annotated[str, typer.Option("--why", metavar="TEXT", help="The reason, for the record.")]
RolloutArgument = Annotated[str, typer.Argument(metavar="ROLLOUT", help="Its name, as in status.", show_default=False)]
NameArgument = Annotated[str, typer.Argument(metavar="ROBOT|SITE", help="Its name.", show_default=False)]
SiteFlag = Annotated[bool, typer.Option("--site", help="The name is that of a site, not of a robot.")]
_ASKED = "a person asked"

rollout = typer.Typer(help="A release on its way to all robots, stage by stage.", no_args_is_help=True)


def add_to(app: typer.Typer) -> None:
    app.add_typer(rollout, name="rollout")


@rollout.command()
def start(
    release: Annotated[str, typer.Argument(metavar="RELEASE", help="One that is published.", show_default=False)],
    fleet: FleetOption,
    pilot: Annotated[
        str | None, typer.Option("--pilot", metavar="ROBOT", help="The first robot. Default: an average one.")
    ] = None,
    plan: Annotated[
        Path | None,
        typer.Option("--plan", metavar="FILE", help="YAML of the stages and error rates. Default: built in."),
    ] = None,
    json_file: JsonOption = None,
) -> None:
    """Begin to roll out a published release."""
    require_writable(json_file, plan)
    from robin_fleet.rollout.plan import RolloutPlan
    from robin_perception.core.config import load_config

    settings = load_config(RolloutPlan, plan)
    with _open(fleet) as (_, runner):
        state = runner.start(release, settings, pilot)
    write_json(json_file, _told(state))
    print(f"roll-out {state.rollout} of {release} begins: {state.stage.value}, first on {state.pilot}")


@rollout.command()
def step(fleet: FleetOption, json_file: JsonOption = None) -> None:
    """Count new picks, decide, and publish who is to run what. `robin fleet up` does it by itself."""
    require_writable(json_file)
    with _open(fleet) as (_, runner):
        happened = runner.step()
    write_json(json_file, {"events": [{"rollout": name, **event.__dict__} for name, event in happened]})
    for name, event in happened:
        print(f"{name} {event.kind}: {event.text}")
    if not happened:
        print("nothing is due")


@rollout.command()
def status(
    fleet: FleetOption,
    name: Annotated[str | None, typer.Argument(metavar="[ROLLOUT]", help="Default: all.", show_default=False)] = None,
    json_file: JsonOption = None,
) -> None:
    """All roll-outs; of one: what it has shown so far, and what happened."""
    require_writable(json_file)
    from robin_fleet.ledger import rollouts as book

    with _open(fleet) as (opened, _), opened.ledger.read() as connection:
        states = book.all_rollouts(connection) if name is None else [book.find_rollout(connection, name)]
        events = [] if name is None else [e for e in book.events_of(connection, name) if e.kind != "picks"]
        holds = book.all_holds(connection)
    values: dict[str, Any] = {"rollouts": [_told(one) for one in states]}
    values |= {"events": [e._asdict() for e in events], "holds": [h._asdict() for h in holds]}
    write_json(json_file, values)
    header = ("roll-out", "release", "phase", "stage", "since", "robots", "picks", "lost", "worse", "good enough")
    print_table("roll-outs", header, [_row(one) for one in states], text_columns=5)
    for one in states:
        if one.reason:
            print(f"{one.rollout}: {one.reason}")
    for event in events:
        print(f"{shown_time(event.at_s)}  {event.kind}  {event.text}")
    for held in holds:
        print(f"{held.what} {held.name} stays as it is since {shown_time(held.at_s)}: {held.why}")


@rollout.command()
def report(
    name: RolloutArgument,
    stage: Annotated[str, typer.Argument(metavar="replay|shadow|acceptance", help="The trial.", show_default=False)],
    fleet: FleetOption,
    picks: Annotated[int, typer.Option("--picks", metavar="N", min=0, help="That were compared, or tried.")],
    lost: Annotated[int, typer.Option("--lost", metavar="N", min=0, help="That the release loses.")] = 0,
    won: Annotated[int, typer.Option("--won", metavar="N", min=0, help="That the release alone wins.")] = 0,
    fault: Annotated[str, typer.Option("--fault", metavar="TEXT", help="Why it cannot run at all.")] = "",
    json_file: JsonOption = None,
) -> None:
    """Tell what a trial of the release found; counts of several reports add up."""
    require_writable(json_file)
    from robin_fleet.rollout.plan import TRIALS, Stage
    from robin_fleet.rollout.state import Trial

    if stage not in [one.value for one in TRIALS]:
        raise RobinError(Code.OPTION_INVALID, f"stage '{stage}': replay, shadow or acceptance is needed")
    if lost + won > picks:
        raise RobinError(Code.OPTION_INVALID, f"--lost {lost} and --won {won}: of {picks} picks")
    with _open(fleet) as (_, runner):
        runner.report(name, Stage(stage), Trial(picks=picks, lost=lost, won=won, fault=fault))
        runner.step()
    status(fleet, name, json_file)


@rollout.command()
def pause(name: RolloutArgument, fleet: FleetOption, why: WhyOption = _ASKED, json_file: JsonOption = None) -> None:
    """Go no further for now; it is still stopped where picks get worse."""
    _change("pause", name, fleet, why, json_file)


@rollout.command()
def resume(name: RolloutArgument, fleet: FleetOption, why: WhyOption = _ASKED, json_file: JsonOption = None) -> None:
    """Go on with one that was paused."""
    _change("resume", name, fleet, why, json_file)


@rollout.command()
def abort(name: RolloutArgument, fleet: FleetOption, why: WhyOption = _ASKED, json_file: JsonOption = None) -> None:
    """End it; all robots go back to what ran before."""
    _change("abort", name, fleet, why, json_file)


@rollout.command()
def hold(
    name: NameArgument,
    fleet: FleetOption,
    site: SiteFlag = False,
    why: WhyOption = _ASKED,
    json_file: JsonOption = None,
) -> None:
    """Have a robot (a pin), or all robots of a site, take no new release."""
    require_writable(json_file)
    import time

    from robin_fleet.ledger import rollouts as book

    with _open(fleet) as (opened, runner):
        with opened.ledger.write() as connection:
            book.hold(connection, _kind(site), name, why, time.time())
        runner.publish()
    write_json(json_file, {"held": name, "what": _kind(site)})
    print(f"{_kind(site)} {name} stays with what it runs")


@rollout.command()
def free(name: NameArgument, fleet: FleetOption, site: SiteFlag = False, json_file: JsonOption = None) -> None:
    """Let a robot or a site that was held take releases again."""
    require_writable(json_file)
    from robin_fleet.ledger import rollouts as book

    with _open(fleet) as (opened, runner):
        with opened.ledger.write() as connection:
            known = book.release_hold(connection, _kind(site), name)
        runner.publish()
    if not known:
        raise RobinError(Code.OPTION_INVALID, f"{_kind(site)} {name}: was not held")
    write_json(json_file, {"freed": name, "what": _kind(site)})
    print(f"{_kind(site)} {name} takes releases again")


def _kind(site: bool) -> str:
    """As ``robin_fleet.ledger.rollouts`` has them."""
    return "site" if site else "robot"


@contextlib.contextmanager
def _open(fleet: Path) -> Iterator[tuple[Fleet, RolloutRunner]]:
    from robin_fleet.folder import open_fleet
    from robin_fleet.release.repository import ReleaseRepository
    from robin_fleet.rollout.runner import RolloutRunner

    with open_fleet(fleet) as opened:
        yield opened, RolloutRunner(opened.ledger, ReleaseRepository(fleet))


def _change(what: str, name: str, fleet: Path, why: str, json_file: Path | None) -> None:
    require_writable(json_file)
    with _open(fleet) as (_, runner):
        state: RolloutState = getattr(runner, what)(name, why)
    write_json(json_file, _told(state))
    print(f"roll-out {name} of {state.release} is {state.phase.value}, in stage {state.stage.value}")


def _told(state: RolloutState) -> dict[str, Any]:
    worse, kept = _wealth(state)
    shown = {"worse": worse, "good_enough": kept, "stop_at": 1 / state.plan.false_stops}
    return {**state.model_dump(mode="json"), "test": {**shown, "go_at": 1 / state.plan.false_proofs}}


def _wealth(state: RolloutState) -> tuple[float, float | None]:
    """(of the test that stops it, of the proof that the stage asks for)."""
    from robin_fleet.rollout.plan import TRIALS

    margin = None if state.stage in TRIALS else state.plan.rule(state.stage).margin
    return state.evidence.wealth_worse, None if margin is None else state.evidence.wealth_kept(margin)


def _row(state: RolloutState) -> tuple[str, ...]:
    worse, kept = _wealth(state)
    counts = (str(len(state.robots)), f"{state.evidence.picks:,}", f"{state.evidence.lost:,}")
    words = (state.rollout, state.release, state.phase.value, state.stage.value, shown_time(state.began_s))
    proof = "" if kept is None else f"{kept:.3g} of {1 / state.plan.false_proofs:g}"
    return (*words, *counts, f"{worse:.3g} of {1 / state.plan.false_stops:g}", proof)
