"""What a turn of the simulated cell tells its record beside plan and outcome: judgement, actions, help, cups."""

from __future__ import annotations

from typing import Any

from edge_adapt.record_build import cup_record, help_record, judgement_record, step_record
from edge_adapt.record_parts import RecoveryStepRecord
from robin_grasp.cup_health import CupHealthConfig
from robin_grasp.picks.pick_check import PickCheckConfig
from robin_grasp.recovery.config import RecoveryConfig
from robin_perception.core.config import config_digest
from robin_perception.monitors.config import MonitorsConfig
from robin_sim.pick_event import PickEvent, TurnStep


def told_of(event: PickEvent) -> tuple[dict[str, Any], dict[str, bytes]]:
    """Arguments of ``build_decision``, and the pictures that people were shown: file name -> bytes."""
    steps, pictures = list[RecoveryStepRecord](), dict[str, bytes]()
    for taken in () if event.recovered is None else event.recovered.steps:
        name = f"help_{len(pictures) + 1}" if taken.picture else ""
        if name:
            pictures[f"{name}.jpg"] = taken.picture
        steps.append(_step(taken, name))
    judged = None if event.recovered is None else event.recovered.judgement
    told = {
        "judgement": None if judged is None else judgement_record(judged),
        "steps": steps,
        "cup_health": [cup_record(report) for report in event.cups],
    }
    return told, pictures


def recovery_digests(config: RecoveryConfig | None) -> dict[str, str]:
    """Of the settings of a run with judged loads, whose monitors, pick check and cup health have their defaults."""
    return {
        "monitors": config_digest(MonitorsConfig()),
        "recovery": config_digest(config or RecoveryConfig()),
        "pick_check": config_digest(PickCheckConfig()),
        "cup_health": config_digest(CupHealthConfig()),
    }


def _step(taken: TurnStep, picture: str) -> RecoveryStepRecord:
    judgement = None if taken.judgement is None else judgement_record(taken.judgement)
    asked = None if taken.help is None else help_record(taken.help, picture)
    return step_record(taken.step, judgement, asked, taken.duration_s)
