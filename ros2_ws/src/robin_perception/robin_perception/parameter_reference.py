"""The table of every node's parameters, made from their typed configurations."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from robin_perception.node_config import NodeConfig
from robin_perception.node_parameters import ParameterSpec, parameter_specs

_WHEN = {"always": "while running", "unconfigured": "unconfigured", "start": "at start"}
_HEAD = """# ROS parameters

Made by `robin ros params --out docs/ros-parameters.md` from the nodes' configurations; do not edit.

A set is checked as a whole and refused with a numbered reason; what a node was started with and is not valid keeps it
unconfigured. *change*: "while running" takes effect at once, "unconfigured" only before configure, "at start" is
read-only. An empty range means any value of the type. Whole numbers do for doubles. NaN or empty text means unset
where the constraints say so.
"""


def parameter_reference(configs: Mapping[str, type[NodeConfig]]) -> str:
    """Markdown: what all nodes share first, then one table per node."""
    common = parameter_specs(NodeConfig)
    parts = [_HEAD, "## Every node", "", *_table(common.values()), ""]
    for name, cls in configs.items():
        own = [spec for key, spec in parameter_specs(cls).items() if common.get(key) != spec]
        summary = " ".join((cls.__doc__ or "").split("\n\n")[0].split())
        parts += [f"## `{name}`", "", *([summary, ""] if summary else []), *_table(own), ""]
    return "\n".join(parts)


def _table(specs: Iterable[ParameterSpec]) -> list[str]:
    head = ["| parameter | type | default | range | change | meaning |", "|---|---|---|---|---|---|"]
    return head + [_row(spec) for spec in specs]


def _row(spec: ParameterSpec) -> str:
    meaning = spec.description.replace("|", "\\|")
    kind, when = spec.kind.replace("_", " "), _WHEN[spec.update]
    cells = (f"`{spec.name}`", kind, _value(spec.default), _range(spec), when, meaning)
    return f"| {' | '.join(cells)} |"


def _value(value: object) -> str:
    if isinstance(value, list):
        return f"[{', '.join(_value(item) for item in value)}]"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:g}"
    return '""' if value == "" else str(value)


def _range(spec: ParameterSpec) -> str:
    low = "" if spec.low is None else f"{spec.low:g}"
    high = "" if spec.high is None else f"{spec.high:g}"
    interval = f"{low} … {high}".strip() if low or high else ""
    return "; ".join(part for part in (interval, spec.constraints) if part)
