"""The statistics of known goods that a bundle ships: ``novelty.safetensors``, and the score they give."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load as load_tensors
from safetensors.numpy import save as save_tensors

from robin_perception.core.bounded import read_plain_bytes
from robin_perception.core.errors import Code, RobinError
from robin_perception.model.bundle import NETWORK_FILE, NOVELTY_FILE, Bundle
from robin_perception.novelty.appearance import SIZE

Floats = NDArray[np.float32]

FORMAT = "appearance-2"
TERM_WEIGHTS = np.array([1.0, 0.3, 0.5], dtype=np.float32)
"""Of the learned layer's log odds, of the distance to all known goods, and of that to the nearest ones."""
NEIGHBOURS = 5
MOST_REFERENCES = 1024
_MOST_BYTES = 10_000_000
_MOST_HIDDEN = 4096


@dataclass(frozen=True)
class NoveltyStatistics:
    """What known goods look like, and in which directions others differ. D = ``appearance.SIZE``.

    mean, scale: float32 [D] of known goods, in good and in bad light. precision: float32 [D, D], inverse covariance of
    what they standardise to. hidden_weight [D, H], hidden_bias [H], out_weight [H]: a layer that was taught to tell
    known goods from odd ones. reference: [N, D], N <= ``MOST_REFERENCES``, known goods themselves; kept in half
    precision. middle, spread: of the three scores on known goods in good light: median, and from there to
    the quantile that ``rate`` of them exceed. limit: that quantile of their sum. trunk: sha256 of the network whose
    masks it was measured on. provenance: what it was made from.
    """

    mean: Floats
    scale: Floats
    precision: Floats
    hidden_weight: Floats
    hidden_bias: Floats
    out_weight: Floats
    reference: Floats
    middle: Floats
    spread: Floats
    limit: float
    rate: float
    trunk: str
    provenance: dict[str, Any] = field(default_factory=dict)

    def score(self, appearances: Floats) -> Floats:
        """How unlike known goods, on no particular scale; float32 [n] of appearances [n, D].

        The sum of three, each on the scale of known goods: the learned layer's log odds, and shares of two distances,
        which also tell what is unlike all that the layer was ever shown: Mahalanobis' to known goods as a whole, and
        that to the nearest of them (Sun et al., Out-of-distribution detection with deep nearest neighbors, 2022).
        """
        return np.asarray(((self.terms(appearances) - self.middle) / self.spread) @ TERM_WEIGHTS, dtype=np.float32)

    def terms(self, appearances: Floats) -> Floats:
        """(log odds, Mahalanobis distance, distance to the ``NEIGHBOURS``th nearest known one), float32 [n, 3]."""
        standard = (appearances - self.mean) / self.scale
        hidden = np.maximum(standard @ self.hidden_weight + self.hidden_bias, 0)
        distance = np.sqrt(np.maximum(np.einsum("ij,ij->i", standard @ self.precision, standard), 0))
        nearest = _to_nearest(appearances, self.reference)
        return np.stack([hidden @ self.out_weight, distance, nearest], axis=1).astype(np.float32)

    @property
    def digest(self) -> str:
        """Of every figure that the score depends on."""
        return hashlib.sha256(self.to_bytes()).hexdigest()

    def to_bytes(self) -> bytes:
        """Content of ``novelty.safetensors``."""
        tensors = {name: np.ascontiguousarray(getattr(self, name), dtype=np.float32) for name in _shapes(1)}
        tensors["reference"] = np.ascontiguousarray(self.reference, dtype=np.float16)
        facts = {"format": FORMAT, "limit": self.limit, "rate": self.rate, "trunk": self.trunk}
        text = json.dumps({**facts, "provenance": self.provenance}, sort_keys=True)
        return bytes(save_tensors(tensors, metadata={"novelty": text}))


def parse_statistics(data: bytes, source: str) -> NoveltyStatistics:
    """Raises RobinError NOVELTY_STATISTICS_INVALID naming ``source`` and the tensor or key at fault."""
    try:
        tensors = load_tensors(data)
        facts = json.loads(_metadata(data)["novelty"])
        if facts["format"] != FORMAT:
            raise ValueError(f"format is '{facts['format']}', this version reads '{FORMAT}'")
        hidden = len(tensors["hidden_bias"])
        if not 1 <= hidden <= _MOST_HIDDEN:
            raise ValueError(f"'hidden_bias' has {hidden} values")
        for name, shape in _shapes(hidden).items():
            value = tensors[name]
            if value.shape != shape or value.dtype != np.float32 or not np.isfinite(value).all():
                raise ValueError(f"'{name}' is {value.dtype} {list(value.shape)}, needs finite float32 {list(shape)}")
        kept = tensors["reference"]
        fits = kept.ndim == 2 and kept.shape[1] == SIZE and NEIGHBOURS <= len(kept) <= MOST_REFERENCES
        if not fits or kept.dtype != np.float16 or not np.isfinite(kept).all():
            raise ValueError(f"'reference' is {kept.dtype} {list(kept.shape)}, needs finite float16 [n, {SIZE}]")
        if not ((tensors["scale"] > 0).all() and (tensors["spread"] > 0).all() and np.isfinite(facts["limit"])):
            raise ValueError("'scale' and 'spread' must be above 0, 'limit' finite")
        values = {name: tensors[name] for name in _shapes(hidden)} | {"reference": kept.astype(np.float32)}
        limit, rate, trunk = float(facts["limit"]), float(facts["rate"]), str(facts["trunk"])
        return NoveltyStatistics(**values, limit=limit, rate=rate, trunk=trunk, provenance=dict(facts["provenance"]))
    except (SafetensorError, ValueError, KeyError, TypeError) as exc:
        raise RobinError(Code.NOVELTY_STATISTICS_INVALID, f"{source}: {exc}") from None


def load_statistics(bundle: Bundle) -> NoveltyStatistics:
    """Those of a verified bundle. Raises RobinError NOVELTY_STATISTICS_MISSING, NOVELTY_STATISTICS_INVALID, and
    NOVELTY_STATISTICS_MISMATCH where they were measured on another network's masks."""
    path = bundle.directory / NOVELTY_FILE
    if NOVELTY_FILE not in bundle.manifest.files:
        text = f"{bundle.directory}: no {NOVELTY_FILE}; make one with robin novelty fit"
        raise RobinError(Code.NOVELTY_STATISTICS_MISSING, text)
    found = parse_statistics(read_plain_bytes(path, _MOST_BYTES), str(path))
    trunk = bundle.manifest.files[NETWORK_FILE]
    if found.trunk != trunk:
        text = f"{path}: measured on network {found.trunk[:8]}, this bundle's is {trunk[:8]}; run robin novelty fit"
        raise RobinError(Code.NOVELTY_STATISTICS_MISMATCH, text)
    return found


def _to_nearest(appearances: Floats, reference: Floats) -> Floats:
    """Distance of each of [n, D] to its ``NEIGHBOURS``th nearest of [N, D], float32 [n]."""
    lengths = np.einsum("ij,ij->i", appearances, appearances)[:, None] + np.einsum("ij,ij->i", reference, reference)
    squared = np.maximum(lengths - 2 * appearances @ reference.T, 0)
    return np.asarray(np.sqrt(np.partition(squared, NEIGHBOURS - 1, axis=1)[:, NEIGHBOURS - 1]), dtype=np.float32)


def _metadata(data: bytes) -> Mapping[str, str]:
    size = int.from_bytes(data[:8], "little")
    found = json.loads(data[8 : 8 + size]).get("__metadata__", {})
    return found if isinstance(found, dict) else {}


def _shapes(hidden: int) -> dict[str, tuple[int, ...]]:
    return {
        "mean": (SIZE,),
        "scale": (SIZE,),
        "precision": (SIZE, SIZE),
        "hidden_weight": (SIZE, hidden),
        "hidden_bias": (hidden,),
        "out_weight": (hidden,),
        "middle": (len(TERM_WEIGHTS),),
        "spread": (len(TERM_WEIGHTS),),
    }
