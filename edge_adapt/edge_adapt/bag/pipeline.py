"""What made the plans of a bag, as far as it can be named: bundle, engine, planner, their configurations, versions.

It is a latched text topic of the bag and not metadata of the file: tools that cut or convert bags keep topics and drop
the rest.
"""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field, ValidationError, field_validator, model_validator

import robin_grasp
import robin_perception
from robin_grasp.holding import Holding
from robin_grasp.picks.pick_check import PickCheckConfig
from robin_grasp.picks.pick_judge import load_judge, shipped_judge
from robin_grasp.plan import Planner
from robin_grasp.planner.config import PlannerConfig
from robin_grasp.planner.former_config import from_former
from robin_grasp.planner.registry import DEFAULT_PLANNER, make_planner
from robin_grasp.recovery.config import RecoveryConfig
from robin_grasp.tool import CellConfig
from robin_perception.bags.frames import ImageCoding
from robin_perception.core.config import StrictConfig, config_digest
from robin_perception.core.errors import Code, RobinError
from robin_perception.core.helper_thread import HelperThread
from robin_perception.engines import EngineConfig
from robin_perception.model.bundle import Bundle
from robin_perception.monitors.config import MonitorsConfig
from robin_perception.segmentation.segmenter import Segmenter, SegmenterConfig, load_segmenter

_NUMERIC_LIBRARIES = ("numpy", "scipy", "opencv-python-headless", "onnxruntime", "scikit-learn")
_CPU_FILE = Path("/proc/cpuinfo")


class MachineRecord(StrictConfig):
    """What figures may depend on: processor and versions of the numeric libraries."""

    processor: str = ""
    versions: dict[str, str] = Field(default_factory=dict)


class PipelineRecord(StrictConfig):
    """All that turns a frame into a plan, beside the frame and the failures that each plan carries.

    model_id: trunk and head. calibration: digest of the bundle's calibration and thresholds. code: digest of the
    source of perception and grasp planning.
    source: where the bag comes from. pick_check, recovery: settings of what judged the loads and said what to do with
    them, None where nobody did; judge_sha256: of the judge's file, whose path is left out; load_segmented: the network
    looked at the load too. monitors: of what watched the station, without the path of its baseline, whose sha256 stands
    beside it, as that of the station's limit of novelty. complete: every frame that was looked at is in the bag, and
    nothing is remembered from before this record. version 1 recorded the planner's settings and fitted figures in one
    table, version 2 nothing of judgements.
    """

    version: int = Field(3, ge=1, le=3)
    source: str = ""
    model_id: str = ""
    calibration: str = ""
    engine: str = "auto"
    engine_config: EngineConfig = EngineConfig()
    segmenter: SegmenterConfig = SegmenterConfig()
    planner: str = DEFAULT_PLANNER
    planner_config: PlannerConfig = Field(default_factory=PlannerConfig)
    cell: CellConfig = CellConfig()
    images: ImageCoding = ImageCoding()
    pick_check: PickCheckConfig | None = None
    judge_sha256: str = ""
    load_segmented: bool = False
    recovery: RecoveryConfig | None = None
    monitors: MonitorsConfig | None = None
    baseline_sha256: str = ""
    novelty_limit_sha256: str = ""
    complete: bool = False
    code: str = ""
    machine: MachineRecord = MachineRecord()

    @model_validator(mode="before")
    @classmethod
    def _without_a_ranker(cls, values: Any) -> Any:
        """Earlier releases told of a learned ranker's file."""
        return {k: v for k, v in values.items() if k != "ranker_sha256"} if isinstance(values, dict) else values

    @field_validator("planner_config", mode="before")
    @classmethod
    def _of_an_earlier_release(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        if isinstance(values.get("fit"), str):  # the path of a file of this machine
            raise ValueError("'fit' must hold the figures themselves")
        return from_former(values)


@dataclass(frozen=True)
class Choices:
    """What to use in place of what was recorded; None keeps the recorded one."""

    engine: str | None = None
    planner: str | None = None
    planner_config: PlannerConfig | None = None
    cell: CellConfig | None = None


def this_machine() -> MachineRecord:
    versions = {name: _version(name) for name in _NUMERIC_LIBRARIES}
    return MachineRecord(processor=_processor(), versions=versions)


@cache
def code_digest() -> str:
    """Digest of every module of the rooms that make a plan, so that a replay can say that they have changed."""
    digest = hashlib.sha256()
    for package in (robin_perception, robin_grasp):
        folder = Path(str(package.__file__)).parent
        for path in sorted(folder.rglob("*.py")):
            if "nodes" not in path.parts:
                digest.update(path.relative_to(folder).as_posix().encode() + path.read_bytes())
    return digest.hexdigest()[:16]


def bundle_calibration(bundle: Bundle) -> str:
    return config_digest(bundle.manifest.calibration, bundle.manifest.thresholds)


def judged_with(config: PickCheckConfig) -> dict[str, Any]:
    """What a record tells of the judge that ``config`` asks. Raises RobinError MODEL_* for a file that is none."""
    judge = shipped_judge() if config.judge_file is None else load_judge(config.judge_file)
    return {"pick_check": config.model_copy(update={"judge_file": None}), "judge_sha256": judge.digest}


def parse_pipeline(text: str, source: Path) -> PipelineRecord:
    """Raises RobinError BAG_INVALID naming the key at fault."""
    try:
        return PipelineRecord.model_validate_json(text)
    except ValidationError as exc:
        first = exc.errors()[0]
        key = ".".join(str(part) for part in first["loc"]) or "(root)"
        raise RobinError(Code.BAG_INVALID, f"{source}: recorded pipeline: '{key}': {first['msg']}") from None


def chosen_pipeline(recorded: PipelineRecord, choices: Choices) -> PipelineRecord:
    """``recorded`` with the caller's choices."""
    changes: Mapping[str, object] = {
        "engine": choices.engine,
        "planner": choices.planner,
        "planner_config": choices.planner_config,
        "cell": choices.cell,
    }
    return recorded.model_copy(update={name: value for name, value in changes.items() if value is not None})


def start_segmenter(record: PipelineRecord, model: Path, helper: HelperThread | None = None) -> Segmenter:
    """helper: the one that the planner gets, too. Raises RobinError MODEL_*, ENGINE_*."""
    return load_segmenter(model, record.engine, record.segmenter, record.engine_config, helper=helper)


def start_planner(
    record: PipelineRecord,
    helper: HelperThread | None = None,
    holding: Holding | None = None,
) -> Planner:
    """helper: the segmenter's. holding: what the plans were told. Raises RobinError OPTION_INVALID."""
    rng = np.random.default_rng(0)
    return make_planner(record.planner, record.cell, record.planner_config, rng, helper, holding)


def changes_from(recorded: PipelineRecord, used: PipelineRecord) -> list[str]:
    """One line for each part that is not what was recorded; such parts may make plans differ."""
    lines = [
        f"{name}: recorded {old or '-'}, replayed {new or '-'}"
        for name in ("code", "model_id", "calibration", "engine", "planner", "judge_sha256")
        if (old := getattr(recorded, name)) != (new := getattr(used, name))
    ]
    for name in ("engine_config", "segmenter", "planner_config", "cell", "pick_check", "recovery", "monitors"):
        if getattr(recorded, name) != getattr(used, name):
            lines.append(f"{name}: not the recorded one")
    old_fit, new_fit = recorded.planner_config.fit, used.planner_config.fit
    if old_fit != new_fit:
        names = [f"{fit.name} {fit.digest}" for fit in (old_fit, new_fit)]
        lines.append(f"planner's fit: recorded {names[0]}, replayed {names[1]}")
    if recorded.machine.processor != used.machine.processor:
        lines.append(f"processor: recorded on {recorded.machine.processor}, replayed on {used.machine.processor}")
    for name, version in used.machine.versions.items():
        old = recorded.machine.versions.get(name, "")
        if old != version:
            lines.append(f"{name}: recorded with {old or '-'}, replayed with {version or '-'}")
    return lines


def _version(distribution: str) -> str:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return ""


def _processor() -> str:
    """Model name and architecture."""
    try:
        lines = _CPU_FILE.read_text().splitlines()
    except OSError:
        lines = []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return f"{names[0] if names else platform.processor()} {platform.machine()}".strip()
