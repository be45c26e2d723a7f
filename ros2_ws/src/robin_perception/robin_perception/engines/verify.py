"""Proof that an engine computes what ONNX Runtime computes: frames, heads, and where it has one the camera's path.

It is the same proof for every engine, so that it is itself proven where there is no GPU.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robin_perception.engines.base import Engine, EngineConfig, Tensors
from robin_perception.engines.camera import CameraFrame, TakesCamera
from robin_perception.engines.golden import golden_frames
from robin_perception.engines.parity import BOUNDS, COMPARED_FROM, Parity, ParityBound, compare, partner_rows
from robin_perception.engines.testing.reference import OnnxRuntimeReference
from robin_perception.model.bundle import FEATURE_OUTPUTS, INSTANCE_OUTPUTS, Bundle
from robin_perception.segmentation.view import letterbox

HEAD_SEED = 77
CAMERA_SIZES = ((1280, 720), (640, 480), (848, 480), (512, 384))
_WARM_UP = 3
_TIMED = 20

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Verdict:
    """report: JSON-ready, all that was found. failures: each in one line; none means proven."""

    report: dict[str, Any]
    failures: tuple[str, ...]

    @property
    def passed(self) -> bool:
        return not self.failures


def verify_engine(
    engine: Engine, bundle: Bundle, frames: Sequence[Tensors] = (), progress: Progress = lambda done, total: None
) -> Verdict:
    """Compare ``engine`` with the reference on golden frames and on ``frames`` (network inputs) besides.

    Raises RobinError as the engine does when it cannot run at all; differences are failures of the verdict.
    """
    golden = [*golden_frames(bundle, 5), *frames]
    bound = BOUNDS[engine.describe().get("precision", "float32")]
    reference = OnnxRuntimeReference(bundle, EngineConfig())
    total = 2 * len(golden) + 2
    try:
        failures: list[str] = []
        pairs = []
        for number, frame in enumerate(golden):
            names = (*INSTANCE_OUTPUTS, *FEATURE_OUTPUTS)
            pairs.append((reference.run(frame, names), engine.run(frame, names)))
            progress(number + 1, total)
        parity = compare(pairs)
        _note(failures, "frames", parity.exceeds(bound))
        heads = _heads(engine, reference, golden, bound, failures)
        progress(2 * len(golden), total)
        camera = _camera(engine, reference, golden[0], bound, failures)
        progress(total - 1, total)
        report = {
            "engine": engine.name,
            "selection": engine.selection.line(),
            "described": engine.describe(),
            "reference": reference.describe() | {"engine": reference.name},
            "model": bundle.model_id,
            "files": bundle.manifest.files,
            "bound": bound.model_dump(),
            "frames": len(golden),
            "parity": parity.to_json(),
            "outputs": _differences(pairs),
            "head": heads,
            "camera": camera,
            "timing_ms": _timing(engine, golden[0]),
            "device_ms": engine.device_ms() if hasattr(engine, "device_ms") else None,
        }
    finally:
        reference.close()
    report |= {"passed": not failures, "failures": failures}
    progress(total, total)
    return Verdict(report, tuple(failures))


def other_head(bundle: Bundle) -> dict[str, NDArray[np.float32]]:
    """The bundle's head with every weight moved by some per cent, and with no bias that is zero."""
    rng = np.random.default_rng(HEAD_SEED)
    fresh = {}
    for name, values in sorted(bundle.head.items()):
        spread = 0.05 * float(np.abs(values).mean()) + (0.02 if name.endswith(".bias") else 0.0)
        fresh[name] = (values + rng.normal(0, spread or 0.02, values.shape)).astype(np.float32)
    return fresh


def _heads(
    engine: Engine, reference: Engine, golden: Sequence[Tensors], bound: ParityBound, failures: list[str]
) -> dict[str, Any]:
    """Another head is staged, compared, swapped in between two frames, and the old one is brought back."""
    old, fresh = engine.head, other_head(engine.bundle)
    theirs = reference.stage_head(fresh)
    started = time.perf_counter()
    staged = engine.stage_head(fresh)
    staged_at = time.perf_counter()
    parity = compare([(reference.run(f, head=theirs), engine.run(f, head=staged)) for f in golden])
    _note(failures, "another head", parity.exceeds(bound))
    before = engine.run(golden[0])
    swap = time.perf_counter()
    engine.use_head(staged)
    swapped_at = time.perf_counter()
    after = engine.run(golden[0])
    moved = max(float(np.abs(before[name] - after[name]).max()) for name in INSTANCE_OUTPUTS)
    if not moved > 0:
        failures.append("another head: the answer did not change, the weights are not read")
    engine.set_head(old)
    again = engine.run(golden[0])
    back = max(float(np.abs(before[name] - again[name]).max()) for name in INSTANCE_OUTPUTS)
    if back != 0:
        failures.append(f"another head: the old one, brought back, answers otherwise (by up to {back:.3g})")
    return {
        "parity": parity.to_json(),
        "staged_ms": round((staged_at - started) * 1e3, 3),
        "swapped_ms": round((swapped_at - swap) * 1e3, 4),
        "biases_not_zero": all(bool(np.all(fresh[name])) for name in fresh if name.endswith(".bias")),
    }


def _camera(
    engine: Engine, reference: OnnxRuntimeReference, golden: Tensors, bound: ParityBound, failures: list[str]
) -> dict[str, Any] | None:
    """Frames of a camera's size by the engine's own way from raw bytes, against the reference's on the same graphs; and
    the prelude's against the host's letterbox, which rounds colours otherwise, by a grey level (``prelude.py``)."""
    if not isinstance(engine, TakesCamera):
        return None
    height, width = golden["depth"].shape
    found = {}
    for size in CAMERA_SIZES:
        box = letterbox(size, (width, height))
        rows = np.linspace(0, height - 1, size[1]).round().astype(int)
        columns = np.linspace(0, width - 1, size[0]).round().astype(int)
        rgb = np.ascontiguousarray(golden["rgb"][rows][:, columns])
        units = np.rint(golden["depth"][rows][:, columns] * 1000).astype(np.uint16)
        camera = CameraFrame(rgb, units, 0.001, golden["intrinsics"], golden["belt_plane"])
        name, scaled = f"camera {size[0]}x{size[1]}", reference.prelude(camera)
        levels = int(np.abs(scaled["rgb"].astype(int) - box.rgb(rgb)).max())
        if levels > 1:
            failures.append(f"{name}: colour is {levels} grey levels from the host's letterbox")
        if not np.array_equal(scaled["depth"], box.depth(units.astype(np.float32) * np.float32(0.001))):
            failures.append(f"{name}: depth is not the host's letterbox's")
        parity = compare([(reference.run(scaled), engine.run_camera(camera, INSTANCE_OUTPUTS))])
        _note(failures, name, parity.exceeds(bound))
        found[f"{size[0]}x{size[1]}"] = {"parity": parity.to_json(), "grey_levels": levels}
    return found


def _differences(pairs: Sequence[tuple[Tensors, Tensors]]) -> dict[str, dict[str, float]]:
    """For each output the largest and the mean difference, and the largest value of the reference; rows of candidates
    by their partners, those that decide something only."""
    table: dict[str, dict[str, float]] = {}
    for name in (*INSTANCE_OUTPUTS, *FEATURE_OUTPUTS):
        largest = total = scale = 0.0
        count = 0
        for reference, found in pairs:
            a, b = reference[name], found[name]
            if len(a) == len(reference["detection"]) and name not in (*FEATURE_OUTPUTS, "boundary"):
                rows = np.flatnonzero(reference["detection"] >= COMPARED_FROM)
                matched = partner_rows(reference["peak_xy"][rows], found)
                a, b = a[rows[matched >= 0]], b[matched[matched >= 0]]
            difference = np.abs(a - b)
            largest = max(largest, float(difference.max(initial=0.0)))
            scale = max(scale, float(np.abs(a).max(initial=0.0)))
            total, count = total + float(difference.sum()), count + difference.size
        table[name] = {"max_abs": largest, "mean_abs": total / max(1, count), "reference_max": scale}
    return table


def _timing(engine: Engine, frame: Tensors) -> dict[str, float]:
    """A first impression; `robin bench engine` measures."""
    times: list[float] = []
    stages: list[Mapping[str, float]] = []
    for number in range(_WARM_UP + _TIMED):
        started = time.perf_counter()
        engine.run(frame)
        if number >= _WARM_UP:
            times.append((time.perf_counter() - started) * 1e3)
            stages.append(engine.stage_ms)
    p50, p95 = np.percentile(times, (50, 95))
    names = stages[0].keys()
    return {
        "p50": round(float(p50), 3),
        "p95": round(float(p95), 3),
        **{f"{name}_p50": round(float(np.median([stage[name] for stage in stages])), 3) for name in names},
    }


def _note(failures: list[str], what: str, outside: str | None) -> None:
    if outside is not None:
        failures.append(f"{what}: {outside}")


def summary(parity: Mapping[str, float]) -> str:
    """Of a parity's JSON, for a line on the terminal."""
    found = Parity(**parity)  # type: ignore[arg-type]
    return (
        f"{found.candidates} candidates in {found.frames} frames: scores within {found.score:.2g}, "
        f"classes {found.classes:.2g}, least mask IoU {found.mask_iou:.4f}, boundary {found.boundary:.2g}, "
        f"lost {found.lost:.1%}"
    )
