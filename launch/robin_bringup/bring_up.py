"""Bringing lifecycle nodes up in order, keeping them up, and taking them down in reverse. No ROS in here.

The rules:
- Nodes are configured and activated in order, each within its timeouts, with a limited number of attempts. A node that
  cannot come up does not keep the others down: each then says for itself what it lacks.
- A node that comes back unconfigured (its process was killed and started again) is brought up again, a limited number
  of times within a window, so that a node that dies of its work ends in a standing fault and not in a loop.
- Silence alone is no fault for a while: a node may be busy loading a model.
- A node that somebody else deactivated stays as it is: the manager does not fight an operator.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from pydantic import Field

from robin_perception.core.config import StrictConfig
from robin_perception.core.errors import Code, RobinError

UNCONFIGURED, INACTIVE, ACTIVE, FINALIZED = "unconfigured", "inactive", "active", "finalized"
CONFIGURE, ACTIVATE, DEACTIVATE, CLEANUP = "configure", "activate", "deactivate", "cleanup"
_POLL_S = 0.1


class BringUpLimits(StrictConfig):
    """Times and limits of the manager."""

    appear_timeout_s: float = Field(20.0, gt=0, le=600, description="How long a node may take to appear, s.")
    answer_timeout_s: float = Field(2.0, gt=0, le=60, description="How long a node may take to tell its state, s.")
    configure_timeout_s: float = Field(
        60.0, gt=0, le=3600, description="How long a node may take to configure (an engine may be built), s."
    )
    activate_timeout_s: float = Field(15.0, gt=0, le=600, description="How long a node may take to activate, s.")
    stop_timeout_s: float = Field(
        8.0, gt=0, le=600, description="How long all nodes together may take to deactivate and clean up, s."
    )
    attempts: int = Field(3, ge=1, le=100, description="Attempts to bring a node up before it is given up.")
    retry_delay_s: float = Field(1.0, ge=0, le=600, description="Pause between two attempts, s.")
    watch_period_s: float = Field(0.5, gt=0, le=60, description="How often the nodes' states are looked at, s.")
    silence_s: float = Field(10.0, gt=0, le=600, description="A node that does not answer for this long is lost, s.")
    recoveries: int = Field(5, ge=0, le=1000, description="How often a node is brought up again within the window.")
    recovery_window_s: float = Field(300.0, gt=0, le=86_400, description="Window of that count, s.")


class LifecycleLink(Protocol):
    """The nodes as the manager reaches them. Calls block for at most ``timeout_s``."""

    def state(self, node: str, timeout_s: float) -> str | None:
        """The node's state, or None when it does not answer."""

    def change(self, node: str, transition: str, timeout_s: float) -> bool | None:
        """Ask for a transition: done, refused, or None when it does not answer."""

    def reason(self, node: str) -> str:
        """What the node last said is wrong with it, empty for nothing."""

    def present(self, node: str) -> bool:
        """Whether the node is there at all, busy or not; returns at once."""


class Say(Protocol):
    """One line per event. error: somebody should look at it."""

    def __call__(self, text: str, error: bool = False) -> None: ...


@dataclass
class Managed:
    """What the manager knows of one node.

    phase: "waiting", "active", "lost", "failed" or "held" (somebody else took it out of work). code, text: why it is
    not active. recovered: times it was brought up again.
    """

    name: str
    phase: str = "waiting"
    state: str = ""
    code: Code = Code.OK
    text: str = ""
    recovered: int = 0
    answered_s: float = 0.0
    was_gone: bool = False
    recoveries_s: deque[float] = field(default_factory=deque)

    def to_json(self) -> dict[str, Any]:
        return {
            "phase": self.phase,
            "state": self.state,
            "code": int(self.code),
            "text": self.text,
            "recovered": self.recovered,
        }


class BringUp:
    """Owned by one thread. nodes: in order of bring-up. say: told each event, with the states as they then are.
    stopping: ends waits early.
    """

    def __init__(
        self,
        nodes: tuple[str, ...],
        link: LifecycleLink,
        limits: BringUpLimits,
        say: Say,
        stopping: Callable[[], bool] = lambda: False,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.nodes = {name: Managed(name) for name in nodes}
        self._link, self._limits, self._say = link, limits, say
        self.stopping, self._clock, self._sleep = stopping, clock, sleep

    @property
    def all_active(self) -> bool:
        return all(node.phase == "active" for node in self.nodes.values())

    @property
    def settled(self) -> bool:
        """Whether every node is active or given up."""
        return all(node.phase not in ("waiting", "lost") for node in self.nodes.values())

    def bring_up(self) -> bool:
        """Configure and activate all, in order. Returns whether all are active."""
        for node in self.nodes.values():
            if self.stopping():
                break
            self._up(node)
        return self.all_active

    def watch(self) -> None:
        """Look at every node once, and bring up again what came back."""
        for node in self.nodes.values():
            if self.stopping():
                return
            self._look(node)

    def take_down(self) -> None:
        """Deactivate all, then clean up all, in reverse order, within ``stop_timeout_s``. Who does not answer may be
        ending too: it is given the rest of that time to do so, and then left alone."""
        ending = self._clock() + self._limits.stop_timeout_s
        alive = [*reversed(self.nodes.values())]
        silent: list[tuple[Managed, str]] = []
        for transition, before in ((DEACTIVATE, ACTIVE), (CLEANUP, INACTIVE)):
            for node in tuple(alive):
                node.phase = "held"
                done = self._taken(node, transition, before, ending)
                if not done:
                    alive.remove(node)
                if done is None:
                    silent.append((node, transition))
        for node, transition in silent:
            self._wait_for_end(node, transition, ending)

    def _taken(self, node: Managed, transition: str, before: str, ending: float) -> bool | None:
        """Whether the node is now past ``before``; None where it does not answer."""
        state = self._state(node) if self._clock() < ending else None
        if state != before:
            return None if state is None else True
        done = self._link.change(node.name, transition, max(0.0, ending - self._clock()))
        if done is False:
            refused = f"{node.name}: cannot {transition}, left as it is"
            self._say(str(RobinError(Code.TRANSITION_FAILED, refused)), error=True)
        elif done:
            self._state(node)
        return done

    def _wait_for_end(self, node: Managed, transition: str, ending: float) -> None:
        while (present := self._link.present(node.name)) and self._clock() < ending:
            self._sleep(_POLL_S)
        if present:
            late = f"{node.name}: did not {transition} in time, left as it is; its log says what it is at"
            self._say(str(RobinError(Code.TRANSITION_TIMEOUT, late)), error=True)
        else:
            self._say(f"{node.name}: ended by itself")

    def release(self) -> None:
        """Forget that nodes were held or given up: the next ``bring_up`` takes all of them."""
        for node in self.nodes.values():
            node.phase, node.code, node.text = "waiting", Code.OK, ""
            node.recoveries_s.clear()

    def hold(self, name: str) -> None:
        """Somebody else took this node out of work."""
        node = self.nodes[name]
        if node.phase == "active":
            self._say(f"{name}: deactivated by somebody else, left as it is")
            self._set(node, "held", Code.NODE_NOT_ACTIVE, "deactivated by somebody else")

    def _up(self, node: Managed) -> None:
        for attempt in range(1, self._limits.attempts + 1):
            try:
                self._appear(node)
                self._change(node, CONFIGURE, UNCONFIGURED, INACTIVE, self._limits.configure_timeout_s)
                self._change(node, ACTIVATE, INACTIVE, ACTIVE, self._limits.activate_timeout_s)
            except RobinError as exc:
                if self.stopping():
                    return
                self._set(node, "waiting", exc.code, exc.text)
                last = attempt == self._limits.attempts
                node.phase = "failed" if last else "waiting"
                self._say(f"{exc} ({'given up' if last else 'again'} after attempt {attempt})", error=True)
                if last or self._wait(self._limits.retry_delay_s):
                    break
            else:
                self._set(node, "active", Code.OK, "")
                self._say(f"{node.name}: active")
                return
        node.phase = "failed"

    def _appear(self, node: Managed) -> None:
        ending = self._clock() + self._limits.appear_timeout_s
        while self._state(node) is None:
            if self._clock() >= ending:
                text = f"{node.name}: did not appear within {self._limits.appear_timeout_s:g} s"
                raise RobinError(Code.NODE_UNREACHABLE, text)
            if self._wait(_POLL_S):
                raise RobinError(Code.NODE_UNREACHABLE, f"{node.name}: the manager is ending")

    def _change(self, node: Managed, transition: str, before: str, after: str, timeout_s: float) -> None:
        if node.state not in (before, after):
            if node.state == ACTIVE:
                return
            raise RobinError(Code.TRANSITION_FAILED, f"{node.name}: is {node.state}, cannot {transition}")
        if node.state == after:
            return
        done = self._asked(node, transition, before, after, timeout_s)
        if node.state == after:
            return
        if done is None:
            raise RobinError(Code.TRANSITION_TIMEOUT, f"{node.name}: did not {transition} within {timeout_s:g} s")
        said = self._reason(node)
        raise RobinError(Code.TRANSITION_FAILED, f"{node.name}: cannot {transition}{': ' + said if said else ''}")

    def _asked(self, node: Managed, transition: str, before: str, after: str, timeout_s: float) -> bool | None:
        """Ask until the node refuses or is there, and return what it said last. A request to a process that has just
        died is lost, and so is a reply to a manager that the node does not know yet: while the node says that it still
        is what it was, it is asked again."""
        ending = self._clock() + timeout_s
        done: bool | None = None
        while done is None and (left := ending - self._clock()) > 0:
            if node.state == before:
                done = self._link.change(node.name, transition, min(left, self._limits.answer_timeout_s))
            if self._state(node) == after or (done is None and self._wait(_POLL_S)):
                break
        return done

    def _reason(self, node: Managed) -> str:
        """What the node says is wrong; it says so once a second, so wait for it for a moment."""
        ending = self._clock() + self._limits.answer_timeout_s
        while not (said := self._link.reason(node.name)) and self._clock() < ending and not self._wait(_POLL_S):
            pass
        return said

    def _look(self, node: Managed) -> None:
        state = self._state(node)
        if state is None:
            node.was_gone = True
            silent = self._clock() - node.answered_s
            if node.phase == "active" and silent >= self._limits.silence_s:
                lost = RobinError(Code.NODE_UNREACHABLE, f"{node.name}: no answer for {silent:.0f} s")
                self._set(node, "lost", lost.code, lost.text)
                self._say(str(lost), error=True)
            return
        if state == ACTIVE:
            if node.phase != "active":
                self._say(f"{node.name}: active")
            self._set(node, "active", Code.OK, "")
        elif state == UNCONFIGURED and (node.phase in ("active", "lost") or (node.phase == "failed" and node.was_gone)):
            self._recover(node)
        elif state in (INACTIVE, FINALIZED):
            self.hold(node.name)
        node.was_gone = False

    def _recover(self, node: Managed) -> None:
        now = self._clock()
        while node.recoveries_s and node.recoveries_s[0] < now - self._limits.recovery_window_s:
            node.recoveries_s.popleft()
        if len(node.recoveries_s) >= self._limits.recoveries:
            often = f"started again {len(node.recoveries_s)} times within {self._limits.recovery_window_s:g} s"
            given_up = RobinError(Code.NODE_NOT_ACTIVE, f"{node.name}: {often}, given up")
            self._set(node, "failed", given_up.code, given_up.text)
            self._say(str(given_up), error=True)
            return
        node.recoveries_s.append(now)
        node.recovered += 1
        self._set(node, "waiting", Code.NODE_NOT_ACTIVE, "came back unconfigured")
        self._say(f"{node.name}: came back unconfigured, bringing it up again")
        self._up(node)

    def _state(self, node: Managed) -> str | None:
        state = self._link.state(node.name, self._limits.answer_timeout_s)
        node.state = state or ""
        if state is not None:
            node.answered_s = self._clock()
        return state

    def _set(self, node: Managed, phase: str, code: Code, text: str) -> None:
        node.phase, node.code, node.text = phase, code, text

    def _wait(self, seconds: float) -> bool:
        """Sleep; True when the manager is to end."""
        ending = self._clock() + seconds
        while not self.stopping() and (left := ending - self._clock()) > 0:
            self._sleep(min(left, _POLL_S))
        return self.stopping()
