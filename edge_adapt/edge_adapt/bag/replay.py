"""Lock-step replay: every recorded plan is made again from the recorded frame and compared with what was recorded."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from edge_adapt.bag.compare import Difference, MachineTolerances, exact_differences, machine_differences
from edge_adapt.bag.messages import (
    PLAN_TYPE,
    SCENE_TYPE,
    BagTopics,
    failed_picks,
    plan_message,
    recorded_grasp,
    scene_message,
    with_named_terms,
)
from edge_adapt.bag.pipeline import (
    Choices,
    PipelineRecord,
    bundle_calibration,
    changes_from,
    chosen_pipeline,
    code_digest,
    judged_with,
    parse_pipeline,
    start_planner,
    start_segmenter,
    this_machine,
)
from edge_adapt.bag.recorded_holding import RecordedHolding, recorded_state
from edge_adapt.bag.replay_conditions import ConditionReplay
from edge_adapt.bag.replay_loads import LoadReplay, load_differences
from edge_adapt.bag.replay_report import ReplayReport
from robin_grasp.picks.plan_server import IssuedPlan, without_instances
from robin_grasp.plan import Grasp, Plan, PlanBasis, Planner
from robin_perception.bags import cdr
from robin_perception.bags.definitions import Definitions
from robin_perception.bags.frames import FrameAssembler, RecordedFrame, header_ns, ns_of
from robin_perception.bags.reader import BagReader
from robin_perception.core.errors import Code, RobinError
from robin_perception.core.frame import Frame
from robin_perception.core.helper_thread import HelperThread
from robin_perception.core.ids import plain_id
from robin_perception.core.scene import Scene

TOLERANCES = ("auto", "exact", "machine")
_KEPT_FRAMES = 64  # frames that wait for the plan made on them
_LATEST_FRAMES = 8  # in which the one after a pick is looked for
_SAME_STAMP_NS = 500_000  # a stamp loses up to 0.3 us between seconds and nanoseconds; frames are milliseconds apart

ValueT = TypeVar("ValueT")
Progress = Callable[[int, int, str], None]


@dataclass(frozen=True)
class ReplayOptions:
    """tolerance: 'exact', 'machine', or 'auto': exact where processor and numeric libraries are the recorded ones."""

    choices: Choices = field(default_factory=Choices)
    tolerance: str = "auto"
    limits: MachineTolerances = field(default_factory=MachineTolerances)
    topics: BagTopics = field(default_factory=BagTopics)


@dataclass(frozen=True)
class ReplayedPlan:
    """One plan made again. name: the decision's id where the bag has one, else the plan's. differences: empty when they
    agree. frame, scene, recorded, replayed: for pictures; scene and replayed are None where planning failed."""

    index: int
    name: str
    stamp_ns: int
    differences: tuple[Difference, ...]
    frame: Frame
    scene: Scene | None
    recorded: Grasp | None
    replayed: Grasp | None


class Replay:
    """One bag through the real segmenter and planner. Not thread-safe.

    ``run`` yields a ReplayedPlan per recorded plan that has its frame; ``report`` is complete when it is exhausted.
    """

    def __init__(self, bag: Path, model: Path, options: ReplayOptions | None = None) -> None:
        """Reads the bag once for what it holds. Raises RobinError: INPUT_*, BAG_INVALID, BAG_TOPIC_MISSING (no plan, or
        nothing that says what made the plans and no choices instead), MODEL_*, ENGINE_*, OPTION_INVALID."""
        self.options = options or ReplayOptions()
        if self.options.tolerance not in TOLERANCES:
            text = f"tolerance must be one of {', '.join(TOLERANCES)}, got '{self.options.tolerance}'"
            raise RobinError(Code.OPTION_INVALID, text)
        self._reader = BagReader(bag)
        self._names: dict[str, str] = {}
        self._wanted: dict[int, int] = {}
        self._recorded: PipelineRecord | None = None
        self._first_pose: cdr.Message | None = None
        self._scan(bag)
        self._helper = HelperThread()
        self._holding = RecordedHolding()
        self._segmenter = start_segmenter(self._pipeline(self._recorded), model, self._helper)
        self._scenes: OrderedDict[int, Scene] = OrderedDict()
        self._conditions = ConditionReplay(self._recorded or PipelineRecord())
        self._held: dict[str, Definitions] = {}  # by message type, as the bag defines it
        used = self._pipeline(self._recorded)
        self.report = ReplayReport(bag, self._tolerance(used), self.options.limits, self._recorded, used)
        if self._recorded is None:
            self.report.warnings.append("the bag does not say what made its plans: defaults and the given options used")
        else:
            self.report.changes.extend(changes_from(self._recorded, used))

    @property
    def plans(self) -> int:
        """Recorded plans."""
        return sum(self._wanted.values())

    def run(self, progress: Progress | None = None) -> Iterator[ReplayedPlan]:
        """Raises RobinError BAG_TOPIC_MISSING when none of the plans has its frame in the bag, BAG_INVALID."""
        try:
            yield from self._plans(progress)
        finally:
            self._segmenter.close()
            self.report.warnings.extend(self._reader.warnings)
        if not self.report.compared:
            text = f"none of the {self.plans} plans has its frame (colour, depth, camera_info, pose) in the bag"
            raise RobinError(Code.BAG_TOPIC_MISSING, f"{self.report.bag}: {text}")

    def _scan(self, bag: Path) -> None:
        topics = self.options.topics
        read = topics.reads(topics.plan, topics.decision, topics.pipeline, topics.frames.tf_static)
        for message in self._reader.messages(read):
            values = message.values()
            if message.topic == topics.plan:
                ns = header_ns(values)
                self._wanted[ns] = self._wanted.get(ns, 0) + 1
            elif message.topic == topics.decision:
                self._names[values["plan_id"]] = plain_id(values["decision_id"], "decision_id")
            elif message.topic == topics.frames.tf_static:
                self._first_pose = self._first_pose or values
            elif self._recorded is None:
                self._recorded = parse_pipeline(values["data"], bag)
        if not self._wanted:
            found = ", ".join(sorted(self._reader.topics())) or "no messages"
            raise RobinError(
                Code.BAG_TOPIC_MISSING, f"{bag}: no plans on {topics.plan}; it holds {found}{self._reader.left_out}"
            )

    def _pipeline(self, recorded: PipelineRecord | None) -> PipelineRecord:
        """What is used where ``recorded`` made the plans."""
        used = chosen_pipeline(recorded or PipelineRecord(), self.options.choices)
        changes: dict[str, object] = {
            "machine": this_machine(),
            "code": code_digest(),
        }
        if used.pick_check is not None:
            changes |= judged_with(used.pick_check)
        if hasattr(self, "_segmenter"):
            changes["model_id"] = self._segmenter.model_id
            changes["calibration"] = bundle_calibration(self._segmenter.bundle)
            changes["engine"] = self._segmenter.engine.name
        return used.model_copy(update=changes)

    def _tolerance(self, used: PipelineRecord) -> str:
        if self.options.tolerance != "auto":
            return self.options.tolerance
        return "exact" if self._recorded is not None and self._recorded.machine == used.machine else "machine"

    def _plans(self, progress: Progress | None) -> Iterator[ReplayedPlan]:
        topics = self.options.topics
        assembler = FrameAssembler(topics.frames)
        if self._first_pose is not None:  # a static pose holds from the start, whenever the recorder learned of it
            assembler.add_values(topics.frames.tf_static, self._first_pose)
        frames: OrderedDict[int, RecordedFrame] = OrderedDict()
        latest: OrderedDict[int, RecordedFrame] = OrderedDict()
        waiting: list[tuple[int, Mapping[str, Any]]] = []
        loads = LoadReplay(self._recorded or PipelineRecord(), self._segmenter.segment)
        scenes: OrderedDict[int, Mapping[str, Any]] = OrderedDict()
        planner: Planner | None = None
        done = 0
        read = topics.reads(*topics.frames.all, topics.scene, topics.plan, topics.outcome, topics.help, topics.pipeline)
        for message in self._reader.messages(read):
            values = message.values()
            if message.topic in (topics.pipeline, topics.plan, topics.help):
                self._judge_again(loads, waiting, latest, True)
            if message.topic == topics.pipeline:
                made_by = self._pipeline(parse_pipeline(values["data"], self.report.bag))
                if made_by.complete:
                    loads, self._conditions = LoadReplay(made_by, self._segmenter.segment), ConditionReplay(made_by)
                planner = self._planner(made_by)
            elif message.topic == topics.scene:
                self._held[SCENE_TYPE] = message.definitions
                _keep(scenes, header_ns(values), values)
                if self._conditions.wanted and (looked_at := _near(latest, header_ns(values))) is not None:
                    self._segment(looked_at)
            elif message.topic == topics.plan:
                self._held[PLAN_TYPE] = message.definitions
                done += 1
                planner = planner or self._planner(self.report.used)
                found = _near(frames, header_ns(values))
                if found is None or not found.pose_known:
                    self.report.without_frame += 1
                    continue
                scene = _near(scenes, found.stamp_ns)
                replayed = self._again(done - 1, found, with_named_terms(values), scene, planner)
                if replayed.scene is not None and values["requested"]:
                    seen = self._conditions.held(replayed.scene, scene)
                    loads.plan(with_named_terms(values), found.frame, seen)
                if progress is not None:
                    progress(done, self.plans, f"{len(self.report.differing)} differ")
                yield replayed
            elif message.topic == topics.outcome:
                waiting.append((max(done - 1, 0), values))
            elif message.topic == topics.help:
                loads.help(values)
                self._conditions.help(values)
            else:
                frame = assembler.add_values(message.topic, values)
                if frame is not None and _near(self._wanted, frame.stamp_ns) is not None:
                    _keep(frames, frame.stamp_ns, frame)
                if frame is not None and (loads.wanted or self._conditions.wanted):
                    _keep(latest, frame.stamp_ns, frame, _LATEST_FRAMES)
            self._judge_again(loads, waiting, latest, False)
        self._judge_again(loads, waiting, latest, True)

    def _planner(self, made_by: PipelineRecord) -> Planner:
        return start_planner(made_by, self._helper, self._holding)

    def _again(
        self,
        index: int,
        found: RecordedFrame,
        plan: Mapping[str, Any],
        scene: Mapping[str, Any] | None,
        planner: Planner,
    ) -> ReplayedPlan:
        recorded: dict[str, Any] = {"plan": plan}
        seen: Scene | None = None
        try:
            seen = self._segment(found)
            self._holding.plan = plan
            issued = _issue(planner, found.frame, seen, plan)
        except RobinError as exc:
            seen = None
            failed = Plan(exc.code, exc.text, (), (), planner.name)
            issued = IssuedPlan(
                "", True, failed, found.frame, _unseen(found.frame), failed_picks(plan), _excluded(plan)
            )
        replayed: dict[str, Any] = {
            "plan": with_named_terms(self._as_held(PLAN_TYPE, plan_message(issued, self.report.used.cell)))
        }
        if scene is not None and seen is not None:
            again = self._as_held(SCENE_TYPE, scene_message(seen, found.stamp_ns))
            recorded["scene"], replayed["scene"] = self._conditions.compared(scene), self._conditions.compared(again)
        differences = tuple(
            exact_differences(recorded, replayed)
            if self.report.tolerance == "exact"
            else machine_differences(recorded, replayed, self.options.limits, self.report.used.cell.tool)
        )
        name = self._names.get(plan["plan_id"]) or plain_id(plan["plan_id"], "plan_id")
        self.report.compared += 1
        if differences:
            self.report.differing.append((name, index, differences))
        best = recorded_grasp(plan)
        return ReplayedPlan(index, name, found.stamp_ns, differences, found.frame, seen, best, issued.plan.best)

    def _judge_again(
        self,
        loads: LoadReplay,
        waiting: list[tuple[int, Mapping[str, Any]]],
        latest: Mapping[int, RecordedFrame],
        now: bool,
    ) -> None:
        """Judge reports again whose frame after has come: the recorder may have got it later than they. now: all."""
        while waiting:
            plan, values = waiting[0]
            after = _frame_after(values, latest)
            if after is None and not now:
                return
            del waiting[0]
            self._compare_load(loads, plan, values, after)

    def _compare_load(
        self, loads: LoadReplay, plan: int, values: Mapping[str, Any], after: RecordedFrame | None
    ) -> None:
        """Compare the judgement and the action that a recorded report was answered with."""
        name = self._names.get(values["plan_id"]) or plain_id(values["plan_id"], "plan_id")
        try:
            load = loads.outcome(values, None if after is None else after.frame)
        except RobinError as exc:
            self.report.judged += 1
            self._judged_otherwise(name, plan, (Difference("outcome", "judged", f"E{int(exc.code)} {exc.text}"),))
            return
        if load is None:
            return
        self.report.judged += 1
        exact = self.report.tolerance == "exact"
        recorded = load.recorded if exact else load_differences(load, self.report.limits)
        self._judged_otherwise(name, plan, tuple(exact_differences({"outcome": recorded}, {"outcome": load.replayed})))

    def _judged_otherwise(self, name: str, plan: int, differences: tuple[Difference, ...]) -> None:
        if differences:
            self.report.judged_differing += 1
            self.report.differing.append((name, plan, differences))

    def _as_held(self, kind: str, values: cdr.Message) -> cdr.Message:
        """A message as this bag would hold it: a field that has come since it was recorded is not compared."""
        definitions = self._held[kind]
        return cdr.decode(kind, cdr.encode(kind, values, definitions), definitions)

    def _segment(self, found: RecordedFrame) -> Scene:
        """A frame is segmented once, however many plans were made on it."""
        if found.stamp_ns not in self._scenes:
            _keep(
                self._scenes, found.stamp_ns, self._conditions.look(found.frame, self._segmenter.segment(found.frame))
            )
        return self._scenes[found.stamp_ns]


def _issue(planner: Planner, frame: Frame, scene: Scene, recorded: Mapping[str, Any]) -> IssuedPlan:
    """What a planning node answers to the same request."""
    failed, excluded = failed_picks(recorded), _excluded(recorded)
    thresholds = dict(zip(recorded.get("threshold_names", ()), recorded.get("thresholds", ()), strict=False))
    basis = PlanBasis(thresholds=thresholds, tool=recorded_state(recorded, "tool"))
    plan = without_instances(planner.plan(frame, scene, failed, basis.cups), excluded)
    flags = tuple(getattr(planner, "flags", ()))
    return IssuedPlan("", True, plan, frame, scene, failed, excluded, flags)


def _unseen(frame: Frame) -> Scene:
    """Stands for the scene of a frame that could not be segmented."""
    labels = np.zeros((frame.height, frame.width), dtype=np.uint16)
    return Scene(frame.stamp_s, "", labels, (), np.zeros((1, 1), dtype=np.float32))


def _excluded(plan: Mapping[str, Any]) -> tuple[int, ...]:
    return tuple(int(instance) for instance in plan["excluded_instances"])


def _frame_after(outcome: Mapping[str, Any], latest: Mapping[int, RecordedFrame]) -> RecordedFrame | None:
    """The frame that a report was judged with; of an older bag, which does not tell, the first since the pick."""
    if stamp := ns_of(outcome["after_stamp"]):
        return _near(latest, stamp)
    if len(outcome["feature_names"]):
        return None
    since_ns = header_ns(outcome) - _SAME_STAMP_NS
    return next((found for ns, found in latest.items() if ns >= since_ns), None)


def _near(by_stamp: Mapping[int, ValueT], ns: int) -> ValueT | None:
    """What has that stamp."""
    if ns in by_stamp:
        return by_stamp[ns]
    nearest = min(by_stamp, key=lambda stamp: abs(stamp - ns), default=None)
    return None if nearest is None or abs(nearest - ns) > _SAME_STAMP_NS else by_stamp[nearest]


def _keep(kept: OrderedDict[int, Any], key: int, value: Any, most: int = _KEPT_FRAMES) -> None:
    kept[key] = value
    while len(kept) > most:
        kept.popitem(last=False)
