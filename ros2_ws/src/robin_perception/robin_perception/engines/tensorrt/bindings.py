"""TensorRT's Python package, loaded in one place, with the one logger of this process.

TensorRT has one logger for a process: while anything made with it lives, every other one is ignored, with a warning.
So there is a single one that lives as long as the process, and whoever wants to know what is said listens for a while.
"""

from __future__ import annotations

import importlib
import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from robin_perception.core.errors import Code, RobinError
from robin_perception.engines.tensorrt.probe import INSTALL, INSTALL_RTX, RTX, TENSORRT, tensorrt_package, too_old

_log = logging.getLogger(__name__)
_MEMORY_WORDS = ("out of memory", "outofmemory")


def load_tensorrt(package: str = "") -> Any:
    """The module ``tensorrt``, or ``tensorrt_rtx`` where TensorRT for RTX alone is installed; package: one of the two.

    Its runtime is to be used where a driver was found only: it may end the process without one.
    Raises RobinError ENGINE_UNAVAILABLE where it does not load, or is too old.
    """
    package = package or tensorrt_package() or TENSORRT
    remedy = INSTALL_RTX if package == RTX else INSTALL
    try:
        trt = importlib.import_module(package)
    except Exception as exc:  # ImportError of a library that is missing; wheels without their libraries raise others
        text = f"TensorRT{' for RTX' if package == RTX else ''} cannot be loaded: {_line(exc)}; {remedy}"
        raise RobinError(Code.ENGINE_UNAVAILABLE, text) from None
    old = too_old(package, str(trt.__version__))
    if old is not None:
        raise RobinError(Code.ENGINE_UNAVAILABLE, f"TensorRT {old}; {remedy}")
    return trt


def is_rtx(trt: Any) -> bool:
    """Whether ``trt`` is TensorRT for RTX, which builds without a GPU and compiles kernels where they run."""
    return str(trt.__name__) == RTX


def release(trt: Any) -> str:
    """Which TensorRT it is, as engines' keys have it: "10.3.0", "RTX 1.7.1"."""
    return f"{'RTX ' if is_rtx(trt) else ''}{trt.__version__}"


@dataclass
class BuildLog:
    """Lines of TensorRT's logger, from several threads."""

    lines: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    def text(self) -> str:
        return "\n".join(self.lines) + "\n"

    def failure(self, otherwise: str) -> str:
        """The last error in one line."""
        return " ".join(self.errors[-1].split()) if self.errors else otherwise

    def problem(self, source: str, otherwise: str, code: Code) -> RobinError:
        """ENGINE_OUT_OF_MEMORY where any error speaks of memory, else ``code``; the text is the last error's."""
        memory = any(word in line.lower() for line in self.errors for word in _MEMORY_WORDS)
        return RobinError(Code.ENGINE_OUT_OF_MEMORY if memory else code, f"{source}: {self.failure(otherwise)}")


_listeners: list[BuildLog] = []
_listening = threading.Lock()
_broken: list[Any] = []


@contextmanager
def heard(trt: Any) -> Iterator[tuple[Any, BuildLog]]:
    """The process's logger, and all that TensorRT says while this lasts."""
    log = BuildLog()
    with _listening:
        _listeners.append(log)
    try:
        yield _logger(trt), log
    finally:
        with _listening:
            _listeners[:] = [other for other in _listeners if other is not log]


def made(make: Callable[[], Any], log: BuildLog, source: str, what: str) -> Any:
    """What ``make`` returns. Where CUDA refuses (a driver that is too old, no memory), TensorRT's constructors return
    nothing, which their bindings turn into a TypeError, or log an error and return what ends the process when it is
    used, or freed (seen with tensorrt_lean 11.4 without a driver). So that one is kept.

    Raises RobinError ENGINE_UNAVAILABLE, ENGINE_OUT_OF_MEMORY.
    """
    try:
        thing = make()
    except TypeError:
        thing = None
    if thing is None or log.errors:
        _broken.append(thing)
        raise log.problem(source, f"{what} cannot be made, and it does not say why", Code.ENGINE_UNAVAILABLE)
    return thing


@cache
def _logger(trt: Any) -> Any:
    class Collector(trt.ILogger):
        def __init__(self) -> None:
            trt.ILogger.__init__(self)

        def log(self, severity: Any, message: str) -> None:
            if severity == trt.ILogger.VERBOSE:
                return
            error = severity in (trt.ILogger.ERROR, trt.ILogger.INTERNAL_ERROR)
            for listener in tuple(_listeners):
                listener.lines.append(f"{str(severity).rpartition('.')[2]}: {message}")
                if error:
                    listener.errors.append(message)
            if error or severity == trt.ILogger.WARNING:
                _log.info("TensorRT: %s", message)

    return Collector()


def _line(exc: BaseException) -> str:
    text = str(exc).strip()
    return text.splitlines()[0] if text else type(exc).__name__
