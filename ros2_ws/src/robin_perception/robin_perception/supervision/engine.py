"""An engine that runs another one where its hang or crash takes nobody along, with a fallback that stands ready."""

from __future__ import annotations

import importlib
import threading
import time
import weakref
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robin_perception.core.errors import Code, RobinError
from robin_perception.engines.base import FALLBACK, Engine, EngineConfig, HeadSet, Tensors
from robin_perception.engines.registry import make_engine, select, unavailable_reasons
from robin_perception.model.bundle import Bundle, TensorSpec
from robin_perception.supervision.config import NO_FALLBACK, SUPERVISED, SupervisionConfig
from robin_perception.supervision.empty import EmptyCheck
from robin_perception.supervision.process import GONE, Child, ChildSpec
from robin_perception.supervision.warm_up import bare_belt
from robin_perception.supervision.watchdog import COUNTS, Watchdog, WatchdogStatus

_BY_NAME_WAIT_S = 120.0  # a command that asks for "supervised:NAME" means NAME's answers


@dataclass(frozen=True)
class SupervisionStatus:
    """child: of its process. answered_by: the engine that answered last, "fallback:NAME" if it was the fallback, empty
    = none yet. answers: how many of each.

    empty_confirmed: empty answers that stood against the depth, and that the fallback agreed with.
    lost_ms: what the latest call that failed cost before the fallback was asked, 0 = none has.
    """

    child: WatchdogStatus
    answered_by: str
    answers: dict[str, int]
    fallback_answers: int
    empty_confirmed: int
    lost_ms: float

    def values(self) -> dict[str, str]:
        """For /diagnostics."""
        child = self.child
        return {
            "supervision.state": child.state,
            "supervision.pid": str(child.pid),
            "supervision.answered_by": self.answered_by,
            **{f"supervision.{name}": str(getattr(child, name)) for name in COUNTS},
            "supervision.fallback_answers": str(self.fallback_answers),
            "supervision.empty_confirmed": str(self.empty_confirmed),
            "supervision.lost_ms": f"{self.lost_ms:.1f}",
            "supervision.last_fault": child.last,
        }


class _Call(threading.local):
    """What is run in this thread."""

    of_part = False


class SupervisedEngine(Engine):
    """Runs ``engine`` in a child process, and ``supervision.fallback`` in this one whenever the child has no answer.

    A call has a deadline. A child that is late, has crashed, failed, or answered what cannot be (NaN, a wrong shape,
    nothing where the depth shows relief and the fallback sees parcels) is killed and restarted in the background, up to
    a limit. The fallback answers that very frame and those that follow; ``take_faults`` tells the numbered reasons.
    Without a fallback, ``run`` raises them: ENGINE_HUNG, ENGINE_CRASHED, ENGINE_OUTPUT_INVALID, ENGINE_STARTING,
    ENGINE_GIVEN_UP, or what the child's engine raised.

    A staged head on trial (``run(..., head=staged)``) is answered by the child or not at all, unless that stays off:
    the fallback's answer would prove nothing, and what such a head does to the answers is no fault of the engine.

    It is made while the child still starts (``ready_wait_s``); the fallback is warm when it is.
    """

    def __init__(
        self, engine: str, bundle: Bundle, config: EngineConfig, supervision: SupervisionConfig | None = None
    ) -> None:
        self.supervision = supervision or SupervisionConfig(ready_wait_s=_BY_NAME_WAIT_S)
        if module := self.supervision.engine_module:
            importlib.import_module(module)
        selection = select(engine, bundle, config)  # auto ends here: both processes must speak of the same engine
        if (reason := unavailable_reasons(bundle, config)[selection.name]) is not None:
            raise RobinError(Code.ENGINE_UNAVAILABLE, f"{selection.name}: {reason}")
        self.name = f"{SUPERVISED}{selection.name}"
        super().__init__(bundle, config)
        self.selection = selection
        from robin_perception.engines.tensorrt.buffers import graph_specs  # onnx, which a plain engine does without

        self._inputs, _, self._outputs = graph_specs(bundle)
        self._empty = EmptyCheck(self.supervision, bundle.manifest.calibration)
        self._call = _Call()
        self._answers: Counter[str] = Counter()
        self._answered_by = ""
        self._by_fallback = self._empty_confirmed = 0
        self._lost_ms = 0.0
        self._closed = False
        spec = ChildSpec(bundle, selection.name, selection.by_auto, config, self._inputs, self._outputs, module)
        self._watchdog = Watchdog(spec, self.supervision)
        weakref.finalize(self, self._watchdog.close)  # for those that are dropped without being closed
        self._fallback: Engine | None = None
        try:
            if self.supervision.fallback != NO_FALLBACK:
                self._fallback = make_engine(self.supervision.fallback, bundle, config)
                self._fallback.run(bare_belt({name: _empty_array(spec) for name, spec in self._inputs.items()}))
        except BaseException:
            self._watchdog.close()
            raise
        wait_s = self.supervision.ready_wait_s if self._fallback is not None else self.supervision.start_timeout_s
        self._watchdog.wait_ready(wait_s)  # without a fallback nothing answers before

    @property
    def inputs(self) -> dict[str, TensorSpec]:
        return self._inputs

    @property
    def outputs(self) -> dict[str, TensorSpec]:
        return self._outputs

    @property
    def has_fallback(self) -> bool:
        return self._fallback is not None

    @property
    def answered_by(self) -> str:
        return self._answered_by

    @property
    def child_pid(self) -> int:
        """Process that the engine runs in; 0 = none just now."""
        return self._watchdog.status().pid

    def wait_ready(self, timeout_s: float) -> bool:
        """Until the child answers calls, or never will. The fallback needs no waiting."""
        return self._watchdog.wait_ready(timeout_s)

    def status(self) -> SupervisionStatus:
        answers = dict(self._answers)
        child = self._watchdog.status()
        counts = (self._by_fallback, self._empty_confirmed)
        return SupervisionStatus(child, self._answered_by, answers, *counts, self._lost_ms)

    def standing_fault(self) -> RobinError | None:
        """Why the child does not answer now; None while it does."""
        return None if self._watchdog.state == "ready" else self._watchdog.reason

    def take_faults(self) -> list[RobinError]:
        """Numbered reasons of all that went wrong since the last call of this, oldest first."""
        return self._watchdog.take_faults()

    def describe(self) -> dict[str, str]:
        child = self._watchdog.child
        fallback = self.supervision.fallback
        return {**({} if child is None else child.description), "supervised": "yes", "fallback": fallback}

    def close(self) -> None:
        """A call that is under way ends with ENGINE_FAILED."""
        self._closed = True
        self._watchdog.close()
        with self._running:
            if self._fallback is not None:
                self._fallback.close()
            self._fallback = None

    def _load_head(self, head: HeadSet) -> None:
        if self._fallback is not None:
            self._fallback._load_head(head)
        child = self._watchdog.child
        if child is None:
            return
        try:
            child.load(head, self.supervision.deadline_ms)
        except RobinError as exc:
            if exc.code not in GONE:
                raise  # the engine refuses this head, and goes on with the one in use
            self._watchdog.fail(child, exc)  # its successor gets the head before its first frame
            if self._fallback is None:
                raise

    def run_part(self, inputs: Mapping[str, NDArray[Any]], outputs: Sequence[str]) -> Tensors:
        """As ``run``. An empty answer is believed: that of the whole frame was looked into."""
        self._call.of_part = True
        try:
            return self.run(inputs, outputs)
        finally:
            self._call.of_part = False

    def _run(self, feeds: Tensors, outputs: Sequence[str], head: HeadSet) -> Tensors:
        if unknown := [name for name in outputs if name not in self._outputs]:
            raise RobinError(Code.ENGINE_FAILED, f"{self.name}: no output '{unknown[0]}'")
        child, on_trial = self._watchdog.child, head is not self._head
        if child is None:
            if on_trial and self._watchdog.state != "given_up":
                raise self._watchdog.reason  # a trial on the fallback would prove nothing about the engine
            return self._ask_fallback(feeds, outputs, head, self._watchdog.reason)
        begin = time.perf_counter()
        try:
            answer = self._ask(child, feeds, outputs, head)
        except RobinError as exc:
            if on_trial and exc.code not in GONE:
                raise  # the fault of that head; with the one in use the engine goes on
            self._watchdog.fail(child, exc)
            self._lost_ms = (time.perf_counter() - begin) * 1e3
            if on_trial:
                raise
            return self._ask_fallback(feeds, outputs, head, exc)
        if not on_trial and not self._call.of_part and self._empty.suspicious(feeds, answer):
            return self._second_opinion(child, answer, feeds, outputs, head)
        self._count(child.engine_name)
        return answer

    def check_outputs(self, results: Tensors, wanted: Sequence[str]) -> None:
        """Has been done, while there still was somebody else to ask."""

    def _ask(self, child: Child, feeds: Tensors, outputs: Sequence[str], head: HeadSet) -> Tensors:
        """The child's answer. Raises RobinError when it is not to be asked again."""
        begin = time.perf_counter()
        if not child.has(head):
            child.load(head, self.supervision.deadline_ms)
        answer = child.run(feeds, outputs, head, self.supervision.deadline_ms)
        try:
            super().check_outputs(answer, outputs)
        except RobinError as exc:
            raise RobinError(Code.ENGINE_OUTPUT_INVALID, exc.text) from None
        self._stage_ms = {**child.stage_ms, "supervision": (time.perf_counter() - begin) * 1e3 - child.call_ms}
        return answer

    def _ask_fallback(self, feeds: Tensors, outputs: Sequence[str], head: HeadSet, reason: RobinError) -> Tensors:
        """The fallback's answer; raises ``reason`` where there is none."""
        if self._closed:
            raise RobinError(Code.ENGINE_FAILED, f"{self.name}: was closed")
        if self._fallback is None:
            raise reason
        answer = self._fallback._run(feeds, outputs, head)
        super().check_outputs(answer, outputs)
        self._stage_ms = self._fallback.stage_ms
        self._count(f"{FALLBACK}{self._fallback.name}")
        self._by_fallback += 1
        return answer

    def _second_opinion(
        self, child: Child, answer: Tensors, feeds: Tensors, outputs: Sequence[str], head: HeadSet
    ) -> Tensors:
        """An empty answer against the depth: true if the fallback sees nothing either, else the child is replaced."""
        text = f"{self.name}: sees nothing where the depth shows relief"
        reason = RobinError(Code.ENGINE_OUTPUT_INVALID, text)
        if self._fallback is None:
            self._watchdog.fail(child, reason)
            raise reason
        other = self._ask_fallback(feeds, outputs, head, reason)
        if not self._empty.empty(other):
            self._watchdog.fail(child, reason)
            return other
        self._empty.confirm(feeds)
        self._empty_confirmed += 1
        return answer

    def _count(self, name: str) -> None:
        self._answered_by = name
        self._answers[name] += 1


def _empty_array(spec: TensorSpec) -> NDArray[Any]:
    return np.zeros(spec.shape, spec.dtype)
