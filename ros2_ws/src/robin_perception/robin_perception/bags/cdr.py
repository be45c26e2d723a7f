"""CDR, the wire form of ROS 2 messages, for messages as plain values: dict per message, list per message sequence,
numpy array per numeric sequence (``bytes`` or any buffer is taken for ``uint8[]``).

Plain little-endian CDR as all ROS 2 middlewares write it; big-endian is read too. Every primitive is aligned to its
size, counted from behind the four-byte header.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from robin_perception.bags.definitions import PRIMITIVES, Definitions, Field, definitions_of, short_name

Message = dict[str, Any]
MOST_VALUES = 100_000
"""Single values of one message; numeric arrays are views of its data and count as none."""
MOST_DEPTH = 32
_HEADER = b"\x00\x01\x00\x00"
_SIZE = {name: np.dtype(code).itemsize for name, code in PRIMITIVES.items()}
_STRUCT = {
    "bool": "?",
    "byte": "B",
    "char": "B",
    "int8": "b",
    "uint8": "B",
    "int16": "h",
    "uint16": "H",
    "int32": "i",
} | {
    "uint32": "I",
    "int64": "q",
    "uint64": "Q",
    "float32": "f",
    "float64": "d",
}


def encode(name: str, values: Mapping[str, Any], definitions: Definitions | None = None) -> bytes:
    """``values`` as a CDR message of type ``name``; fields that are missing get zero, '' or nothing.

    Raises ValueError or struct.error for values that the type cannot hold, KeyError for unknown fields.
    """
    writer = _Writer(definitions if definitions is not None else definitions_of(name))
    writer.message(short_name(name), values)
    return bytes(writer.data)


def decode(name: str, data: bytes, definitions: Definitions | None = None) -> Message:
    """Values of a CDR message; uint8 sequences are views of ``data``. Raises ValueError when it does not fit."""
    try:
        reader = _Reader(definitions if definitions is not None else definitions_of(name), data)
        return reader.message(short_name(name))
    except (struct.error, UnicodeDecodeError, KeyError, IndexError) as exc:
        raise ValueError(f"not a {name}: {exc}") from None


class _Writer:
    def __init__(self, definitions: Definitions) -> None:
        self._definitions = definitions
        self.data = bytearray(_HEADER)

    def message(self, name: str, values: Mapping[str, Any]) -> None:
        fields = self._definitions[name]
        unknown = values.keys() - {field.name for field in fields}
        if unknown:
            raise KeyError(f"{name} has no field {sorted(unknown)[0]}")
        if not fields:
            self._primitive("uint8", 0)
        for field in fields:
            if field.absent:
                continue
            value = values.get(field.name)
            if field.length is None:
                self._single(field.type, value)
            else:
                self._many(field, value)

    def _single(self, kind: str, value: Any) -> None:
        if kind == "string":
            text = ("" if value is None else str(value)).encode() + b"\x00"
            self._primitive("uint32", len(text))
            self.data += text
        elif kind in _STRUCT:
            self._primitive(kind, value or 0)
        else:
            self.message(kind, value or {})

    def _many(self, field: Field, value: Any) -> None:
        values = () if value is None else value
        array: NDArray[Any] | None = None
        if field.type in _STRUCT:
            array = _flat_array(values, field.type)
        count = len(values) if array is None else array.size
        if field.length == -1:
            self._primitive("uint32", count)
        elif array is not None and count == 0:
            array = np.zeros(field.length or 0, PRIMITIVES[field.type])
        elif count != field.length:
            raise ValueError(f"{field.name} needs {field.length} values, got {count}")
        if array is None:
            for item in values:
                self._single(field.type, item)
        elif array.size:
            self._align(array.itemsize)
            self.data += array.astype(array.dtype.newbyteorder("<"), copy=False).data.cast("B")

    def _primitive(self, kind: str, value: Any) -> None:
        self._align(_SIZE[kind])
        self.data += struct.pack("<" + _STRUCT[kind], value)

    def _align(self, size: int) -> None:
        self.data += bytes(-(len(self.data) - len(_HEADER)) % size)


def _flat_array(values: Any, kind: str) -> NDArray[Any]:
    if isinstance(values, (bytes, bytearray, memoryview)):
        return np.frombuffer(values, PRIMITIVES[kind])
    return np.ascontiguousarray(values, dtype=PRIMITIVES[kind]).reshape(-1)


def _zero(field: Field) -> Any:
    """What a field holds that was never written."""
    if field.length is not None:
        count = max(field.length, 0)
        return np.zeros(count, PRIMITIVES[field.type]) if field.type in PRIMITIVES else [_zero_of(field.type)] * count
    return _zero_of(field.type)


def _zero_of(kind: str) -> Any:
    if kind == "string":
        return ""
    if kind in PRIMITIVES:
        return np.zeros((), PRIMITIVES[kind]).item()
    return {field.name: _zero(field) for field in definitions_of(kind)[short_name(kind)]}


class _Reader:
    def __init__(self, definitions: Definitions, data: bytes) -> None:
        if len(data) < len(_HEADER) or data[0] != 0 or data[1] not in (0, 1):
            raise ValueError("not plain CDR")
        self._definitions = definitions
        self._order: Literal["<", ">"] = "<" if data[1] == 1 else ">"
        self._data = memoryview(data)
        self._at = len(_HEADER)
        self._values_left, self._depth = MOST_VALUES, 0

    def message(self, name: str) -> Message:
        fields = self._definitions[name]
        self._depth += 1
        if self._depth > MOST_DEPTH:
            raise ValueError(f"nested deeper than {MOST_DEPTH} messages")
        if not fields:
            self._primitive("uint8")
        found = {field.name: self._field(field) for field in fields}
        self._depth -= 1
        return found

    def _field(self, field: Field) -> Any:
        if field.absent:
            return _zero(field)
        if field.length is None:
            return self._single(field.type)
        count = self._primitive("uint32") if field.length == -1 else field.length
        if field.type in _STRUCT:
            return self._array(field.type, count)
        return [self._single(field.type) for _ in range(count)]

    def _single(self, kind: str) -> Any:
        self._values_left -= 1
        if self._values_left < 0:
            raise ValueError(f"more than {MOST_VALUES:,} values")
        if kind == "string":
            size = self._primitive("uint32")
            return bytes(self._take(size)).rstrip(b"\x00").decode()
        return self._primitive(kind) if kind in _STRUCT else self.message(kind)

    def _array(self, kind: str, count: int) -> NDArray[Any]:
        dtype = np.dtype(PRIMITIVES[kind])
        if count == 0:
            return np.zeros(0, dtype)
        self._align(dtype.itemsize)
        found = np.frombuffer(self._take(count * dtype.itemsize), dtype.newbyteorder(self._order))
        return found.astype(dtype, copy=False)

    def _primitive(self, kind: str) -> Any:
        self._align(_SIZE[kind])
        return struct.unpack(self._order + _STRUCT[kind], self._take(_SIZE[kind]))[0]

    def _align(self, size: int) -> None:
        self._at += -(self._at - len(_HEADER)) % size

    def _take(self, size: int) -> memoryview:
        end = self._at + size
        if end > len(self._data):
            raise ValueError("message ends too early")
        taken = self._data[self._at : end]
        self._at = end
        return taken
