"""What every engine does: run the graph of a bundle on one frame, with a head that can be swapped between two
frames.
"""

from __future__ import annotations

import math
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from robin_perception.core.config import StrictConfig
from robin_perception.core.errors import Code, RobinError
from robin_perception.model.bundle import FRAME_INPUTS, INSTANCE_OUTPUTS, Bundle, TensorSpec, check_head

Tensors = dict[str, NDArray[Any]]
HEAD_SETS = 2
FALLBACK = "fallback:"


class EngineConfig(StrictConfig):
    """Settings that every engine understands."""

    intra_threads: int = Field(
        0, ge=0, le=256, description="Threads of one inference; 0 = the physical cores this process may use."
    )
    spin: bool = Field(
        False,
        description="Busy-wait between operators; gains little on an idle machine, loses much where others run.",
    )


@dataclass(frozen=True)
class Selection:
    """Which engine was taken and why, and why not the better ones: (name, reason) best first. by_auto: chosen from
    among them, not asked for by name."""

    name: str
    why: str
    rejected: tuple[tuple[str, str], ...] = ()
    by_auto: bool = False

    def line(self) -> str:
        """For logs, diagnostics and the terminal."""
        reasons = "; ".join(f"not {name}: {reason}" for name, reason in self.rejected)
        return f"engine {self.name} ({self.why}{'; ' if reasons else ''}{reasons})"


@dataclass(frozen=True, eq=False)
class HeadSet:
    """One whole head. index: which of the engine's two sets of buffers holds it. weights: float32 by input name."""

    index: int
    weights: Mapping[str, NDArray[np.float32]]


class Engine(ABC):
    """Runs one bundle's graph. All methods may be called from different threads: a frame sees one whole head.

    inputs: the frame's tensors (the head's are fed by the engine). outputs: all that ``run`` can be asked for.

    Heads live in two sets of buffers. ``stage_head`` fills the idle one, ``run(..., head=staged)`` tries it while the
    other serves frames, and ``use_head`` makes it the one in use, which is no more than an assignment.

    output_buffers: where set, engines that can do so write the output of that name into the array it returns.
    """

    name: str
    output_buffers: Callable[[str], NDArray[Any]] | None = None

    def __init__(self, bundle: Bundle, config: EngineConfig) -> None:
        self.bundle = bundle
        self.config = config
        self._running = threading.Lock()  # held while the back end works: one inference or one load at a time
        self._choosing = threading.Lock()  # held for moments: which head is in use, which is staged
        self._head = HeadSet(0, dict(bundle.head))
        self._staged: HeadSet | None = None
        self._loaded: list[HeadSet | None] = [None] * HEAD_SETS
        self._stage_ms: dict[str, float] = {}
        self.selection = Selection(self.name, "made directly")

    @property
    @abstractmethod
    def inputs(self) -> dict[str, TensorSpec]: ...

    @property
    @abstractmethod
    def outputs(self) -> dict[str, TensorSpec]: ...

    @abstractmethod
    def _run(self, feeds: Tensors, outputs: Sequence[str], head: HeadSet) -> Tensors:
        """Execute with the head that ``_load_head`` put into set ``head.index``.

        Raises RobinError ENGINE_FAILED on any failure of the back end. Arrays that are handed out stay as they are.
        """

    def _load_head(self, head: HeadSet) -> None:
        """Put ``head.weights`` into the buffers of set ``head.index``, which no frame reads meanwhile. Nothing to do
        for engines that are fed with the arrays themselves."""
        del head

    @property
    def head(self) -> dict[str, NDArray[np.float32]]:
        """The head in use."""
        with self._choosing:
            return dict(self._head.weights)

    @property
    def answered_by(self) -> str:
        """The engine that gave the last answer; "fallback:NAME" where it did so in place of this one."""
        return self.name

    @property
    def stage_ms(self) -> dict[str, float]:
        """Milliseconds of the latest run: copy_in, network, copy_out, as far as the engine tells them apart."""
        return dict(self._stage_ms)

    def describe(self) -> dict[str, str]:
        """What results and diagnostics say about this engine beside its name: precision, provider, threads."""
        return {}

    def stage_head(self, weights: Mapping[str, NDArray[np.float32]]) -> HeadSet:
        """Load ``weights`` into the idle set; the head in use is not touched, and an older staged one is given up.

        Raises RobinError MODEL_TENSOR_MISSING, or what the back end raises.
        """
        check_head(self.bundle.manifest, weights, "head")
        fresh = {key: np.array(value, dtype=np.float32, order="C") for key, value in weights.items()}
        with self._running:
            with self._choosing:
                staged = HeadSet((self._head.index + 1) % HEAD_SETS, fresh)
                self._staged = None  # so that nobody can swap while the idle set is filled
            self._load(staged)
            with self._choosing:
                self._staged = staged
        return staged

    def use_head(self, head: HeadSet) -> None:
        """Use the staged ``head`` from the next frame on.

        Raises RobinError HEAD_SUPERSEDED when another was staged since.
        """
        with self._choosing:
            if head is self._head:
                return
            if head is not self._staged:
                raise RobinError(Code.HEAD_SUPERSEDED, f"{self.name}: another head was staged or swapped in meanwhile")
            self._head, self._staged = head, None

    def set_head(self, weights: Mapping[str, NDArray[np.float32]]) -> None:
        """Use ``weights`` from the next frame on, unchecked but for shapes and NaN; see ``head_swap.checked_swap``.

        Raises RobinError MODEL_TENSOR_MISSING, and then keeps the old head.
        """
        self.use_head(self.stage_head(weights))

    def run(
        self, inputs: Mapping[str, NDArray[Any]], outputs: Sequence[str] | None = None, head: HeadSet | None = None
    ) -> Tensors:
        """Run one frame. ``outputs`` defaults to the instance tensors, without the trunk's features; ``head`` to the
        one in use, else a staged one.

        Raises RobinError ENGINE_FAILED when the back end fails or answers with NaN or a wrong shape, HEAD_SUPERSEDED
        when ``head`` is neither in use nor staged.
        """
        wanted = tuple(INSTANCE_OUTPUTS if outputs is None else outputs)
        self.check_inputs(inputs)
        results = self.run_unchecked(inputs, wanted, head)
        self.check_outputs(results, wanted)
        return results

    def run_unchecked(
        self, inputs: Mapping[str, NDArray[Any]], outputs: Sequence[str], head: HeadSet | None = None
    ) -> Tensors:
        """As ``run`` for callers that check inputs and outputs themselves, as a process on the other side does."""
        with self._running:
            chosen = self._chosen(head)
            if self._loaded[chosen.index] is not chosen:
                self._load(chosen)
            return self._run(dict(inputs), outputs, chosen)

    def run_part(self, inputs: Mapping[str, NDArray[Any]], outputs: Sequence[str]) -> Tensors:
        """As ``run``, for an enlarged part of a frame that was run as a whole before."""
        return self.run(inputs, outputs)

    @abstractmethod
    def close(self) -> None:
        """Release the back end; the engine is not used afterwards."""

    def _chosen(self, head: HeadSet | None) -> HeadSet:
        with self._choosing:
            if head is None or head is self._head:
                return self._head
            if head is self._staged:
                return head
        raise RobinError(Code.HEAD_SUPERSEDED, f"{self.name}: that head is neither in use nor staged")

    def _load(self, head: HeadSet) -> None:
        self._loaded[head.index] = None
        self._load_head(head)
        self._loaded[head.index] = head

    def check_inputs(self, inputs: Mapping[str, NDArray[Any]]) -> None:
        """Raises RobinError ENGINE_FAILED naming the input that is missing or of another shape or type."""
        for name in FRAME_INPUTS:
            spec, value = self.inputs[name], inputs.get(name)
            if value is None or value.shape != spec.shape or value.dtype != spec.dtype:
                got = "missing" if value is None else f"{value.dtype} {list(value.shape)}"
                need = f"{spec.dtype} {list(spec.shape)}"
                raise RobinError(Code.ENGINE_FAILED, f"{self.name}: input '{name}' is {got}, needs {need}")

    def check_outputs(self, results: Tensors, wanted: Sequence[str]) -> None:
        """Raises RobinError ENGINE_FAILED naming the output that is missing, of a wrong shape or not finite."""
        for name in wanted:
            spec, value = self.outputs.get(name), results.get(name)
            if spec is None or value is None:
                raise RobinError(Code.ENGINE_FAILED, f"{self.name}: no output '{name}'")
            if value.shape != spec.shape:
                got, need = list(value.shape), list(spec.shape)
                raise RobinError(Code.ENGINE_FAILED, f"{self.name}: output '{name}' has shape {got}, needs {need}")
            if not _finite(value):
                raise RobinError(Code.ENGINE_FAILED, f"{self.name}: output '{name}' holds NaN or infinity")


def _finite(values: NDArray[Any]) -> bool:
    """Whether all are finite. The sum of their squares tells, ten times as fast as looking at each, unless it overflows
    itself."""
    flat = values.ravel()
    with np.errstate(over="ignore", invalid="ignore"):
        total = float(np.dot(flat, flat))
    return math.isfinite(total) or bool(np.isfinite(flat).all())
