"""``robin recovery``: what is done about picks that are not as they should be."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from robin_cli.options import JsonOption
from robin_cli.terminal import print_table, require_writable, write_json

app = typer.Typer(help="The recovery policy.", no_args_is_help=True)


@app.command("table")
def table(
    config: Annotated[
        Path | None,
        typer.Option("--config", metavar="FILE", help="YAML of the policy's limits (RecoveryConfig). Default: as is."),
    ] = None,
    markdown: Annotated[bool, typer.Option("--markdown", help="As docs/recovery.md has it.")] = False,
    json_file: JsonOption = None,
) -> None:
    """Print the table of the policy: what is seen, doubt and tries → action. The first row that fits counts."""
    require_writable(json_file)
    from robin_grasp.recovery.action import MEANING
    from robin_grasp.recovery.config import RecoveryConfig
    from robin_grasp.recovery.table import TABLE_HEADER, table_markdown, table_rows
    from robin_perception.core.config import load_config

    limits = load_config(RecoveryConfig, config)
    rows = table_rows(limits)
    actions = {action.value: meaning for action, meaning in MEANING.items()}
    write_json(json_file, {"rows": [dict(zip(TABLE_HEADER, row, strict=True)) for row in rows], "actions": actions})
    if markdown:
        print(table_markdown(limits), end="")
        return
    print_table("recovery", TABLE_HEADER, rows, text_columns=len(TABLE_HEADER))
    print_table("", ("action", "what the cell does"), list(actions.items()), text_columns=2)
