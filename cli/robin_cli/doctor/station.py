"""``robin doctor --station``: what is wrong with light, lens, depth and mount in frames of a station."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from robin_cli.commands.station_source import seen_in
from robin_cli.terminal import print_table
from robin_perception.core.errors import Code, RobinError

_NONE = {"version": None, "why": "no version yet"}


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


def versions(model: Path) -> dict[str, Any]:
    """Which version of the model the station's registry names; ``version`` is None where it has none yet. Raises
    RobinError MODEL_*."""
    from edge_adapt.models.registry import ModelRegistry, default_folder
    from edge_adapt.models.told import status

    registry = ModelRegistry(default_folder(model), model)
    told = status(registry)
    names = ("version", "model_id", "pinned", "since", "why", "problem")
    return {"models": str(registry.folder), **{name: told[name] for name in names}, **({} if registry.used else _NONE)}


def show(found: dict[str, Any]) -> None:
    """The table, then a line per alarm."""
    rows = []
    for name, cause in found["causes"].items():
        state = "ALARM" if name in found["standing"] else "was wrong" if name in found["alarms"] else "ok"
        rows.append((name, state, *(f"{cause[key]:.3g}" for key in ("value", "usual", "limit")), cause["unit"]))
    title = f"{found['frames']} frames, against {found['baseline']}"
    print_table(title, ("cause", "", "value", "usual", "limit", "unit"), rows, text_columns=2)
    runs = found["adaptation"]
    what = f"version {runs['version']}" if runs["version"] else "the factory's model"
    print(f"adaptation: {what} ({runs['model_id']}) of {runs['models']}: {runs['problem'] or runs['why']}")
    for name, alarm in found["alarms"].items():
        print(f"E{alarm['code']} {name}, from frame {alarm['frame']} on: {alarm['text']} ({alarm['effect']})")
