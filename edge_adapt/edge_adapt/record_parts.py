"""Parts of a decision record, with types that leave no room for what cannot be drawn, told or found."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, Strict, TypeAdapter, model_validator

from robin_grasp.picks.outcome import PickResult
from robin_grasp.picks.traces import MOST_SAMPLES
from robin_grasp.tool import ToolConfig
from robin_perception.core.config import StrictConfig
from robin_perception.core.ids import PlainId

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
Share = Annotated[float, Field(ge=0, le=1)]
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
    """One parcel as seen; the scores are those of ``robin_perception.core.scene.Instance``. novelty: None where it was
    not measured; film_depth: empty where depth is as the camera sees it."""

    id: InstanceId
    class_name: str
    class_probability: float
    detection: float
    mask_quality: float
    visible_fraction: float
    boundary_uncertainty_px: float
    bbox: tuple[Pixel, Pixel, Pixel, Pixel]
    area_px: Count
    novelty: float | None = None
    film_depth: tuple[()] | tuple[float, float, float, float, float, float] = ()


class CandidateRecord(StrictConfig):
    """One way to pick. rank: 0 best, -1 for a rejected one. reason: name of the Reject code, empty when ranked.
    cup_seal: P(seal) of each of the tool's cups, None where its valve stays closed; empty: the planner did not tell."""

    rank: int = Field(ge=-1, le=1_000_000)
    instance: InstanceId
    position_m: Vector3
    quaternion_xyzw: Quaternion
    cups: Cups
    score: float | None = None
    terms: dict[str, float] = Field(default_factory=dict)
    reason: str = ""
    reason_code: int = Field(0, ge=0, le=65_535)
    cup_seal: tuple[Share | None, ...] = Field((), max_length=8)


class JudgementRecord(StrictConfig):
    """What the pick check says of a load. judged: the likeliest result, None where it was not asked; probability: its
    belief in that; probabilities: in each result. reasons: short texts. features: the figures that it was judged by,
    None for what was not there. after_stamp_s: of the frame after that it was judged with, None without one."""

    judged: Result | None = None
    probability: Share | None = None
    probabilities: dict[Result, Share] = Field(default_factory=dict)
    reasons: tuple[str, ...] = ()
    features: dict[str, float | None] = Field(default_factory=dict)
    after_stamp_s: float | None = None


class TracesRecord(StrictConfig):
    """Of the traces that lie beside the record as ``images["traces"]``. marks: phase -> sample at which it begins."""

    rate_hz: float = Field(gt=0, le=1e5)
    samples: int = Field(ge=1, le=MOST_SAMPLES)
    marks: dict[str, Count] = Field(default_factory=dict)


class LoadRecord(StrictConfig):
    """A look at the load, whose pictures lie beside the record as ``images["load"]`` and ``["load_depth"]``: its frame,
    and the tool's pose at that moment."""

    frame: FrameRecord
    tool_position_m: Vector3
    tool_quaternion_xyzw: Quaternion


class OutcomeRecord(JudgementRecord):
    """What became of the pick, and how it was judged. truth is filled by the simulated cell only; there ``result`` is
    what truly happened. traces, load: of the last load that was judged, None where the cell has neither."""

    result: Result
    vacuum_pa: tuple[Figure, ...]
    lifted_weight_n: Figure
    duration_s: Figure
    truth: Truth = Field(default_factory=dict)
    traces: TracesRecord | None = None
    load: LoadRecord | None = None

    @model_validator(mode="before")
    @classmethod
    def _without_a_look_from_above(cls, values: Any) -> Any:
        """Records of version 5 may tell of one, which nothing reads."""
        if not isinstance(values, dict):
            return values
        return {name: value for name, value in values.items() if name != "load_above"}


class ConditionRecord(StrictConfig):
    """As ``robin_perception.core.condition.Condition``; value and limit are None where they are no finite figures."""

    code: int = Field(ge=0, le=65_535)
    name: str
    family: Literal["environment", "novelty"]
    value: float | None
    limit: float | None
    unit: str
    since_s: float
    effect: Literal["go_on", "look_again", "slow_down", "stop"]
    text: str
    instances: tuple[InstanceId, ...] = ()


class HelpRecord(StrictConfig):
    """A person was asked. answer: empty while nobody has answered. picture: key of the decision's ``images``."""

    help_id: PlainId
    code: int = Field(0, ge=0, le=65_535)
    text: str = ""
    answer: str = ""
    answered_by: str = ""
    waited_s: Figure | None = None
    picture: str = ""


class RecoveryStepRecord(JudgementRecord):
    """One decision of the recovery policy. state: where the pick stood ("look", "held", "ended"). action, reason, code:
    what it asked for and why. release_cups: what was let go. came_of: what became of it, in words; took_s: cell time.
    The judgement is the one that it was decided on."""

    state: str
    action: str
    reason: str = ""
    code: int = Field(0, ge=0, le=65_535)
    release_cups: Cups = ()
    came_of: str = ""
    took_s: Figure = 0.0
    help: HelpRecord | None = None


class CupRecord(StrictConfig):
    """What was believed of one cup when the pick was planned. probabilities: of ``state`` "good", "weak", "blocked".
    share: of the vacuum that the planner expects of it. held: in how many of ``picks`` it held."""

    cup: int = Field(ge=0, le=7)
    state: str
    share: Share = 1.0
    probabilities: dict[str, Share] = Field(default_factory=dict)
    picks: Count = 0
    held: Count = 0
    text: str = ""


class LearnedRecord(StrictConfig):
    """State of what is learned from picks. picks: that it had been learned from. digest: sha256 of what its file
    holds."""

    picks: Count
    digest: str = Field(pattern="^[0-9a-f]{64}$")


class VersionsRecord(StrictConfig):
    """Versions of what is learned that scene and plan were made with. see: the model's number in the registry, 0 the
    factory's, None where it is of none. hold: of holding goods; tool: of the cups; None where nobody learns."""

    see: Count | None = None
    hold: LearnedRecord | None = None
    tool: LearnedRecord | None = None


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
