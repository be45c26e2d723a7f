"""ROS 2 message definitions: the texts that go into a bag's schemas, and their fields for encoding and decoding.

The texts under ``msg/`` are the wire form of the messages that bags of this project hold. Those of ``robin_msgs`` are
the same files as in ``ros2_ws/src/robin_msgs/msg``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from pathlib import Path

from robin_perception.core.errors import Code, RobinError

MESSAGE_FOLDER = Path(__file__).parent / "msg"
PRIMITIVES = {
    "bool": "?",
    "byte": "B",
    "char": "B",
    "int8": "i1",
    "uint8": "u1",
    "int16": "i2",
    "uint16": "u2",
    "int32": "i4",
    "uint32": "u4",
    "int64": "i8",
    "uint64": "u8",
    "float32": "f4",
    "float64": "f8",
}
LONGEST_TEXT = 200_000
_SEPARATOR = "=" * 80
_FIELD = re.compile(
    r"^(?P<type>[A-Za-z][\w/]*)(?:<=\d+)?(?P<array>\[(?:<=)?\d*\])?\s+(?P<name>[A-Za-z]\w*)\s*(?P<rest>.*)$"
)


@dataclass(frozen=True)
class Field:
    """One field. type: a primitive, 'string' or 'package/Name'. length: None for a single value, -1 for a sequence,
    else the size of a fixed array. absent: the bag's own definition lacks it; it reads as zero or empty."""

    name: str
    type: str
    length: int | None
    absent: bool = False


Definitions = dict[str, tuple[Field, ...]]


def parse_fields(text: str, package: str) -> tuple[Field, ...]:
    """Fields of one .msg text, constants left out. Raises ValueError for a line that is no field."""
    fields = []
    for line in text.splitlines():
        line = line.split("#", 1)[0].strip()
        if not line:
            continue
        found = _FIELD.match(line)
        if found is None:
            raise ValueError(f"not a field: '{line[:60]}'")
        if found["rest"].startswith("="):  # a constant
            continue
        fields.append(Field(found["name"], _full_type(found["type"], package), _length(found["array"])))
    return tuple(fields)


def _full_type(name: str, package: str) -> str:
    if name in PRIMITIVES or name == "string":
        return name
    if name == "Header":
        return "std_msgs/Header"
    return name.replace("/msg/", "/") if "/" in name else f"{package}/{name}"


def _length(array: str | None) -> int | None:
    if array is None:
        return None
    size = array.strip("[]")
    return -1 if not size or size.startswith("<=") else int(size)


@cache
def message_text(name: str) -> str:
    """Text of ``package/Name`` (or ``package/msg/Name``) as shipped. Raises RobinError RECORD_INVALID if unknown."""
    package, short = name.split("/")[0], name.split("/")[-1]
    path = MESSAGE_FOLDER / package / f"{short}.msg"
    try:
        return path.read_text()
    except OSError:
        raise RobinError(Code.RECORD_INVALID, f"no definition of message type '{name}'") from None


@cache
def full_text(name: str) -> str:
    """The concatenated definition that a ros2msg schema holds: the type's text, then each dependency's once."""
    seen: set[str] = set()

    def appended(kind: str) -> str:
        text = message_text(kind)
        for field in parse_fields(text, kind.split("/")[0]):
            if field.type in PRIMITIVES or field.type == "string" or field.type in seen:
                continue
            seen.add(field.type)
            text += f"\n{_SEPARATOR}\nMSG: {field.type}\n{appended(field.type)}"
        return text

    return appended(name)


@lru_cache(maxsize=256)
def parse_full_text(name: str, text: str) -> Definitions:
    """'package/Name' -> fields, from a schema's text. Raises ValueError."""
    found: Definitions = {}
    current = short_name(name)
    for part in re.split(r"^={3,}\s*$", text, flags=re.MULTILINE):
        header = re.match(r"\s*MSG:\s+(\S+)[^\n]*\n?", part)
        if header is not None:
            current = short_name(header[1])
            part = part[header.end() :]
        found[current] = parse_fields(part, current.split("/")[0])
    found.setdefault("builtin_interfaces/Time", (Field("sec", "int32", None), Field("nanosec", "uint32", None)))
    found.setdefault("builtin_interfaces/Duration", (Field("sec", "int32", None), Field("nanosec", "uint32", None)))
    return found


def parse_foreign_text(name: str, text: str) -> Definitions:
    """As ``parse_full_text``, for a text that a bag brought: values have the kinds that readers of the shipped
    definitions take for granted. Raises ValueError for a shipped type whose fields have other kinds."""
    if len(text) > LONGEST_TEXT:
        raise ValueError(f"{len(text):,} characters")
    found = parse_full_text(name, text)
    return {kind: _completed(kind, fields) for kind, fields in found.items()}


def _completed(kind: str, fields: tuple[Field, ...]) -> tuple[Field, ...]:
    """With the shipped fields that are missing, as an older version's are."""
    try:
        shipped = parse_fields(message_text(kind), kind.split("/")[0])
    except RobinError:
        return fields
    given = {field.name: field for field in fields}
    if len(given) != len(fields):
        raise ValueError(f"{kind} has two fields of one name")
    for field in shipped:
        theirs = given.get(field.name, field)
        arrays = (theirs.length is None) == (field.length is None)
        if theirs.type != field.type or not arrays or ((field.length or -1) > 0 and theirs.length != field.length):
            raise ValueError(f"{kind}: '{field.name}' is of another type")
    return (*fields, *(replace(field, absent=True) for field in shipped if field.name not in given))


def short_name(name: str) -> str:
    """'sensor_msgs/msg/Image' -> 'sensor_msgs/Image'."""
    return name.replace("/msg/", "/")


def definitions_of(name: str) -> Definitions:
    """As shipped."""
    return parse_full_text(name, full_text(name))
