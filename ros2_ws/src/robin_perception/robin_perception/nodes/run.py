"""Runs nodes until SIGINT or SIGTERM, then lets them finish in order, in bounded time."""

from __future__ import annotations

import faulthandler
import gc
import os
import select
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
STUCK_S = 30.0
"""A process in which one thread has kept Python to itself for so long ends by itself."""
BEAT_S = 2.0
"""How often that is looked at."""
_LAST_RESORT_S = 3.0  # after that, where even saying so hangs
_AGAIN_S = 1.0  # two signals within this time are one Ctrl-C
_SIGNALS = frozenset((signal.SIGINT, signal.SIGTERM))


class Ending:
    """What ends this process.

    - The first signal lets nodes finish what they have in hand; another one, a second or more later, ends the process
      at once. Either way within ``give_up_s``, also where the main thread, in which Python handles signals, waits in
      the middleware: a thread of its own hears of them through a pipe.
    - A process in which no thread gets Python's lock for ``STUCK_S`` says where its threads are and ends, so that the
      station starts it anew. Fast DDS 2.14 can loop without end while it takes a message of which only pieces came.
    """

    def __init__(self) -> None:
        self.give_up_s = GIVE_UP_S
        self._asked_s: float | None = None
        self._heard, told = os.pipe()
        os.set_blocking(told, False)
        signal.set_wakeup_fd(told, warn_on_full_buffer=False)
        for number in _SIGNALS:
            signal.signal(number, lambda *_: None)
        threading.Thread(target=self._watch, name="ending", daemon=True).start()

    @property
    def asked(self) -> bool:
        """Whether a signal has come."""
        return self._asked_s is not None

    def _watch(self) -> None:
        # faulthandler's own thread needs neither Python's lock nor the logger's, which whatever is stuck may hold.
        while True:
            faulthandler.dump_traceback_later(STUCK_S, exit=True)
            if self._signalled(BEAT_S):
                break
        self._asked_s = time.monotonic()
        faulthandler.dump_traceback_later(self.give_up_s + _LAST_RESORT_S, exit=True)
        time.sleep(_AGAIN_S)
        self._signalled(0.0)
        if not self._signalled(SAY_WHY_S - _AGAIN_S):
            self._say("still at it")
            self._signalled(self.give_up_s - SAY_WHY_S)
        self._say("ended in the middle of it")
        os._exit(1)

    def _signalled(self, within_s: float) -> bool:
        """Whether a signal to end comes in that time."""
        end = time.monotonic() + within_s
        while select.select([self._heard], [], [], max(0.0, end - time.monotonic()))[0]:
            if _SIGNALS.intersection(os.read(self._heard, 4096)):
                return True
        return False

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
