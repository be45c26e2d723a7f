"""The limit of one station: how unlike its own known goods may look before they are called unfamiliar."""

from __future__ import annotations

import hashlib
import json
import math
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, ValidationError

from robin_perception.core.bounded import CONFIG_BYTES, parse_json, read_plain_text
from robin_perception.core.config import StrictConfig, first_fault
from robin_perception.core.disk import make_folder, write_atomic
from robin_perception.core.errors import Code, RobinError
from robin_perception.novelty.statistics import NoveltyStatistics

DEFAULT_RATE = 0.02


class NoveltyCalibration(StrictConfig):
    """What a station's own frames of known goods say. Written by ``robin novelty calibrate``.

    middle: median of the score; limit: the score that ``rate`` of known goods exceed, by conformal prediction.
    statistics: digest of the statistics that gave the scores.
    """

    format: Literal[1] = 1
    station: str = Field(max_length=100, description="whose limit it is")
    rate: float = Field(gt=0, lt=0.5, description="share of known goods above the limit")
    middle: float
    limit: float
    instances: int = Field(ge=1)
    frames: int = Field(ge=1)
    statistics: str = Field(min_length=64, max_length=64)
    data: str = Field("", max_length=1000, description="folder that it was taken from")


def conformal_limit(scores: NDArray[np.floating[Any]], rate: float) -> float:
    """The least limit that a further known one exceeds with probability ``rate`` or less: of n scores the
    ceil((n + 1)(1 - rate))-th smallest (split conformal prediction; Vovk, Gammerman, Shafer, 2005).

    Raises RobinError NOVELTY_TOO_FEW where n is too small for that rate.
    """
    rank = math.ceil((len(scores) + 1) * (1 - rate))
    if rank > len(scores):
        needed = math.ceil(1 / rate) - 1
        text = (
            f"{len(scores)} confident instances; a rate of {rate:g} needs {needed} at least, {10 * needed} are better"
        )
        raise RobinError(Code.NOVELTY_TOO_FEW, text)
    return float(np.sort(np.asarray(scores, dtype=np.float64))[rank - 1])


def calibrate(
    scores: NDArray[np.floating[Any]],
    statistics: NoveltyStatistics,
    *,
    station: str,
    frames: int,
    rate: float = DEFAULT_RATE,
    data: str = "",
) -> NoveltyCalibration:
    """From the scores of a station's confident instances. Raises RobinError NOVELTY_TOO_FEW, and
    NOVELTY_CALIBRATION_INVALID where all scores are alike, as those of one frame seen again and again are."""
    limit, middle = conformal_limit(scores, rate), float(np.median(scores))
    if not limit > middle:
        raise RobinError(Code.NOVELTY_CALIBRATION_INVALID, f"{data or station}: all {len(scores)} scores are alike")
    return NoveltyCalibration(
        station=station,
        rate=rate,
        middle=middle,
        limit=limit,
        instances=len(scores),
        frames=frames,
        statistics=statistics.digest,
        data=data,
    )


def write_calibration(path: Path, calibration: NoveltyCalibration) -> None:
    """With the digest of its content, in one atomic step. Raises RobinError DISK_FULL, OPTION_INVALID."""
    values = calibration.model_dump(mode="json")
    make_folder(path.parent)
    write_atomic(path, (json.dumps({"calibration": values, "sha256": _digest(values)}, indent=1) + "\n").encode())


def read_calibration(path: Path, statistics: NoveltyStatistics) -> NoveltyCalibration:
    """Raises RobinError NOVELTY_CALIBRATION_INVALID: damaged, or of other statistics; INPUT_MISSING."""
    code = Code.NOVELTY_CALIBRATION_INVALID
    values = parse_json(read_plain_text(path, CONFIG_BYTES, code), str(path), code)
    if not isinstance(values, dict) or not isinstance(values.get("calibration"), dict):
        raise RobinError(
            Code.NOVELTY_CALIBRATION_INVALID, f"{path}: expected an object with 'calibration' and 'sha256'"
        )
    if values.get("sha256") != _digest(values["calibration"]):
        raise RobinError(Code.NOVELTY_CALIBRATION_INVALID, f"{path}: 'sha256' is not that of its content")
    try:
        found = NoveltyCalibration.model_validate(values["calibration"])
    except ValidationError as exc:
        raise RobinError(Code.NOVELTY_CALIBRATION_INVALID, f"{path}: {first_fault(exc)}") from None
    if found.statistics != statistics.digest:
        text = f"{path}: of other statistics than the bundle's; run robin novelty calibrate again"
        raise RobinError(Code.NOVELTY_CALIBRATION_INVALID, text)
    return found


def _digest(values: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()
