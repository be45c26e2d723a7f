"""The simulated cell, closed loop, into a bag: what ``robin record`` does without a robot."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np

from edge_adapt.bag.mcap_file import StorageConfig
from edge_adapt.bag.messages import BagTopics
from edge_adapt.bag.pick_writer import (
    FrameInput,
    PickWriter,
    RecordedInputHolding,
    RecordedInputPlanner,
    RecordedPick,
)
from edge_adapt.bag.pipeline import (
    PipelineRecord,
    bundle_calibration,
    code_digest,
    judged_with,
    start_segmenter,
    this_machine,
)
from edge_adapt.bag.replay_conditions import puts_right, start_monitor
from edge_adapt.bag.writer import BagWriter, require_new_folder
from edge_adapt.decision import build_decision, run_context
from robin_grasp.cup_health import CupHealth
from robin_grasp.picks.pick_check import PickCheckConfig
from robin_grasp.picks.plan_server import IssuedPlan
from robin_grasp.plan import Planner
from robin_grasp.planner.config import PlannerConfig
from robin_grasp.planner.registry import DEFAULT_PLANNER, make_planner
from robin_grasp.recovery.config import RecoveryConfig
from robin_grasp.tool import CellConfig
from robin_perception.bags.frames import EncodedFrame, ImageCoding
from robin_perception.core.errors import Code, RobinError
from robin_perception.core.frame import Frame
from robin_perception.core.helper_thread import HelperThread
from robin_perception.core.output import output_folder
from robin_perception.core.scene import Scene
from robin_perception.engines import EngineConfig
from robin_perception.monitors.config import MonitorsConfig
from robin_perception.monitors.station import StationMonitor
from robin_sim.cell import SimCell
from robin_sim.load_camera import LoadCameraConfig
from robin_sim.pick_event import PickEvent
from robin_sim.runs.cell_runner import open_holding, recovery_kit
from robin_sim.runs.loop import closed_loop
from robin_sim.runs.recorded_loads import RecordedLoads, helps_before
from robin_sim.runs.request import RunRequest
from robin_sim.runs.results import AttemptCounter, Progress
from robin_sim.runs.told import recovery_digests, told_of
from robin_sim.scenario import Scenario

START_S = 1.0  # of the bag's clock: a stamp of zero means "no time" in ROS
BETWEEN_PILES_S = 2.0


@dataclass(frozen=True)
class CellRecording:
    """What to record. recovery: loads are judged and put right by a policy of these settings; None: whatever is lifted
    is delivered. monitors: of the station, which is another one with every pile; None: nobody watches. learn_hold:
    file of what is learned of holding, from pick to pick; None: nothing is. image_size: width, height in pixels; None
    takes the scenario's."""

    scenario: Scenario
    picks: int
    seed: int
    model: Path
    engine: str = "onnxruntime"
    planner: str = DEFAULT_PLANNER
    planner_config: PlannerConfig = field(default_factory=PlannerConfig)
    cell: CellConfig = field(default_factory=CellConfig)
    recovery: RecoveryConfig | None = None
    monitors: MonitorsConfig | None = None
    learn_hold: Path | None = None
    picks_per_pile: int | None = None
    image_size: tuple[int, int] | None = None
    images: ImageCoding = field(default_factory=ImageCoding)
    storage: StorageConfig = field(default_factory=StorageConfig)


@dataclass(frozen=True)
class RecordingResult:
    """What came of it. results: pick result -> count."""

    bag: Path
    size_bytes: int
    messages: dict[str, int]
    piles: int
    results: dict[str, int]


def record_cell(spec: CellRecording, out: Path, progress: Progress | None = None) -> RecordingResult:
    """Run ``spec.picks`` attempts, closed loop, and write the bag ``out`` as they happen.

    Raises RobinError: OPTION_INVALID (``out`` exists, a planner that explores), MODEL_*, ENGINE_*, DISK_FULL; what was
    written by then can be read.
    """
    if spec.planner_config.explore.probability > 0:
        raise RobinError(
            Code.OPTION_INVALID, "explore.probability: a planner that draws cannot be replayed; set it to 0"
        )
    require_new_folder(out)
    with output_folder(out):
        return _Recording(spec, out, progress).run()


class _Recording:
    def __init__(self, spec: CellRecording, out: Path, progress: Progress | None) -> None:
        self._spec, self._out, self._progress = spec, out, progress
        self._scenario = _scenario(spec)
        record = PipelineRecord(
            source=f"robin sim {spec.scenario.name}, seed {spec.seed}",
            engine=spec.engine,
            # One thread, no spinning, as in every closed-loop run: sums in another order would give other figures.
            engine_config=EngineConfig(intra_threads=1, spin=False),
            planner=spec.planner,
            planner_config=spec.planner_config,
            cell=spec.cell,
            images=spec.images,
            **({} if spec.recovery is None else judged_with(PickCheckConfig())),
            load_segmented=spec.recovery is not None,
            recovery=spec.recovery,
            monitors=spec.monitors,
            complete=True,
        )
        self._helper = HelperThread()
        self._holding = open_holding(spec.cell, spec.learn_hold, spec.seed)
        self._segmenter = start_segmenter(record, spec.model, self._helper)
        self._record = record.model_copy(
            update={
                "model_id": self._segmenter.model_id,
                "calibration": bundle_calibration(self._segmenter.bundle),
                "engine": self._segmenter.engine.name,
                "machine": this_machine(),
                "code": code_digest(),
            }
        )
        run_id = f"{spec.scenario.name}-s{spec.seed}-{spec.planner}"
        context = run_context(run_id, spec.scenario.name, spec.cell, spec.seed, self._scenario.config)
        self._context = context if spec.recovery is None else context.with_digests(**recovery_digests(spec.recovery))
        self._loads = RecordedLoads(self._frames_of)
        self._frames = FrameInput(BagTopics().frames, spec.images)
        self._frames.offset_s = START_S
        self._results: Counter[str] = Counter()
        self._pile_cell = spec.cell
        self._monitor: StationMonitor | None = None
        self._seen: list[tuple[EncodedFrame, Scene]] = []
        self._piles = 0
        self._ended_s = START_S

    def run(self) -> RecordingResult:
        spec = self._spec
        simulated = self._cell()
        counter = AttemptCounter(spec.picks, self._progress)
        with BagWriter(self._out, spec.storage, {"robin_source": self._record.source}) as writer:
            picks = PickWriter(writer, spec.images)
            run_pile = partial(simulated.run_pile, spec.seed)
            for event in closed_loop(spec.picks, run_pile, lambda event: event.outcome is not None):
                if event.pick_index == 0:
                    started_ns = round(self._frames.offset_s * 1e9)
                    picks.pipeline(self._record.model_copy(update={"cell": self._pile_cell}), started_ns)
                picks.pick(self._recorded(event))
                duration_s = event.outcome.duration_s if event.outcome is not None else 0.0
                self._ended_s = self._frames.of(event.frame).stamp_s + duration_s
                self._results[event.result] += 1
                counter.count(event.result)
        self._segmenter.close()
        return RecordingResult(self._out, writer.size_bytes, writer.counts, self._piles, dict(self._results))

    def _cell(self) -> SimCell:
        spec = self._spec
        holding = None if self._holding is None else RecordedInputHolding(self._holding, self._frames)
        if spec.recovery is None:
            return SimCell(self._scenario.config, spec.cell, self._start_pile, self._see, holding=holding)
        request = RunRequest(
            self._scenario, spec.picks, spec.seed, cell=spec.cell, recovery=True, recovery_config=spec.recovery
        )
        kit = recovery_kit(request, self._segmenter.segment)
        return SimCell(
            self._scenario.config,
            spec.cell,
            self._start_pile,
            self._see,
            load_camera=LoadCameraConfig(),
            recovery=replace(kit, judge=self._loads.judging(kit.judge)),
            cups=CupHealth(spec.cell.tool),
            holding=holding,
        )

    def _frames_of(self, frame: Frame) -> EncodedFrame:
        return self._frames.encoded(frame)

    def _see(self, frame: Frame) -> Scene:
        seen = self._frames.of(frame)
        scene = self._segmenter.segment(seen)
        if self._monitor is not None:
            scene = replace(scene, conditions=(*scene.conditions, *self._monitor.observe(seen, scene)))
        self._seen.append((self._frames.encoded(frame), scene))
        return scene

    def _start_pile(self, cell: CellConfig, rng: np.random.Generator) -> Planner:
        """The planner of the next pile, whose frames come after a pause on the bag's clock."""
        if self._piles:
            self._frames.offset_s = round(self._ended_s + BETWEEN_PILES_S, 3)
        self._ended_s = self._frames.offset_s
        self._piles += 1
        if self._spec.monitors is not None:
            self._monitor = start_monitor(self._record.model_copy(update={"cell": cell}))
        self._pile_cell = cell
        planner = make_planner(self._spec.planner, cell, self._spec.planner_config, rng, self._helper, self._holding)
        return RecordedInputPlanner(planner, self._frames)

    def _recorded(self, event: PickEvent) -> RecordedPick:
        frame = self._frames.of(event.frame)
        context = self._context.in_pile(event.pile_index, event.pick_index)
        told, _ = told_of(event)
        decision = build_decision(
            context,
            frame,
            event.scene,
            event.plan,
            event.outcome,
            failed=event.failed,
            timings_ms={"frame_to_plan": event.latency_ms},
            flags=event.planner_flags,
            **told,
        )
        plan_id = f"{event.pile_index:05d}-{event.pick_index:03d}"
        issued = IssuedPlan(
            plan_id=plan_id,
            requested=True,
            plan=event.plan,
            frame=frame,
            scene=event.scene,
            failed=event.failed,
            excluded=event.excluded,
            flags=event.planner_flags,
        )
        encoded = self._frames.encoded(event.frame)
        truth = {} if decision.outcome is None else decision.outcome.truth
        loads = self._loads.of(event, plan_id, truth)
        before = tuple(seen for seen in self._seen if seen[0] is not encoded)
        self._seen.clear()
        asked = helps_before(event)
        if self._monitor is not None and any(puts_right(request.code, request.answer) for request in asked):
            self._monitor.reset()
        return RecordedPick(encoded, issued, decision, loads, asked, before)


def _scenario(spec: CellRecording) -> Scenario:
    """The scenario with the recording's own image size and picks per pile."""
    config = spec.scenario.config
    changes: dict[str, object] = {}
    if spec.image_size is not None:
        width, height = spec.image_size
        changes["camera"] = config.camera.model_copy(update={"width": width, "height": height})
    if spec.picks_per_pile is not None:
        changes["picks_per_pile"] = spec.picks_per_pile
    return Scenario(spec.scenario.name, type(config).model_validate({**config.model_dump(), **_plain(changes)}))


def _plain(changes: dict[str, object]) -> dict[str, object]:
    return {key: value.model_dump() if hasattr(value, "model_dump") else value for key, value in changes.items()}
