"""Frame in, Scene out: each view of the frame goes straight through prepare, run, decode."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from robin_perception.core.config import StrictConfig
from robin_perception.core.errors import Code, RobinError
from robin_perception.core.frame import Frame
from robin_perception.core.helper_thread import HelperThread
from robin_perception.core.scene import Scene
from robin_perception.core.support_check import SupportCheckConfig, measure_support, pose_flags
from robin_perception.engines import Engine, EngineConfig
from robin_perception.engines.base import FALLBACK, HeadSet, Tensors
from robin_perception.engines.camera import CameraFrame, TakesCamera
from robin_perception.engines.head_swap import HeadCheck, HeadSwap, checked_swap, same_network
from robin_perception.model.bundle import (
    INSTANCE_OUTPUTS,
    Bundle,
    CalibrationTables,
    load_bundle,
    model_id,
)
from robin_perception.novelty.appearance import skin_maps
from robin_perception.novelty.scorer import NoveltyConfig, NoveltyScorer
from robin_perception.segmentation.closer_look import CloserLookConfig, joined
from robin_perception.segmentation.decode import DecodeConfig, Decoded, decode
from robin_perception.segmentation.film import FilmConfig, maybe_film, with_film
from robin_perception.segmentation.film_reader import FilmReader, film_reader
from robin_perception.segmentation.mask_grid import MaskGrid, mask_grid
from robin_perception.segmentation.parts import PartsConfig, with_parts_joined
from robin_perception.segmentation.refine import Guide, make_guide
from robin_perception.segmentation.view import NearConfig, View
from robin_perception.supervision import SupervisionConfig, start_engine

_log = logging.getLogger(__name__)
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
    parts: PartsConfig = PartsConfig()
    closer_look: CloserLookConfig = CloserLookConfig()
    near: NearConfig = NearConfig()
    support_check: SupportCheckConfig = SupportCheckConfig()
    novelty: NoveltyConfig = NoveltyConfig()
    film: FilmConfig = FilmConfig()
    belt_z_m: float = Field(0.0, ge=-5, le=5, description="Height of the surface that parcels lie on, in base_link, m.")
    low_depth_fraction: float = Field(
        0.35, ge=0, le=1, description="A frame with a smaller share of valid depth is flagged."
    )


@dataclass(frozen=True)
class Look:
    """One view's way through the network. tensors: the raw outputs, whose rows are named by ``decoded.candidates``;
    guide: what masks were refined with; skin: ``skin_maps``, where they were asked for; timings_ms: prepare, network,
    decode, and film where it was read. version: of the bundle."""

    view: View
    tensors: Tensors
    guide: Guide | None
    skin: NDArray[np.uint8] | None
    decoded: Decoded
    model_id: str
    engine: str
    version: int | None
    timings_ms: dict[str, float]


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
        self.novelty: NoveltyScorer | None = None
        self.novelty_off: RobinError | None = None
        self.film: FilmReader | None = None
        self.film_off: RobinError | None = None
        self.config = config or SegmenterConfig()
        self._helper = helper or HelperThread()
        self._lock = threading.Lock()
        self._model_id = model_id(bundle.manifest, engine.head)
        self._served = {self._model_id}
        self._stride = bundle.manifest.input_height // engine.outputs["mask_logits"].shape[1]
        self._by_bytes = True  # as long as an engine that takes a camera's bytes can build what it needs for them

    @property
    def config(self) -> SegmenterConfig:
        return self._config

    @config.setter
    def config(self, config: SegmenterConfig) -> None:
        """Takes effect with the next frame. Where the limit of novelty cannot be had, novelty is off, and
        ``novelty_off`` says why; so with film and ``film_off``."""
        known = getattr(self, "_config", None)
        if known is None or known.film.enabled != config.film.enabled:
            self.film, self.film_off = _film_reader(self.bundle, self.engine.config, config.film)
        if known is None or known.novelty != config.novelty:
            self.novelty, self.novelty_off = _scorer(self.bundle, config.novelty)
        self._config = config

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

        return self._swap(weights, check, self.bundle)

    def has_served(self, bundle: Bundle) -> bool:
        """The engine began with this bundle's head, or proved it since."""
        return bundle.model_id in self._served

    def swap_bundle(self, bundle: Bundle, check: HeadCheck | None) -> HeadSwap:
        """As ``swap_head``, with head, calibration and thresholds of a bundle with the same network and classes: a
        frame is computed and decoded by one bundle, never by parts of two. check: None for one that ``has_served``,
        which is proven already and comes back at once. Raises RobinError MODEL_TENSOR_MISSING for
        another network, which needs an engine of its own."""
        if not same_network(bundle, self.bundle):
            text = f"{bundle.directory}: its network is not the running one; it needs an engine of its own"
            raise RobinError(Code.MODEL_TENSOR_MISSING, text)
        return self._swap(bundle.head, check, bundle)

    def call_version(self, version: int | None) -> None:
        """The bundle that runs has that number in a registry, for the scenes that follow."""
        with self._lock:
            self.bundle = replace(self.bundle, version=version)

    def _swap(self, weights: Mapping[str, NDArray[np.float32]], check: HeadCheck | None, bundle: Bundle) -> HeadSwap:
        fresh_id = model_id(bundle.manifest, weights)
        scorer = _scorer(bundle, self.config.novelty)
        film = _film_reader(bundle, self.engine.config, self.config.film)

        def use(staged: HeadSet) -> None:
            self.engine.use_head(staged)
            self.bundle, self._model_id = bundle, fresh_id
            self.novelty, self.novelty_off = scorer
            self.film, self.film_off = film

        swap = checked_swap(self.engine, weights, check, use, self._lock)
        self._served.add(fresh_id)
        return swap

    def segment(self, frame: Frame) -> Scene:
        """One frame to a Scene."""
        return self.analyse(frame)[0]

    def analyse(self, frame: Frame, extra_outputs: Sequence[str] = ()) -> tuple[Scene, Look]:
        """As ``segment``, with the look at the whole frame. extra_outputs: other tensors, such as the trunk's
        features."""
        start = time.perf_counter()
        view, novelty = self.view(frame.validated()), self.novelty
        look = self._look(view, (*INSTANCE_OUTPUTS, *extra_outputs), skin=novelty is not None)
        decoded, looks, timings = look.decoded, [look], dict(look.timings_ms)
        if not decoded.instances and self.config.closer_look.enabled:
            begin = time.perf_counter()
            looks += [self._look(part, INSTANCE_OUTPUTS) for part in look.view.corners(self.config.closer_look.part)]
            if any(each.model_id != look.model_id for each in looks):  # a swap came in between
                return self.analyse(frame, extra_outputs)
            decoded = joined([(each.view, each.decoded) for each in looks[1:]], self.config.closer_look)
            timings["closer_look"] = (time.perf_counter() - begin) * 1e3
        boundary = np.ascontiguousarray(self._grid(look.view).unpadded(look.tensors["boundary"]))
        low_depth = cv2.countNonZero(frame.depth) < self.config.low_depth_fraction * frame.depth.size
        by_fallback = any(each.engine.startswith(FALLBACK) for each in looks)
        support = measure_support(frame, decoded.labels, self.config.belt_z_m)
        posed = pose_flags(support, self.config.support_check)
        flags = (*frame.gate.flags, *_flags(decoded, low_depth, by_fallback), *posed)
        scene = Scene(
            frame.stamp_s,
            looks[-1].model_id,
            decoded.labels,
            decoded.instances,
            boundary,
            flags,
            timings,
            self.bundle.manifest.classes,
            looks[-1].engine,
            support,
            model_version=looks[-1].version,
        )
        if novelty is not None and look.skin is not None:
            begin = time.perf_counter()
            scene = replace(scene, instances=novelty.measured(look.skin, view, scene))
            timings["novelty"] = (time.perf_counter() - begin) * 1e3
        timings["segment"] = (time.perf_counter() - start) * 1e3
        return scene, look

    def view(self, frame: Frame) -> View:
        """The whole frame, as the network gets it."""
        manifest = self.bundle.manifest
        size, config = (manifest.input_width, manifest.input_height), self.config
        return View.of(frame, size, config.belt_z_m, config.near.scale(frame))

    def guide(self, view: View) -> Guide | None:
        """What masks are refined with; None where that is switched off."""
        return make_guide(**view.images, grid=self._grid(view), config=self.config.decode.refine)

    def decode(
        self,
        view: View,
        tensors: Tensors,
        guide: Guide | None,
        config: DecodeConfig | None = None,
        tables: CalibrationTables | None = None,
    ) -> Decoded:
        """Decode raw tensors, also again, for instance with another threshold, without another run of the network."""
        manifest = self.bundle.manifest
        threshold = manifest.thresholds.detection
        tables, config, depth = tables or manifest.calibration, config or self.config.decode, view.images["depth"]
        return self._whole(view, decode(tensors, view.box, tables, threshold, config, guide, depth))

    def _whole(self, view: View, decoded: Decoded) -> Decoded:
        """With the parts of a parcel joined that another one lies across."""
        return with_parts_joined(decoded, view.frame.depth[view.window], view.intrinsics, self.config.parts)

    def _with_film(self, film: FilmReader, decoded: Decoded, view: View, wanted: frozenset[int]) -> Decoded:
        """A film network that fails is off from then on: depth is then taken as it is seen."""
        try:
            return with_film(decoded, film.read(view.inputs), view, self.config.film, wanted)
        except RobinError as exc:
            _log.warning("%s", exc)
            self.film, self.film_off = None, exc
            return decoded

    def _grid(self, view: View) -> MaskGrid:
        return mask_grid(view.box, self._stride)

    def _look(self, view: View, outputs: Sequence[str], skin: bool = False) -> Look:
        """Prepare, run, decode. The guide and the maps of skin are made meanwhile, where the engine takes the camera's
        bytes with the images that they are made of."""
        start, film = time.perf_counter(), self.film
        camera = self._camera(view)
        inputs = view.inputs if camera is None else None
        guide = self._helper.submit(self.guide, view)
        maps = self._helper.submit(skin_maps, view) if skin else None
        prepared = time.perf_counter()
        with self._lock:
            tensors = None if camera is None else self._run_camera(camera, outputs)
            if tensors is None:
                run = self.engine.run if view.whole else self.engine.run_part
                tensors = run(inputs or view.inputs, outputs)
            made_by, bundle = (self._model_id, self.engine.answered_by, self.bundle.version), self.bundle
        inferred = time.perf_counter()
        found_by = guide.result()
        manifest = bundle.manifest
        limits = manifest.calibration, manifest.thresholds.detection
        decoded = decode(tensors, view.box, *limits, self.config.decode, found_by, view.images["depth"])
        decoded = self._whole(view, decoded)
        times = [start, prepared, inferred, time.perf_counter()]
        names = ["prepare", "network", "decode"]
        if film is not None and (wanted := maybe_film(decoded, view, self.config.film, manifest.classes)):
            decoded = self._with_film(film, decoded, view, wanted)
            times, names = [*times, time.perf_counter()], [*names, "film"]
        timings = {name: (times[i + 1] - times[i]) * 1e3 for i, name in enumerate(names)}
        return Look(view, tensors, found_by, maps.result() if maps else None, decoded, *made_by, timings)

    def _camera(self, view: View) -> CameraFrame | None:
        """The camera's own bytes where the frame has them and the engine takes them."""
        raw = view.frame.raw_depth
        if raw is None or not view.whole or not self._by_bytes or not isinstance(self.engine, TakesCamera):
            return None
        geometry = view.geometry
        unit_m = raw.unit_m * view.scale
        return CameraFrame(view.frame.rgb, raw.units, unit_m, geometry["intrinsics"], geometry["belt_plane"])

    def _run_camera(self, camera: CameraFrame, outputs: Sequence[str]) -> Tensors | None:
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

    def close(self) -> None:
        self.engine.close()


def _scorer(bundle: Bundle, config: NoveltyConfig) -> tuple[NoveltyScorer | None, RobinError | None]:
    """What measures novelty, or why nothing does; neither where it is switched off."""
    if not config.enabled:
        return None, None
    try:
        return NoveltyScorer(bundle, config), None
    except RobinError as exc:
        return None, exc


def _film_reader(
    bundle: Bundle, engine: EngineConfig, config: FilmConfig
) -> tuple[FilmReader | None, RobinError | None]:
    """What reads film, or why nothing does; neither where it is switched off, or the bundle does not know film."""
    if not config.enabled:
        return None, None
    try:
        return film_reader(bundle, engine), None
    except RobinError as exc:
        _log.warning("%s", exc)
        return None, exc


def _flags(decoded: Decoded, low_depth: bool, by_fallback: bool) -> tuple[str, ...]:
    flags = {
        "instances_truncated": decoded.truncated,
        "no_instances": not decoded.instances,
        "closer_look": bool(decoded.instances) and not decoded.candidates,
        "depthless_masks": decoded.depthless > 0,
        "low_depth": low_depth,
        "fallback_engine": by_fallback,
    }
    return tuple(name for name, holds in flags.items() if holds)


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
    return Segmenter(bundle, start_engine(engine, bundle, engine_config, supervision), config, helper)
