"""Writes picks of a cell into a bag as they happen, and makes sure that what is decided on is what is recorded."""

from __future__ import annotations

import json
from collections import deque
from dataclasses import dataclass, replace

from edge_adapt.bag.messages import (
    BagTopics,
    decision_message,
    plan_message,
    scene_message,
)
from edge_adapt.bag.outcome_messages import help_message, outcome_message
from edge_adapt.bag.pipeline import PipelineRecord
from edge_adapt.bag.writer import BagWriter
from edge_adapt.decision import Decision
from robin_grasp.hold_learning import HoldLearning
from robin_grasp.holding import HoldTerms
from robin_grasp.learned import LearnedState
from robin_grasp.picks.outcome import PickOutcome, PickResult
from robin_grasp.picks.outcome_report import OutcomeReport
from robin_grasp.picks.plan_server import IssuedPlan
from robin_grasp.plan import ALL_SOUND, CupTrust, FailedPick, Plan, Planner
from robin_grasp.recovery.help_request import HelpRequest
from robin_grasp.recovery.machine import PickTarget
from robin_grasp.tool import CellConfig
from robin_perception.bags.frames import EncodedFrame, FrameTopics, ImageCoding, encode_frame, stamp_ns
from robin_perception.core.errors import RobinError
from robin_perception.core.frame import Frame
from robin_perception.core.scene import Scene

_KEPT_FRAMES = 8  # of a turn: before the pick, and after each load that was judged


@dataclass(frozen=True)
class RecordedLoad:
    """A report of a pick with the frame that it was judged with, None where none was taken, and requests for help that
    followed it. ns: when that was, not later than the frame."""

    report: OutcomeReport
    ns: int
    after: EncodedFrame | None = None
    helps: tuple[HelpRequest, ...] = ()


@dataclass(frozen=True)
class RecordedPick:
    """One turn of a cell. issued.frame is encoded.frame. loads: reports in order, the last of them the end of the pick;
    none where nothing was picked. helps: asked before anything moved. seen: frames that were looked at before that one,
    with their scenes, and not picked on."""

    encoded: EncodedFrame
    issued: IssuedPlan
    decision: Decision
    loads: tuple[RecordedLoad, ...] = ()
    helps: tuple[HelpRequest, ...] = ()
    seen: tuple[tuple[EncodedFrame, Scene], ...] = ()


class FrameInput:
    """Turns each frame of a cell into what the bag will hold of it, before anything is decided on it.

    offset_s is added to stamps, for a cell whose clock starts anew with every pile.
    """

    def __init__(self, topics: FrameTopics, coding: ImageCoding) -> None:
        self.offset_s = 0.0
        self._topics, self._coding = topics, coding
        self._kept: deque[tuple[Frame, EncodedFrame]] = deque(maxlen=_KEPT_FRAMES)

    def encoded(self, frame: Frame) -> EncodedFrame:
        known = next((encoded for kept, encoded in self._kept if kept is frame), None)
        if known is None:
            shifted = replace(frame, stamp_s=frame.stamp_s + self.offset_s)
            known = encode_frame(shifted, self._topics, self._coding)
            self._kept.append((frame, known))
        return known

    def of(self, frame: Frame) -> Frame:
        """What a reader of the bag will get for ``frame``."""
        return self.encoded(frame).frame


class RecordedInputPlanner:
    """A planner that is shown recorded frames."""

    def __init__(self, planner: Planner, frames: FrameInput) -> None:
        self.name = planner.name
        self.flags: tuple[str, ...] = tuple(getattr(planner, "flags", ()))
        self._planner, self._frames = planner, frames

    def plan(self, frame: Frame, scene: Scene, failed: tuple[FailedPick, ...] = (), cups: CupTrust = ALL_SOUND) -> Plan:
        return self._planner.plan(self._frames.of(frame), scene, failed, cups)


class RecordedInputHolding:
    """What learns to hold, shown recorded frames."""

    def __init__(self, holding: HoldLearning, frames: FrameInput) -> None:
        self._holding, self._frames = holding, frames

    @property
    def learned(self) -> LearnedState:
        return self._holding.learned

    @property
    def problem(self) -> RobinError | None:
        return self._holding.problem

    def expected(self, frame: Frame, scene: Scene) -> HoldTerms | None:
        return self._holding.expected(self._frames.of(frame), scene)

    def note(
        self, pick: PickTarget, outcome: PickOutcome, result: PickResult | None, trust: CupTrust = ALL_SOUND
    ) -> None:
        self._holding.note(replace(pick, frame=self._frames.of(pick.frame)), outcome, result, trust)


class PickWriter:
    """Owned by one thread, as its writer. Every method raises RobinError (DISK_FULL, ...) once writing has failed."""

    def __init__(self, writer: BagWriter, coding: ImageCoding, topics: BagTopics | None = None) -> None:
        self._writer = writer
        self._topics = topics or BagTopics()
        self._pose: str | None = None
        self._written: deque[EncodedFrame] = deque(maxlen=_KEPT_FRAMES)
        self._cell = CellConfig()
        for topic, (kind, qos) in self._topics.types().items():
            skipped = self._topics.frames.color if coding.jpeg_quality else self._topics.frames.color_compressed
            if topic != skipped:
                writer.add_topic(topic, kind, qos)

    def pipeline(self, record: PipelineRecord, ns: int) -> None:
        """What makes the plans from now on."""
        self._cell = record.cell
        self._writer.write(self._topics.pipeline, {"data": record.model_dump_json()}, ns)

    def pick(self, pick: RecordedPick) -> None:
        """Frame, scene, plan, loads with the frames after them, requests for help, and decision of one turn."""
        issued, topics = pick.issued, self._topics
        ns = stamp_ns(issued.frame)
        for encoded, scene in pick.seen:
            self._frame(encoded)
            self._writer.write(topics.scene, scene_message(scene, stamp_ns(encoded.frame)), stamp_ns(encoded.frame))
        self._frame(pick.encoded)
        self._writer.write(topics.scene, scene_message(issued.scene, ns), ns)
        self._writer.write(topics.plan, plan_message(issued, self._cell), ns)
        self._helps(pick.helps, ns)
        for load in pick.loads:
            if load.after is not None:
                self._frame(load.after)
            self._writer.write(topics.outcome, outcome_message(load.report, load.ns), load.ns)
            self._helps(load.helps, load.ns)
        self._writer.write(topics.decision, decision_message(pick.decision, issued.plan_id, ns), ns)
        self._writer.flush()

    def _frame(self, encoded: EncodedFrame) -> None:
        """Once: the frame after a pick is the one before the next."""
        if any(encoded is written for written in self._written):
            return
        self._written.append(encoded)
        ns, pose = stamp_ns(encoded.frame), encoded.pose
        if (text := json.dumps(pose["transforms"][0]["transform"])) != self._pose:
            self._writer.write(self._topics.frames.tf_static, pose, ns)
            self._pose = text
        for topic, (_, values) in encoded.messages.items():
            self._writer.write(topic, values, ns)

    def _helps(self, requests: tuple[HelpRequest, ...], ns: int) -> None:
        for request in requests:
            self._writer.write(self._topics.help, help_message(request), ns)
