"""``robin adapt status|explain|rollback|pin|unpin``: which version of the model runs, and why."""

from __future__ import annotations

import getpass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from robin_cli.options import JsonOption, ModelOption, model_path
from robin_cli.terminal import note, print_table, require_writable, write_json
from robin_perception.core.errors import Code, RobinError

if TYPE_CHECKING:
    from edge_adapt.models.registry import ModelRegistry

ModelsOption = Annotated[
    Path, typer.Option("--models", metavar="DIR", envvar="ROBIN_MODELS", help="Folder of the versions of the model.")
]
WhyOption = Annotated[str, typer.Option("--why", metavar="TEXT", help="The reason, for the journal.")]
_ASKED = "a person asked"


def add_to(app: typer.Typer) -> None:
    """The commands, in the group ``robin adapt``."""
    for command in (status, explain, rollback, pin, unpin):
        app.command(command.__name__)(command)


def status(models: ModelsOption, model: ModelOption = None, json_file: JsonOption = None) -> None:
    """Which version of the model runs, since when and why; what ran before, and the newest lines of the journal."""
    require_writable(json_file)
    _tell(_registry(models, model), json_file)


def explain(
    models: ModelsOption,
    version: Annotated[
        int | None,
        typer.Argument(metavar="[VERSION]", min=1, help="Default: the newest candidate.", show_default=False),
    ] = None,
    model: ModelOption = None,
    json_file: JsonOption = None,
) -> None:
    """What a version learned, and each check of the gate: what was found, and what it was held against."""
    require_writable(json_file)
    from edge_adapt.models.told import explain as explained

    told = explained(_registry(models, model), version)
    write_json(json_file, told)
    checks = [
        (
            check["name"],
            "passed" if check["passed"] else "FAILED",
            _interval(check),
            f"{check['bound']:g}",
            check["text"],
        )
        for check in told["gate"].get("checks", ())
    ]
    name = "refused candidate" if told["version"] is None else f"version {told['version']}"
    print(f"{name}, {told['at']}, {told['by']}: {told['why']}")
    print_table("checks of the gate", ("check", "", "found", "bound", "in words"), checks, text_columns=5)
    if learned := [(key, str(value)) for key, value in told["learned"].items()]:
        print_table("learned", ("what", ""), learned, text_columns=2)


def rollback(
    models: ModelsOption, why: WhyOption = _ASKED, model: ModelOption = None, json_file: JsonOption = None
) -> None:
    """Run the version that ran before; a robot at work changes over between two frames."""
    require_writable(json_file)
    registry = _registry(models, model)
    registry.rollback(_person(), why)
    _tell(registry, json_file)


def pin(
    models: ModelsOption,
    version: Annotated[
        int | None,
        typer.Argument(metavar="[VERSION]", min=0, help="0: the factory's. Default: what runs.", show_default=False),
    ] = None,
    why: WhyOption = _ASKED,
    model: ModelOption = None,
    json_file: JsonOption = None,
) -> None:
    """Run one version and no other, whatever is learned or rolled back, until it is unpinned."""
    require_writable(json_file)
    registry = _registry(models, model)
    registry.pin(_person(), why, version)
    _tell(registry, json_file)


def unpin(
    models: ModelsOption, why: WhyOption = _ASKED, model: ModelOption = None, json_file: JsonOption = None
) -> None:
    """Let other versions run again."""
    require_writable(json_file)
    registry = _registry(models, model)
    registry.unpin(_person(), why)
    _tell(registry, json_file)


def _registry(models: Path, model: Path | None) -> ModelRegistry:
    from edge_adapt.models.registry import ModelRegistry

    if not models.is_dir():
        raise RobinError(Code.INPUT_MISSING, f"{models}: no such folder of versions; robin adapt teach makes one")
    return ModelRegistry(models, model_path(model))


def _person() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a user without a name
        return "somebody"


def _tell(registry: ModelRegistry, json_file: Path | None) -> None:
    from edge_adapt.models.told import status as told_status

    values = told_status(registry)
    write_json(json_file, values)
    if values["problem"]:
        note(f"warning: {values['problem']}")
    pinned = ", pinned" if values["pinned"] else ""
    since = f" since {values['since']}" if values["since"] else ""
    print(f"version {values['version']} runs{pinned}: {values['model_id']}{since} ({values['why']})")
    rows = [("0", "the factory's", "", _role(0, values))]
    rows += [
        (str(v["number"]), v["model_id"], f"{v['size_bytes'] / 1e6:.1f}", _role(v["number"], values))
        for v in values["versions"]
    ]
    print_table("versions", ("version", "model", "MB", ""), rows, text_columns=2)
    lines = [
        (str(line["sequence"]), line["at"], line["event"], _number(line["version"]), line["by"], line["why"])
        for line in values["latest"]
    ]
    print_table("journal", ("", "at", "event", "version", "by", "why"), lines, text_columns=6)


def _role(number: int, values: dict[str, Any]) -> str:
    if number == values["version"]:
        return "runs"
    return "before" if number in values["earlier"][:1] else ""


def _number(version: int | None) -> str:
    return "" if version is None else str(version)


def _interval(check: dict[str, Any]) -> str:
    value = check["value"]
    if value is None:
        return "-"
    if check["low"] is None:
        return f"{value:g}" if isinstance(value, int) else f"{value:.4f}"
    return f"{value:.4f} [{check['low']:.4f}, {check['high']:.4f}]"
