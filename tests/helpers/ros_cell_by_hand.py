"""Camera, segmentation and arm by hand, for nodes that plan, judge and record over real DDS."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from geometry_msgs.msg import Pose
from robin_msgs.msg import PickOutcome, SegmentedScene
from robin_msgs.srv import PlanPick, ReportOutcome
from sensor_msgs.msg import CameraInfo, Image

from helpers.grasp_scenes import Box, box_scene
from helpers.ros_client import RosClient
from robin_grasp.nodes.convert import outcome_to_msg
from robin_grasp.picks.outcome_report import OutcomeReport, Stage
from robin_perception.core.errors import Code
from robin_perception.nodes.convert import frame_header, frame_to_msgs, pose_to_msg, scene_to_msg
from robin_perception.nodes.qos import RESULT, SENSOR_OUT
from robin_perception.topics import SCENE, camera_topics

BOXES = [Box(0.65, 0.0, 0.25, 0.2, 0.1), Box(0.95, 0.0, 0.25, 0.2, 0.12)]
SLOW_S = 60.0


class Cell:
    """nodes: how many take the frames. clock: what stamps are taken from, s."""

    def __init__(self, client: RosClient, nodes: int, clock: Callable[[], float] = time.time) -> None:
        self.client, self._nodes, self._clock = client, nodes, clock
        topics = camera_topics("camera")
        self._publishers = [
            client.node.create_publisher(kind, topic, SENSOR_OUT)
            for kind, topic in ((Image, topics.color), (Image, topics.depth), (CameraInfo, topics.info))
        ]
        self._scenes = client.node.create_publisher(SegmentedScene, SCENE, RESULT)
        self.frame, self.scene = box_scene(BOXES, 320, 240)
        self._answered = False

    @property
    def pose(self) -> Pose:
        return pose_to_msg(self.frame.T_base_camera)

    def show(self, age_s: float = 0.0) -> float:
        """One segmented frame of that age; its stamp."""
        self.frame.rgb[0, 0, 2] ^= 1  # noise of a real sensor: no two pictures in a row are the same to the bit
        frame = replace(self.frame, stamp_s=self._clock() - age_s)
        for publisher, message in zip(self._publishers, frame_to_msgs(frame), strict=True):
            publisher.publish(message)
        self._scenes.publish(scene_to_msg(self.scene, frame_header(frame)))
        return frame.stamp_s

    def plan(self, **request: Any) -> PlanPick.Response:
        reply: PlanPick.Response = self.client.call(PlanPick, "plan_pick", PlanPick.Request(**request))
        return reply

    def show_and_plan(self, code: Code, age_s: float = 0.0) -> PlanPick.Response:
        """Show frames, once all nodes see them, until planning answers with that code."""
        publishers = (*self._publishers, self._scenes)
        self.client.wait(
            lambda: all(p.get_subscription_count() == self._nodes for p in publishers), "listeners", SLOW_S
        )
        self.show(age_s)  # its camera_info may come after its images: those are not used
        self.client.spin(0.5)

        def answer() -> PlanPick.Response | None:
            self.show(age_s)
            self.client.spin(0.3)
            reply = self.plan()
            return reply if reply.code == code else None

        found: PlanPick.Response = self.client.wait(answer, code.name, SLOW_S)
        return found

    def report(
        self, plan_id: str, grasp: int = 0, stage: Stage = Stage.ENDED, cups: int = 0, weight_n: float = 0.0
    ) -> ReportOutcome.Response:
        """cups: mask of those that hold."""
        if not self._answered:  # may be repeated where the answer is lost; the report of a pick closes it
            nonsense = ReportOutcome.Request(outcome=PickOutcome(plan_id=plan_id, result="perhaps"))
            assert self.client.call(ReportOutcome, "report_outcome", nonsense).code == Code.OUTCOME_INVALID
            self._answered = True
        vacuum = tuple(50_000.0 * (cups >> cup & 1) for cup in range(8))
        report = OutcomeReport(plan_id, grasp, self._clock(), None, vacuum, weight_n, 2.0, stage=stage)
        request = ReportOutcome.Request(outcome=outcome_to_msg(report))
        reply: ReportOutcome.Response = self.client.call(ReportOutcome, "report_outcome", request, again=False)
        return reply
