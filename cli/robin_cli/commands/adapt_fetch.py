"""``robin adapt fetch``: signed releases from the fleet into the registry of models."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from robin_cli.commands.adapt_versions import ModelsOption
from robin_cli.options import JsonOption, ModelOption, model_path
from robin_cli.terminal import require_writable, write_json
from robin_perception.core.errors import Code, RobinError


def fetch(
    models: ModelsOption,
    url: Annotated[
        str, typer.Option("--url", metavar="URL|DIR", envvar="ROBIN_RELEASES", help="Repository of releases.")
    ],
    folder: Annotated[
        Path, typer.Option("--releases", metavar="DIR", help="This robot's folder: the trusted root, what was fetched.")
    ] = Path("out/releases"),
    root: Annotated[
        Path | None,
        typer.Option("--root", metavar="FILE", help="Trusted root, as it came with enrolment; the first time only."),
    ] = None,
    site: Annotated[str | None, typer.Option("--site", metavar="S", help="This robot's site.")] = None,
    robot: Annotated[str | None, typer.Option("--robot", metavar="R", help="This robot's name in the fleet.")] = None,
    release: Annotated[
        str | None, typer.Option("--release", metavar="NAME", help="This release, in place of what is assigned.")
    ] = None,
    activate: Annotated[bool, typer.Option("--activate", help="With --release: run it from now on.")] = False,
    model: ModelOption = None,
    json_file: JsonOption = None,
) -> None:
    """Fetch what is assigned to this robot, verify it, and add it as a version; run it where that is asked for.

    Without a network --url may name a folder, such as a disk that was carried here.
    """
    require_writable(json_file)
    if release is None and (site is None or robot is None):
        raise RobinError(Code.OPTION_INVALID, "--site and --robot, or --release, are needed")
    from edge_adapt.models.registry import ModelRegistry
    from edge_adapt.releases.client import ReleaseClient, trust
    from edge_adapt.releases.install import Fetched, follow, take
    from edge_adapt.releases.release import Assignment
    from robin_perception.core.bounded import CONFIG_BYTES, read_plain_bytes

    if root is not None:
        trust(folder, read_plain_bytes(root, CONFIG_BYTES))
    client, registry = ReleaseClient(folder, url), ModelRegistry(models, model_path(model))
    done: Fetched | None
    if release is not None:
        client.refresh()
        done = take(client, registry, folder, Assignment(release=release, use="run" if activate else "try"))
    else:
        assert site is not None and robot is not None
        done = follow(client, registry, folder, site, robot)
    write_json(json_file, {"fetched": None if done is None else done.to_json()})
    if done is None:
        print("nothing new is assigned to this robot")
        return
    version = "no model in it is new" if done.version is None else f"version {done.version}"
    then = "the one before runs again" if done.back else "runs from now on" if done.active else "does not run yet"
    print(f"release {done.release}: {version}; {then}")
