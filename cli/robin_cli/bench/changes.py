"""Changes of the model while frames go on: swaps and rollbacks as a robot makes them, from the registry on."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_adapt.models.registry import ModelRegistry
from edge_adapt.models.work import put_to_work
from robin_cli.bench.figures import spread
from robin_perception.core.errors import Code, RobinError
from robin_perception.core.frame import Frame
from robin_perception.core.output import scratch_folder
from robin_perception.core.scene import Scene
from robin_perception.model.bundle import Bundle, load_bundle
from robin_perception.model.derived import derive_bundle
from robin_perception.segmentation.segmenter import Segmenter

BY = "bench"
_LONGEST_S = 120.0
_LOOK_S = 0.0005

Progress = Callable[[int, int, str], None]


class _Stream:
    """Frame after frame in a thread of its own. lost: frames that failed, or of which no one model made the scene."""

    def __init__(self, segmenter: Segmenter, frame: Frame, expected: Mapping[str, NDArray[np.float64]]) -> None:
        self._segmenter, self._frame, self._expected = segmenter, frame, expected
        self.ran, self.lost, self.model_id = 0, 0, ""
        self.frame_ms: list[float] = []
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> _Stream:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def wait_for(self, what: Callable[[], bool]) -> None:
        """Raises RobinError ENGINE_FAILED where that is long in coming."""
        ends = time.perf_counter() + _LONGEST_S
        while not what():
            if time.perf_counter() > ends:
                raise RobinError(Code.ENGINE_FAILED, f"no such frame in {_LONGEST_S:g} s; {self.lost} frames were lost")
            time.sleep(_LOOK_S)

    def _run(self) -> None:
        while not self._ended.is_set():
            began, model_id, whole = time.perf_counter(), "", False
            try:
                scene = self._segmenter.segment(self._frame)
                model_id, found = scene.model_id, _told(scene)
                right = self._expected[model_id]
                whole = found.shape == right.shape and np.allclose(found, right, rtol=0, atol=1e-4)
            except Exception:  # counted, whatever it was
                whole = False
            self.frame_ms.append((time.perf_counter() - began) * 1e3)
            self.ran, self.lost, self.model_id = self.ran + 1, self.lost + (not whole), model_id


def measure_changes(
    segmenter: Segmenter, frame: Frame, swaps: int, rollbacks: int, progress: Progress
) -> dict[str, Any]:
    """swap_ms: the part of each swap that a frame could have to wait for; change_s: all of it, from the registry to the
    proof on golden frames. rollback_s: from the call to the first scene by the model before. frames: ran, lost."""
    with scratch_folder("robin-bench-") as folder:
        registry = ModelRegistry(folder / "models", segmenter.bundle.directory)
        versions = [registry.add(_shifted(segmenter.bundle, folder, n), BY, "a bench") for n in (1, 2)]
        expected = dict(_scene_of(registry, segmenter, frame, version) for version in (*versions, 0))
        swapped: list[float] = []
        took: list[float] = []
        back: list[float] = []
        with _Stream(segmenter, frame, expected) as stream:
            for number in range(swaps):
                seen = stream.ran
                stream.wait_for(lambda seen=seen: stream.ran > seen)  # type: ignore[misc]
                registry.activate(versions[number % 2], BY, "a bench")
                done = put_to_work(registry, segmenter, _no_engine)
                swapped.append(done.swap_ms)
                took.append(done.took_s)
                progress(number + 1, swaps, "swaps")
            for number in range(rollbacks):
                back.append(_rolled_back(registry, segmenter, stream, versions))
                progress(number + 1, rollbacks, "rollbacks")
        registry.activate(0, BY, "a bench")
        put_to_work(registry, segmenter, _no_engine)
    return {
        "swap_ms": spread(swapped, 4),
        "change_s": spread(took, 3),
        "rollback_s": spread(back, 3),
        "frames": {"ran": stream.ran, "lost": stream.lost, "frame_ms": spread(stream.frame_ms)},
    }


def _rolled_back(registry: ModelRegistry, segmenter: Segmenter, stream: _Stream, versions: list[int]) -> float:
    """Seconds."""
    old, new = (load_bundle(registry.path(version)).model_id for version in versions)
    for version in versions:
        registry.activate(version, BY, "a bench")
    put_to_work(registry, segmenter, _no_engine)
    stream.wait_for(lambda: stream.model_id == new)
    began = time.perf_counter()
    registry.rollback(BY, "a bench")
    put_to_work(registry, segmenter, _no_engine)
    stream.wait_for(lambda: stream.model_id == old)
    return time.perf_counter() - began


def _scene_of(
    registry: ModelRegistry, segmenter: Segmenter, frame: Frame, version: int
) -> tuple[str, NDArray[np.float64]]:
    registry.activate(version, BY, "a bench")
    put_to_work(registry, segmenter, _no_engine)
    scene = segmenter.segment(frame)
    return scene.model_id, _told(scene)


def _told(scene: Scene) -> NDArray[np.float64]:
    """What tells scenes of two models apart, float64 [instances, 3]."""
    return np.array([(one.detection, one.mask_quality, one.visible_fraction) for one in scene.instances])


def _shifted(bundle: Bundle, folder: Path, number: int) -> Path:
    """The bundle with all biases of its head moved a little."""
    head = {
        key: value + np.float32(0.01 * number) if key.endswith(".bias") else value for key, value in bundle.head.items()
    }
    return derive_bundle(bundle, folder / f"head{number}", head, notes="a bench").directory


def _no_engine(bundle: Bundle) -> Segmenter:
    raise AssertionError(f"{bundle.model_id} has another network, where only heads are swapped")
