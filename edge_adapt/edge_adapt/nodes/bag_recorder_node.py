"""Records a running cell into a bag: serialized messages as they come, and the parameters that made the plans.

What this node cannot write in time is dropped and counted, and so is what the middleware lost on the way to it.
"""

from __future__ import annotations

import hashlib
import sys
import time
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, TypeVar

from rcl_interfaces.srv import GetParameters
from rclpy.event_handler import SubscriptionEventCallbacks
from rclpy.parameter import parameter_value_to_python
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy

from edge_adapt.bag.background import BackgroundBagWriter
from edge_adapt.bag.mcap_file import StorageConfig
from edge_adapt.bag.messages import BagTopics
from edge_adapt.bag.pipeline import (
    PipelineRecord,
    bundle_calibration,
    code_digest,
    judged_with,
    this_machine,
)
from edge_adapt.bag.writer import BagWriter
from edge_adapt.node_config import BagRecorderNodeConfig
from robin_grasp.node_config import PickCheckNodeConfig, PlanningNodeConfig
from robin_grasp.planner.config import PlannerConfig
from robin_grasp.tool import CellConfig
from robin_perception.bags import cdr
from robin_perception.bags.frames import FrameTopics, pose_message
from robin_perception.core.bounded import read_plain_bytes
from robin_perception.core.config import StrictConfig, load_config
from robin_perception.core.errors import Code
from robin_perception.model.bundle import load_bundle
from robin_perception.node_config import SegmentationNodeConfig
from robin_perception.node_parameters import config_from_flat, parameter_specs
from robin_perception.nodes.base import RobinNode
from robin_perception.nodes.run import run_nodes
from robin_perception.topics import DECISION, HELP, OUTCOME, PLAN, SCENE, camera_topics

ConfigT = TypeVar("ConfigT", bound=StrictConfig)
_STATION_FILE_BYTES = 4_000_000
_DEPTH = 20  # messages of a topic that wait for this node's thread


@dataclass
class _Source:
    """A topic that is recorded."""

    message: type[Any]
    latched: bool
    reliability: ReliabilityPolicy = ReliabilityPolicy.RELIABLE
    subscription: Any = None


class BagRecorderNode(RobinNode[BagRecorderNodeConfig]):
    """One bag per activation. Its writer has a thread of its own; a full disk is a fault here and nothing elsewhere."""

    def __init__(self, **ros: Any) -> None:
        super().__init__("bag_recorder", BagRecorderNodeConfig, **ros)
        self._background: BackgroundBagWriter | None = None
        self._folder = Path()
        self._topics = BagTopics()
        self._asked: dict[str, Any] = {}
        self._answers: dict[str, StrictConfig] = {}
        self._sources: dict[str, _Source] = {}
        self._pipeline = ""
        self._dropped = 0
        self._lost = 0

    def setup(self) -> None:
        self._topics = self._resolved_topics()
        wanted = self._topics.types()
        del wanted[self._topics.pipeline], wanted[self._topics.frames.color_compressed]
        if not self.config.record_images:
            for topic in (self._topics.frames.color, self._topics.frames.depth, self._topics.frames.info):
                del wanted[topic]
        for topic, (kind, qos) in wanted.items():
            message = _message_class(kind)
            if message is None:
                self.get_logger().warning(f"{topic}: package {kind.split('/')[0]} is not installed, not recorded")
                continue
            self._sources[topic] = _Source(message, qos.durability == "transient_local")
            self._subscribe(topic, ReliabilityPolicy.RELIABLE)

    def teardown(self) -> None:
        for source in self._sources.values():
            self.destroy_subscription(source.subscription)
        self._sources.clear()

    def start(self) -> None:
        config = self.config
        self._folder = _free_name(config.bag)
        writer = BagWriter(self._folder, StorageConfig(zstd_level=config.zstd_level), {"robin_source": "live"})
        for topic, (kind, qos) in self._topics.types().items():
            if topic != self._topics.frames.color_compressed:
                writer.add_topic(topic, kind, qos)
        self._background = BackgroundBagWriter(writer, config.queue_mb * 1_000_000)
        self._answers.clear()
        self._pipeline, self._dropped, self._lost = "", 0, 0
        self._ask()

    def stop(self) -> None:
        if self._background is None:
            return
        state = self._background.close()
        dropped = sum(state.dropped.values())
        counts = f"{state.written} messages, {dropped} dropped, {self._lost} lost on the way"
        self.get_logger().info(f"{self._folder}: {state.size_bytes} bytes, {counts}")
        self._background = None

    def watch(self) -> None:
        self._match_publishers()
        if (background := self._background) is None:
            return
        state = background.state
        lost = sum(state.dropped.values()) + self._lost
        if state.failure is not None:
            self.report(state.failure.code, state.failure.text)
        elif lost > self._dropped:
            text = f"{lost} messages dropped or lost by now: disk or processor do not keep up"
            self.report(Code.RECORDER_BEHIND, text, warning=True)
        self._dropped = lost
        self._ask()

    def status_values(self) -> dict[str, str]:
        if (background := self._background) is None:
            return {"bag": ""}
        state = background.state
        return {
            "bag": str(self._folder),
            "written": str(state.written),
            "dropped": str(sum(state.dropped.values())),
            "lost": str(self._lost),
            "queue_mb": f"{state.queued_bytes / 1e6:.1f}",
            "size_mb": f"{state.size_bytes / 1e6:.1f}",
            "pipeline_known": str(bool(self._pipeline)).lower(),
        }

    def _resolved_topics(self) -> BagTopics:
        camera = camera_topics(self.config.camera_prefix, self.config.camera_driver)
        full = self.resolve_topic_name
        frames = FrameTopics(color=full(camera.color), depth=full(camera.depth), info=full(camera.info))
        return BagTopics(
            frames=frames,
            scene=full(SCENE),
            plan=full(PLAN),
            outcome=full(OUTCOME),
            decision=full(DECISION),
            help=full(HELP),
            pipeline=full("pipeline"),
        )

    # Subscriptions: reliable wherever all publishers are. A best-effort one loses most of a large image's fragments on
    # a busy machine; what the middleware loses all the same, it tells.

    def _subscribe(self, topic: str, reliability: ReliabilityPolicy) -> None:
        source = self._sources[topic]
        if source.subscription is not None:
            self.destroy_subscription(source.subscription)
        durability = DurabilityPolicy.TRANSIENT_LOCAL if source.latched else DurabilityPolicy.VOLATILE
        source.reliability = reliability
        source.subscription = self.create_subscription(
            source.message,
            topic,
            lambda data: self._put(topic, data),
            QoSProfile(depth=_DEPTH, reliability=reliability, durability=durability),
            raw=True,
            event_callbacks=SubscriptionEventCallbacks(message_lost=self._note_lost),
        )

    def _match_publishers(self) -> None:
        """A reliable subscription gets nothing from a best-effort publisher."""
        for topic, source in self._sources.items():
            offered = {info.qos_profile.reliability for info in self.get_publishers_info_by_topic(topic)}
            best_effort = ReliabilityPolicy.BEST_EFFORT in offered
            wanted = ReliabilityPolicy.BEST_EFFORT if best_effort else ReliabilityPolicy.RELIABLE
            if offered and wanted is not source.reliability:
                self._subscribe(topic, wanted)

    def _note_lost(self, event: Any) -> None:
        if self._background is not None:
            self._lost += event.total_count_change
            self.counters.drop("lost", event.total_count_change)

    def _put(self, topic: str, data: bytes) -> None:
        if (background := self._background) is None or not self.is_active:
            return
        if background.put(topic, data, self._now_ns()):
            self.counters.count("messages")
        else:
            self.counters.drop("queue_full")

    def _now_ns(self) -> int:
        return int(self.get_clock().now().nanoseconds)

    # What made the plans: asked of the nodes themselves, as often as diagnostics are published.

    def _ask(self) -> None:
        self._ask_node(self.config.segmentation_node, SegmentationNodeConfig)
        self._ask_node(self.config.planning_node, PlanningNodeConfig)
        self._ask_node(self.config.pick_check_node, PickCheckNodeConfig)

    def _ask_node(self, node: str, config_type: type[ConfigT]) -> None:
        if not node:
            return
        client = self._asked.get(node)
        if client is None:
            client = self._asked[node] = self.create_client(GetParameters, f"{node}/get_parameters")
        if not client.service_is_ready():
            return
        names = list(parameter_specs(config_type))

        def answered(future: Any) -> None:
            try:
                values = [parameter_value_to_python(value) for value in future.result().values]
                self._learn(node, config_from_flat(config_type, dict(zip(names, values, strict=True)), node))
            except Exception as exc:  # a node that dies while it is asked
                self.report_exception(exc, warning=True)

        client.call_async(GetParameters.Request(names=names)).add_done_callback(answered)

    def _learn(self, node: str, config: StrictConfig) -> None:
        if self._answers.get(node) == config or self._background is None:
            return
        self._answers[node] = config
        seeing = self._answers.get(self.config.segmentation_node)
        planning = self._answers.get(self.config.planning_node)
        if isinstance(planning, PlanningNodeConfig) and any(planning.camera_pose_xyzw):
            pose = pose_message(planning.camera_pose_xyz_m, planning.camera_pose_xyzw, self._now_ns())
            self._put(self._topics.frames.tf_static, cdr.encode("tf2_msgs/msg/TFMessage", pose))
        judging = self._answers.get(self.config.pick_check_node)
        if isinstance(seeing, SegmentationNodeConfig) and isinstance(planning, PlanningNodeConfig):
            check = judging if isinstance(judging, PickCheckNodeConfig) else None
            record = _pipeline_record(seeing, planning, check, f"{self.get_namespace()} live").model_dump_json()
            if record != self._pipeline:
                self._put(self._topics.pipeline, cdr.encode("std_msgs/msg/String", {"data": record}))
                self._pipeline = record


def _pipeline_record(
    seeing: SegmentationNodeConfig, planning: PlanningNodeConfig, judging: PickCheckNodeConfig | None, source: str
) -> PipelineRecord:
    """What the nodes' parameters amount to. Raises RobinError for files that cannot be read here."""
    bundle, novelty = load_bundle(seeing.model), seeing.segmenter.novelty
    return PipelineRecord(
        source=source,
        model_id=bundle.model_id,
        calibration=bundle_calibration(bundle),
        engine=seeing.engine,
        engine_config=seeing.engine_options,
        segmenter=seeing.segmenter.model_copy(update={"novelty": novelty.model_copy(update={"calibration": None})}),
        novelty_limit_sha256=_sha256(novelty.calibration),
        planner=planning.planner,
        planner_config=load_config(PlannerConfig, planning.planner_file),
        cell=load_config(CellConfig, planning.cell_file),
        **({} if judging is None else judged_with(judging.judge)),
        recovery=judging.recovery if judging is not None and judging.recover else None,
        monitors=seeing.monitors.model_copy(update={"baseline": None}) if seeing.monitors.enabled else None,
        baseline_sha256=_sha256(seeing.monitors.baseline),
        machine=this_machine(),
        code=code_digest(),
    )


def _sha256(path: Path | None) -> str:
    return "" if path is None else hashlib.sha256(read_plain_bytes(path, _STATION_FILE_BYTES)).hexdigest()


def _message_class(kind: str) -> type[Any] | None:
    package, _, name = kind.split("/")
    try:
        found: type[Any] = getattr(import_module(f"{package}.msg"), name)
    except ImportError:
        return None
    return found


def _free_name(folder: Path) -> Path:
    """``folder``, or with the time behind its name where that exists already."""
    if not folder.exists():
        return folder
    return folder.with_name(f"{folder.name}_{time.strftime('%Y_%m_%d-%H_%M_%S')}")


def main(args: list[str] | None = None) -> int:
    """Entry point of the executable ``bag_recorder_node``."""
    return run_nodes(lambda: [BagRecorderNode()], args)


if __name__ == "__main__":
    sys.exit(main())
