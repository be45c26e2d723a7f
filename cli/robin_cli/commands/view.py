"""``robin view``: the page."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from robin_cli.options import CellOption, PlannerConfigOption, model_path
from robin_cli.terminal import note, require_writable
from robin_perception.core.errors import Code, RobinError


def view(
    folders: Annotated[
        list[Path] | None,
        typer.Argument(metavar="[FOLDER]...", help="Runs, a store, or folders that hold them. Default: out/demo."),
    ] = None,
    fleet: Annotated[
        Path | None, typer.Option("--fleet", metavar="DIR", envvar="ROBIN_FLEET", help="Folder of an aggregator.")
    ] = None,
    ledger: Annotated[
        str | None,
        typer.Option("--ledger", metavar="URL", help="Of an aggregator elsewhere: postgresql://..., kept in --fleet."),
    ] = None,
    objects: Annotated[
        str | None, typer.Option("--objects", metavar="URL", help="s3://bucket/prefix?endpoint=..., of the same one.")
    ] = None,
    desk: Annotated[
        Path | None, typer.Option("--desk", metavar="DIR", help="Help desk of the cell. Default: help/ of the run.")
    ] = None,
    overlay: Annotated[
        str, typer.Option("--overlay", metavar="TOPIC", help="Of a running station: show what its camera sees.")
    ] = "",
    models: Annotated[
        list[Path] | None,
        typer.Option("--model", metavar="DIR", help="Bundles that a frame may be shown to. Default: models/base."),
    ] = None,
    versions: Annotated[
        Path | None,
        typer.Option("--models", metavar="DIR", envvar="ROBIN_MODELS", help="Folder of the versions of the model."),
    ] = None,
    cell: CellOption = None,
    planner_config: PlannerConfigOption = None,
    host: Annotated[
        str, typer.Option("--host", metavar="ADDRESS", help="Where to listen; elsewhere than here needs --token.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", metavar="N", min=0, max=65535, help="0 takes a free one.")] = 8780,
    names: Annotated[
        list[str] | None,
        typer.Option("--name", metavar="NAME", help="A name of this machine that browsers may ask for."),
    ] = None,
    token: Annotated[
        str, typer.Option("--token", metavar="WORD", envvar="ROBIN_VIEW_TOKEN", help="Lets people in; 16 or more.")
    ] = "",
    allow_changes: Annotated[
        bool, typer.Option("--allow-changes", help="Let people answer, annotate, confirm; else the page only shows.")
    ] = False,
    audit: Annotated[Path, typer.Option("--audit", metavar="FILE", help="Where each change is written down.")] = Path(
        "audit.jsonl"
    ),
    tls_cert: Annotated[
        Path | None, typer.Option("--tls-cert", metavar="PEM", help="Serve by https with this certificate.")
    ] = None,
    tls_key: Annotated[Path | None, typer.Option("--tls-key", metavar="PEM", help="Its private key.")] = None,
    tls_clients: Annotated[
        Path | None,
        typer.Option("--tls-clients", metavar="PEM", help="Let in who has a certificate of these authorities."),
    ] = None,
    rerun: Annotated[
        Path | None, typer.Option("--rerun", metavar="FILE", help="Write the run for Rerun's viewer (.rrd) instead.")
    ] = None,
    foxglove: Annotated[
        Path | None, typer.Option("--foxglove", metavar="FILE", help="Write the run for Foxglove (.mcap) instead.")
    ] = None,
) -> None:
    """Show runs, a store or an aggregator as one page in a browser, until Ctrl-C; or write a run for other viewers."""
    if rerun is not None or foxglove is not None:
        _export(folders or [Path("out/demo")], rerun, foxglove)
        return
    from robin_perception.core.config import parse_config
    from robin_view.live.station import listening
    from robin_view.serve import serve
    from robin_view.settings import ViewSettings
    from robin_view.sources import find_sources

    values = {
        "host": host,
        "port": port,
        "names": tuple(names or ()),
        "token": token,
        "allow_changes": allow_changes,
        "audit": audit,
        "tls_cert": tls_cert,
        "tls_key": tls_key,
        "tls_clients": tls_clients,
    }
    _settle_fleet(fleet, ledger, objects)
    settings = parse_config(ViewSettings, values, "robin view")
    chosen = folders if folders or fleet else [Path("out/demo")]
    bundles = tuple(models) if models else tuple(path for path in (model_path(None),) if path.is_dir())
    with listening(overlay) if overlay else nullcontext() as live:
        sources = find_sources(chosen or (), fleet, desk, live)
        serve(replace(sources, cell=cell, planner=planner_config, models=bundles, versions=versions), settings, note)


def _settle_fleet(fleet: Path | None, ledger: str | None, objects: str | None) -> None:
    """A folder that names the ledger and the objects of an aggregator on another machine."""
    given = {key: value for key, value in (("ledger", ledger), ("objects", objects)) if value is not None}
    if not given:
        return
    if fleet is None:
        raise RobinError(Code.OPTION_INVALID, "--ledger and --objects need --fleet DIR, a folder that keeps them")
    from robin_cli.fleet.up import settle

    settle(fleet, given)


def _export(folders: list[Path], rerun: Path | None, foxglove: Path | None) -> None:
    """Files for other viewers."""
    require_writable(rerun, begins=(b"RRF2",))
    require_writable(foxglove, begins=(b"\x89MCAP0\r\n",))
    from robin_view.sources import find_sources

    runs = find_sources(folders).runs
    if len(runs) != 1:
        raise RobinError(
            Code.OPTION_INVALID, f"{len(runs)} runs in {folders[0]}: a file is made of one; name its folder"
        )
    if rerun is not None:
        from robin_view.exports.rerun_file import write_rerun

        print(f"{rerun}: {write_rerun(runs[0], rerun)} picks; rerun {rerun}")
    if foxglove is not None:
        from robin_view.exports.foxglove_file import write_foxglove

        print(f"{foxglove}: {write_foxglove(runs[0], foxglove)} picks; open it in Foxglove with foxglove_layout.json")
