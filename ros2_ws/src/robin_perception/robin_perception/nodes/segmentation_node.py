"""Frames in, segmented scenes out; the model can be exchanged between two frames."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from diagnostic_msgs.msg import DiagnosticStatus
from robin_msgs.msg import ErrorCode, SegmentedScene
from robin_msgs.srv import ListCodes, LoadModel, SegmentFrame
from sensor_msgs.msg import Image

from robin_perception.core.code_texts import code_text
from robin_perception.core.errors import Code, RobinError
from robin_perception.core.frame import Frame
from robin_perception.core.ids import path_below
from robin_perception.core.latest_worker import LatestWorker
from robin_perception.core.pace import FramePace
from robin_perception.core.scene import Scene, parsed_version
from robin_perception.core.support_check import SupportSeen
from robin_perception.model.bundle import Bundle, load_bundle
from robin_perception.node_config import SegmentationNodeConfig
from robin_perception.nodes.base import ACTIVE, FINALIZED, INACTIVE, UNCONFIGURED, RobinNode
from robin_perception.nodes.convert import frame_from_msgs, frame_header, pose_from_msg, scene_to_msg
from robin_perception.nodes.debug import OverlayPublisher
from robin_perception.nodes.engine_watch import EngineWatch
from robin_perception.nodes.frame_bus import FrameBus, SegmentedFrame
from robin_perception.nodes.frame_subscriber import FrameSubscriber
from robin_perception.nodes.gate_counts import GateCounts
from robin_perception.nodes.goods_watch import GoodsWatch
from robin_perception.nodes.pairing import FrameMessages
from robin_perception.nodes.qos import RESULT
from robin_perception.nodes.run import run_nodes
from robin_perception.nodes.station_watch import StationWatch
from robin_perception.segmentation.exchange import ENGINE, Exchange, exchange
from robin_perception.segmentation.segmenter import Segmenter
from robin_perception.supervision import start_engine
from robin_perception.topics import OVERLAY, SCENE

_WARM_UP_SIZE = (480, 640)
_PLANNING_S = 2.0  # a plan that takes longer does not hold up the frames


class SegmentationNode(RobinNode[SegmentationNodeConfig]):
    """Takes frames from a camera in the same process or from topics, works on the newest, publishes the scene.

    The network runs in a thread of its own; frames that come meanwhile replace each other and are counted as dropped. A
    frame that cannot be used gives no scene, but a numbered fault.
    """

    def __init__(self, bus: FrameBus | None = None, **ros: Any) -> None:
        super().__init__("segmentation", SegmentationNodeConfig, bus=bus, **ros)
        if bus is not None:
            bus.scenes.announce()
        self._model_lock = threading.Lock()  # held for one frame, or for one exchange of the model
        self._segmenter: Segmenter | None = None
        self._topics: FrameSubscriber | None = None
        self._worker: LatestWorker[Frame | FrameMessages] | None = None
        self._overlay: OverlayPublisher | None = None
        self._unsubscribe: list[Callable[[], None]] = []
        self._pace = FramePace()
        self._last_input_s = self.data_clock_s()
        self._is_silent = False
        self._support: SupportSeen | None = None
        self._station: StationWatch | None = None
        self._goods: GoodsWatch | None = None
        self._engine_watch = EngineWatch(self.report)
        self._gate_counts = GateCounts(self)
        self._loader = ThreadPoolExecutor(1, "load_model")
        self.add_service(LoadModel, "load_model", self._load_model, (INACTIVE, ACTIVE), self._loader)
        self._others = ThreadPoolExecutor(1, "segment_frame")
        self.add_service(SegmentFrame, "segment_frame", self._segment_other, (ACTIVE,), self._others)
        self.add_service(ListCodes, "list_codes", _list_codes, (UNCONFIGURED, INACTIVE, ACTIVE, FINALIZED))

    def setup(self) -> None:
        config = self.config
        self._segmenter = self._started(load_bundle(config.model))
        self._station = StationWatch(self, config.monitors, config.gate.frozen_after, config.segmenter.belt_z_m)
        self._goods = GoodsWatch(self, config.goods_watch, self._segmenter)
        self._scenes = self.add_publisher(SegmentedScene, SCENE, RESULT)
        self._overlays = self.add_publisher(Image, OVERLAY, 1)
        if not self._from_process():
            self._topics = FrameSubscriber(self, config, self._offer)

    def start(self) -> None:
        if self._topics is not None:
            self._topics.clear()
        self._last_input_s = self.data_clock_s()
        self._pace = FramePace()
        worker = self._worker = LatestWorker(
            "segmentation", self._segment, lambda: self.counters.drop("busy"), self.report_exception, self._pause_s
        )
        self._unsubscribe = [] if self.bus is None else [self.bus.planning.when_ended(worker.nudge)]
        self._overlay = OverlayPublisher(self._overlays, lambda: self.config.overlay_rate_hz, self.report_exception)
        if self._from_process():
            assert self.bus is not None
            self._unsubscribe.append(self.bus.frames.subscribe(self._offer))

    def stop(self) -> None:
        while self._unsubscribe:
            self._unsubscribe.pop()()
        if self._worker is not None:
            self._worker.stop()
        if self._overlay is not None:
            self._overlay.stop()
        self._worker = self._overlay = None

    def teardown(self) -> None:
        if self._topics is not None:
            self._topics.close()
        self._topics = None
        with self._model_lock:
            if self._segmenter is not None:
                self._segmenter.close()
            self._segmenter = None

    def check_parameters(self, config: SegmentationNodeConfig) -> None:
        config.camera_pose()
        if config.input == "process" and self.bus is None:
            raise RobinError(Code.CONFIG_OUT_OF_RANGE, "input 'process' needs a camera node in the same process")

    def parameters_changed(self, old: SegmentationNodeConfig, new: SegmentationNodeConfig) -> None:
        if self._topics is not None:
            self._topics.retune(new)
        if self._segmenter is not None:
            self._segmenter.config = new.segmenter

    def time_jumped(self) -> None:
        if self._topics is not None:
            self._topics.clear()
        self._last_input_s = self.data_clock_s()

    def watch(self) -> None:
        now_s = self.data_clock_s()
        if self._last_input_s == 0.0:  # simulated time had not begun
            self._last_input_s = now_s
        silent_s = now_s - self._last_input_s
        if self.is_active and silent_s > self.config.input_timeout_s:
            self._is_silent = True
            wanted = "" if self._topics is None else f" on {self._topics.wanted}"
            self.report(Code.FRAME_TIMEOUT, f"no usable frame for {silent_s:.1f} s{wanted}", warning=True, lasting=True)
        self._engine_watch.tell_faults(self._segmenter)
        self._engine_watch.tell_standing(self._segmenter)
        if self._goods is not None and self._segmenter is not None:
            self._goods.tell_off(self._segmenter)

    def more_statuses(self) -> list[DiagnosticStatus]:
        return [] if self._station is None else self._station.statuses()

    def status_values(self) -> dict[str, str]:
        segmenter = self._segmenter
        source = "process" if self._from_process() else "topics"
        if segmenter is None:
            return {"input": source, "engine": "", "model_id": ""}
        model = str(segmenter.bundle.directory)
        values = {"input": source, "engine": segmenter.engine.name, "model_id": segmenter.model_id, "model": model}
        values["engine_why"] = segmenter.engine.selection.line()
        if self._support is not None:
            values["support"] = self._support.text(self.config.segmenter.belt_z_m)
        if self._goods is not None:
            values |= self._goods.values(segmenter)
        return {**values, **self._engine_watch.values(segmenter), **self._gate_counts.values()}

    def _from_process(self) -> bool:
        if self.config.input == "auto":
            return self.bus is not None and self.bus.frames.has_source
        return self.config.input == "process"

    def _started(self, bundle: Bundle) -> Segmenter:
        """A segmenter whose engine has answered once: the first frame must not find out, nor wait for it."""
        config = self.config
        engine = start_engine(config.engine, bundle, config.engine_options, config.supervision)
        segmenter = Segmenter(bundle, engine, config.segmenter)
        try:
            segmenter.segment(_warm_up_frame())
        except Exception:
            segmenter.close()
            raise
        self.get_logger().info(segmenter.engine.selection.line())
        return segmenter

    def _offer(self, item: Frame | FrameMessages) -> None:
        if (worker := self._worker) is not None:
            self.counters.count("frames")
            self._pace.came(time.monotonic())
            worker.offer(item)

    def _pause_s(self) -> float:
        """For how long the frame that waits is not to be begun: a plan goes first, and perhaps the next frame does."""
        config = self.config
        if self.bus is not None and config.planning_first:
            left_s = self.bus.planning.left_s(_PLANNING_S)
            if left_s > 0:
                return left_s
        return self._pace.pause_s(time.monotonic(), config.waited_share)

    def _segment(self, item: Frame | FrameMessages) -> None:
        begin = time.perf_counter()
        try:
            frame = self._frame_of(item)
            self._gate_counts.note(frame)
            with self._model_lock:
                if self._segmenter is None:
                    return
                scene = self._watched(frame, self._segmenter.segment(frame))
        except RobinError as exc:
            self._engine_watch.tell_faults(self._segmenter)
            self.counters.drop("refused")
            self.report(exc.code, exc.text, warning=exc.code < Code.MODEL_MISSING)
            if self._station is not None:
                self._station.refused(exc.code, self.data_clock_s())
            return
        self._engine_watch.tell_faults(self._segmenter)
        self._last_input_s = self.data_clock_s()
        if self._is_silent:
            self._is_silent = False
            self.recovered("frames", Code.FRAME_TIMEOUT)
        self._check_pose(scene)
        segmented = SegmentedFrame(frame, scene)
        if self.bus is not None:
            self.bus.scenes.publish(segmented)
        header = frame_header(frame) if isinstance(item, Frame) else item.color.header
        if self._scenes.get_subscription_count():
            self._scenes.publish(scene_to_msg(scene, header, self.config.publish_boundary))
        if (overlay := self._overlay) is not None:
            overlay.offer(segmented, header)
        self.counters.count("scenes")
        self.counters.latency("segment", scene.timings_ms["segment"])
        self.counters.latency("frame_to_scene", (time.perf_counter() - begin) * 1e3)
        self.counters.latency("age", (self.now_s() - frame.stamp_s) * 1e3)

    def _segment_other(self, request: Any, response: Any) -> Any:
        """A picture that is none of the camera's: no monitor sees it. It takes its turn between two frames."""
        pose = pose_from_msg(request.camera)
        frame = frame_from_msgs(request.color, request.depth, request.info, pose)
        with self._model_lock:
            if self._segmenter is None:
                raise RobinError(Code.NODE_NOT_ACTIVE, f"{self.get_name()} has no model")
            scene = self._segmenter.segment(frame)
        self.counters.latency("segment_other", scene.timings_ms["segment"])
        response.scene = scene_to_msg(scene, request.color.header)
        return response

    def _watched(self, frame: Frame, scene: Scene) -> Scene:
        """The scene with what the environment monitors say, then with what is known of its unfamiliar goods."""
        scene = scene if self._station is None else self._station.look(frame, scene)
        return scene if self._goods is None else self._goods.look(frame, scene)

    def _check_pose(self, scene: Scene) -> None:
        """What lies under the parcels must lie where the camera's pose puts it."""
        self._support, config = scene.support, self.config.segmenter
        if scene.support is not None and (code := scene.support.code(config.support_check)) != Code.OK:
            self.report(code, scene.support.text(config.belt_z_m), warning=code == Code.POSE_DOUBTFUL)

    def _frame_of(self, item: Frame | FrameMessages) -> Frame:
        if isinstance(item, Frame):
            return item
        assert self._topics is not None
        return self._topics.to_frame(item)

    def _load_model(self, request: Any, response: Any) -> Any:
        """The frames go on with the old model until the new one is ready; one that is damaged changes nothing."""
        begin = time.perf_counter()
        bundle = replace(load_bundle(self._model_path(request.path)), version=parsed_version(request.version))
        done = self._swapped(bundle) or self._exchanged(bundle)
        response.model_id, response.how, response.swap_ms = bundle.model_id, done.how, done.swap_ms
        response.took_s = time.perf_counter() - begin
        self.get_logger().info(f"model is now {response.model_id} ({done.how}, {response.took_s:.1f} s)")
        return response

    def _model_path(self, path: str) -> Path:
        """Of a bundle below the folder of models, or the configured one. Raises RobinError PATH_REFUSED."""
        config = self.config
        if path == str(config.model.absolute()):
            return config.model
        return path_below(config.models_folder or config.model.parent, path)

    def _swapped(self, bundle: Bundle) -> Exchange | None:
        """In the engine that runs; None where it cannot, or has no process to prove it in just now."""
        segmenter = self._segmenter
        if segmenter is None:
            raise RobinError(Code.NODE_NOT_ACTIVE, f"{self.get_name()} has no model")
        if not self._engine_watch.answers(segmenter):
            return None
        try:
            return exchange(segmenter, bundle)
        except RobinError:
            if self._engine_watch.answers(segmenter):
                raise
            return None  # its process ended meanwhile, which is no fault of the bundle

    def _exchanged(self, bundle: Bundle) -> Exchange:
        """With an engine of its own."""
        fresh = self._started(bundle)
        self._engine_watch.wait(fresh, self.config.supervision.start_timeout_s)
        with self._model_lock:
            old, self._segmenter = self._segmenter, fresh if self._segmenter is not None else None
        if old is None:
            fresh.close()
            raise RobinError(Code.NODE_NOT_ACTIVE, f"{self.get_name()} was cleaned up while the model was loaded")
        old.close()
        return Exchange(ENGINE)


def _list_codes(request: Any, response: Any) -> Any:
    response.codes = [ErrorCode(code=int(code), name=code.name, text=code_text(code)) for code in sorted(Code)]
    return response


def _warm_up_frame() -> Frame:
    """A bare belt one metre below the camera."""
    height, width = _WARM_UP_SIZE
    K = np.array([[width, 0.0, width / 2], [0.0, width, height / 2], [0.0, 0.0, 1.0]])
    looking_down = np.diag((1.0, -1.0, -1.0, 1.0))
    looking_down[2, 3] = 1.0
    rgb = np.full((height, width, 3), 90, dtype=np.uint8)
    return Frame(rgb, np.ones((height, width), dtype=np.float32), K, looking_down)


def main(args: Sequence[str] | None = None) -> int:
    """``ros2 run robin_perception segmentation_node``"""
    return run_nodes(lambda: [SegmentationNode()], args)


if __name__ == "__main__":
    sys.exit(main())
