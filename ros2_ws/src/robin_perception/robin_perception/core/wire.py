"""What robots and fleets of different releases send each other.

A minor version adds fields that a reader need not know: it ignores them, and ``format`` stays. What must not be ignored
makes a new major version, the number at the end of ``format``, which older software refuses.
"""

from __future__ import annotations

import re
from typing import TypeVar, get_args

from pydantic import BaseModel, ConfigDict, ValidationError

from robin_perception.core.bounded import parse_json
from robin_perception.core.config import first_fault
from robin_perception.core.errors import Code, RobinError

_FORMAT = re.compile(r"([a-z-]{0,64}?)([0-9]{1,6})")


class WireModel(BaseModel):
    """Base of what comes from another release: frozen, unknown fields are ignored, no NaN."""

    model_config = ConfigDict(extra="ignore", frozen=True, allow_inf_nan=False)


WireT = TypeVar("WireT", bound=WireModel)


def parse_wire(cls: type[WireT], data: bytes, source: str, fault: Code, newer: Code = Code.FORMAT_NEWER) -> WireT:
    """cls: has a field ``format`` whose default is the newest that is known. Raises RobinError ``newer`` for a newer
    major version, ``fault`` for what does not fit."""
    values = parse_json(data, source, fault)
    known = cls.model_fields["format"].default
    if isinstance(values, dict) and _is_newer(str(values.get("format", known)), str(known)):
        raise RobinError(newer, f"{source}: format '{values['format']}', this release reads '{known}': update it first")
    try:
        return cls.model_validate(values)
    except ValidationError as exc:
        raise RobinError(fault, f"{source}: {first_fault(exc)}") from None


def known_fields(cls: type[BaseModel], values: object) -> object:
    """Of what another release wrote down for a strict model: the fields that this one has, also within sections."""
    if not isinstance(values, dict):
        return values
    return {name: _known(field.annotation, values[name]) for name, field in cls.model_fields.items() if name in values}


def _known(kind: object, value: object) -> object:
    """kind: a type; one that is a model, or that holds one: ``tuple[Model, ...]``, ``Model | None``."""
    models = [one for one in (kind, *get_args(kind)) if isinstance(one, type) and issubclass(one, BaseModel)]
    if not models:
        return value
    return (
        [known_fields(models[0], one) for one in value] if isinstance(value, list) else known_fields(models[0], value)
    )


def _is_newer(found: str, known: str) -> bool:
    one, other = _FORMAT.fullmatch(found), _FORMAT.fullmatch(known)
    return one is not None and other is not None and one[1] == other[1] and int(one[2]) > int(other[2])
