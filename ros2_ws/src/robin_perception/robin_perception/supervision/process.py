"""One child process with an engine in it, as its parent sees it: start, ask with a deadline, kill."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np

from robin_perception.core.errors import Code, RobinError
from robin_perception.engines.base import HEAD_SETS, EngineConfig, HeadSet, Tensors
from robin_perception.engines.output_pool import OutputPool
from robin_perception.model.bundle import NETWORK_FILE, Bundle, TensorSpec
from robin_perception.supervision.channel import (
    Channel,
    ChannelClosed,
    ChannelGarbage,
    ChannelLate,
    Message,
    TensorBlock,
)

_MODULE = "robin_perception.supervision.child"
_STATUS_WAIT_S = 0.5  # longest that a caller waits to say how a process ended
_NO_ANSWER = (KeyError, TypeError, ValueError, AttributeError)  # a message with other content than it should have
GONE = (Code.ENGINE_HUNG, Code.ENGINE_CRASHED)
"""A child that answers no more; all other codes come from one that does."""


@dataclass(frozen=True)
class ChildSpec:
    """What a child is to run. by_auto: the engine was not asked for by name. inputs, outputs: as in the graph. module:
    imported first, where it is not empty."""

    bundle: Bundle
    engine: str
    by_auto: bool
    config: EngineConfig
    inputs: dict[str, TensorSpec]
    outputs: dict[str, TensorSpec]
    module: str = ""

    @property
    def tensors(self) -> list[TensorSpec]:
        """All that lies in the shared block: a frame, the answer, and the head that is being loaded."""
        return [*self.inputs.values(), *self.outputs.values(), *self.bundle.manifest.head]

    def order(self) -> Message:
        """What the child is told at its start."""
        return {
            "bundle": str(self.bundle.directory.absolute()),
            "network_sha256": self.bundle.manifest.files[NETWORK_FILE],
            "engine": self.engine,
            "by_auto": self.by_auto,
            "config": self.config.model_dump(mode="json"),
            "tensors": [spec.model_dump(mode="json") for spec in self.tensors],
            "module": self.module,
            "path": sys.path,
        }


class Child:
    """Made, reaped and killed at the end by one long-lived thread (the kernel ends a child with the thread that started
    it). ``load`` and ``run`` are called by one thread at a time, ``kill`` by any.

    Whatever they raise means that this child is not to be asked again: RobinError ENGINE_HUNG, ENGINE_CRASHED,
    ENGINE_OUTPUT_INVALID, or the code that its engine gave.
    """

    def __init__(self, spec: ChildSpec) -> None:
        ours, theirs = socket.socketpair()
        self._channel = Channel(ours)
        self._block = TensorBlock(spec.tensors)
        self._spec = spec
        self._pools = {name: OutputPool(output) for name, output in spec.outputs.items()}
        self._heads: list[HeadSet | None] = [None] * HEAD_SETS
        self._calls = 0
        self._reaper = threading.current_thread()
        self._ending = threading.Lock()
        self._ended = threading.Event()
        self.engine_name = spec.engine
        self.description: dict[str, str] = {}
        self.call_ms = 0.0
        self.stage_ms: dict[str, float] = {}
        try:
            # An exec of a fresh interpreter: nothing of this process's ROS, threads and locks goes along. A session of
            # its own, because Ctrl-C goes to all of the terminal's group. What it prints goes to our log.
            self.process = subprocess.Popen(
                [sys.executable, "-m", _MODULE, *map(str, (theirs.fileno(), self._block.descriptor, os.getpid()))],
                stdin=subprocess.DEVNULL,
                stdout=2,
                pass_fds=(theirs.fileno(), self._block.descriptor),
                start_new_session=True,
            )
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
            self._block.close_descriptor()

    @property
    def pid(self) -> int:
        return self.process.pid

    def wait_ready(self, timeout_s: float) -> float:
        """Until its engine has answered once; returns how long that took, ms."""
        self._send(self._spec.order())
        reply = self._reply(timeout_s, f"was not ready after {timeout_s:g} s")
        try:
            self.engine_name = str(reply["ready"]["engine"])
            self.description = {str(key): str(value) for key, value in reply["ready"]["describe"].items()}
            return float(reply["ms"])
        except _NO_ANSWER:
            raise self._fault(Code.ENGINE_OUTPUT_INVALID, f"sent {str(reply)[:60]}") from None

    def has(self, head: HeadSet) -> bool:
        """Whether ``head`` is loaded here."""
        return self._heads[head.index] is head

    def load(self, head: HeadSet, deadline_ms: float) -> None:
        """Put a head into the set of its index."""
        self._heads[head.index] = None
        for name, weights in head.weights.items():
            np.copyto(self._block.views[name], weights)
        self._call({"do": "load", "set": head.index}, deadline_ms)
        self._heads[head.index] = head

    def run(self, feeds: Tensors, outputs: Sequence[str], head: HeadSet, deadline_ms: float) -> Tensors:
        """One frame. The arrays are the caller's own; whether they make sense is not looked at."""
        views = self._block.views
        for name in self._spec.inputs:
            np.copyto(views[name], feeds[name])
        reply = self._call({"do": "run", "set": head.index, "outputs": list(outputs)}, deadline_ms)
        try:
            self.call_ms = float(reply["ms"])
            self.stage_ms = {str(name): float(ms) for name, ms in reply["stages"].items()}
        except _NO_ANSWER:
            raise self._fault(Code.ENGINE_OUTPUT_INVALID, f"sent {str(reply)[:60]}") from None
        answer = {name: self._pools[name].take() for name in outputs}
        for name, array in answer.items():
            np.copyto(array, views[name])
        return answer

    def kill(self) -> None:
        """SIGKILL to its whole session; returns at once, ``wait_end`` reaps. Does nothing after that."""
        with self._ending:
            if not self._ended.is_set():
                try:
                    os.killpg(self.process.pid, signal.SIGKILL)
                except ProcessLookupError:  # before its setsid
                    self.process.kill()

    def wait_end(self) -> str:
        """Until it has ended, and how. A process that hangs in the kernel cannot be ended: then this does not return,
        and nothing more is started on a device in such a state."""
        _wait_without_reaping(self.process)
        with self._ending:
            self.process.wait()
            self._ended.set()
        return self.ending

    def release(self) -> None:
        """Give the socket back; no call is under way."""
        self._channel.close()

    @property
    def ending(self) -> str:
        """How it ended, in words."""
        status = self.process.returncode
        if status is None:
            return "closed its channel"
        if status < 0:
            return f"ended by {_signal_name(-status)}"
        return f"ended with exit status {status}"

    def _call(self, request: Message, deadline_ms: float) -> Message:
        self._calls += 1
        self._send({"id": self._calls, **request})
        reply = self._reply(deadline_ms / 1e3, f"did not answer within {deadline_ms:g} ms")
        if reply.get("id") != self._calls:
            raise self._fault(Code.ENGINE_OUTPUT_INVALID, "answered another call")
        return reply

    def _send(self, message: Message) -> None:
        try:
            self._channel.send(message)
        except ChannelClosed:
            raise self._crash() from None

    def _reply(self, timeout_s: float, late: str) -> Message:
        try:
            reply = self._channel.receive(timeout_s)
        except ChannelLate:
            raise self._fault(Code.ENGINE_HUNG, late) from None
        except ChannelClosed:
            raise self._crash() from None
        except ChannelGarbage as exc:
            raise self._fault(Code.ENGINE_OUTPUT_INVALID, f"sent {exc}") from None
        if "code" in reply:
            raise self._fault(_code(reply["code"]), str(reply.get("text", "")))
        return reply

    def _crash(self) -> RobinError:
        if threading.current_thread() is self._reaper:
            self.kill()  # changes nothing for one that is about to end
            self.wait_end()
        else:
            self._ended.wait(_STATUS_WAIT_S)
        return self._fault(Code.ENGINE_CRASHED, self.ending)

    def _fault(self, code: Code, text: str) -> RobinError:
        return RobinError(code, f"{self.engine_name} in process {self.pid}: {text}")


def _code(number: Any) -> Code:
    try:
        return Code(number)
    except ValueError:
        return Code.ENGINE_FAILED


def _wait_without_reaping(process: subprocess.Popen[Any]) -> None:
    """So that its number is not given to another process while somebody may be about to kill it."""
    with suppress(AttributeError, ChildProcessError):  # no Linux; a host that ignores SIGCHLD
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
