"""``robin adapt try``: a release that was fetched for trial, on this robot's own record."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Literal, cast

import typer

from robin_cli.commands.adapt_versions import ModelsOption
from robin_cli.options import EngineByNameOption, JsonOption, ModelOption, model_path
from robin_cli.terminal import require_writable, write_json
from robin_perception.core.errors import Code, RobinError


def try_release(
    release: Annotated[str, typer.Argument(metavar="RELEASE", help="One that was fetched.", show_default=False)],
    models: ModelsOption,
    store: Annotated[Path, typer.Option("--store", metavar="DIR", help="Samples of picks (robin store).")],
    stage: Annotated[
        str, typer.Option("--stage", metavar="S", help="replay: the newest samples; shadow: those behind --after.")
    ] = "replay",
    frames: Annotated[int, typer.Option("--frames", metavar="N", min=1, max=10_000, help="Samples, at most.")] = 400,
    after: Annotated[
        int, typer.Option("--after", metavar="SEQ", min=0, help="Only samples behind this number, as JSON tells it.")
    ] = 0,
    outbox: Annotated[
        Path | None, typer.Option("--uplink", metavar="DIR", help="Folder of the uplink: report it to the fleet.")
    ] = None,
    model: ModelOption = None,
    engine: EngineByNameOption = "onnxruntime",
    json_file: JsonOption = None,
) -> None:
    """See stored picks once more with a release, off the path of a pick: what it would have lost."""
    require_writable(json_file)
    if stage not in ("replay", "shadow"):
        raise RobinError(Code.OPTION_INVALID, f"--stage '{stage}': replay or shadow is needed")
    from edge_adapt.models.registry import ModelRegistry
    from edge_adapt.releases.trial import try_release as tried

    name = cast(Literal["replay", "shadow"], stage)
    registry = ModelRegistry(models, model_path(model))
    found = tried(store, registry, release, name, frames=frames, after=after, engine=engine)
    write_json(json_file, found.to_json())
    print(f"{release}, {stage}: {found.text}")
    if outbox is not None:
        from edge_adapt.uplink.config import UplinkConfig
        from edge_adapt.uplink.reports import Outbox

        limit_mb = float(UplinkConfig.model_fields["outbox_mb"].default)
        Outbox(outbox, int(limit_mb * 1e6)).put(found.report(time.time()))
