"""``robin help``: what a person is asked, and the answer."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from robin_cli.options import JsonOption
from robin_cli.terminal import note, print_table, require_writable, write_json

if TYPE_CHECKING:
    from robin_grasp.recovery.help_desk import HelpDesk
    from robin_grasp.recovery.help_request import HelpRequest

app = typer.Typer(help="What a cell asks a person.", no_args_is_help=True)

DeskOption = Annotated[
    Path, typer.Option("--desk", metavar="DIR", help="Folder of the help desk (parameter help_folder of pick_check).")
]


@app.command("list")
def list_requests(
    desk: DeskOption = Path("help"),
    answered: Annotated[bool, typer.Option("--all", help="Answered requests too.")] = False,
    json_file: JsonOption = None,
) -> None:
    """List open requests for help, oldest first."""
    require_writable(json_file)
    opened = _open(desk)
    found = opened.requests(answered)
    write_json(json_file, {"requests": [_values(request, desk) for request in found]})
    if not found:
        print("nobody is asked for help")
        return
    rows = [_row(request) for request in found]
    print_table(f"help desk {desk}", ("id", "cause", "what", "answers", "pick", "answer"), rows, text_columns=6)
    for request in found:
        if request.picture:
            print(f"{request.help_id}: {desk / request.picture}")


@app.command("answer")
def answer(
    help_id: Annotated[str, typer.Argument(metavar="ID", help="Of the request, as robin help list shows it.")],
    answer: Annotated[str, typer.Argument(metavar="ANSWER", help="One of its answers.")],
    desk: DeskOption = Path("help"),
    by: Annotated[str, typer.Option("--by", metavar="NAME", help="Who answers.")] = "",
    pick: Annotated[
        str | None, typer.Option("--pick", metavar="ID", help="Refuse to answer a request about another pick.")
    ] = None,
    json_file: JsonOption = None,
) -> None:
    """Answer a request; the cell goes on."""
    require_writable(json_file)
    import getpass

    from robin_perception.core.errors import Code, RobinError

    opened = _open(desk)
    closed = opened.answer(help_id, answer, by or getpass.getuser(), pick)
    if not opened.is_kept(help_id):
        raise RobinError(Code.HELP_NOT_KEPT, f"{desk}: the answer to '{help_id}' could not be written; no cell gets it")
    write_json(json_file, _values(closed, desk))
    print(f"{closed.help_id}: {closed.answer}")


def _open(folder: Path) -> HelpDesk:
    from robin_grasp.recovery.help_desk import HelpDesk
    from robin_perception.core.errors import Code, RobinError

    if not folder.is_dir():
        raise RobinError(Code.INPUT_MISSING, f"{folder}: no such folder; name the help desk's with --desk")
    return HelpDesk(folder, on_fault=lambda code, text: note(f"E{int(code)} {code.name}: {text}"))


def _row(request: HelpRequest) -> tuple[str, ...]:
    cause = f"E{int(request.code)} {request.code.name}"
    answer = f"{request.answer} ({request.answered_by})" if request.answer else ""
    return request.help_id, cause, request.text, ", ".join(request.answers), request.plan_id, answer


def _values(request: HelpRequest, desk: Path) -> dict[str, Any]:
    values = request.model_dump(mode="json")
    return {**values, "name": request.code.name, "picture": str(desk / request.picture) if request.picture else ""}
