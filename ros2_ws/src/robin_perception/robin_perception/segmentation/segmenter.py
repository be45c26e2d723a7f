"""Frame in, Scene out: letterbox, network, decode."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from robin_perception.core.config import StrictConfig
from robin_perception.core.errors import Code, RobinError
from robin_perception.core.frame import Frame
from robin_perception.core.helper_thread import HelperThread
from robin_perception.core.scene import Scene
from robin_perception.engines import Engine, EngineConfig, make_engine
from robin_perception.engines.base import HeadSet
from robin_perception.engines.camera import CameraFrame, TakesCamera
from robin_perception.engines.head_swap import HeadCheck, HeadSwap, checked_swap
from robin_perception.model.bundle import INSTANCE_OUTPUTS, Bundle, CalibrationTables, load_bundle, model_id
from robin_perception.segmentation.closer_look import CloserLookConfig, Part, joined, parts
from robin_perception.segmentation.decode import DecodeConfig, Decoded, decode
from robin_perception.segmentation.letterbox import Letterbox, letterbox
from robin_perception.segmentation.refine import Guide, make_guide
from robin_perception.supervision import SupervisedEngine, SupervisionConfig, start_engine

_log = logging.getLogger(__name__)
Inputs = dict[str, NDArray[Any]]  # of the network, or some of them
# What keeps an engine from building its way from a camera's bytes, while it goes on with images.
_NO_BYTES = frozenset(
    {
        Code.ENGINE_BUILD_FAILED,
        Code.ENGINE_OPERATOR_UNSUPPORTED,
        Code.ENGINE_OUT_OF_MEMORY,
        Code.DISK_FULL,
        Code.INPUT_UNREADABLE,
    }
)


class SegmenterConfig(StrictConfig):
    """From a frame to its scene."""

    decode: DecodeConfig = DecodeConfig()
    closer_look: CloserLookConfig = CloserLookConfig()
    belt_z_m: float = Field(0.0, ge=-5, le=5, description="Height of the surface that parcels lie on, in base_link, m.")
    low_depth_fraction: float = Field(
        0.35, ge=0, le=1, description="A frame with a smaller share of valid depth is flagged."
    )


@dataclass(frozen=True)
class Analysis:
    """A scene with what it was made from.

    tensors: the network's raw outputs for the whole frame; candidates[i]: their row of instance i, none where a closer
    look found the instances. guide: what its masks were refined with.
    """

    scene: Scene
    tensors: dict[str, NDArray[Any]]
    candidates: tuple[int, ...]
    letterbox: Letterbox
    guide: Guide | None = None


class Segmenter:
    """Segments frames of any size. ``set_head`` may be called from another thread: it takes effect between two frames.

    Raises RobinError from the frame's validation (INPUT_*, DEPTH_*, ...) and from the engine (ENGINE_FAILED): a frame
    that could not be segmented is an error, never an empty scene.
    """

    def __init__(
        self,
        bundle: Bundle,
        engine: Engine,
        config: SegmenterConfig | None = None,
        helper: HelperThread | None = None,
    ) -> None:
        self.bundle = bundle
        self.engine = engine
        self.config = config or SegmenterConfig()
        self._helper = helper or HelperThread()
        self._lock = threading.Lock()
        self._model_id = model_id(bundle.manifest, engine.head)
        self._by_bytes = True  # as long as an engine that takes a camera's bytes can build what it needs for them

    @property
    def model_id(self) -> str:
        """Name and digest of trunk and of the head in use."""
        return self._model_id

    def set_head(self, weights: Mapping[str, NDArray[np.float32]]) -> str:
        """Use another head from the next frame on; returns the new model id. Raises RobinError MODEL_TENSOR_MISSING."""
        with self._lock:
            self.engine.set_head(weights)
            self._model_id = model_id(self.bundle.manifest, weights)
            return self._model_id

    def swap_head(self, weights: Mapping[str, NDArray[np.float32]], check: HeadCheck) -> HeadSwap:
        """As ``set_head`` for a head that is first proven on golden frames, while frames go on with the old one; see
        ``checked_swap`` for what it raises."""

        def use(staged: HeadSet) -> None:
            with self._lock:
                self.engine.use_head(staged)
                self._model_id = model_id(self.bundle.manifest, weights)

        return checked_swap(self.engine, weights, check, use)

    def segment(self, frame: Frame) -> Scene:
        """One frame to a Scene."""
        return self.analyse(frame).scene

    def analyse(self, frame: Frame, extra_outputs: Sequence[str] = ()) -> Analysis:
        """As ``segment``, with the raw tensors (and any ``extra_outputs``, such as the trunk's features) beside it."""
        start = time.perf_counter()
        frame, whole = frame.validated(), Part(0, 0, frame.width, frame.height)
        box = self._letterbox(whole)
        geometry = self._geometry(frame, whole, box)
        camera = self._camera(frame, geometry)
        images = self._images(frame, whole, box) if camera is None else None
        seeing = self._helper.submit(self._see, frame, whole, box, images)
        counting = self._helper.submit(cv2.countNonZero, frame.depth)
        prepared = time.perf_counter()
        with self._lock:
            outputs = (*INSTANCE_OUTPUTS, *extra_outputs)
            tensors = None if camera is None else self._run_camera(camera, outputs)
            if tensors is None:
                tensors = self.engine.run({**(images or seeing.result()[0]), **geometry}, outputs)
            used, by_fallback = self._answered()
        inferred = time.perf_counter()
        guide = seeing.result()[1]
        decoded = self.decode(tensors, box, guide=guide)
        boundary = np.ascontiguousarray(box.unpadded(tensors["boundary"]))
        done = time.perf_counter()
        timings = {
            "prepare": (prepared - start) * 1e3,
            "network": (inferred - prepared) * 1e3,
            "decode": (done - inferred) * 1e3,
        }
        if not decoded.instances and self.config.closer_look.enabled:
            decoded, used, again = self._look_closer(frame, geometry["belt_plane"])
            by_fallback |= again
            timings["closer_look"] = (time.perf_counter() - done) * 1e3
        low_depth = counting.result() < self.config.low_depth_fraction * frame.depth.size
        flags = (*_flags(decoded, low_depth), *(("fallback_engine",) if by_fallback else ()))
        timings["segment"] = (time.perf_counter() - start) * 1e3
        scene = Scene(frame.stamp_s, used, decoded.labels, decoded.instances, boundary, flags, timings)
        return Analysis(scene, tensors, decoded.candidates, box, guide)

    def prepare(self, frame: Frame, part: Part | None = None) -> tuple[Letterbox, dict[str, NDArray[Any]]]:
        """The network's inputs for a frame, or for a part of it, and the letterbox that made them."""
        part = part or Part(0, 0, frame.width, frame.height)
        box = self._letterbox(part)
        return box, {**self._images(frame, part, box), **self._geometry(frame, part, box)}

    def _letterbox(self, part: Part) -> Letterbox:
        manifest = self.bundle.manifest
        stride = manifest.input_height // self.engine.outputs["mask_logits"].shape[1]
        return letterbox(part.width, part.height, manifest.input_width, manifest.input_height, stride)

    def _images(self, frame: Frame, part: Part, box: Letterbox) -> Inputs:
        return {"rgb": box.rgb(frame.rgb[part.window]), "depth": box.depth(frame.depth[part.window])}

    def _geometry(self, frame: Frame, part: Part, box: Letterbox) -> Inputs:
        plane = frame.belt_plane(self.config.belt_z_m)
        return {"intrinsics": box.intrinsics(part.intrinsics(frame.K)), "belt_plane": plane}

    def _see(self, frame: Frame, part: Part, box: Letterbox, images: Inputs | None) -> tuple[Inputs, Guide | None]:
        """What masks are refined with, and the images it was made of, which an engine that takes the camera's bytes
        does without."""
        images = images or self._images(frame, part, box)
        return images, self.guide(images, box)

    def _answered(self) -> tuple[str, bool]:
        """Id of the model that answered last, and whether that was the fallback's answer. The lock is held."""
        return self._model_id, isinstance(self.engine, SupervisedEngine) and self.engine.by_fallback

    def _look_closer(self, frame: Frame, plane: NDArray[np.float32]) -> tuple[Decoded, str, bool]:
        """What parts of the frame show, each enlarged, and what ``_answered`` says of it."""
        found, used, by_fallback = [], "", False
        for part in parts(frame, self.config.closer_look):
            box, inputs = self.prepare(frame, part)
            with self._lock:
                tensors = self.engine.run_part(inputs, INSTANCE_OUTPUTS)
                used, once = self._answered()
            by_fallback |= once
            found.append((part, self.decode(tensors, box, guide=self.guide(inputs, box))))
        labels, instances = joined(frame, found, plane, self.config.closer_look)
        return Decoded(labels, instances, (), truncated=False), used, by_fallback

    def _camera(self, frame: Frame, geometry: Inputs) -> CameraFrame | None:
        """The camera's own bytes where the frame has them and the engine takes them."""
        raw = frame.raw_depth
        if raw is None or not self._by_bytes or not isinstance(self.engine, TakesCamera):
            return None
        return CameraFrame(frame.rgb, raw.units, raw.unit_m, geometry["intrinsics"], geometry["belt_plane"])

    def _run_camera(self, camera: CameraFrame, outputs: Sequence[str]) -> dict[str, NDArray[Any]] | None:
        """None where the engine cannot build its way from bytes; the images are what it gets then, from now on."""
        assert isinstance(self.engine, TakesCamera)
        try:
            return self.engine.run_camera(camera, outputs)
        except RobinError as exc:
            if exc.code not in _NO_BYTES:
                raise
            self._by_bytes = False  # it would be tried for seconds with every frame
            _log.warning("the camera's bytes are scaled on the host: %s", exc)
            return None

    def guide(self, inputs: Mapping[str, NDArray[Any]], box: Letterbox) -> Guide | None:
        """What masks are refined with, of the network's inputs, made by ``box``; None where that is switched off."""
        config = self.config.decode.refine
        return make_guide(inputs["rgb"], inputs["depth"], box, config) if config.enabled else None

    def decode(
        self,
        tensors: dict[str, NDArray[Any]],
        box: Letterbox,
        config: DecodeConfig | None = None,
        tables: CalibrationTables | None = None,
        guide: Guide | None = None,
    ) -> Decoded:
        """Decode raw tensors again, for instance with another threshold, without another run of the network."""
        manifest = self.bundle.manifest
        threshold = manifest.thresholds.detection
        return decode(tensors, box, tables or manifest.calibration, threshold, config or self.config.decode, guide)

    def close(self) -> None:
        self.engine.close()


def _flags(decoded: Decoded, low_depth: bool) -> tuple[str, ...]:
    flags = []
    if decoded.truncated:
        flags.append("instances_truncated")
    if not decoded.instances:
        flags.append("no_instances")
    elif not decoded.candidates:
        flags.append("closer_look")
    if low_depth:
        flags.append("low_depth")
    return tuple(flags)


def load_segmenter(
    model: Path,
    engine: str = "auto",
    config: SegmenterConfig | None = None,
    engine_config: EngineConfig | None = None,
    supervision: SupervisionConfig | None = None,
    helper: HelperThread | None = None,
) -> Segmenter:
    """Verify the bundle at ``model`` and start ``engine`` on it, in this process unless ``supervision`` or the engine's
    name says otherwise. helper: the one that the planner gets, too. Raises RobinError MODEL_*, ENGINE_*."""
    bundle = load_bundle(model)
    if supervision is None:
        return Segmenter(bundle, make_engine(engine, bundle, engine_config), config, helper)
    return Segmenter(bundle, start_engine(engine, bundle, engine_config, supervision), config, helper)
