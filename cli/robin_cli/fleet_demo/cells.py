"""The simulated cells of the demo: their picks with records and samples, and what the frames truly show, which only the
scripted person is told."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import cv2

from edge_adapt.decision import DecisionContext
from edge_adapt.store.store import SampleStore
from edge_adapt.store.writer import StoreWriter
from robin_cli.closed_loop import Progress, tally
from robin_fleet.training.closed_loop import Tally
from robin_perception.core.disk import make_folder, write_atomic
from robin_perception.core.output import output_folder
from robin_perception.model.bundle import load_bundle, read_manifest
from robin_sim.pick_event import PickEvent
from robin_sim.runs.request import RunRequest
from robin_sim.runs.run import run_scenario
from robin_sim.runs.simulated import CapturedPick, Recorder, capture_pick, simulated_context
from robin_sim.scenario import CountRange, Scenario, load_scenario

ENGINE = "onnxruntime"
PICKS_PER_PILE = 3
PILE_S = 120.0
STORE, RECORDS, TRUTH = "store", "records", "truth"
_TALLY = "tally.json"
_PARCELS = CountRange(least=6, most=14)


@dataclass(frozen=True)
class Cell:
    """One station with its robots, of which the first is simulated. goods: scenario of what comes; place: of camera,
    light and support, empty: that of the goods."""

    site: str
    goods: str
    seed: int
    place: str = ""
    station: str = "belt"

    @property
    def line(self) -> str:
        return f"{self.site}/{self.station}"


def small(cell: Cell) -> Scenario:
    """Few parcels, few picks of each pile: many piles are met in a short time."""
    known = load_scenario(cell.goods)
    few = {"picks_per_pile": PICKS_PER_PILE, "belt_parcels": _PARCELS, "tote_parcels": _PARCELS}
    if cell.place:
        place = load_scenario(cell.place).config
        few |= {name: getattr(place, name) for name in ("containers", "camera", "surroundings", "one_cell")}
    return Scenario(known.name, known.config.model_copy(update=few))


def request_of(cell: Cell, picks: int, model: Path, workers: int) -> RunRequest:
    return RunRequest(
        small(cell), picks, cell.seed, engine=ENGINE, model=model, workers=workers, recovery=True
    ).checked()


def pick(cell: Cell, folder: Path, picks: int, model: Path, workers: int, progress: Progress) -> Tally:
    """Picks of a cell: store, records and truth below ``folder``. What the same order has picked there before is not
    picked again. Raises RobinError as ``run_simulated``."""
    order = {"cell": asdict(cell), "picks": picks, "model": load_bundle(model).model_id}
    if (known := _known(folder / _TALLY, order)) is not None:
        return known
    shutil.rmtree(folder, ignore_errors=True)
    request = request_of(cell, picks, model, workers)
    manifest = read_manifest(model)
    capture = partial(_captured, simulated_context(request), (manifest.input_width, manifest.input_height))
    make_folder(folder / TRUTH)
    with output_folder(folder / RECORDS):
        clock = _StationClock(picks)
        samples = StoreWriter(SampleStore(folder / STORE, seed=cell.seed, clock=clock), queue_limit=1)
        with closing(Recorder(folder / RECORDS, samples)) as recorder:

            def keep(found: tuple[CapturedPick, bytes]) -> None:
                captured, shown = found
                clock.now(captured)
                write_atomic(folder / TRUTH / f"{captured.decision.decision_id}.png", shown)
                recorder.keep(captured)

            result = run_scenario(request, _told(cell.line, progress), capture=capture, on_captured=keep)
    found = tally(result)
    write_atomic(folder / _TALLY, json.dumps({**order, "results": found.results}).encode())
    return found


class _StationClock:
    """The cell's own time, which is not that of the simulation: piles are PILE_S apart, and all is over by now."""

    def __init__(self, picks: int) -> None:
        self._began_s = self._now_s = time.time() - (picks + 1) * PILE_S

    def __call__(self) -> float:
        return self._now_s

    def now(self, pick: CapturedPick) -> None:
        pile = pick.decision.context.pile or 0
        self._now_s = self._began_s + pile * PILE_S + min(pick.decision.stamp_s, PILE_S)


def _known(path: Path, order: dict[str, Any]) -> Tally | None:
    if not path.is_file():
        return None
    told = json.loads(path.read_text())
    results = told.pop("results")
    return Tally(results) if told == order else None


def _told(what: str, progress: Progress) -> Callable[[int, int, str], None]:
    return lambda done, total, latest: progress(done, total, f"{what}: picks")


def _captured(context: DecisionContext, size: tuple[int, int], event: PickEvent) -> tuple[CapturedPick, bytes]:
    """In a worker process. bytes: PNG of what the frame truly shows."""
    assert event.shown is not None
    return capture_pick(context, size, event, as_sample=True), cv2.imencode(".png", event.shown)[1].tobytes()
