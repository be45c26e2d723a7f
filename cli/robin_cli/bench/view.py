"""``robin bench view``: how quick the page is, and what it takes, with very many decisions."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Any

import typer

from robin_cli.options import EngineOption, JsonOption, ModelOption, RepeatsOption, SeedOption, model_path
from robin_cli.terminal import progress_bar, require_writable, write_json
from robin_perception.core.errors import Code, RobinError

if TYPE_CHECKING:
    import psutil

    from robin_cli.bench.figures import Figure

_START_S, _INDEX_S = 60.0, 1200.0
_SEARCHES = (
    "",
    "q=cup+slipped",
    "result=miss&result=drop&class=tube",
    "score_min=0.9&order=most+novelty",
    "station=station-3&tag=flag_5&order=least+score",
    "novelty_min=1&q=weight&since=2026-05-01T00:00",
    "model=base-00000001&page=20",
    "order=oldest&code=0",
)


def view(
    decisions: Annotated[
        int, typer.Option("--decisions", metavar="N", min=2, help="Records to look through.")
    ] = 100_000,
    repeats: RepeatsOption = 10,
    rounds: Annotated[
        int, typer.Option("--rounds", metavar="N", min=0, help="Turns of picking with and without Live beside it.")
    ] = 8,
    seed: SeedOption = 7,
    model: ModelOption = None,
    engine: EngineOption = "auto",
    json_file: JsonOption = None,
) -> None:
    """Serve made-up decisions and time the first page, the page of a decision with 60 parcels, and searches.

    Each figure is the 95th percentile over all requests, first ones included; memory is what the server holds then.
    After that the same frames are planned in turns with Live followed by a tablet, and without.
    """
    require_writable(json_file)
    from robin_cli.bench.figures import print_figures, print_verdict
    from robin_cli.doctor.machine import machine_facts

    facts = machine_facts()
    values: dict[str, Any] = {"decisions": decisions, "repeats": repeats, "seed": seed}
    with TemporaryDirectory(prefix="robin-bench-view-") as name, progress_bar("view", "") as advance:
        values |= _measured(Path(name), decisions, repeats, seed, advance)
        if rounds:
            values |= _beside(rounds, seed, model_path(model), engine, advance)
    figures = _figures(values)
    write_json(json_file, {**values, "figures": [figure.to_json() for figure in figures], "machine": facts})
    print_figures(f"the page over {decisions:,} decisions", figures)
    print_verdict([figure.name for figure in figures if figure.within is False], facts, "quote no times")


def _measured(
    folder: Path, decisions: int, repeats: int, seed: int, advance: Callable[[int, int, str], None]
) -> dict[str, Any]:
    from robin_cli.bench.view_records import CROWDED, write_records

    write_records(folder, decisions, seed, advance)
    with _served(folder) as (process, url):
        began = time.perf_counter()
        while _get(f"{url}/status")[1]["decisions"] < decisions:
            if time.perf_counter() - began > _INDEX_S:
                raise RobinError(Code.VIEW_WORKER_LOST, f"{decisions} decisions were not read in {_INDEX_S:.0f} s")
            time.sleep(0.2)
        read_s = time.perf_counter() - began
        page = f"{url}/d/{CROWDED}"
        ways = {
            "first": [f"{url}/"],
            "decision": [page],
            "picture": [f"{page}/picture/color?w=1280"],
            "search": [f"{url}/search?{query}" for query in _SEARCHES],
        }
        found: dict[str, Any] = {"read_s": round(read_s, 1)}
        for name, addresses in ways.items():
            advance(0, 1, name)
            found |= _timed(name, addresses, repeats, process)
        found["memory_mb"] = round(process.memory_info().rss / 1e6, 1)
    return found


def _beside(
    rounds: int, seed: int, model: Path, engine: str, advance: Callable[[int, int, str], None]
) -> dict[str, Any]:
    from robin_cli.bench.view_beside import measure_beside
    from robin_cli.bench.view_records import write_records

    with TemporaryDirectory(prefix="robin-bench-view-") as name:
        write_records(Path(name), 40, seed, advance)
        with _served(Path(name)) as (_, url):
            return measure_beside(Path(name), url, rounds, seed, model, engine, advance)


def _timed(name: str, addresses: list[str], repeats: int, process: psutil.Process) -> dict[str, Any]:
    """Keys ``<name>_ms`` (95th percentile), ``<name>_spread_ms``, ``<name>_cpu_ms`` (the server's own, mean)."""
    from robin_cli.bench.figures import spread

    before, times = sum(process.cpu_times()[:2]), list[float]()
    for _ in range(repeats):
        times += [1e3 * _get(address)[0] for address in addresses]
    cpu_ms = 1e3 * (sum(process.cpu_times()[:2]) - before) / len(times)
    found = spread(times)
    return {f"{name}_ms": found["p95"], f"{name}_spread_ms": found, f"{name}_cpu_ms": round(cpu_ms, 2)}


def _get(address: str) -> tuple[float, Any]:
    """Seconds until the last byte; the answer, where it is JSON."""
    import json

    began = time.perf_counter()
    with urllib.request.urlopen(address, timeout=60) as answer:
        data, kind = answer.read(), answer.headers["content-type"]
    elapsed = time.perf_counter() - began
    return elapsed, json.loads(data) if kind == "application/json" else None


@contextlib.contextmanager
def _served(folder: Path) -> Iterator[tuple[psutil.Process, str]]:
    """A server of its own process, as a person would start it. Raises RobinError VIEW_WORKER_LOST."""
    import psutil

    command = [sys.executable, "-m", "robin_cli.main", "view", str(folder), "--port", "0"]
    server = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        assert server.stderr is not None
        line = server.stderr.readline()
        if "http://" not in line:
            raise RobinError(Code.VIEW_WORKER_LOST, f"the server did not start: {line.strip()}")
        yield psutil.Process(server.pid), line.split()[-1].rstrip("/")
    finally:
        server.terminate()
        server.wait(_START_S)


def _figures(values: dict[str, Any]) -> list[Figure]:
    from robin_cli.bench.budgets import budget
    from robin_cli.bench.figures import Figure, of_spread

    figures = []
    pages = {
        "first": ("first page", "view.first_p95_ms"),
        "decision": ("decision, 60 parcels", "view.decision_p95_ms"),
        "search": ("searches", "view.search_p95_ms"),
    }
    for name, (title, key) in pages.items():
        note = f"{of_spread(values[f'{name}_spread_ms'])}; {values[f'{name}_cpu_ms']:.0f} ms of processor"
        figures.append(Figure("page", f"{title}, p95", values[f"{name}_ms"], "ms", budget(key), note))
    figures.append(Figure("page", "- its picture, p95", values["picture_ms"], "ms"))
    figures.append(Figure("server", "memory", values["memory_mb"], "MB", budget("view.memory_mb")))
    if "live_hz" in values:
        low, high = values["beside_p99_interval"]
        figures.append(Figure("Live", "pictures of the camera", values["live_hz"], "Hz", budget("view.live_hz")))
        note = f"[{low:.3f}, {high:.3f}], {values['rounds']} pairs; p50 {values['beside_p50']:.3f}"
        figures.append(
            Figure(
                "Live",
                "frame to plan, p99, over without",
                values["beside_p99"],
                "",
                budget("view.frame_to_plan_p99_ratio"),
                note,
            )
        )
    figures.append(Figure("server", "- all records read", values["read_s"], "s"))
    return figures
