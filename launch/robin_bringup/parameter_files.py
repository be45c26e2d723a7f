"""Parameter files of ROS (node -> ros__parameters -> name -> value), read and checked against the nodes' own sets.

A file is checked before anything starts, so that a misspelt parameter is one line on the terminal and not a node that
refuses to configure.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from robin_perception.core.bounded import parse_yaml, read_plain_text
from robin_perception.core.errors import Code, RobinError
from robin_perception.node_config import node_configs
from robin_perception.node_parameters import config_from_flat, is_ros_parameter, parameter_specs
from robin_perception.topics import DRIVERS

KEY = "ros__parameters"
DRIVER_NODES = frozenset(driver.node for name, driver in DRIVERS.items() if name != "robin")
_ALIKE = 0.8  # of 1: as much of a name must be the same to be a slip


def read_parameter_file(path: Path) -> dict[str, dict[str, Any]]:
    """Node pattern (``/**/camera``, ``camera``, ``/**``) -> flat parameter name -> value.

    Raises RobinError INPUT_MISSING, CONFIG_UNREADABLE.
    """
    content = parse_yaml(read_plain_text(path), str(path))
    sections: dict[str, dict[str, Any]] = {}
    _collect(content or {}, "", sections, path)
    return sections


def parameters_of(path: Path, node: str, namespace: str = "") -> dict[str, Any]:
    """What ``path`` sets for ``node``, from every section that matches it. Raises as ``read_parameter_file``."""
    found: dict[str, Any] = {}
    for pattern, values in read_parameter_file(path).items():
        if matches(pattern, node, namespace):
            found.update(values)
    return found


def matches(pattern: str, node: str, namespace: str = "") -> bool:
    """Whether a section is for this node: ``*`` stands for one part of the name, ``**`` for any number of parts."""
    name = [part for part in f"{namespace}/{node}".split("/") if part]
    return _fits([part for part in pattern.split("/") if part], name)


def check_parameter_file(path: Path, nodes: Iterable[str], namespace: str = "") -> None:
    """Refuse what a node of the station would refuse: a section for no node, an unknown name, a value out of range.

    Raises RobinError CONFIG_UNKNOWN_KEY or CONFIG_OUT_OF_RANGE naming file, node and key.
    """
    sections = read_parameter_file(path)
    for pattern, values in sections.items():
        matched = [node for node in node_configs() if matches(pattern, node, namespace)]
        if matched:
            check_parameter_names(
                values, matched, f"{path}: {pattern.rpartition('/')[2] if len(matched) == 1 else pattern}"
            )
        else:
            _refuse_misspelt(pattern, sections, path, namespace)
    for node in nodes:
        check_parameter_values(parameters_of(path, node, namespace), node, f"{path}: {node}")


def check_parameter_names(values: Mapping[str, Any], nodes: Sequence[str], source: str) -> None:
    """Each name is a parameter of one of ``nodes``, or of rclpy. Raises as ``check_parameter_file``."""
    known = [parameter_specs(node_configs()[node]) for node in nodes]
    for name, value in values.items():
        if not is_ros_parameter(name, value, source) and not any(name in specs for specs in known):
            raise RobinError(Code.CONFIG_UNKNOWN_KEY, f"{source}: unknown key '{name}'")


def check_parameter_values(values: Mapping[str, Any], node: str, source: str) -> None:
    """Those of ``values`` that are the node's own are in range. Raises as ``check_parameter_file``."""
    config = node_configs()[node]
    specs = parameter_specs(config)
    config_from_flat(config, {name: value for name, value in values.items() if name in specs}, source)


def _refuse_misspelt(pattern: str, sections: Mapping[str, Any], path: Path, namespace: str) -> None:
    """A file may hold sections of nodes that are not ours, or of another station. What only looks like one of ours, or
    misses the station's namespace, would silently not be used."""
    last = pattern.rpartition("/")[2]
    known = [*node_configs()]
    if pattern in DRIVER_NODES or not get_close_matches(last, known, 1, _ALIKE):
        return
    if last in known and any(matches(other, last, namespace) for other in sections if other.endswith(f"/{last}")):
        return
    name = f"{namespace.rstrip('/')}/{last}" if last in known else ""
    hint = f"here it is '{name}', or '/**/{last}' in any namespace" if name else f"known: {', '.join(known)}"
    raise RobinError(Code.CONFIG_UNKNOWN_KEY, f"{path}: '{pattern}' is no node of this station; {hint}")


def _collect(content: Any, prefix: str, sections: dict[str, dict[str, Any]], path: Path) -> None:
    if not isinstance(content, Mapping):
        raise RobinError(Code.CONFIG_UNREADABLE, f"{path}: '{prefix or '(root)'}': expected a mapping")
    for key, value in content.items():
        if key == KEY:
            if not isinstance(value, Mapping) or not prefix:
                raise RobinError(Code.CONFIG_UNREADABLE, f"{path}: '{prefix}': {KEY} must be a mapping under a node")
            sections.setdefault(prefix, {}).update(_flat(value, ""))
        else:
            _collect(value, f"{prefix}/{str(key).strip('/')}", sections, path)


def _flat(values: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in values.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            found.update(_flat(value, f"{name}."))
        else:
            found[name] = value
    return found


def _fits(pattern: list[str], name: list[str]) -> bool:
    if not pattern:
        return not name
    head, rest = pattern[0], pattern[1:]
    if head == "**":
        return any(_fits(rest, name[skipped:]) for skipped in range(len(name) + 1))
    return bool(name) and head in ("*", name[0]) and _fits(rest, name[1:])
