"""YAML that a stranger may have made. In a module of its own, so that whoever reads no YAML does not load its library:
``bounded.parse_yaml`` is the door."""

from __future__ import annotations

from typing import Any

import yaml

from robin_perception.core.errors import Code, RobinError

MOST_NODES = 50_000
"""Values of a YAML file, with every alias counted as what it stands for."""
MOST_DEPTH = 50
"""Levels of nesting of a YAML file."""
LONGEST_VALUE = 10_000
LONGEST_NUMBER = 40
_INT, _FLOAT = "tag:yaml.org,2002:int", "tag:yaml.org,2002:float"


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


def load_yaml(text: str, source: str, code: Code) -> Any:
    """As ``bounded.parse_yaml``."""
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
