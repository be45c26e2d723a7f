"""Runs nodes until SIGINT or SIGTERM, then lets them finish in order, in bounded time."""

from __future__ import annotations

import gc
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, NoReturn, TypeVar

import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.impl.implementation_singleton import rclpy_implementation
from rclpy.logging import get_logger
from rclpy.signals import SignalHandlerOptions

from robin_perception.core.errors import Code, RobinError
from robin_perception.core.last_resort import EXIT_BUG, internal_error
from robin_perception.core.threads import where_threads_are
from robin_perception.nodes.base import RobinNode
from robin_perception.nodes.transport import use_large_message_profile

T = TypeVar("T")
_WAKE_S = 0.2  # how long a signal may wait for the executor
SAY_WHY_S = 5.0
"""A process that has not ended so long after its signal says what it is at."""
GIVE_UP_S = 15.0
"""... and after so long it ends all the same."""
_AGAIN_S = 1.0  # two signals within this time are one Ctrl-C


class Ending:
    """The signals that end this process. The first lets nodes finish what they have in hand; another one, a second or
    more later, ends the process at once. Either way within ``give_up_s``."""

    def __init__(self) -> None:
        self.give_up_s = GIVE_UP_S
        self._asked_s: float | None = None
        self._hurried = threading.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._signalled)

    @property
    def asked(self) -> bool:
        """Whether a signal has come."""
        return self._asked_s is not None

    def _signalled(self, *_: Any) -> None:
        now = time.monotonic()
        if self._asked_s is None:
            self._asked_s = now
            threading.Thread(target=self._watch, name="ending", daemon=True).start()
        elif now - self._asked_s > _AGAIN_S:
            self._hurried.set()

    def _watch(self) -> None:
        if not self._hurried.wait(SAY_WHY_S):
            self._say("still at it")
            self._hurried.wait(self.give_up_s - SAY_WHY_S)
        self._say("ended in the middle of it")
        os._exit(1)

    def _say(self, what: str) -> None:
        assert self._asked_s is not None
        after = f"{time.monotonic() - self._asked_s:.0f} s after the signal to end"
        at = "; ".join(where_threads_are()) or "no call of ours"
        code = Code.NODE_STILL_BUSY
        get_logger("ending").error(f"E{int(code)} {code.name}: {what} {after}: {at}")


def init_ros(args: Sequence[str] | None) -> None:
    """``rclpy.init`` without its signal handlers, which would shut the context down before nodes could stop their work
    and say so. Raises RobinError OPTION_INVALID for arguments or a parameter file that ROS cannot read."""
    use_large_message_profile()
    try:
        rclpy.init(args=None if args is None else list(args), signal_handler_options=SignalHandlerOptions.NO)
    except Exception as exc:  # rclpy's own RCLError and UnknownROSArgsError have no base but this
        raise RobinError(Code.OPTION_INVALID, f"--ros-args: {' '.join(str(exc).split())}") from None


def leave(status: int) -> NoReturn:
    """End the process now that its nodes are destroyed and nobody refers to them. The interpreter's own way out takes
    seconds on a loaded machine, in which another SIGINT is taken for a crash. It also waits for threads that nobody
    wants any more.

    What is left of ROS is destroyed first: others would take a process that just goes for present for 20 s longer.
    """
    gc.collect()  # rclpy destroys a lifecycle node's own services with the node's last reference
    rclpy.get_default_context().destroy()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def make_node(make: Callable[[], T]) -> T:
    """What ``make`` gives. Raises RobinError OPTION_INVALID where ROS refuses it (names, security, middleware)."""
    try:
        return make()
    except rclpy_implementation.RCLError as exc:
        raise RobinError(Code.OPTION_INVALID, f"ROS refuses the node: {' '.join(str(exc).split())}") from None


def run_nodes(make: Callable[[], Sequence[RobinNode[Any]]], args: Sequence[str] | None = None) -> int:
    """Host the nodes that ``make`` gives (called after ``rclpy.init``) in one process with one executor.

    args: of the command line, with ``--ros-args``; None takes the process's. Returns the exit status where nothing was
    started; a process that ran its nodes ends here.
    """
    try:
        host_nodes(make, args)
    except RobinError as exc:
        print(f"error {exc}", file=sys.stderr)
        return 1
    except Exception as exc:
        print(f"error {internal_error(exc, sys.argv)}", file=sys.stderr)
        return EXIT_BUG
    leave(0)


def host_nodes(make: Callable[[], Sequence[RobinNode[Any]]], args: Sequence[str] | None = None) -> None:
    """As ``run_nodes``, in a process that goes on afterwards. Raises RobinError where nothing was started."""
    init_ros(args)
    ending = Ending()
    nodes: list[RobinNode[Any]] = []
    executor = SingleThreadedExecutor()
    try:
        nodes.extend(make_node(make))
        for node in nodes:
            executor.add_node(node)
            node.autostart()
        while not ending.asked:
            executor.spin_once(timeout_sec=_WAKE_S)
    finally:
        for node in reversed(nodes):
            node.close()
        executor.shutdown()
        for node in nodes:
            node.destroy_node()
        rclpy.try_shutdown()
