"""ONNX Runtime on the CPU with the trunk in INT8: a graph that this machine made from the bundle, measured and cached.

Whether bytes are faster depends on the processor, and what they lose on the bundle. So the graph is only used where it
was built and measured, and ``auto`` takes it only where it is faster and holds the accuracy.
"""

from __future__ import annotations

import platform
from functools import cache
from pathlib import Path

import onnxruntime as ort
from pydantic import Field, ValidationError

from robin_perception.core.config import StrictConfig
from robin_perception.core.errors import Code, RobinError
from robin_perception.engines.base import EngineConfig
from robin_perception.engines.cache import EngineCache
from robin_perception.engines.ort import quantise
from robin_perception.engines.ort import session as ort_session
from robin_perception.engines.ort.engine import OnnxRuntimeEngine
from robin_perception.model.bundle import NETWORK_FILE, Bundle

NAME = "onnxruntime-int8"
GRAPH_FILE = "network.int8.onnx"
MEASURED_FILE = "measured.json"
MOST_LOST_AP_POINTS = 0.5
# Below this the gain is within what a busy machine makes of two equal graphs.
LEAST_GAIN = 1.1


class Measured(StrictConfig):
    """What the build found out, both graphs side by side: medians of alternating runs in milliseconds, and accuracy on
    labelled scenes that calibration did not see (fractions).

    gain: median of float32 over INT8 of each pair of runs. calibration: frames that the ranges come from.
    """

    threads: int = Field(ge=1)
    float32_ms: float = Field(gt=0)
    int8_ms: float = Field(gt=0)
    gain: float = Field(gt=0)
    calibration: int = Field(ge=1)
    scenes: int = Field(ge=1)
    ap50_float32: float = Field(ge=0, le=1)
    ap50_int8: float = Field(ge=0, le=1)
    ap75_float32: float = Field(ge=0, le=1)
    ap75_int8: float = Field(ge=0, le=1)
    head_of: str = ""

    @property
    def lost_ap_points(self) -> float:
        """What INT8 loses of AP50 or AP75, whichever is more; negative where it gains on both."""
        return 100.0 * max(self.ap50_float32 - self.ap50_int8, self.ap75_float32 - self.ap75_int8)

    @property
    def shortcoming(self) -> str | None:
        """Why ``auto`` does not take it, or None."""
        if self.lost_ap_points > MOST_LOST_AP_POINTS:
            return f"loses {self.lost_ap_points:.2f} AP points here (allowed {MOST_LOST_AP_POINTS:g})"
        if self.gain < LEAST_GAIN:
            return f"is {self.gain:.2f} times as fast as float32 here (needs {LEAST_GAIN:g})"
        return None


class OnnxRuntimeInt8Engine(OnnxRuntimeEngine):
    """The quantised graph; frame tensors, heads and outputs are those of the bundle's own.

    graph: a file to run in place of the cached one, for the measurement that decides whether it is cached.
    Raises RobinError ENGINE_UNAVAILABLE where none was built for this bundle on this machine.
    """

    name = NAME

    def __init__(self, bundle: Bundle, config: EngineConfig, graph: Path | None = None) -> None:
        self._graph = graph or _cached(bundle)[0]
        super().__init__(bundle, config)

    def graph_path(self) -> Path:
        return self._graph

    def describe(self) -> dict[str, str]:
        return {**super().describe(), "precision": "int8"}


def cache_key(bundle: Bundle) -> dict[str, str]:
    """All that the graph and its gain depend on. The head is none of it: it stays in float32 and may change."""
    return {
        "kind": NAME,
        "bundle": bundle.manifest.name,
        "precision": "int8",
        "network_sha256": bundle.manifest.files[NETWORK_FILE],
        "processor": processor(),
        "weight_bits": "8" if quantise.full_range() else "7",
        "onnxruntime": ort.__version__,
        "recipe": quantise.RECIPE,
    }


@cache
def processor() -> str:
    """Name of this processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    found = next((line for line in lines if line.startswith("model name")), "")
    return found.partition(":")[2].strip() or platform.processor() or platform.machine()


def unavailable_reason(bundle: Bundle, config: EngineConfig) -> str | None:
    """Why the quantised graph cannot run here, with the remedy, or None."""
    reason = ort_session.unavailable_reason(bundle, config)
    if reason is not None:
        return reason
    try:
        _cached(bundle)
    except RobinError as exc:
        return exc.text
    return None


def skip_reason(bundle: Bundle, config: EngineConfig) -> str | None:
    """Why ``auto`` leaves a graph that can run to those who ask for it by name, or None."""
    del config
    return _cached(bundle)[1].shortcoming


def measured(bundle: Bundle) -> Measured:
    """What was found when the cached graph was built. Raises RobinError ENGINE_UNAVAILABLE."""
    return _cached(bundle)[1]


def _cached(bundle: Bundle) -> tuple[Path, Measured]:
    try:
        folder, reason = EngineCache().find(cache_key(bundle))
        if folder is not None:
            return folder / GRAPH_FILE, Measured.model_validate_json((folder / MEASURED_FILE).read_bytes())
    except (OSError, ValidationError) as exc:
        reason = f"{MEASURED_FILE} cannot be read ({type(exc).__name__})"
    except RobinError as exc:
        reason = exc.text
    command = f"robin engine build {bundle.directory} --engine {NAME}"
    raise RobinError(Code.ENGINE_UNAVAILABLE, f"{reason}; {command}")
