"""Runs nodes until SIGINT or SIGTERM, then lets them finish in order."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable, Sequence
from typing import Any

import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.signals import SignalHandlerOptions

from robin_perception.core.errors import RobinError
from robin_perception.nodes.base import RobinNode
from robin_perception.nodes.transport import use_large_message_profile

_WAKE_S = 0.2  # how long a signal may wait for the executor


def run_nodes(make: Callable[[], Sequence[RobinNode[Any]]], args: Sequence[str] | None = None) -> int:
    """Host the nodes that ``make`` gives (called after ``rclpy.init``) in one process with one executor.

    args: of the command line, with ``--ros-args``; None takes the process's. Returns the exit status.
    """
    # Own handlers: rclpy's would shut the context down before the nodes could stop their work and say so.
    use_large_message_profile()
    rclpy.init(args=None if args is None else list(args), signal_handler_options=SignalHandlerOptions.NO)
    ending = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ending.set())
    nodes: list[RobinNode[Any]] = []
    executor = SingleThreadedExecutor()
    try:
        nodes.extend(make())
        for node in nodes:
            executor.add_node(node)
            node.autostart()
        while not ending.is_set():
            executor.spin_once(timeout_sec=_WAKE_S)
    except RobinError as exc:
        print(f"error {exc}", file=sys.stderr)
        return 1
    finally:
        for node in reversed(nodes):
            node.close()
        executor.shutdown()
        for node in nodes:
            node.destroy_node()
        rclpy.try_shutdown()
    return 0
