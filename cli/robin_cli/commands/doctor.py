"""``robin doctor``: what this machine has and lacks. Exit status 0 when the demo can run."""

from __future__ import annotations

import typer

from robin_cli.failures import EXIT_FAILURE
from robin_cli.options import JsonOption, ModelOption, model_path
from robin_cli.terminal import print_table, require_writable, write_json


def doctor(model: ModelOption = None, json_file: JsonOption = None) -> None:
    """Check Python, libraries, the model bundle and the hardware; say how to get what is missing."""
    require_writable(json_file)
    from robin_cli.doctor.checks import all_checks

    checks = all_checks(model_path(model))
    ready = all(check.ok for check in checks if check.needed)
    write_json(json_file, {"demo_can_run": ready, "checks": [check.__dict__ for check in checks]})
    rows = [(check.name, _state(check.ok, check.needed), check.found, check.remedy) for check in checks]
    print_table("robin doctor", ("what", "", "found", "to get it"), rows, text_columns=4)
    print("The demo can run: make demo" if ready else "The demo cannot run; see the lines marked MISSING.")
    if not ready:
        raise typer.Exit(EXIT_FAILURE)


def _state(ok: bool, needed: bool) -> str:
    return "ok" if ok else "MISSING" if needed else "-"
