"""Facts about this machine: for ``robin doctor`` and beside every measured figure."""

from __future__ import annotations

import os
import platform
import shutil
import sys
from pathlib import Path

import psutil

from robin_cli.doctor.check import MachineCheck
from robin_cli.doctor.libraries import version_of

LEAST_MEMORY_GB = 3.0
LEAST_DISK_GB = 2.0
# Instruction sets that decide how fast a network is, float32 and INT8.
_TELLING_FLAGS = frozenset(
    {"avx2", "avx512f", "avx512_vnni", "avx_vnni", "avx512_bf16", "amx_int8", "amx_bf16", "asimd", "asimddp"}
)


def own_checks() -> list[MachineCheck]:
    """Python, cores, memory, disk."""
    return [_python(), MachineCheck("cores", True, True, f"{core_count()} of {cpu_name()}"), _memory(), _disk()]


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
        "versions": {name: version_of(name) for name in names},
    }


def _python() -> MachineCheck:
    good = sys.version_info >= (3, 10)
    return MachineCheck("python", good, True, platform.python_version(), "" if good else "install Python 3.10 or newer")


def _memory() -> MachineCheck:
    memory = psutil.virtual_memory()
    free, total = memory.available / 2**30, memory.total / 2**30
    good = free >= LEAST_MEMORY_GB
    return MachineCheck(
        "memory", good, True, f"{free:.1f} of {total:.1f} GB free", "" if good else "close other programs"
    )


def _disk() -> MachineCheck:
    try:
        free = shutil.disk_usage(Path.cwd()).free / 2**30
    except OSError as exc:
        return MachineCheck(
            "disk", False, True, f"the current folder is no use: {exc.strerror}", "change to another one"
        )
    good = free >= LEAST_DISK_GB
    return MachineCheck("disk", good, True, f"{free:.1f} GB free here", "" if good else f"free {LEAST_DISK_GB:.0f} GB")
