"""``robin doctor --station``: what is wrong with light, lens, depth and mount in frames of a station."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from robin_cli.commands.station_source import seen_in
from robin_cli.terminal import print_table
from robin_perception.core.errors import Code, RobinError


def examine(frames: Path, baseline: Path | None, camera_id: str, model: Path, engine: str) -> dict[str, Any]:
    """All frames in order: every cause as it stands at the end, and each alarm of any frame. Raises RobinError for a
    baseline that is missing or damaged: who names one wants it used."""
    from robin_perception.monitors.baseline import load_baseline
    from robin_perception.monitors.station import StationMonitor

    monitor = StationMonitor(None, None if baseline is None else load_baseline(baseline))
    alarms: dict[str, Any] = {}
    count = 0
    for number, (frame, scene) in enumerate(seen_in(frames, camera_id, model, engine), 1):
        count = number
        for condition in monitor.observe(frame, scene):
            first = alarms.get(condition.name, {}).get("frame", number)
            alarms[condition.name] = {
                "code": int(condition.code),
                "value": condition.value,
                "limit": condition.limit,
                "unit": condition.unit,
                "frame": first,
                "effect": condition.effect.value,
                "text": condition.text,
            }
    if count == 0:
        raise RobinError(Code.INPUT_MISSING, f"{frames}: no frame in it")
    standing = [condition.name for condition in monitor.conditions]
    causes = {
        reading.name: {"value": reading.value, "usual": reading.usual, "limit": reading.limit, "unit": reading.unit}
        for reading in monitor.readings()
    }
    kind = "stated defaults" if baseline is None else str(baseline)
    return {"frames": count, "baseline": kind, "causes": causes, "alarms": alarms, "standing": standing}


def show(found: dict[str, Any]) -> None:
    """The table, then a line per alarm."""
    rows = []
    for name, cause in found["causes"].items():
        state = "ALARM" if name in found["standing"] else "was wrong" if name in found["alarms"] else "ok"
        rows.append((name, state, *(f"{cause[key]:.3g}" for key in ("value", "usual", "limit")), cause["unit"]))
    title = f"{found['frames']} frames, against {found['baseline']}"
    print_table(title, ("cause", "", "value", "usual", "limit", "unit"), rows, text_columns=2)
    for name, alarm in found["alarms"].items():
        print(f"E{alarm['code']} {name}, from frame {alarm['frame']} on: {alarm['text']} ({alarm['effect']})")
