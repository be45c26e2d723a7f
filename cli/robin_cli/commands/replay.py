"""``robin replay``: a bag through the real pipeline, in lock-step, and where its decisions come out differently."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from robin_cli.failures import EXIT_FAILURE
from robin_cli.options import CellOption, JsonOption, ModelOption, PlannerConfigOption, model_path
from robin_cli.terminal import note, progress_bar, require_writable, write_json

if TYPE_CHECKING:
    from edge_adapt.bag.compare import Difference
    from edge_adapt.bag.replay_report import ReplayReport

SHOWN_FIELDS = 5


def replay(
    bag: Annotated[Path, typer.Argument(metavar="BAG", help="Folder of a bag, or an .mcap file.")],
    model: ModelOption = None,
    engine: Annotated[
        str | None, typer.Option("--engine", metavar="E", help="Inference engine. Default: the recorded one.")
    ] = None,
    planner: Annotated[
        str | None, typer.Option("--planner", metavar="P", help="Planner by name. Default: the recorded one.")
    ] = None,
    planner_config: PlannerConfigOption = None,
    cell: CellOption = None,
    tolerance: Annotated[
        str,
        typer.Option(
            "--tolerance",
            metavar="T",
            help="exact (to the last bit), machine (what another processor may change), "
            "or auto: exact where processor and numeric libraries are the recorded ones.",
        ),
    ] = "auto",
    namespace: Annotated[str, typer.Option("--namespace", metavar="NS", help="Of the recorded topics.")] = "",
    out: Annotated[
        Path, typer.Option("--out", metavar="DIR", help="Folder for a picture of each decision that differs.")
    ] = Path("out/replay"),
    pictures: Annotated[int, typer.Option("--pictures", metavar="N", min=0, help="At most so many pictures.")] = 8,
    json_file: JsonOption = None,
) -> None:
    """Make every recorded plan again and compare it with what was recorded.

    Bundle, planner and configurations are the recorded ones unless given; the bundle is the installed one unless named.
    Exit status: 0 the same, 1 decisions differ, 2 no usable bag, bundle or option.
    """
    require_writable(json_file)
    from edge_adapt.bag.messages import BagTopics
    from edge_adapt.bag.picture import save_difference
    from edge_adapt.bag.pipeline import Choices
    from edge_adapt.bag.replay import Replay, ReplayOptions
    from robin_grasp.planner.config import PlannerConfig
    from robin_grasp.tool import CellConfig
    from robin_perception.core.config import load_config
    from robin_perception.core.output import output_folder

    choices = Choices(
        engine=engine,
        planner=planner,
        planner_config=None if planner_config is None else load_config(PlannerConfig, planner_config),
        cell=None if cell is None else load_config(CellConfig, cell),
    )
    options = ReplayOptions(choices=choices, tolerance=tolerance, topics=BagTopics.in_namespace(namespace))
    run = Replay(bag, model_path(model), options)
    for line in run.report.changes:
        note(line)
    report, drawn = run.report, 0
    try:
        with output_folder(out), progress_bar(f"replaying {bag.name}", "plans") as advance:
            for plan in run.run(advance):
                if not plan.differences:
                    continue
                _print_differences(plan.name, plan.index, plan.differences)
                if drawn < pictures:
                    print(f"  picture: {save_difference(out, plan, report.used.cell.tool)}")
                    drawn += 1
    finally:  # an error must not hide them: it may be for one of them
        for line in report.warnings:
            note(f"warning: {line}")
    for name, index, differences in report.differing:
        if any(difference.field.startswith("outcome") for difference in differences):
            _print_differences(name, index, differences)
    write_json(json_file, report.to_json())
    print(_verdict(report))
    if not report.same:
        raise typer.Exit(EXIT_FAILURE)


def _print_differences(name: str, index: int, differences: tuple[Difference, ...]) -> None:
    print(f"{name} (plan {index}):")
    for difference in differences[:SHOWN_FIELDS]:
        print(f"  {difference}")
    if len(differences) > SHOWN_FIELDS:
        print(f"  and {len(differences) - SHOWN_FIELDS} more fields")


def _verdict(report: ReplayReport) -> str:
    how = "to the last bit" if report.tolerance == "exact" else "within the tolerances across machines"
    verdict = "same" if report.same else "differs"
    plans = report.compared - len(report.differing) + report.judged_differing
    text = f"{verdict}: {plans} of {report.compared} plans agree {how}"
    if report.judged:
        text += f", and {report.judged - report.judged_differing} of {report.judged} judgements"
    if report.without_frame:
        text += f"; {report.without_frame} more without their frame"
    return text
