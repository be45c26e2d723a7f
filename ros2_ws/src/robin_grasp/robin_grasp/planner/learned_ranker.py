"""Boosted trees and their calibration as plain arrays: read from one .npz file, evaluated with numpy. No pickle, no
sklearn.

File: arrays ``<model>.feature|threshold|left|right|value|root|bias`` and ``<model>.calibration_x|calibration_y`` for
the models "clean" and "multi", and ``header``, a JSON string: format, features, sha256 over all other arrays,
provenance.
"""

from __future__ import annotations

import hashlib
import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robin_grasp.planner.ranker import FEATURE_NAMES, Odds, feature_matrix
from robin_perception.core.bounded import parse_json, read_plain_bytes
from robin_perception.core.bounded_arrays import parse_npz
from robin_perception.core.disk import make_folder, write_atomic
from robin_perception.core.errors import Code, RobinError

Floats = NDArray[np.float64]
FORMAT = "robin-ranker-1"
MODELS = ("clean", "multi")
SHIPPED_RANKER = Path(__file__).parent / "data" / "ranker.npz"
RANKER_BYTES = 20_000_000
"""Of the file, and of its arrays when unpacked; the shipped one takes a thousandth of it."""
MOST_NODES = 200_000
DEEPEST_TREE = 64
LEAF = -1
ARRAYS = ("feature", "threshold", "left", "right", "value", "root", "bias", "calibration_x", "calibration_y")


@dataclass(frozen=True)
class Trees:
    """A boosted ensemble. Nodes of all trees in one table: feature [M] (LEAF for a leaf), threshold [M] (x <=
    threshold goes left), left, right [M] node numbers, value [M] of leaves; root [T]: first node of each tree; bias:
    the raw score's start. calibration_x, calibration_y: isotonic map from the raw score's logistic to a probability."""

    feature: NDArray[np.int32]
    threshold: Floats
    left: NDArray[np.int32]
    right: NDArray[np.int32]
    value: Floats
    root: NDArray[np.int32]
    bias: float
    calibration_x: Floats
    calibration_y: Floats

    def raw(self, features: Floats) -> Floats:
        """Sum of the trees in logits: features float64 [N, F] -> [N]."""
        rows = np.arange(len(features))[:, None]
        node = np.broadcast_to(self.root, (len(features), len(self.root))).copy()
        while True:
            feature = self.feature[node]
            inner = feature >= 0
            if not inner.any():
                return np.asarray(self.value[node].sum(axis=1) + self.bias)
            goes_left = features[rows, np.maximum(feature, 0)] <= self.threshold[node]
            node = np.where(inner, np.where(goes_left, self.left[node], self.right[node]), node)

    def probability(self, features: Floats) -> Floats:
        """Calibrated: features float64 [N, F] -> [N]."""
        plain = 1.0 / (1.0 + np.exp(-np.clip(self.raw(features), -40.0, 40.0)))
        return np.asarray(np.interp(plain, self.calibration_x, self.calibration_y))


class LearnedRanker:
    """P(clean) and P(multi) from trees that were fitted to outcomes of the simulated cell."""

    name = "learned"

    def __init__(self, clean: Trees, multi: Trees, provenance: dict[str, Any]) -> None:
        self.clean = clean
        self.multi = multi
        self.provenance = provenance

    def odds(self, terms: dict[str, Floats]) -> Odds:
        features = feature_matrix(terms)
        if len(features) == 0:
            return Odds(np.zeros(0), np.zeros(0))
        clean = self.clean.probability(features)
        return Odds(clean, np.minimum(self.multi.probability(features), 1.0 - clean))


def save_ranker(ranker: LearnedRanker, path: Path) -> None:
    """Write atomically. Raises RobinError DISK_FULL or OPTION_INVALID naming the file."""
    arrays = {
        f"{model}.{name}": np.atleast_1d(np.asarray(getattr(trees, name)))
        for model, trees in (("clean", ranker.clean), ("multi", ranker.multi))
        for name in ARRAYS
    }
    header = {"format": FORMAT, "features": FEATURE_NAMES, "sha256": _digest(arrays), "provenance": ranker.provenance}
    buffer = io.BytesIO()
    np.savez_compressed(buffer, header=np.array(json.dumps(header)), **arrays)  # type: ignore[arg-type]
    make_folder(path.parent)
    write_atomic(path, buffer.getvalue())


def load_ranker(path: Path) -> LearnedRanker:
    """Read and verify. Raises RobinError MODEL_MISSING, MODEL_MANIFEST_INVALID, MODEL_TENSOR_MISSING or
    MODEL_HASH_MISMATCH, naming the file."""
    try:
        arrays = parse_npz(read_plain_bytes(path, RANKER_BYTES), str(path), RANKER_BYTES)
    except RobinError as exc:
        code = Code.MODEL_MISSING if exc.code is Code.INPUT_MISSING else Code.MODEL_MANIFEST_INVALID
        raise RobinError(code, f"not a ranker file: {exc.text}") from None
    header = _header(arrays.pop("header", None), path)
    missing = [f"{m}.{a}" for m in MODELS for a in ARRAYS if f"{m}.{a}" not in arrays]
    if missing:
        raise RobinError(Code.MODEL_TENSOR_MISSING, f"{path}: array '{missing[0]}' is missing")
    if header.get("sha256") != _digest(arrays):
        raise RobinError(Code.MODEL_HASH_MISMATCH, f"{path}: arrays do not match the header's sha256")
    models = [_trees(arrays, model, path) for model in MODELS]
    return LearnedRanker(models[0], models[1], dict(header.get("provenance", {})))


def load_ranker_or_none(path: Path | None) -> tuple[LearnedRanker | None, tuple[str, ...]]:
    """The ranker, or None with a flag that says why: "ranker_missing" or "ranker_damaged"."""
    try:
        return load_ranker(path or SHIPPED_RANKER), ()
    except RobinError as exc:
        return None, ("ranker_missing" if exc.code is Code.MODEL_MISSING else "ranker_damaged",)


def _header(array: NDArray[Any] | None, path: Path) -> dict[str, Any]:
    header = parse_json("null" if array is None else str(array), f"{path}: header", Code.MODEL_MANIFEST_INVALID)
    if not isinstance(header, dict) or header.get("format") != FORMAT:
        raise RobinError(Code.MODEL_MANIFEST_INVALID, f"{path}: header is missing or not '{FORMAT}'")
    if header.get("features") != list(FEATURE_NAMES) or not isinstance(header.get("provenance", {}), dict):
        raise RobinError(Code.MODEL_MANIFEST_INVALID, f"{path}: made for other features than this planner's")
    return header


def _trees(arrays: dict[str, NDArray[Any]], model: str, path: Path) -> Trees:
    part = {name: arrays[f"{model}.{name}"] for name in ARRAYS}
    plain = all(a.ndim == 1 and a.dtype.kind in "iuf" and 0 < a.size <= MOST_NODES for a in part.values())
    if not plain or not all(np.isfinite(a).all() for a in part.values()) or not _sound(part):
        raise RobinError(Code.MODEL_MANIFEST_INVALID, f"{path}: the trees of '{model}' are not well formed")
    return Trees(
        part["feature"].astype(np.int32),
        part["threshold"].astype(np.float64),
        part["left"].astype(np.int32),
        part["right"].astype(np.int32),
        part["value"].astype(np.float64),
        part["root"].astype(np.int32),
        float(part["bias"][0]),
        part["calibration_x"].astype(np.float64),
        part["calibration_y"].astype(np.float64),
    )


def _sound(part: dict[str, NDArray[Any]]) -> bool:
    """Every walk stays within the table and ends after DEEPEST_TREE steps."""
    feature, left, right, root = (part[name] for name in ("feature", "left", "right", "root"))
    nodes = len(feature)
    if any(len(part[name]) != nodes for name in ("threshold", "left", "right", "value")):
        return False
    if len(part["calibration_x"]) != len(part["calibration_y"]) or (feature >= len(FEATURE_NAMES)).any():
        return False
    inner = feature >= 0
    for places in (left[inner], right[inner], root):
        if ((places < 0) | (places >= nodes)).any():
            return False
    reached = np.unique(root)
    for _ in range(DEEPEST_TREE):
        parents = reached[inner[reached.astype(np.intp)]].astype(np.intp)
        if not parents.size:
            return True
        reached = np.unique(np.concatenate([left[parents], right[parents]]))
    return False


def _digest(arrays: dict[str, NDArray[Any]]) -> str:
    """sha256 over name, dtype, shape and bytes of every array, by name."""
    digest = hashlib.sha256()
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        digest.update(f"{name}|{array.dtype.str}|{array.shape}|".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()
