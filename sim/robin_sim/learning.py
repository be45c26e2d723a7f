"""Does it help to learn? The same piles are picked by a cell that stays as the factory made it, and by one that learns
from its own picks to see, to hold and to know its tool. No label is given, no truth is asked.

Lessons run between two picks, so that the outcome depends on the seed alone; on a robot they run beside picking. A
model that passed its gate waits in the shadow for the frames that follow, as on a robot.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from edge_adapt.learn.rounds import RoundsConfig, RoundStep, SeeRounds
from edge_adapt.models.registry import ModelRegistry
from edge_adapt.models.watch import VersionWatch, WatchConfig
from edge_adapt.models.work import put_to_work
from edge_adapt.store.store import SampleStore
from robin_grasp.picks.outcome import PickResult
from robin_grasp.tool import CellConfig
from robin_perception.core.disk import make_folder, write_atomic
from robin_perception.core.errors import Code, RobinError
from robin_perception.core.frame import Frame
from robin_perception.core.scene import Scene
from robin_perception.core.stats import rate
from robin_perception.model.bundle import Bundle
from robin_perception.segmentation.segmenter import Segmenter
from robin_sim.pick_event import PickEvent
from robin_sim.runs.cell_runner import CellRunner, run_segmenter
from robin_sim.runs.loop import closed_loop
from robin_sim.runs.request import RunRequest
from robin_sim.runs.results import is_attempt
from robin_sim.runs.simulated import capture_pick, simulated_context

CAUSES = ("see", "hold", "tool", "stop")
WINDOW, LAST = 64, 200
_STATIC, _ADAPTED, _STEPS = "static.jsonl", "adapted.jsonl", "steps.jsonl"
_MODELS, _STORE, _ROUNDS, _HOLD = "models", "store", "rounds", "hold.json"

Progress = Callable[[str, int, int], None]
"""What, done, of."""


@dataclass(frozen=True)
class Try:
    """One turn in figures. cause: of a failed pick, one of CAUSES; helps: how often a person was asked. model: that saw
    the frame."""

    pile: int
    pick: int
    result: str
    cause: str
    kind: str
    helps: int
    model: str

    @property
    def attempted(self) -> bool:
        return is_attempt(self.result)

    @property
    def failed(self) -> bool:
        return self.attempted and self.result != PickResult.CLEAN.value


def tried(event: PickEvent, faulty: frozenset[int]) -> Try:
    """faulty: cups that the scenario spoils."""
    return Try(
        pile=event.pile_index,
        pick=event.pick_index,
        result=event.result,
        cause=failure_cause(event, faulty),
        kind=event.target_kind,
        helps=0 if event.recovered is None else len(event.recovered.helps),
        model=event.scene.model_id,
    )


def failure_cause(event: PickEvent, faulty: frozenset[int]) -> str:
    """What would have had to be known, from the simulator's truth: "stop", a good load that was not delivered; "tool",
    a spoiled cup was relied on; "see", the mask showed no parcel or several, the tool met another one, or more than the
    target hung on it; else "hold". Empty for a clean pick and for none."""
    outcome, best = event.outcome, event.plan.best
    if outcome is None or best is None or outcome.result is PickResult.CLEAN:
        return ""
    if event.recovered is not None and event.recovered.false_stop:
        return "stop"
    if any(best.cups >> cup & 1 for cup in faulty):
        return "tool"
    truth: dict[str, Any] = outcome.truth
    target = truth.get("target")
    held = {parcel for seal in truth.get("seals", ()) for parcel, _ in seal["held"]}
    wrong = outcome.result in (PickResult.MULTI, PickResult.WRONG) or bool(truth.get("blocked"))
    return "see" if wrong or target is None or len(event.meant) > 1 or held - {target} else "hold"


class LearningCell:
    """The cell with all that it learns, below ``work``: store, versions, lessons, holding, cups."""

    def __init__(
        self,
        request: RunRequest,
        work: Path,
        core: Callable[[int, int], Path],
        config: RoundsConfig,
        watch: WatchConfig,
    ) -> None:
        if request.model is None:
            raise RobinError(Code.MODEL_MISSING, "a cell that learns to see needs a model bundle")
        self.request = replace(request, keep_cups=True, learn_hold=work / _HOLD)
        self._context = simulated_context(self.request)
        self._registry = ModelRegistry(work / _MODELS, request.model)
        self._segmenter = run_segmenter(self.request)
        manifest = self._segmenter.bundle.manifest
        self._network_size = manifest.input_width, manifest.input_height
        self._store = SampleStore(work / _STORE, seed=request.seed)
        cell = request.cell or CellConfig()
        self._rounds = SeeRounds(
            work / _STORE,
            self._registry,
            work / _ROUNDS,
            core,
            config,
            belt_z_m=cell.workspace.belt_z_m,
            engine=request.engine,
            seed=request.seed,
        )
        self._watch = VersionWatch(watch)
        self._watch.changed(0)
        self.steps: list[RoundStep] = []

    def picks(self, progress: Progress) -> Iterator[PickEvent]:
        """Each turn; what it teaches is learned before the next."""
        runner = CellRunner(self.request, capture=lambda event: event, see=self._see)
        for pick in closed_loop(self.request.picks, runner.run_pile, lambda pick: pick.summary.attempted):
            event: PickEvent = pick.captured
            yield event
            self._kept(event)
            self._watched(event)
            step = self._rounds.step(progress)
            if step is not None:
                self.steps.append(step)
                self._serve()

    def close(self) -> None:
        self._store.close()
        self._segmenter.close()

    def _see(self, frame: Frame) -> Scene:
        return self._segmenter.segment(frame)

    def _kept(self, event: PickEvent) -> None:
        captured = capture_pick(self._context, self._network_size, event, as_sample=True)
        if captured.sample is not None:
            self._store.add(captured.sample)

    def _watched(self, event: PickEvent) -> None:
        judged = None if event.recovered is None else event.recovered.judged
        error = None if judged is None else self._watch.note(judged is PickResult.CLEAN)
        if error is not None:
            self._registry.rollback("watch", error.text, {"code": int(error.code)})
            active = self._registry.state().active
            self.steps.append(RoundStep("rollback", 0, False, active, error.text, 0.0))
            self._serve()

    def _serve(self) -> None:
        """The version that should run sees the next frame."""
        before = self._segmenter
        at_work = put_to_work(self._registry, before, self._started)
        self._segmenter = at_work.segmenter
        if self._segmenter is not before:
            before.close()
        self._watch.changed(at_work.version)

    def _started(self, bundle: Bundle) -> Segmenter:
        return run_segmenter(replace(self.request, model=bundle.directory))


def compare_learning(
    request: RunRequest,
    work: Path,
    core: Callable[[int, int], Path],
    progress: Progress,
    config: RoundsConfig | None = None,
    watch: WatchConfig | None = None,
) -> dict[str, Any]:
    """``request`` without learning and with it. work: kept; the run without learning is not made again by the same
    command, the other one begins anew.

    Keys: static, adapted (each ``failures`` [first 64, 65 to 128, last 200], ``curve`` per 64 tries, causes, helps),
    ratio, steps. Raises RobinError as a run, and as ``SeeRounds``.
    """
    request = replace(request, workers=1, recovery=True).checked()
    make_folder(work)
    static = _static(request, work / _STATIC, progress)
    for left in (_MODELS, _STORE, _ROUNDS):
        shutil.rmtree(work / left, ignore_errors=True)
    (work / _HOLD).unlink(missing_ok=True)
    cell = LearningCell(request, work, core, config or RoundsConfig(), watch or WatchConfig())
    adapted = []
    try:
        for event in cell.picks(progress):
            adapted.append(tried(event, _faulty(request)))
            progress("picks with learning", sum(t.attempted for t in adapted), request.picks)
    finally:
        cell.close()
        _write_lines(work / _ADAPTED, [asdict(one) for one in adapted])
        _write_lines(work / _STEPS, [step.to_json() for step in cell.steps])
    result = summary(static, adapted)
    about = {"scenario": request.loaded.name, "picks": request.picks, "seed": request.seed}
    return {**about, **result, "steps": [step.to_json() for step in cell.steps]}


def summary(static: Sequence[Try], adapted: Sequence[Try]) -> dict[str, Any]:
    """Both sides, and the ratio of failures from the 65th try on and in the last 200."""
    sides = {"static": side(static), "adapted": side(adapted)}
    ratio = {
        name: _ratio(sides["adapted"][name], sides["static"][name]) for name in ("failures_65_on", "failures_last_200")
    }
    return {**sides, "ratio": ratio}


def side(tries: Sequence[Try]) -> dict[str, Any]:
    """Counts of failed tries. A pick that a person was asked for beforehand is no try; helps are counted apart."""
    made = [one for one in tries if one.attempted]
    failed = [one.failed for one in made]
    windows = [made[at : at + WINDOW] for at in range(0, len(made), WINDOW)]
    last = made[-LAST:]
    return {
        "tries": len(made),
        "clean": rate(len(made) - sum(failed), len(made)),
        "failures": [sum(failed[:WINDOW]), sum(failed[WINDOW : 2 * WINDOW]), sum(one.failed for one in last)],
        "failures_65_on": sum(failed[WINDOW:]),
        "failures_last_200": sum(one.failed for one in last),
        "curve": [sum(one.failed for one in window) for window in windows],
        "causes": [{cause: sum(one.cause == cause for one in window) for cause in CAUSES} for window in windows],
        "results": {result.value: sum(one.result == result.value for one in made) for result in PickResult},
        "helps": sum(one.helps for one in tries),
        "models": list(dict.fromkeys(one.model for one in tries)),
    }


def _static(request: RunRequest, lines: Path, progress: Progress) -> list[Try]:
    key = {"scenario": request.loaded.name, "picks": request.picks, "seed": request.seed, "model": str(request.model)}
    if lines.is_file():
        known = [json.loads(line) for line in lines.read_text().splitlines()]
        if known and known[0] == key:
            return [Try(**values) for values in known[1:]]
    runner = CellRunner(request, capture=lambda event: tried(event, _faulty(request)))
    tries: list[Try] = []
    for pick in closed_loop(request.picks, runner.run_pile, lambda pick: pick.summary.attempted):
        tries.append(pick.captured)
        progress("picks without learning", sum(t.attempted for t in tries), request.picks)
    _write_lines(lines, [key, *(asdict(one) for one in tries)])
    return tries


def _faulty(request: RunRequest) -> frozenset[int]:
    faults = request.loaded.config.faults
    return frozenset((*faults.blocked_cups, *faults.torn_cups))


def _ratio(adapted: int, static: int) -> float | None:
    return adapted / static if static else None


def _write_lines(path: Path, rows: Sequence[Any]) -> None:
    write_atomic(path, "".join(json.dumps(row) + "\n" for row in rows).encode())
