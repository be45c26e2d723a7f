"""Several nodes in one process with one executor, so that images go from node to node without crossing a socket."""

from __future__ import annotations

import sys
from argparse import ArgumentParser
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any

from robin_bringup.node_table import LIFECYCLE_NODES
from robin_perception.core.errors import Code, RobinError
from robin_perception.nodes.base import RobinNode
from robin_perception.nodes.frame_bus import FrameBus
from robin_perception.nodes.run import run_nodes

DEFAULT_NODES = "camera,segmentation,planning,pick_check,recorder"


def make_nodes(names: Sequence[str], **ros: Any) -> list[RobinNode[Any]]:
    """The nodes of those names on one bus, in the order of the pick; a node's room is imported only if it is asked for.

    Each keeps its own name, so one parameter file and ``-r planning:plan:=…`` reach them as separate processes would.
    Raises RobinError OPTION_INVALID for a name that is unknown or given twice, or for two cameras.
    """
    for name in names:
        if name not in LIFECYCLE_NODES:
            raise RobinError(Code.OPTION_INVALID, f"no node '{name}'; known: {', '.join(LIFECYCLE_NODES)}")
    if len(set(names)) < len(names) or not names:
        raise RobinError(Code.OPTION_INVALID, f"each node once, and at least one, got '{','.join(names)}'")
    if {"camera", "sim_cell"} <= set(names):
        raise RobinError(Code.OPTION_INVALID, "camera and sim_cell both give frames: choose one")
    bus = FrameBus()
    return [_class_of(name)(bus=bus, **ros) for name in LIFECYCLE_NODES if name in names]


def _class_of(name: str) -> Callable[..., RobinNode[Any]]:
    spec = LIFECYCLE_NODES[name]
    found: Callable[..., RobinNode[Any]] = getattr(import_module(spec.module), spec.class_name)
    return found


def main(args: Sequence[str] | None = None) -> int:
    """``ros2 run robin_bringup workcell --nodes sim_cell,segmentation,planning,pick_check,recorder --ros-args …``"""
    parser = ArgumentParser(prog="workcell", description=__doc__, allow_abbrev=False)
    parser.add_argument("--nodes", default=DEFAULT_NODES, help=f"comma-separated, of {', '.join(LIFECYCLE_NODES)}")
    given = list(sys.argv[1:] if args is None else args)
    own = given[: given.index("--ros-args")] if "--ros-args" in given else given
    names = [name.strip() for name in parser.parse_args(own).nodes.split(",") if name.strip()]
    return run_nodes(lambda: make_nodes(names), ["workcell", *given[len(own) :]])


if __name__ == "__main__":
    sys.exit(main())
