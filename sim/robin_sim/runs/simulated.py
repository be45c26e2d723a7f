"""Runs of the simulated cell with records and a report: what ``robin sim run`` and ``robin demo`` do."""

from __future__ import annotations

import json
from contextlib import closing, nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from edge_adapt.decision import Decision, DecisionContext, build_decision, run_context
from edge_adapt.decision_store import DecisionStore, refuse_foreign_images
from edge_adapt.live_picture import remove_picture
from edge_adapt.recording import pick_images
from edge_adapt.report import write_report
from edge_adapt.store.sample import Sample, sample_of
from edge_adapt.store.store import SampleStore
from edge_adapt.store.writer import StoreWriter
from robin_grasp.tool import CellConfig
from robin_perception.core.disk import write_atomic
from robin_perception.core.output import output_folder, require_own
from robin_perception.core.stats import rate
from robin_perception.model.bundle import read_manifest
from robin_perception.novelty.watch import Sighting, held_flags, sightings
from robin_sim.pick_event import PickEvent
from robin_sim.real_person import clear_desk
from robin_sim.runs.goods import RunGoods, refuse_foreign_goods, retold
from robin_sim.runs.request import HELP_FOLDER, LIVE_FOLDER, RunRequest
from robin_sim.runs.results import RESULT_KEYS, Progress, RunResult
from robin_sim.runs.run import run_scenario
from robin_sim.runs.told import recovery_digests, told_of
from robin_sim.scenario import Scenario, load_scenario

REPORT_FILE = "report.html"
RESULTS_FILE = "results.json"
DEMO_SEED = 20
DEMO_PICKS_PER_PILE = 8  # the demo shows several piles, and two processes share them evenly


@dataclass(frozen=True)
class CapturedPick:
    """A record with its images or as a sample, not yet on disk: made in a worker process, written by the one that owns
    records and store. unfamiliar: goods that the record does not tell of yet."""

    decision: Decision
    unfamiliar: tuple[Sighting, ...]
    images: dict[str, bytes] = field(default_factory=dict)
    sample: Sample | None = None


def capture_pick(
    context: DecisionContext, network_size: tuple[int, int], event: PickEvent, *, as_sample: bool = False
) -> CapturedPick:
    """What is kept of one pick; ``context`` holds what is the same for the whole run."""
    context = context.in_pile(event.pile_index, event.pick_index)
    scene = replace(event.scene, flags=(*event.scene.flags, *held_flags(event.scene)))
    told, pictures = told_of(event)
    decision = build_decision(
        context,
        event.frame,
        scene,
        event.plan,
        event.outcome,
        failed=event.failed,
        timings_ms={"frame_to_plan": event.latency_ms},
        flags=_flags(event),
        **told,
    )
    unfamiliar = sightings(event.frame, scene, network_size)
    seen = event.frame, scene, event.after, event.outcome
    if as_sample:
        return CapturedPick(decision, unfamiliar, sample=sample_of(decision, *seen, pictures=pictures))
    return CapturedPick(decision, unfamiliar, {**pick_images(*seen), **pictures})


def _flags(event: PickEvent) -> tuple[str, ...]:
    flags = (f"arrangement_{event.arrangement}", f"container_{event.container}", *event.planner_flags)
    return (*flags, "simulation_unstable") if event.fault else flags


def run_simulated(
    request: RunRequest,
    out: Path | None = None,
    progress: Progress | None = None,
    *,
    report: bool = True,
    store: Path | None = None,
) -> RunResult:
    """``run_scenario``, and with ``out`` the records, images, unfamiliar goods, results.json and report.html of the run
    in that folder.

    store: of samples, made where there is none; it takes the images in place of the folder, within its budget.
    An earlier run's records in ``out`` are replaced. Raises what ``run_scenario`` raises, OPTION_INVALID for a folder
    that another process writes, that cannot be written or that holds other files of those names, STORE_*, DISK_FULL.
    """
    if out is None and store is None:
        return run_scenario(request, progress)
    request = replace(request, page=out).checked()
    with output_folder(out) if out is not None else nullcontext():
        if out is not None:
            refuse_foreign_images(out)
            refuse_foreign_goods(out)
            require_own(out / RESULTS_FILE, (b"{",))
            require_own(out / REPORT_FILE, (b"<",))
            clear_desk(out / HELP_FOLDER)
        samples = None if store is None else StoreWriter(SampleStore(store, seed=request.seed))
        with closing(Recorder(out, samples)) as recorder:
            size = _network_size(request)
            capture = partial(capture_pick, simulated_context(request), size, as_sample=samples is not None)
            result = run_scenario(request, progress, capture=capture, on_captured=recorder.keep)
        if out is not None:
            remove_picture(out / LIVE_FOLDER)
            write_atomic(out / RESULTS_FILE, (json.dumps(result.to_json(), indent=1) + "\n").encode())
        if out is not None and report:
            write_report(out, out / REPORT_FILE, results=result.to_json())
    return result


def simulated_context(request: RunRequest) -> DecisionContext:
    """What is the same for all picks of the run."""
    run_id = f"{request.loaded.name}-s{request.seed}-{request.planner}"
    cell, scenario = request.cell or CellConfig(), request.loaded
    context = run_context(run_id, scenario.name, cell, request.seed, scenario.config)
    return context.with_digests(**recovery_digests(request.recovery_config)) if request.recovery else context


def _network_size(request: RunRequest) -> tuple[int, int]:
    """Width, height that looks are measured at; no matter where no network measures any."""
    if request.masks == "oracle" or request.model is None:
        return 0, 0
    manifest = read_manifest(request.model)
    return manifest.input_width, manifest.input_height


class Recorder:
    """Writes captured picks. The first opens the records: a run that cannot start leaves an earlier one's alone."""

    def __init__(self, folder: Path | None, samples: StoreWriter | None) -> None:
        self._folder, self._samples = folder, samples
        self._records: DecisionStore | None = None
        self._goods: RunGoods | None = None

    def keep(self, pick: CapturedPick) -> None:
        self._goods = self._goods or RunGoods(self._folder)
        decision = self._goods.told(pick.decision, pick.unfamiliar)
        if self._folder is not None:
            if self._records is None:
                self._records = DecisionStore(self._folder, fresh=True)
            self._records.append(decision, pick.images)
        if self._samples is not None and (sample := pick.sample) is not None:
            self._samples.put(lambda: retold(sample, decision), wait=True)
            if (failure := self._samples.state.failure) is not None:
                raise failure

    def close(self) -> None:
        if self._records is not None:
            self._records.close()
        if self._samples is not None:
            self._samples.close()


def run_demo(
    picks: int,
    out: Path,
    progress: Progress | None = None,
    *,
    seed: int = DEMO_SEED,
    workers: int = 2,
    model: Path | None = None,
    masks: str = "predicted",
) -> RunResult:
    """The demo: the mixed scenario with predicted masks, few picks per pile, its report in ``out/report.html``."""
    mixed = load_scenario("mixed")
    few = Scenario(mixed.name, mixed.config.model_copy(update={"picks_per_pile": DEMO_PICKS_PER_PILE}))
    request = RunRequest(few, picks, seed, masks=masks, model=model, workers=workers, recovery=True)
    return run_simulated(request, out, progress)


def summary_rows(result: RunResult) -> list[tuple[str, str, str]]:
    """(what, figure, spread) rows for the table at the end of a run."""
    attempts, json_form = result.attempts, result.to_json()
    rows = [("attempts", str(attempts), f"{len({pick.pile for pick in result.picks})} piles")]
    for name, key in RESULT_KEYS.items():
        rows.append((key, str(result.count(name)), _spread(result.count(name), attempts)))
    infeasible = result.count("infeasible")
    rows.append(("infeasible", str(infeasible), _spread(infeasible, len(result.picks)) + " of planned scenes"))
    if json_form["recovery"]:
        bad = json_form["bad_loads"]
        rows.append(("two or a wrong one on the tool", str(bad), f"{json_form['corrected']} put right"))
        rows.append(("left the cell unnoticed", str(json_form["uncaught"]), _spread(json_form["uncaught"], attempts)))
        rows.append(("good loads not delivered at once", str(json_form["false_stops"]), ""))
        rows.append(("a person was asked", str(json_form["helped"]), f"{json_form['help_s']:.0f} s of the cell's time"))
    latency = json_form["latency_ms"]
    rows.append(("picks per hour", f"{result.picks_per_hour:.0f}", "clean, in the cell's own time"))
    rows.append(("latency", f"p50 {latency['p50']:.0f} ms, p95 {latency['p95']:.0f} ms", "frame to ranked plan"))
    rows.append(("simulation", f"{json_form['wall_picks_per_s']:.2f} picks/s", f"{result.wall_s:.0f} s in all"))
    return rows


def _spread(count: int, of: int) -> str:
    found = rate(count, of)
    return f"{found['rate']:.1%} [{found['low']:.1%}, {found['high']:.1%}]"
