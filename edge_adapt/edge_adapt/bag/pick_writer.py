"""Writes picks of a cell into a bag as they happen, and makes sure that what is decided on is what is recorded."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace

from edge_adapt.bag.messages import (
    BagTopics,
    decision_message,
    plan_message,
    scene_message,
)
from edge_adapt.bag.outcome_messages import outcome_message
from edge_adapt.bag.pipeline import PipelineRecord
from edge_adapt.bag.writer import BagWriter
from edge_adapt.decision import Decision
from robin_grasp.picks.outcome import PickOutcome
from robin_grasp.picks.outcome_report import OutcomeReport
from robin_grasp.picks.plan_server import IssuedPlan
from robin_grasp.plan import ALL_SOUND, CupTrust, FailedPick, Plan, Planner
from robin_grasp.tool import CellConfig
from robin_perception.bags.frames import EncodedFrame, FrameTopics, ImageCoding, encode_frame, stamp_ns
from robin_perception.core.frame import Frame
from robin_perception.core.scene import Scene


@dataclass(frozen=True)
class RecordedPick:
    """One turn of a cell. issued.frame is encoded.frame."""

    encoded: EncodedFrame
    issued: IssuedPlan
    decision: Decision
    outcome: PickOutcome | None


class FrameInput:
    """Turns each frame of a cell into what the bag will hold of it, before anything is decided on it.

    offset_s is added to stamps, for a cell whose clock starts anew with every pile.
    """

    def __init__(self, topics: FrameTopics, coding: ImageCoding) -> None:
        self.offset_s = 0.0
        self._topics, self._coding = topics, coding
        self._last: tuple[Frame, EncodedFrame] | None = None

    def encoded(self, frame: Frame) -> EncodedFrame:
        if self._last is None or self._last[0] is not frame:
            shifted = replace(frame, stamp_s=frame.stamp_s + self.offset_s)
            self._last = frame, encode_frame(shifted, self._topics, self._coding)
        return self._last[1]

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


class PickWriter:
    """Owned by one thread, as its writer. Every method raises RobinError (DISK_FULL, ...) once writing has failed."""

    def __init__(self, writer: BagWriter, coding: ImageCoding, topics: BagTopics | None = None) -> None:
        self._writer = writer
        self._topics = topics or BagTopics()
        self._pose: str | None = None
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
        """Frame, scene, plan, outcome and decision of one turn."""
        issued, topics = pick.issued, self._topics
        ns = stamp_ns(issued.frame)
        pose = pick.encoded.pose
        if (text := json.dumps(pose["transforms"][0]["transform"])) != self._pose:
            self._writer.write(topics.frames.tf_static, pose, ns)
            self._pose = text
        for topic, (_, values) in pick.encoded.messages.items():
            self._writer.write(topic, values, ns)
        self._writer.write(topics.scene, scene_message(issued.scene, ns), ns)
        self._writer.write(topics.plan, plan_message(issued, self._cell), ns)
        if pick.outcome is not None:
            ended = ns + round(pick.outcome.duration_s * 1e9)
            truth = pick.decision.outcome.truth if pick.decision.outcome is not None else {}
            report = OutcomeReport.of(issued.plan_id, ended / 1e9, replace(pick.outcome, truth=truth))
            self._writer.write(topics.outcome, outcome_message(report, ended), ended)
        self._writer.write(topics.decision, decision_message(pick.decision, issued.plan_id, ns), ns)
        self._writer.flush()
