"""Reading what a stranger may have made: plain files only, and no size is believed before it is bounded.

Every door to a file's content goes through here or ``bounded_arrays``. What does not fit ends in one numbered line.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

import yaml
from pydantic_core import from_json

from robin_perception.core.errors import Code, RobinError

CONFIG_BYTES = 1_000_000
"""Of a configuration, camera, scene or manifest file."""
MOST_NODES = 50_000
"""Values of a YAML file, with every alias counted as what it stands for."""
MOST_DEPTH = 50
"""Levels of nesting of a YAML file."""
LONGEST_VALUE = 10_000
LONGEST_NUMBER = 40

_KINDS = (
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
    (stat.S_ISSOCK, "a socket"),
)
_INT, _FLOAT = "tag:yaml.org,2002:int", "tag:yaml.org,2002:float"


def read_plain_bytes(path: Path, limit: int) -> bytes:
    """Content of a plain file, or of a link to one, of at most ``limit`` bytes.

    Pipes, devices and sockets are refused before they are opened, for that alone may block.
    Raises RobinError INPUT_MISSING, INPUT_UNREADABLE, INPUT_TOO_LARGE.
    """
    try:
        _refuse_special(path, os.stat(path).st_mode)
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(descriptor, "rb") as stream:
            _refuse_special(path, os.fstat(descriptor).st_mode)  # it may have been replaced since
            data = stream.read(min(limit, os.fstat(descriptor).st_size) + 1)
            while len(data) <= limit and (more := stream.read(65536)):  # grows while it is read, or tells no size
                data += more
    except (FileNotFoundError, NotADirectoryError):
        raise RobinError(Code.INPUT_MISSING, f"{path}: no such file") from None
    except (OSError, ValueError) as exc:
        raise RobinError(Code.INPUT_UNREADABLE, f"{path}: {getattr(exc, 'strerror', None) or exc}") from None
    if len(data) > limit:
        raise RobinError(Code.INPUT_TOO_LARGE, f"{path}: more than the {limit:,} bytes that such a file may have")
    return data


def require_plain_file(path: Path) -> None:
    """For what is read piece by piece. Raises RobinError INPUT_MISSING, INPUT_UNREADABLE."""
    try:
        _refuse_special(path, os.stat(path).st_mode)
    except (FileNotFoundError, NotADirectoryError):
        raise RobinError(Code.INPUT_MISSING, f"{path}: no such file") from None
    except (OSError, ValueError) as exc:
        raise RobinError(Code.INPUT_UNREADABLE, f"{path}: {getattr(exc, 'strerror', None) or exc}") from None


def _refuse_special(path: Path, mode: int) -> None:
    if not stat.S_ISREG(mode):
        kind = next((name for test, name in _KINDS if test(mode)), "no plain file")
        raise RobinError(Code.INPUT_UNREADABLE, f"{path}: is {kind}, a plain file is needed")


def read_plain_text(path: Path, limit: int = CONFIG_BYTES, code: Code = Code.CONFIG_UNREADABLE) -> str:
    """UTF-8 text. Raises as ``read_plain_bytes``, and RobinError ``code`` for other bytes."""
    try:
        return read_plain_bytes(path, limit).decode()
    except UnicodeDecodeError as exc:
        raise RobinError(code, f"{path}: not UTF-8 text: {exc}") from None


def parse_json(text: str | bytes, source: str, code: Code = Code.CONFIG_UNREADABLE) -> Any:
    """Plain values; nesting and digits are bounded (200 levels, 4,300 digits), lone surrogates are refused.
    Raises RobinError ``code``."""
    try:
        return from_json(text)
    except (ValueError, UnicodeError) as exc:
        raise RobinError(code, f"{source}: {exc}") from None


class _StrictLoader(yaml.CSafeLoader):
    """Numbers have a bounded number of digits: a long one takes seconds, and cannot be printed. Nor are they keys:
    twenty thousand that are chosen to meet in one place of the hash table take seconds too."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        for key, _ in node.value:
            if key.tag in (_INT, _FLOAT):
                raise yaml.constructor.ConstructorError(
                    None, None, f"key '{key.value[:40]}' is no text", key.start_mark
                )
        return super().construct_mapping(node, deep)

    def construct_yaml_int(self, node: yaml.ScalarNode) -> int:
        return super().construct_yaml_int(_short(node))

    def construct_yaml_float(self, node: yaml.ScalarNode) -> float:
        return super().construct_yaml_float(_short(node))


def _short(node: yaml.ScalarNode) -> yaml.ScalarNode:
    if len(node.value) > LONGEST_NUMBER:
        raise yaml.constructor.ConstructorError(None, None, f"a number of {len(node.value)} digits", node.start_mark)
    return node


_StrictLoader.add_constructor(_INT, _StrictLoader.construct_yaml_int)
_StrictLoader.add_constructor(_FLOAT, _StrictLoader.construct_yaml_float)


def parse_yaml(text: str, source: str, code: Code = Code.CONFIG_UNREADABLE) -> Any:
    """Plain values of one YAML document. Raises RobinError ``code``; also for what grows or nests without bound."""
    try:
        _bound_yaml(text)
        return yaml.load(text, Loader=_StrictLoader)  # a safe loader
    except yaml.MarkedYAMLError as exc:
        mark = exc.problem_mark
        at = "" if mark is None else f", line {mark.line + 1}"
        raise RobinError(code, f"{source}: {exc.problem or exc.context}{at}") from None
    except (yaml.YAMLError, ValueError, TypeError, OverflowError) as exc:  # a date that does not exist is a ValueError
        raise RobinError(code, f"{source}: {str(exc).splitlines()[0] if str(exc) else type(exc).__name__}") from None


def _bound_yaml(text: str) -> None:
    """Walk the events, which cost no memory, before any value is made. Raises ValueError."""
    total, open_nodes, sizes = 0, list[tuple[str | None, int]](), dict[str | None, int]()
    for event in yaml.parse(text, Loader=yaml.CSafeLoader):
        if isinstance(event, yaml.AliasEvent):
            if any(anchor == event.anchor for anchor, _ in open_nodes):
                raise ValueError(f"'{event.anchor}' holds itself")
            total += sizes.get(event.anchor, 1)
        elif isinstance(event, yaml.CollectionStartEvent):
            open_nodes.append((event.anchor, total))
            total += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, start = open_nodes.pop()
            if anchor is not None:
                sizes[anchor] = total - start
        elif isinstance(event, yaml.ScalarEvent):
            total += 1
            if len(event.value) > LONGEST_VALUE:
                raise ValueError(f"a value of {len(event.value):,} characters, {LONGEST_VALUE:,} are allowed")
            if event.anchor is not None:
                sizes[event.anchor] = 1
        if total > MOST_NODES:
            raise ValueError(f"more than {MOST_NODES:,} values, each alias counted as what it stands for")
        if len(open_nodes) > MOST_DEPTH:
            raise ValueError(f"nested deeper than {MOST_DEPTH} levels")


def shown(value: Any, length: int = 80) -> str:
    """``repr`` of a value that a file brought, cut short; never fails and never takes long."""
    if isinstance(value, (str, bytes)):
        return repr(value[:length])
    if isinstance(value, (dict, list, tuple, set)):
        return f"{type(value).__name__} of {len(value)}"
    try:
        return repr(value)[:length]
    except ValueError:  # an integer too long to be printed
        return type(value).__name__
