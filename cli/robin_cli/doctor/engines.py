"""What ``robin doctor`` finds out about inference engines: the GPU's driver, TensorRT, ONNX Runtime, what auto is."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from pathlib import Path

from robin_cli.doctor.check import MachineCheck
from robin_perception.core.errors import RobinError

_TOOLKITS = (Path("/usr/local/cuda"),)
_GPU_PROVIDERS = ("TensorrtExecutionProvider", "CUDAExecutionProvider")


def bundle_checks(bundle: Path | str) -> list[MachineCheck]:
    """Whether the model is there and whole."""
    from robin_perception.model.bundle import load_bundle

    try:
        found = load_bundle(Path(bundle))
    except RobinError as exc:
        return [MachineCheck("model bundle", False, True, exc.text, "git checkout models, or --model DIR")]
    return [MachineCheck("model bundle", True, True, f"{found.model_id}, verified")]


def engine_checks(bundle: Path | str) -> list[MachineCheck]:
    """Nothing is loaded that could hang on a broken driver; no device is opened."""
    from robin_perception.engines.tensorrt.probe import findings

    found = [
        MachineCheck(f.name, f.ok, False, f.found if f.ok else f"{f.found} (not needed)", f.remedy) for f in findings()
    ]
    return [*found, _toolkit(), _providers(), _cache(), _auto(Path(bundle))]


def _toolkit() -> MachineCheck:
    """pycuda is compiled where it is installed, and needs it then."""
    root = os.environ.get("CUDA_ROOT") or os.environ.get("CUDA_HOME")
    places = [Path(root)] if root else [path for path in _TOOLKITS if path.is_dir()]
    nvcc = shutil.which("nvcc") or next((str(p / "bin/nvcc") for p in places if (p / "bin/nvcc").is_file()), "")
    if nvcc:
        return MachineCheck("CUDA toolkit", True, False, nvcc)
    remedy = "install NVIDIA's CUDA toolkit of the driver's version, and set CUDA_ROOT to its folder"
    return MachineCheck("CUDA toolkit", False, False, "none (only pycuda's installation needs it)", remedy)


def _providers() -> MachineCheck:
    try:
        import onnxruntime
    except Exception as exc:
        text = str(exc).splitlines()[0] if str(exc) else type(exc).__name__
        return MachineCheck("ONNX Runtime", False, False, text, "make setup")
    return _providers_check(onnxruntime.__version__, onnxruntime.get_available_providers())


def _providers_check(version: str, providers: Iterable[str]) -> MachineCheck:
    names = list(providers)
    gpu = any(name in names for name in _GPU_PROVIDERS)
    listed = ", ".join(name.removesuffix("ExecutionProvider") for name in names)
    remedy = "" if gpu else "for a GPU without TensorRT: pip install onnxruntime-gpu in place of onnxruntime"
    return MachineCheck("ONNX Runtime", True, False, f"{version}; providers {listed}", remedy)


def _cache() -> MachineCheck:
    """Where engines are kept; nothing is made there."""
    from robin_perception.engines.cache import NOWHERE, ROOT_VARIABLE, cache_root

    root, remedy = cache_root(), f"name a folder that can be written in {ROOT_VARIABLE}"
    if root == NOWHERE:
        return MachineCheck("engine cache", False, False, "none: this user has no home folder", remedy)
    there = next(folder for folder in (root, *root.absolute().parents) if folder.is_dir())
    if not os.access(there, os.W_OK | os.X_OK):
        return MachineCheck("engine cache", False, False, f"{root} cannot be written", remedy)
    return MachineCheck("engine cache", True, False, str(root))


def _auto(bundle: Path) -> MachineCheck:
    """Which engine `--engine auto` is here, and what could be built to have a better one."""
    from robin_perception.engines.registry import select
    from robin_perception.model.bundle import load_bundle

    try:
        chosen = select("auto", load_bundle(bundle))
    except RobinError as exc:
        return MachineCheck("engine auto", False, False, exc.text, "make setup")
    found, commands = [chosen.why], []
    for name, reason in chosen.rejected:
        lacks, _, command = reason.rpartition("; ")
        if command.startswith("robin engine"):
            found.append(f"{name}: {lacks}")
            commands.append(command)
    return MachineCheck("engine auto", True, False, f"{chosen.name} ({'; '.join(found)})", " or ".join(commands))
