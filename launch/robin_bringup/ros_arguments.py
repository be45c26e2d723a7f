"""What follows ``--ros-args`` on a command line of ROS 2: parameters, remappings, parameter files. No ROS in here.

A station hands it on to each of its processes; it is read here only to be refused in one line before anything starts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from robin_perception.core.bounded import parse_yaml
from robin_perception.core.errors import Code, RobinError

_VALUES = {"-p": "--param", "-r": "--remap", "-e": "--enclave"}
_WITH_VALUE = ("--param", "--remap", "--params-file", "--log-level", "--log-config-file", "--enclave")


@dataclass(frozen=True)
class RosArguments:
    """words: as each process takes them. parameters: (node, name, value), node empty = every node. files: of
    parameters, absolute."""

    words: tuple[str, ...] = ()
    parameters: tuple[tuple[str, str, Any], ...] = ()
    files: tuple[Path, ...] = ()


def parse_ros_arguments(given: Sequence[str]) -> RosArguments:
    """``given``: the words after ``--ros-args``. Raises RobinError OPTION_INVALID, INPUT_MISSING naming the word."""
    words: list[str] = []
    parameters: list[tuple[str, str, Any]] = []
    files: list[Path] = []
    rest = iter(given)
    for word in rest:
        if word in ("--", "--ros-args"):
            continue
        option = _VALUES.get(word, word)
        if option.startswith(("--enable-", "--disable-")):
            words.append(option)
            continue
        value = next(rest, None) if option in _WITH_VALUE else None
        if value is None:
            what = "needs a value" if option in _WITH_VALUE else "is no argument of ROS"
            raise RobinError(
                Code.OPTION_INVALID, f"--ros-args: '{word}' {what}; known: -p, -r, {', '.join(_WITH_VALUE)}"
            )
        if option == "--param":
            parameters.append(_parameter(value))
        elif option == "--remap":
            _check_remap(value)
        elif option == "--params-file":
            files.append(_file(value))
            value = str(files[-1])
        words += [option, value]
    return RosArguments(tuple(words), tuple(parameters), tuple(files))


def _parameter(rule: str) -> tuple[str, str, Any]:
    """ "planning:frame_age_limit_s:=2.0" -> ("planning", "frame_age_limit_s", 2.0)."""
    target, assigned, text = rule.partition(":=")
    node, colon, name = target.rpartition(":")
    try:
        value = parse_yaml(text, rule)
    except RobinError:
        value = None
    if not assigned or not name or (colon and not node) or value is None:
        raise RobinError(Code.OPTION_INVALID, f"--ros-args: '-p {rule}': needs NAME:=VALUE or NODE:NAME:=VALUE")
    return node.strip("/"), name, value


def _check_remap(rule: str) -> None:
    source, assigned, target = rule.partition(":=")
    if not assigned or not source or not target:
        raise RobinError(Code.OPTION_INVALID, f"--ros-args: '-r {rule}': needs FROM:=TO or NODE:FROM:=TO")
    if source.rpartition(":")[2] in ("__ns", "__node", "__name"):
        text = f"--ros-args: '-r {rule}': names of a station's nodes are fixed; its namespace is the option namespace"
        raise RobinError(Code.OPTION_INVALID, text)


def _file(text: str) -> Path:
    path = Path(text).absolute()
    if not path.is_file():
        raise RobinError(Code.INPUT_MISSING, f"--ros-args: {path}: no such file")
    return path
