"""``/diagnostics`` and the periodic log line, both from the node's counters."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from diagnostic_msgs.msg import DiagnosticStatus, KeyValue

from robin_perception.core.counters import Counters, Fault
from robin_perception.core.errors import Code

_ERROR, _WARN, _OK = DiagnosticStatus.ERROR, DiagnosticStatus.WARN, DiagnosticStatus.OK


@dataclass(frozen=True)
class Health:
    """What decides level and message. standing: a fault that lasts until something changes (a failed configure)."""

    node: str
    state: str
    standing: Fault | None
    fault_hold_s: float
    disk_path: Path
    min_disk_free_gb: float


def disk_free_gb(path: Path) -> float | None:
    """Free space, 1e9 bytes, of the file system of ``path`` (or its nearest existing parent); None if unknown."""
    for folder in (path, *path.absolute().parents):
        try:
            return shutil.disk_usage(folder).free / 1e9
        except OSError:
            continue
    return None


def status(counters: Counters, health: Health, extra: Callable[[], dict[str, str]]) -> DiagnosticStatus:
    """One DiagnosticStatus: its message is the gravest fault that lasts or is recent, else the lifecycle state."""
    fault = health.standing or counters.recent_fault(health.fault_hold_s)
    level, message = _OK, health.state
    if fault is not None:
        level = _WARN if fault.warning else _ERROR
        message = f"E{int(fault.code)} {fault.code.name}: {fault.text}"
    free = disk_free_gb(health.disk_path)
    if level == _OK and free is not None and free < health.min_disk_free_gb:
        level = _WARN
        message = f"E{int(Code.DISK_FULL)} {Code.DISK_FULL.name}: {free:.2f} GB free at {health.disk_path}"
    values = {"state": health.state, **extra(), **counters.values()}
    if fault is not None:
        values["code"] = str(int(fault.code))
    if free is not None:
        values["disk_free_gb"] = f"{free:.2f}"
    pairs = [KeyValue(key=key, value=value) for key, value in values.items()]
    return DiagnosticStatus(level=level, name=health.node, message=message, hardware_id="robin_edge", values=pairs)


def log_line(counters: Counters, extra: dict[str, str]) -> str:
    """The same in one line for the log; texts of faults are left out, they were logged when they came."""
    shown = {**extra, **counters.values()}
    return "  ".join(f"{k}={v.split(' (')[0] if k.startswith('fault.') else v}" for k, v in shown.items() if v)
