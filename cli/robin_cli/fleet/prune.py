"""``robin fleet prune``: old samples go, and what a crash left in the object store."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from robin_cli.fleet.options import FleetOption, moment_s
from robin_cli.options import JsonOption
from robin_cli.terminal import require_writable, write_json
from robin_perception.core.errors import Code, RobinError

_LEAST_S = 2 * 86_400.0  # robots ask a second time within a day or so, and must find what they sent


def add_to(app: typer.Typer) -> None:
    app.command("prune")(prune)


def prune(
    fleet: FleetOption,
    older: Annotated[
        str | None, typer.Option("--older", metavar="T", help="Samples that came in so long ago: 180d, 72h.")
    ] = None,
    most_gb: Annotated[
        float | None, typer.Option("--most-gb", metavar="GB", min=0, help="The oldest, until all have so much.")
    ] = None,
    dry: Annotated[bool, typer.Option("--dry-run", help="Only tell what would go.")] = False,
    json_file: JsonOption = None,
) -> None:
    """Remove old samples on which no deck, no person's label and no novelty rests, and orphans of the object store."""
    require_writable(json_file)
    now_s = time.time()
    since_s = moment_s(older, now_s)
    if since_s is not None and now_s - since_s < _LEAST_S:
        raise RobinError(Code.OPTION_INVALID, f"--older {older}: two days at least; robots ask for what they sent")
    from robin_fleet.folder import open_fleet
    from robin_fleet.prune import PruneRule
    from robin_fleet.prune import prune as pruned

    older_s = None if since_s is None else now_s - since_s
    rule = PruneRule(older_s, None if most_gb is None else int(most_gb * 1e9))
    with open_fleet(fleet) as opened:
        done = pruned(opened, rule, now_s, dry=dry)
    write_json(json_file, {**done.to_json(), "dry_run": dry})
    verb = "would go" if dry else "went"
    print(f"{done.samples} samples, {done.bytes / 1e9:.3f} GB {verb}; {done.kept} stay, since something rests on them")
    print(
        f"{done.orphans} orphans {verb}, {done.waiting} wait for a look a day later; {done.refused} refused ones {verb}"
    )
