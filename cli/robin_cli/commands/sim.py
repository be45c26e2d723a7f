"""``robin sim``: closed-loop runs of one scenario."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from robin_cli.options import (
    CellOption,
    EngineByNameOption,
    JsonOption,
    ModelOption,
    PicksOption,
    PlannerConfigOption,
    PlannerOption,
    SeedOption,
    SupervisedOption,
    WorkersOption,
    engine_called,
    model_path,
    worker_count,
)
from robin_cli.terminal import note, print_table, progress_bar, require_writable, write_json

if TYPE_CHECKING:
    from robin_sim.recovered_pile import PersonConfig

app = typer.Typer(help="The simulated cell.", no_args_is_help=True)


@app.command("run")
def run(
    scenario: Annotated[
        str,
        typer.Option("--scenario", metavar="S", help="Name of a scenario (robin sim list), or a scenario's YAML file."),
    ] = "mixed",
    picks: PicksOption = 100,
    seed: SeedOption = 1,
    planner: PlannerOption = "geometric",
    masks: Annotated[
        str,
        typer.Option("--masks", metavar="KIND", help="predicted (by the network) or oracle (the simulator's truth)."),
    ] = "predicted",
    engine: EngineByNameOption = "onnxruntime",
    supervised: SupervisedOption = None,
    model: ModelOption = None,
    cell: CellOption = None,
    planner_config: PlannerConfigOption = None,
    recovery: Annotated[
        bool,
        typer.Option(
            "--recovery/--no-recovery", help="Judge each load, put right what is wrong, ask a (simulated) person."
        ),
    ] = True,
    recovery_config: Annotated[
        Path | None,
        typer.Option("--recovery-config", metavar="FILE", help="YAML of the policy's limits, as in docs/recovery.md."),
    ] = None,
    person: Annotated[
        str,
        typer.Option("--person", metavar="S", help="The simulated person answers after so many seconds, or 'never'."),
    ] = "20",
    wait_for_person: Annotated[
        float,
        typer.Option(
            "--wait-for-person",
            metavar="S",
            help="So long a person may answer first, on the page or by robin help answer; needs --out.",
        ),
    ] = 0.0,
    keep_cups: Annotated[
        bool, typer.Option("--keep-cups", help="What is learned of the cups goes from pile to pile; needs --workers 1.")
    ] = False,
    learn_hold: Annotated[
        Path | None,
        typer.Option(
            "--learn-hold", metavar="FILE", help="Learn from pick to pick to hold, in this file; needs --workers 1."
        ),
    ] = None,
    workers: WorkersOption = 0,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="DIR", help="Also keep records, images and report.html here.")
    ] = None,
    store: Annotated[
        Path | None,
        typer.Option("--store", metavar="DIR", help="Keep the images in this store (robin store), within its budget."),
    ] = None,
    report: Annotated[bool, typer.Option("--report/--no-report", help="Write report.html beside the records.")] = True,
    json_file: JsonOption = None,
) -> None:
    """Pick piles of a scenario, closed loop. The outcome depends on the seed only, not on the number of processes."""
    require_writable(json_file)
    from robin_grasp.planner.config import PlannerConfig
    from robin_grasp.recovery.config import RecoveryConfig
    from robin_grasp.tool import CellConfig
    from robin_perception.core.config import load_config
    from robin_sim.runs.request import RunRequest
    from robin_sim.runs.simulated import REPORT_FILE, run_simulated, summary_rows

    settings = load_config(CellConfig, cell)
    planner_settings = load_config(PlannerConfig, planner_config)
    policy, answers = load_config(RecoveryConfig, recovery_config), _person(person, wait_for_person)
    bundle = None if masks == "oracle" else model_path(model)
    count = worker_count(workers)
    with progress_bar(f"{scenario}, {planner}", "picks") as advance:
        request = RunRequest(
            scenario,
            picks,
            seed,
            planner,
            masks,
            engine_called(engine, supervised),
            bundle,
            count,
            cell=settings,
            planner_config=planner_settings,
            recovery=recovery,
            recovery_config=policy,
            person=answers,
            keep_cups=keep_cups,
            learn_hold=learn_hold,
        )
        result = run_simulated(request, out, advance, report=report, store=store)
    write_json(json_file, result.to_json())
    title = f"scenario {result.scenario}, seed {seed}, planner {planner}, {masks} masks"
    print_table(title, ("", "", "95 % interval"), summary_rows(result))
    if out is not None and report:
        note(f"report: {(out / REPORT_FILE).resolve()}")


def _person(text: str, wait_s: float) -> PersonConfig:
    from robin_perception.core.config import parse_config
    from robin_perception.core.errors import Code, RobinError
    from robin_sim.recovered_pile import PersonConfig

    if text == "never":
        return parse_config(PersonConfig, {"answers": False, "real_wait_s": wait_s}, "--wait-for-person")
    try:
        after_s = float(text)
    except ValueError:
        raise RobinError(Code.OPTION_INVALID, f"--person needs seconds or 'never', got '{text}'") from None
    return parse_config(PersonConfig, {"answer_after_s": after_s, "real_wait_s": wait_s}, "--person")


@app.command("list")
def list_scenarios() -> None:
    """Name the scenarios with what they hold."""
    from robin_sim.scenario import load_scenario, scenario_names

    rows = [(name, load_scenario(name).config.description) for name in scenario_names()]
    width = max(len(name) for name, _ in rows)
    for name, description in rows:
        print(f"{name.ljust(width)}  {description}")
