"""A new head, proven on golden frames in the idle set of buffers before it serves the next frame."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robin_perception.core.errors import Code, RobinError
from robin_perception.engines.base import Engine, HeadSet, Tensors
from robin_perception.engines.parity import Parity, ParityBound, compare
from robin_perception.model.bundle import NETWORK_FILE, Bundle

_PROBE_BIAS = 0.1
_PROBE_SEED = 11

Head = Mapping[str, NDArray[np.float32]]


@dataclass(frozen=True)
class HeadCheck:
    """What a head must pass: on every golden frame the engine computes with it what ``reference`` computes with it."""

    golden: Sequence[Tensors]
    reference: Engine
    bound: ParityBound


@dataclass(frozen=True)
class HeadSwap:
    """A swap that was made. parity: None without a proof. staged_ms: into the idle set. checked_ms: golden frames on
    both engines. swapped_ms: the swap itself, the only part that a frame could have to wait for."""

    parity: Parity | None
    staged_ms: float
    checked_ms: float
    swapped_ms: float

    def to_json(self) -> dict[str, Any]:
        times = {name: round(getattr(self, name), 4) for name in ("staged_ms", "checked_ms", "swapped_ms")}
        return {**times, "parity": None if self.parity is None else self.parity.to_json()}


def same_network(a: Bundle, b: Bundle) -> bool:
    """Whether one engine runs both: they differ in head, calibration and thresholds at most."""
    mine, its = a.manifest, b.manifest
    return mine.files[NETWORK_FILE] == its.files[NETWORK_FILE] and mine.classes == its.classes


def checked_swap(
    engine: Engine,
    weights: Head,
    check: HeadCheck | None,
    use: Callable[[HeadSet], None] | None = None,
    between: AbstractContextManager[Any] | None = None,
) -> HeadSwap:
    """Stage ``weights``, prove them, use them from the next frame on. Frames go on meanwhile with the old head: each
    golden frame is one more inference between two of them.

    A bias of zeros hides an engine that loses it, so that such a head is tried a second time with small ones in
    their place. check: None takes the head without a proof. use: what makes the swap; default ``engine.use_head``.
    between: held meanwhile; getting it may take as long as the frame that is under way, which waits for nothing. Raises
    RobinError MODEL_TENSOR_MISSING for a head of another shape, HEAD_REJECTED when it is not computed as the reference
    does, ENGINE_FAILED when the engine fails on it, HEAD_SUPERSEDED; in every case the old head stays.
    """
    started = time.perf_counter()
    probe = with_biases(weights)
    if check is not None and probe is not None:
        _prove(engine, engine.stage_head(probe), check, "with biases that are not zero")
    stage = time.perf_counter()
    staged = engine.stage_head(weights)
    staged_at = time.perf_counter()
    parity = None if check is None else _prove(engine, staged, check, "")
    checked_at = time.perf_counter()
    with between or nullcontext():
        swap = time.perf_counter()
        (use or engine.use_head)(staged)
        swapped_ms = (time.perf_counter() - swap) * 1e3
    return HeadSwap(parity, (staged_at - stage) * 1e3, (checked_at - staged_at + stage - started) * 1e3, swapped_ms)


def with_biases(weights: Head) -> dict[str, NDArray[np.float32]] | None:
    """``weights`` with small numbers in place of the biases that are all zero; None when there are none of those."""
    rng = np.random.default_rng(_PROBE_SEED)
    silent = [name for name, value in weights.items() if name.endswith(".bias") and not np.any(value)]
    fresh = {name: rng.normal(0, _PROBE_BIAS, np.shape(weights[name])).astype(np.float32) for name in silent}
    return {**weights, **fresh} if silent else None


def _prove(engine: Engine, staged: HeadSet, check: HeadCheck, how: str) -> Parity:
    reference = check.reference.stage_head(staged.weights)
    pairs = [(check.reference.run(g, head=reference), engine.run(g, head=staged)) for g in check.golden]
    parity = compare(pairs)
    outside = parity.exceeds(check.bound)
    if outside is not None:
        text = (
            f"{engine.name} does not compute with this head what {check.reference.name} does{' ' if how else ''}{how}"
        )
        raise RobinError(Code.HEAD_REJECTED, f"{text}: {outside}")
    return parity
