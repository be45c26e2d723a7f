"""What this machine has for TensorRT, found out without loading TensorRT or opening a device.

A TensorRT runtime that finds no driver can end the process, so that nothing of it is called before this has been asked.
"""

from __future__ import annotations

import ctypes
import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from robin_perception.engines.base import EngineConfig
from robin_perception.engines.cache import EngineCache
from robin_perception.engines.tensorrt.key import KIND, bundle_key
from robin_perception.model.bundle import Bundle

TENSORRT, RTX = "tensorrt", "tensorrt_rtx"  # Python packages: TensorRT, and TensorRT for RTX
OLDEST = {TENSORRT: (10, 3), RTX: (1, 7)}  # JetPack 6.1; RTX has no older one that was tried
DRIVER_LIBRARY = "libcuda.so.1"
_DEVICES = ("/dev/nvidiactl", "/dev/nvhost-gpu", "/dev/nvgpu", "/dev/dxg")  # desktop, Jetson, Jetson, WSL
_DRIVER_VERSION = Path("/proc/driver/nvidia/version")
_JETSON_RELEASE = Path("/etc/nv_tegra_release")
_DISTRIBUTIONS = {
    TENSORRT: ("tensorrt", "tensorrt-cu13", "tensorrt-cu12", "tensorrt-cu11"),
    RTX: ("tensorrt-rtx", "tensorrt-rtx-cu13", "tensorrt-rtx-cu12"),
}
_NAMES = {TENSORRT: "", RTX: "for RTX "}
_LEAN = ("tensorrt_lean", "tensorrt_dispatch")
_PIP = "pip install -c constraints-tensorrt.txt -e '.[tensorrt]'"
INSTALL = f"{_PIP} (on a Jetson TensorRT comes with JetPack: apt install tensorrt)"
INSTALL_RTX = "pip install -c constraints.txt tensorrt-rtx-cu13"


@dataclass(frozen=True)
class Finding:
    """One thing that TensorRT needs: what was found, and how to get it where it is not right."""

    name: str
    ok: bool
    found: str
    remedy: str = ""


def findings() -> list[Finding]:
    """Driver, driver library, TensorRT, pycuda, CUDA toolkit, in the order in which they build on each other."""
    return [*driver_findings(), _tensorrt(), _pycuda()]


def driver_findings() -> list[Finding]:
    """Of these the driver and its library, which every engine on a GPU needs."""
    return [_device(), _library()]


def unavailable_reason(bundle: Bundle | None = None, config: EngineConfig | None = None) -> str | None:
    """Why TensorRT cannot run ``bundle`` here, in one line with the remedy, or None. Without a bundle: why it cannot
    run at all."""
    del config
    for finding in findings():
        if not finding.ok:
            return f"{finding.name}: {finding.found}; {finding.remedy}"
    if bundle is None or any(e.problem is None and e.key.get("kind") == KIND for e in EngineCache().entries(False)):
        return None  # one was built here before: should it not fit any more, it is built anew, with a message
    return f"no engine has been built yet; robin engine build {bundle.directory} --engine tensorrt"


def unverified_reason(bundle: Bundle, config: EngineConfig) -> str | None:
    """Why ``auto`` leaves TensorRT although it can run, or None where a proof of the bundle's engine is stored. Which
    device it was proven on is asked again where the device is open: ``verified_plan``."""
    del config
    wanted = bundle_key(bundle, "float16").items()
    built = [e for e in EngineCache().entries(False) if e.problem is None and wanted <= e.key.items()]
    problems = [proof_problem(bundle, entry.verification) for entry in built]
    if not problems:
        return f"no engine has been built for this bundle; robin engine build {bundle.directory} --engine tensorrt"
    return None if None in problems else problems[0]


def proof_problem(bundle: Bundle, proof: Mapping[str, Any] | None) -> str | None:
    """What is wrong with the stored report of ``robin engine verify``, with the remedy, or None where it passed."""
    command = f"{bundle.directory} --engine tensorrt"
    if proof is None:
        return f"built but not verified on this device; robin engine verify {command}"
    return None if proof.get("passed") else f"its proof failed; robin engine build {command} --rebuild"


def tensorrt_package() -> str:
    """TENSORRT where it is installed, else RTX where that one is, else "". Nothing is loaded."""
    return next((name for name in (TENSORRT, RTX) if find_spec(name) is not None), "")


def too_old(package: str, version: str) -> str | None:
    """What to say of a version that is older than what we were tried with, or None."""
    numbers = tuple(int(part) for part in re.findall(r"\d+", version)[:2])
    if not numbers or numbers >= OLDEST[package]:
        return None
    return f"{_NAMES[package]}{version} is too old, {'.'.join(map(str, OLDEST[package]))} or newer is needed"


def tensorrt_version(package: str) -> str:
    """Of the installed package, such as "10.3.0"; "" where its metadata says nothing."""
    for name in _DISTRIBUTIONS[package]:
        try:
            return metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return ""


def _device() -> Finding:
    if not any(Path(path).exists() for path in _DEVICES):
        return Finding("NVIDIA driver", False, "no NVIDIA GPU, or its driver is not loaded", "install the GPU's driver")
    for path in (_DRIVER_VERSION, _JETSON_RELEASE):
        try:
            line = path.read_text().splitlines()[0]
        except (OSError, IndexError):
            continue
        version = re.search(r"\b\d+\.\d+(?:\.\d+)?\b|R\d+[^,]*, REVISION: [\d.]+", line)
        return Finding("NVIDIA driver", True, version.group(0) if version else line.strip())
    return Finding("NVIDIA driver", True, "loaded")


def _library() -> Finding:
    try:
        ctypes.CDLL(DRIVER_LIBRARY)
    except OSError as exc:
        text = str(exc).splitlines()[0]
        remedy = "install the driver's libraries; in a container run it with the NVIDIA runtime (--gpus all)"
        return Finding("CUDA driver library", False, text, remedy)
    return Finding("CUDA driver library", True, DRIVER_LIBRARY)


def _tensorrt() -> Finding:
    package = tensorrt_package()
    if not package:
        lean = [name for name in _LEAN if find_spec(name) is not None]
        found = f"{lean[0]} only, which can run engines but not build them" if lean else "not installed"
        return Finding("TensorRT", False, found, INSTALL)
    version = tensorrt_version(package)
    old = too_old(package, version)
    if old is not None:
        return Finding("TensorRT", False, old, INSTALL)
    return Finding("TensorRT", True, f"{_NAMES[package]}{version or 'unknown version'}, builder and runtime")


def _pycuda() -> Finding:
    if find_spec("pycuda") is None:
        remedy = f"CUDA_ROOT=/usr/local/cuda {_PIP} (it is compiled: needs the CUDA toolkit)"
        return Finding("pycuda", False, "not installed", remedy)
    try:
        return Finding("pycuda", True, metadata.version("pycuda"))
    except metadata.PackageNotFoundError:
        return Finding("pycuda", True, "unknown version")
