"""Strict typed configuration: unknown keys and bad values are refused with the key's path and the allowed range."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from robin_perception.core.bounded import parse_yaml, read_plain_text, shown
from robin_perception.core.errors import Code, RobinError


class StrictConfig(BaseModel):
    """Base of every configuration section: frozen, no unknown keys, no silent coercion of NaN."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


ConfigT = TypeVar("ConfigT", bound=StrictConfig)


def first_fault(exc: ValidationError) -> str:
    """``'key.path': what is wrong`` of the first fault."""
    first = exc.errors(include_input=False, include_url=False)[0]
    return f"'{'.'.join(str(part) for part in first['loc']) or '(root)'}': {first['msg']}"


def parse_config(cls: type[ConfigT], values: dict[str, Any], source: str) -> ConfigT:
    """Validate ``values``; raise RobinError naming ``source``, the key path and what is allowed."""
    try:
        return cls.model_validate(values, context={"source": source})
    except ValidationError as exc:
        first = exc.errors()[0]
        key = ".".join(str(part) for part in first["loc"]) or "(root)"
        if first["type"] == "extra_forbidden":
            raise RobinError(Code.CONFIG_UNKNOWN_KEY, f"{source}: unknown key '{key}'") from None
        raise RobinError(
            Code.CONFIG_OUT_OF_RANGE, f"{source}: '{key}': {first['msg']} (got {shown(first.get('input'))})"
        ) from None


def config_digest(*configs: BaseModel | Mapping[str, Any]) -> str:
    """sha256 (hex) of configurations in canonical JSON: equal values give equal digests."""
    plain = [c.model_dump(mode="json") if isinstance(c, BaseModel) else dict(c) for c in configs]
    return hashlib.sha256(json.dumps(plain, sort_keys=True, default=str).encode()).hexdigest()


def load_config(cls: type[ConfigT], path: Path | None) -> ConfigT:
    """Read a YAML file into ``cls``; ``None`` gives the defaults. Raises RobinError on any fault."""
    if path is None:
        return cls()
    values = parse_yaml(read_plain_text(path), str(path))
    if values is None:
        values = {}
    if not isinstance(values, dict):
        raise RobinError(Code.CONFIG_UNREADABLE, f"{path}: expected a mapping at the top level")
    return parse_config(cls, values, str(path))
