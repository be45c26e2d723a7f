"""``robin fleet release``: signed releases, which robots fetch and verify."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from robin_cli.fleet.options import FleetOption, shown_time
from robin_cli.options import JsonOption
from robin_cli.terminal import note, print_table, require_writable, write_json
from robin_perception.core.errors import Code, RobinError

if TYPE_CHECKING:
    from robin_fleet.release.repository import ReleaseRepository

KeysOption = Annotated[
    Path, typer.Option("--keys", metavar="DIR", help="Keys of root and targets; outside the fleet's folder.")
]
NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="Of the release, or the site.", show_default=False)]

release = typer.Typer(help="Signed releases, which robots fetch and verify.", no_args_is_help=True)


def add_to(app: typer.Typer) -> None:
    app.add_typer(release, name="release")


@release.command()
def init(
    fleet: FleetOption,
    keys: KeysOption,
    site: Annotated[list[str] | None, typer.Option("--site", metavar="S", help="A site; may be given again.")] = None,
    root_keys: Annotated[int, typer.Option("--root-keys", metavar="N", min=1, max=20, help="Keys of root.")] = 3,
    threshold: Annotated[int, typer.Option("--threshold", metavar="N", min=1, help="That must sign root.")] = 2,
    json_file: JsonOption = None,
) -> None:
    """Make the repository, its keys, and the root that robots are to trust."""
    require_writable(json_file)
    root = _repository(fleet).init(keys, tuple(site or ()), root_keys, threshold)
    path = fleet / "releases" / "metadata" / "1.root.json"
    write_json(json_file, {"root": path, "keys": keys, "sites": site or []})
    print(f"trusted root, for `robin adapt fetch --root`: {path} ({len(root):,} bytes)")
    note(f"keys: {keys}; give each to another person, and keep none of them on this machine")


@release.command()
def site(name: NameArgument, fleet: FleetOption, json_file: JsonOption = None) -> None:
    """Stage a new site; its robots can be given releases once that is signed."""
    require_writable(json_file)
    repository = _repository(fleet)
    repository.add_site(name)
    _tell_waiting(repository, json_file)


@release.command()
def add(
    name: NameArgument,
    fleet: FleetOption,
    bundle: Annotated[Path | None, typer.Option("--bundle", metavar="DIR", help="A whole bundle: the trunk.")] = None,
    head: Annotated[Path | None, typer.Option("--head", metavar="DIR", help="The head of this bundle alone.")] = None,
    novelty: Annotated[
        Path | None, typer.Option("--novelty", metavar="DIR", help="The statistics of known goods of this bundle.")
    ] = None,
    ranker: Annotated[Path | None, typer.Option("--ranker", metavar="FILE", help="A planner's fit, as JSON.")] = None,
    configuration: Annotated[
        Path | None, typer.Option("--configuration", metavar="FILE", help="Settings, as JSON.")
    ] = None,
    base: Annotated[
        str | None, typer.Option("--base", metavar="NAME", help="Release that the other parts are taken from.")
    ] = None,
    notes: Annotated[str, typer.Option("--notes", metavar="TEXT", help="For people.")] = "",
    json_file: JsonOption = None,
) -> None:
    """Stage a release of these parts; it is published once it is signed."""
    require_writable(json_file)
    from robin_fleet.release.parts import Given, gather

    repository = _repository(fleet)
    known = {one.name: one for one in repository.releases()} if base is not None else {}
    if base is not None and base not in known:
        raise RobinError(Code.RELEASE_UNKNOWN, f"release {base}: is not published; robin fleet release list")
    given = Given(bundle, head, novelty, ranker, configuration, known.get(base or ""), notes)
    made, files = gather(name, given)
    repository.add(made, files)
    write_json(json_file, made.model_dump(mode="json"))
    print(f"release {name}: {', '.join(f'{part.kind.value} {part.version}' for part in made.parts)}")
    _tell_waiting(repository)


@release.command()
def renew(
    role: Annotated[str, typer.Argument(metavar="root|targets", help="What is to be signed anew.", show_default=False)],
    fleet: FleetOption,
    json_file: JsonOption = None,
) -> None:
    """Stage root or targets with a later expiry."""
    require_writable(json_file)
    if role not in ("root", "targets"):
        raise RobinError(Code.OPTION_INVALID, f"'{role}': root or targets is needed")
    repository = _repository(fleet)
    repository.renew(role)
    _tell_waiting(repository, json_file)


@release.command()
def key(
    role: Annotated[
        str,
        typer.Argument(
            metavar="root|targets|snapshot|timestamp|SITE", help="Whose key is exchanged.", show_default=False
        ),
    ],
    fleet: FleetOption,
    keys: Annotated[
        Path | None, typer.Option("--keys", metavar="DIR", help="Folder for a new key of root or targets.")
    ] = None,
    drop: Annotated[
        str, typer.Option("--drop", metavar="ID", help="Of a root key that shall count no more, as list shows it.")
    ] = "",
    json_file: JsonOption = None,
) -> None:
    """Make a new key and stage the word that it counts; from `sign` on it does."""
    require_writable(json_file)
    repository = _repository(fleet)
    name = role if role in ("root", "targets", "snapshot", "timestamp") else f"site-{role}"
    made = repository.exchange(name, keys, drop)
    write_json(json_file, {"role": name, "key": made, "waiting": [one.__dict__ for one in repository.waiting()]})
    print(f"{name}: new key {made[:16]}")
    _tell_waiting(repository)


@release.command()
def sign(fleet: FleetOption, keys: KeysOption, json_file: JsonOption = None) -> None:
    """Sign what waits with the keys of a folder; what has enough signatures is published."""
    require_writable(json_file)
    done = _repository(fleet).sign(keys)
    write_json(json_file, {"signed": [{**one.__dict__, "published": one.complete} for one in done]})
    if not done:
        print("nothing waits for signatures")
    for one in done:
        then = "published" if one.complete else "waits for more keys"
        print(f"{one.role} {one.version}: {one.signed} of {one.threshold} signatures; {then}")


@release.command("list")
def list_releases(fleet: FleetOption, json_file: JsonOption = None) -> None:
    """Releases, what waits for signatures, and when what is signed expires."""
    require_writable(json_file)
    repository = _repository(fleet)
    releases, waiting, expiries = repository.releases(), repository.waiting(), repository.expiries()
    values: dict[str, Any] = {"releases": [one.model_dump(mode="json") for one in releases], "expires_s": expiries}
    values |= {"keys": {role: repository.keys_of(role) for role in ("root", "targets")}}
    values |= {"sites": repository.sites(), "waiting": [one.__dict__ for one in waiting]}
    write_json(json_file, values)
    rows = [(o.name, o.model, ", ".join(f"{p.kind.value} {p.version}" for p in o.parts), o.notes) for o in releases]
    print_table("releases", ("name", "model", "parts", "notes"), rows, text_columns=4)
    for role in ("root", "targets"):
        print(f"keys of {role}: {', '.join(repository.keys_of(role))}")
    now_s = time.time()
    for role, at_s in expiries.items():
        print(f"{role}: {'EXPIRED' if at_s < now_s else 'signed'} until {shown_time(at_s)}")
    _tell_waiting(repository)


@release.command()
def refresh(fleet: FleetOption, json_file: JsonOption = None) -> None:
    """Sign snapshot and timestamp anew: once a day at least, or robots take it for frozen."""
    require_writable(json_file)
    repository = _repository(fleet)
    repository.refresh()
    write_json(json_file, {"expires_s": repository.expiries()})
    print(f"fresh until {shown_time(repository.expiries()['timestamp'])}")


@release.command()
def verify(fleet: FleetOption, json_file: JsonOption = None) -> None:
    """Fetch every release as a robot would, from the first root on."""
    require_writable(json_file)
    from edge_adapt.releases.client import ReleaseClient, trust
    from robin_perception.core.bounded import CONFIG_BYTES, read_plain_bytes
    from robin_perception.core.output import scratch_folder

    repository = _repository(fleet)
    with scratch_folder("robin-verify-") as scratch:
        trust(scratch, read_plain_bytes(repository.metadata / "1.root.json", CONFIG_BYTES))
        client = ReleaseClient(scratch, str(repository.folder))
        client.refresh()
        names = [one.name for one in repository.releases()]
        files = sum(len(client.part(part)) for name in names for part in client.release(name).parts)
        for site_name in repository.sites():
            client.assignments(site_name)
    write_json(json_file, {"releases": names, "files": files, "sites": repository.sites()})
    print(f"{len(names)} releases of {files} files are whole, and signed as robots ask")


def _repository(fleet: Path) -> ReleaseRepository:
    from robin_fleet.release.repository import ReleaseRepository

    return ReleaseRepository(fleet)


def _tell_waiting(repository: ReleaseRepository, json_file: Path | None = None) -> None:
    waiting = repository.waiting()
    write_json(json_file, {"waiting": [one.__dict__ for one in waiting]})
    for one in waiting:
        text = f"{one.signed} of {one.threshold} signatures; robin fleet release sign"
        print(f"{one.role} {one.version} waits: {text}")
