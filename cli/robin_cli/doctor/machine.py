"""Facts about this machine: for ``robin doctor`` and beside every measured figure."""

from __future__ import annotations

import os
import platform
import shutil
import sys
from dataclasses import dataclass
from importlib import import_module, metadata
from importlib.util import find_spec
from pathlib import Path

import psutil

from robin_perception.core.errors import RobinError

LEAST_MEMORY_GB = 3.0
LEAST_DISK_GB = 2.0
_SETUP = "make setup"
# Instruction sets that decide how fast a network is, float32 and INT8.
_TELLING_FLAGS = frozenset(
    {"avx2", "avx512f", "avx512_vnni", "avx_vnni", "avx512_bf16", "amx_int8", "amx_bf16", "asimd", "asimddp"}
)

# import name, distribution, needed for the demo, how to get it
_LIBRARIES = (
    ("numpy", "numpy", True, _SETUP),
    ("cv2", "opencv-python-headless", True, _SETUP),
    ("scipy", "scipy", True, _SETUP),
    ("sklearn", "scikit-learn", True, _SETUP),
    ("pydantic", "pydantic", True, _SETUP),
    ("onnx", "onnx", True, _SETUP),
    ("onnxruntime", "onnxruntime", True, _SETUP),
    ("mujoco", "mujoco", True, _SETUP),
    ("open3d", "open3d", True, _SETUP),
    ("jinja2", "jinja2", True, _SETUP),
    ("torch", "torch", False, "make setup-dev (training only)"),
    ("pytest", "pytest", False, "make setup-dev (tests only)"),
)


@dataclass(frozen=True)
class Check:
    """One line of the doctor's table. needed: the demo cannot run without it."""

    name: str
    ok: bool
    needed: bool
    found: str
    remedy: str = ""


def all_checks(bundle: Path) -> list[Check]:
    """Every check, in the order in which they are shown."""
    from robin_cli.doctor.devices import realsense_checks, ros_checks
    from robin_cli.doctor.engines import engine_checks

    return [
        _python(),
        Check("cores", True, True, f"{core_count()} of {cpu_name()}"),
        _memory(),
        _disk(Path.cwd()),
        *(_library(*entry) for entry in _LIBRARIES),
        _bundle(bundle),
        *engine_checks(bundle),
        *realsense_checks(),
        *ros_checks(),
    ]


def core_count() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)


def cpu_name() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def machine_facts() -> dict[str, object]:
    """What a measured figure depends on besides the code: processor, cores, memory, versions."""
    from robin_perception.engines.ort.quantise import cpu_flags

    names = ("numpy", "opencv-python-headless", "onnxruntime", "mujoco", "open3d", "scipy")
    return {
        "cpu": cpu_name(),
        "instructions": sorted(_TELLING_FLAGS & cpu_flags()),
        "blas_threads": os.environ.get("OPENBLAS_NUM_THREADS", ""),
        "cores": core_count(),
        "memory_gb": round(psutil.virtual_memory().total / 2**30, 1),
        "load_1min": round(os.getloadavg()[0], 2),
        "system": platform.platform(),
        "python": platform.python_version(),
        "versions": {name: _version(name) for name in names},
    }


def _python() -> Check:
    good = sys.version_info >= (3, 10)
    return Check("python", good, True, platform.python_version(), "" if good else "install Python 3.10 or newer")


def _memory() -> Check:
    memory = psutil.virtual_memory()
    free, total = memory.available / 2**30, memory.total / 2**30
    good = free >= LEAST_MEMORY_GB
    return Check("memory", good, True, f"{free:.1f} of {total:.1f} GB free", "" if good else "close other programs")


def _disk(folder: Path) -> Check:
    free = shutil.disk_usage(folder).free / 2**30
    good = free >= LEAST_DISK_GB
    return Check("disk", good, True, f"{free:.1f} GB free here", "" if good else f"free {LEAST_DISK_GB:.0f} GB")


def _library(module: str, distribution: str, needed: bool, remedy: str) -> Check:
    """Needed ones are imported: a wheel may be installed and still lack a system library."""
    if find_spec(module) is None:
        return Check(distribution, False, needed, "not installed", remedy)
    if needed:
        try:
            import_module(module)
        except Exception as exc:
            text = str(exc).splitlines()[0] if str(exc) else type(exc).__name__
            return Check(distribution, False, needed, text, "sh scripts/system_packages.sh")
    return Check(distribution, True, needed, _version(distribution))


def _version(distribution: str) -> str:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return "unknown version"


def _bundle(path: Path) -> Check:
    from robin_perception.model.bundle import load_bundle

    try:
        bundle = load_bundle(path)
    except RobinError as exc:
        return Check("model bundle", False, True, exc.text, "git checkout models, or --model DIR")
    return Check("model bundle", True, True, f"{bundle.model_id}, verified")
