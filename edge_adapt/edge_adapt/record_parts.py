"""Parts of a decision record, with types that leave no room for what cannot be drawn, told or found."""

from __future__ import annotations

import math
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, Strict, TypeAdapter

from robin_grasp.picks.outcome import PickResult
from robin_grasp.tool import ToolConfig
from robin_perception.core.config import StrictConfig

Figure = Annotated[float, Field(ge=-1e9, le=1e9)]
"""Metres, pixels, newtons, pascals: what a cell can be made of, far from where arithmetic overflows."""
Vector3 = tuple[Figure, Figure, Figure]
Pixel = Annotated[int, Field(ge=-65_536, le=65_536)]
InstanceId = Annotated[int, Field(ge=-1, le=65_535)]
Count = Annotated[int, Field(ge=0, le=1_000_000_000)]
Cups = Annotated[tuple[Annotated[int, Field(ge=0, le=7)], ...], Field(max_length=8)]
ImagePath = Annotated[
    str, Field(pattern=r"^([A-Za-z0-9][A-Za-z0-9_.\-]*/)*[A-Za-z0-9][A-Za-z0-9_.\-]*$", max_length=400)
]
"""Below the record's folder: no part begins with a dot or is empty."""
Result = Annotated[str, AfterValidator(lambda value: PickResult(value).value)]
_Whole = Annotated[int, Strict()]
_Number = Annotated[float, Strict()]
_UNIT_TOLERANCE = 1e-2


def _unit(q: tuple[float, float, float, float]) -> tuple[float, float, float, float]:
    if abs(math.hypot(*q) - 1.0) > _UNIT_TOLERANCE:
        raise ValueError(f"a quaternion of length {math.hypot(*q):g}, not 1")
    return q


Quaternion = Annotated[tuple[float, float, float, float], AfterValidator(_unit)]


class _Truth(BaseModel):
    model_config = ConfigDict(allow_inf_nan=False)


class _Seal(_Truth):
    cup: _Whole
    held: tuple[tuple[_Whole, _Number], ...]
    pressure_pa: _Number
    leak_mm2: _Number


class _Release(_Truth):
    cup: _Whole
    phase: str
    reason: str
    pull_n: _Number
    shear_n: _Number
    limit_n: _Number


_SEALS, _RELEASES = TypeAdapter(tuple[_Seal, ...]), TypeAdapter(tuple[_Release, ...])


def _checked_truth(truth: dict[str, Any]) -> dict[str, Any]:
    """The simulated cell may say what it likes, but trace and report take these two apart."""
    _SEALS.validate_python(truth.get("seals", ()))
    _RELEASES.validate_python(truth.get("releases", ()))
    return truth


Truth = Annotated[dict[str, Any], AfterValidator(_checked_truth)]


class FrameRecord(StrictConfig):
    """The frame as taken. digest: sha256 over rgb then depth. intrinsics: fx fy cx cy, pixels."""

    digest: str = Field(pattern="^[0-9a-f]{64}$")
    width: int = Field(gt=0, le=65_536)
    height: int = Field(gt=0, le=65_536)
    intrinsics: tuple[Figure, Figure, Figure, Figure]
    camera_id: str
    camera_position_m: Vector3
    camera_quaternion_xyzw: Quaternion
    valid_depth_share: float = Field(ge=0, le=1)


class InstanceRecord(StrictConfig):
    """One parcel as seen; the scores are those of ``robin_perception.core.scene.Instance``."""

    id: InstanceId
    class_name: str
    class_probability: float
    detection: float
    mask_quality: float
    visible_fraction: float
    boundary_uncertainty_px: float
    bbox: tuple[Pixel, Pixel, Pixel, Pixel]
    area_px: Count


class CandidateRecord(StrictConfig):
    """One way to pick. rank: 0 best, -1 for a rejected one. reason: name of the Reject code, empty when ranked."""

    rank: int = Field(ge=-1, le=1_000_000)
    instance: InstanceId
    position_m: Vector3
    quaternion_xyzw: Quaternion
    cups: Cups
    score: float | None = None
    terms: dict[str, float] = Field(default_factory=dict)
    reason: str = ""
    reason_code: int = Field(0, ge=0, le=65_535)


class OutcomeRecord(StrictConfig):
    """What became of the pick. truth is filled by the simulated cell only.

    probability: the pick check's belief in ``result``, None where it was not asked; reasons: of that judgement.
    """

    result: Result
    vacuum_pa: tuple[Figure, ...]
    lifted_weight_n: Figure
    duration_s: Figure
    truth: Truth = Field(default_factory=dict)
    probability: float | None = Field(None, ge=0, le=1)
    reasons: tuple[str, ...] = ()


class FailedPickRecord(StrictConfig):
    """A failure in this pile that the planner was told of."""

    position_m: Vector3
    cups: Cups
    times: Count


class ToolRecord(StrictConfig):
    """The tool's geometry, so that a record can be drawn without the cell's configuration."""

    cup_centres_m: tuple[tuple[Figure, Figure], ...] = Field(min_length=1, max_length=8)
    cup_radius_m: float = Field(gt=0, le=1e3)
    plate_half_size_m: tuple[Figure, Figure]
    vacuum_pa: float = Field(gt=1, le=1e9)

    @classmethod
    def of(cls, tool: ToolConfig) -> ToolRecord:
        return cls(
            cup_centres_m=tool.cup_centres_m,
            cup_radius_m=tool.cup_radius_m,
            plate_half_size_m=tool.plate_half_size_m,
            vacuum_pa=tool.vacuum_pa,
        )
