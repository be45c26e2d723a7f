"""What ``robin doctor`` finds out about libraries, by loading them."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module, metadata
from importlib.util import find_spec

from robin_cli.doctor.check import MachineCheck
from robin_cli.doctor.child import checks_in_child

_SETUP = "make setup"
_SYSTEM = "sh scripts/system_packages.sh"
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


def library_checks() -> list[MachineCheck]:
    """One for each. They are loaded by a process of its own; where it dies of one, another goes on behind that one."""
    checks: list[MachineCheck] = []
    while len(checks) < len(_LIBRARIES):
        found, ended = checks_in_child("robin_cli.doctor.libraries:loaded", str(len(checks)))
        checks += found
        if len(checks) < len(_LIBRARIES):
            _, distribution, needed, _ = _LIBRARIES[len(checks)]
            checks.append(MachineCheck(distribution, False, needed, ended or "gave no answer", _SYSTEM))
    return checks


def loaded(begin: str) -> Iterator[MachineCheck]:
    """Of the table from line ``begin`` on. Needed ones are imported: a wheel may be installed and still lack a system
    library, or be made for another processor."""
    for module, distribution, needed, remedy in _LIBRARIES[int(begin) :]:
        yield _library(module, distribution, needed, remedy)


def version_of(distribution: str) -> str:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return "unknown version"


def _library(module: str, distribution: str, needed: bool, remedy: str) -> MachineCheck:
    if find_spec(module) is None:
        return MachineCheck(distribution, False, needed, "not installed", remedy)
    if needed:
        try:
            import_module(module)
        except Exception as exc:
            text = str(exc).splitlines()[0] if str(exc) else type(exc).__name__
            return MachineCheck(distribution, False, needed, text, _SYSTEM)
    return MachineCheck(distribution, True, needed, version_of(distribution))
