"""ROS parameters as seen from a typed configuration, without ROS: flat names, ranges, and when each may change.

A node has one ``StrictConfig``. Its fields are the node's parameters; fields of a nested section are named with dots
(``segmenter.decode.duplicate_iou``). ROS has no null: an optional number that is unset is NaN (which the configuration
itself would refuse), an optional text or path is the empty string.
"""

from __future__ import annotations

import math
import types
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt
from pydantic.fields import FieldInfo

from robin_perception.core.config import ConfigT, StrictConfig, parse_config
from robin_perception.core.errors import Code, RobinError

Update = Literal["always", "unconfigured", "start"]
DYNAMIC: dict[str, Any] = {"update": "always"}
"""Give this as ``json_schema_extra`` of a field that may change while the node runs."""
FIXED: dict[str, Any] = {"update": "start"}
"""... of a field that is read once when the node starts; ROS then marks it read-only."""

ROS_SWITCHES = ("use_sim_time", "start_type_description_service")
QOS_OVERRIDES = "qos_overrides."

ParameterValue = bool | int | float | str | list[bool] | list[int] | list[float] | list[str]


@dataclass(frozen=True)
class ParameterSpec:
    """One ROS parameter.

    kind: "bool", "integer", "double", "string" or "<kind>_array". low, high: allowed range, None = open.
    exclusive: words for bounds that themselves are not allowed. choices: allowed texts, empty = any.
    length: required number of elements of an array, None = any. optional: NaN or "" means unset.
    update: "always" (also while running), "unconfigured" (before configure), "start" (read-only).
    """

    name: str
    kind: str
    default: ParameterValue
    description: str
    low: float | None = None
    high: float | None = None
    exclusive: str = ""
    choices: tuple[str, ...] = ()
    length: int | None = None
    optional: bool = False
    update: Update = "unconfigured"

    @property
    def is_array(self) -> bool:
        return self.kind.endswith("_array")

    @property
    def constraints(self) -> str:
        """In words what the range of ROS cannot say; empty where it says all."""
        words = [self.exclusive] if self.exclusive else []
        if self.choices:
            words.append("one of " + ", ".join(self.choices))
        if self.length is not None:
            words.append(f"{self.length} values")
        if self.optional:
            words.append("empty text = unset" if self.kind == "string" else "NaN = unset")
        return "; ".join(words)


@cache
def parameter_specs(cls: type[StrictConfig]) -> Mapping[str, ParameterSpec]:
    """Specs of every field of ``cls`` by flat name, in order. Raises TypeError for a field ROS has no type for."""
    return types.MappingProxyType(_specs(cls, cls(), "", None))


def flatten(config: StrictConfig) -> dict[str, ParameterValue]:
    """Values of ``config`` by flat name, as ROS carries them."""
    specs = parameter_specs(type(config))
    return {name: _to_ros(_lookup(config, name), spec.kind) for name, spec in specs.items()}


def config_from_flat(cls: type[ConfigT], values: Mapping[str, Any], source: str) -> ConfigT:
    """Validate flat values (missing ones take their defaults). Raises RobinError CONFIG_* naming source and key."""
    specs = parameter_specs(cls)
    nested: dict[str, Any] = {}
    for name, value in values.items():
        spec = specs.get(name)
        *sections, leaf = name.split(".")
        place = nested
        for section in sections:
            place = place.setdefault(section, {})
        place[leaf] = value if spec is None else _from_ros(value, spec)
    return parse_config(cls, nested, source)


def is_ros_parameter(name: str, value: Any, source: str) -> bool:
    """Whether rclpy declares ``name`` itself in every node. Raises RobinError CONFIG_OUT_OF_RANGE for a value that it
    does not take."""
    if name in ROS_SWITCHES:
        if not isinstance(value, bool):
            raise RobinError(Code.CONFIG_OUT_OF_RANGE, f"{source}: '{name}': needs true or false (got {value!r})")
        return True
    return name.startswith(QOS_OVERRIDES)


def _specs(
    cls: type[StrictConfig], defaults: StrictConfig, prefix: str, inherited: Update | None
) -> dict[str, ParameterSpec]:
    found: dict[str, ParameterSpec] = {}
    for name, field in cls.model_fields.items():
        update = _update(field) or inherited
        value = getattr(defaults, name)
        if isinstance(value, StrictConfig):
            found |= _specs(type(value), value, f"{prefix}{name}.", update)
        else:
            spec = _spec(f"{prefix}{name}", field, value, update or "unconfigured")
            found[spec.name] = spec
    return found


def _update(field: FieldInfo) -> Update | None:
    extra = field.json_schema_extra
    value = extra.get("update") if isinstance(extra, dict) else None
    return None if value is None else value  # type: ignore[return-value]


def _spec(name: str, field: FieldInfo, default: Any, update: Update) -> ParameterSpec:
    annotation, optional = _without_none(field.annotation)
    kind, length, choices = _kind(name, annotation)
    low = high = None
    exclusive = []
    for rule in field.metadata:
        if isinstance(rule, (Ge, Gt)):
            low = float(rule.ge if isinstance(rule, Ge) else rule.gt)  # type: ignore[arg-type]
        if isinstance(rule, (Le, Lt)):
            high = float(rule.le if isinstance(rule, Le) else rule.lt)  # type: ignore[arg-type]
        if isinstance(rule, (Gt, Lt)):
            exclusive.append(f"above {rule.gt}" if isinstance(rule, Gt) else f"below {rule.lt}")
    value, text = _to_ros(default, kind), field.description or ""
    return ParameterSpec(name, kind, value, text, low, high, ", ".join(exclusive), choices, length, optional, update)


def _without_none(annotation: Any) -> tuple[Any, bool]:
    if get_origin(annotation) in (Union, types.UnionType):
        kept = [a for a in get_args(annotation) if a is not type(None)]
        if len(kept) == 1:
            return kept[0], len(kept) < len(get_args(annotation))
    return annotation, False


_SCALARS = {bool: "bool", int: "integer", float: "double", str: "string", Path: "string"}


def _kind(name: str, annotation: Any) -> tuple[str, int | None, tuple[str, ...]]:
    if annotation in _SCALARS:
        return _SCALARS[annotation], None, ()
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Literal and all(isinstance(choice, str) for choice in inner):
        return "string", None, tuple(inner)
    if origin in (tuple, list) and inner and inner[0] in _SCALARS:
        fixed = origin is tuple and Ellipsis not in inner
        return f"{_SCALARS[inner[0]]}_array", len(inner) if fixed else None, ()
    raise TypeError(f"{name}: {annotation} is no type of a ROS parameter")


def _to_ros(value: Any, kind: str) -> ParameterValue:
    if kind.endswith("_array"):
        return [_to_ros(item, kind.removesuffix("_array")) for item in value]  # type: ignore[return-value]
    if kind == "string":
        return "" if value is None else str(value)
    if value is None:
        return math.nan
    return float(value) if kind == "double" else value


def _from_ros(value: Any, spec: ParameterSpec) -> Any:
    if spec.is_array:
        return list(value)
    if spec.optional and (value == "" or (isinstance(value, float) and math.isnan(value))):
        return None
    return value


def _lookup(config: StrictConfig, name: str) -> Any:
    value: Any = config
    for part in name.split("."):
        value = getattr(value, part)
    return value
