"""The workcell process for `robin bench ros`: camera, segmentation, planning, and the direct call beside them.

The node ``bench`` answers three services (std_srvs/Trigger; the reply's message is JSON), while the camera is inactive:
``bench/direct`` segments and plans every frame once without ROS, ``bench/next_frame`` hands the next frame to the nodes
and replies when its scene is there, ``bench/direct_plan`` plans on that same frame and scene without ROS.
"""

from __future__ import annotations

import itertools
import json
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from std_srvs.srv import Trigger

from robin_bringup.nodes.workcell import make_nodes
from robin_grasp.nodes.planning_node import PlanningNode
from robin_grasp.plan import Planner
from robin_grasp.planner.config import PlannerConfig
from robin_grasp.planner.registry import make_planner
from robin_grasp.tool import CellConfig
from robin_perception.cameras.folder import frame_folders
from robin_perception.core.config import load_config
from robin_perception.core.errors import Code, RobinError
from robin_perception.core.frame import Frame
from robin_perception.core.helper_thread import HelperThread
from robin_perception.core.image_folder import load_frame
from robin_perception.node_config import NodeConfig
from robin_perception.nodes.base import RobinNode
from robin_perception.nodes.camera_node import CameraNode
from robin_perception.nodes.frame_bus import SegmentedFrame
from robin_perception.nodes.run import run_nodes
from robin_perception.nodes.segmentation_node import SegmentationNode
from robin_perception.segmentation.segmenter import Segmenter, load_segmenter

HOSTED = ("camera", "segmentation", "planning")
_SCENE_TIMEOUT_S = 10.0


@dataclass
class Direct:
    """The core with the nodes' own configuration, and the frames that the camera shows."""

    segmenter: Segmenter
    planner: Planner
    frames: list[Frame]


class BenchNode(RobinNode[NodeConfig]):
    """Its services run in the executor's thread: while the direct call is timed, the nodes have nothing to do."""

    def __init__(self, camera: CameraNode, segmentation: SegmentationNode, planning: PlanningNode) -> None:
        assert camera.bus is not None
        super().__init__("bench", NodeConfig, bus=camera.bus)
        self._camera, self._segmentation, self._planning = camera, segmentation, planning
        self._numbers: Iterator[int] = itertools.count()
        self._segmented: SegmentedFrame | None = None
        self._came = threading.Event()
        camera.bus.scenes.subscribe(self._scene)
        for name, work in (
            ("direct", self._direct_pass),
            ("next_frame", self._next_frame),
            ("direct_plan", self._direct_plan),
        ):
            self.create_service(Trigger, f"bench/{name}", _answering(work))

    @cached_property
    def _direct(self) -> Direct:
        """Made when first asked for, so that a run that only counts memory does not hold two models."""
        seeing, planning = self._segmentation.config, self._planning.config
        helper = HelperThread()
        segmenter = load_segmenter(seeing.model, seeing.engine, seeing.segmenter, seeing.engine_options, helper=helper)
        planner = make_planner(
            planning.planner,
            load_config(CellConfig, planning.cell_file),
            load_config(PlannerConfig, planning.planner_file),
            helper=helper,
        )
        frames = [load_frame(folder) for folder in frame_folders(Path(self._camera.config.path))]
        return Direct(segmenter, planner, frames)

    def _direct_pass(self) -> dict[str, Any]:
        direct = self._direct
        segment_ms, plan_ms, total_ms = [], [], []
        for frame in direct.frames:
            started = time.perf_counter()
            scene = direct.segmenter.segment(frame)
            segmented = time.perf_counter()
            direct.planner.plan(frame, scene)
            planned = time.perf_counter()
            segment_ms.append((segmented - started) * 1e3)
            plan_ms.append((planned - segmented) * 1e3)
            total_ms.append((planned - started) * 1e3)
        engine, model = direct.segmenter.engine.name, direct.segmenter.model_id
        return {"segment_ms": segment_ms, "plan_ms": plan_ms, "total_ms": total_ms, "engine": engine, "model": model}

    def _next_frame(self) -> dict[str, Any]:
        assert self.bus is not None
        frames = self._direct.frames
        number = next(self._numbers)
        self._came.clear()
        self.bus.frames.publish(replace(frames[number % len(frames)], stamp_s=time.time()))
        if not self._came.wait(_SCENE_TIMEOUT_S):
            raise RobinError(Code.FRAME_TIMEOUT, f"no scene within {_SCENE_TIMEOUT_S:g} s")
        assert self._segmented is not None
        return {"frame": number % len(frames), "instances": len(self._segmented.scene.instances)}

    def _direct_plan(self) -> dict[str, Any]:
        if self._segmented is None:
            raise RobinError(Code.FRAME_NONE, "bench/next_frame comes first")
        started = time.perf_counter()
        plan = self._direct.planner.plan(self._segmented.frame, self._segmented.scene)
        return {"plan_ms": (time.perf_counter() - started) * 1e3, "candidates": len(plan.grasps) + len(plan.rejected)}

    def _scene(self, segmented: SegmentedFrame) -> None:
        self._segmented = segmented
        self._came.set()


def _answering(work: Callable[[], dict[str, Any]]) -> Callable[[Any, Any], Any]:
    def answer(request: Any, response: Any) -> Any:
        try:
            response.message, response.success = json.dumps(work()), True
        except RobinError as exc:
            response.message = str(exc)
        return response

    return answer


def _nodes() -> list[RobinNode[Any]]:
    camera, segmentation, planning = make_nodes(HOSTED)
    assert isinstance(camera, CameraNode) and isinstance(segmentation, SegmentationNode)
    assert isinstance(planning, PlanningNode)
    return [camera, segmentation, planning, BenchNode(camera, segmentation, planning)]


def main(args: Sequence[str] | None = None) -> int:
    """``python -m robin_bringup.nodes.bench_host --ros-args --params-file FILE``"""
    return run_nodes(_nodes, args)


if __name__ == "__main__":
    sys.exit(main())
