"""Boosted trees and their calibration as plain arrays, evaluated with numpy: several of them in one .npz file. No
pickle, no sklearn.

File: arrays ``<model>.feature|threshold|left|right|value|root|bias|calibration_x|calibration_y`` (and
``missing_left``) of each model, and ``header``, a JSON string: format, features, sha256 over all other arrays,
provenance.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robin_perception.core.bounded import parse_json, read_plain_bytes
from robin_perception.core.bounded_arrays import parse_npz
from robin_perception.core.disk import make_folder, write_atomic
from robin_perception.core.errors import Code, RobinError

Floats = NDArray[np.float64]
MOST_BYTES = 20_000_000
"""Of a file, and of its arrays when unpacked; the shipped ones take a tenth of it."""
MOST_NODES = 200_000
DEEPEST_TREE = 64
LEAF = -1
ARRAYS = ("feature", "threshold", "left", "right", "value", "root", "bias", "calibration_x", "calibration_y")
MISSING = "missing_left"  # left out of files whose features are never missing


@dataclass(frozen=True)
class Trees:
    """A boosted ensemble. Nodes of all trees in one table: feature [M] (LEAF for a leaf), threshold [M] (x <=
    threshold goes left), left, right [M] node numbers, value [M] of leaves; root [T]: first node of each tree; bias:
    the raw score's start. calibration_x, calibration_y: isotonic map from the raw score's logistic to a probability.
    missing_left: bool [M], where NaN goes left; None: NaN goes right everywhere."""

    feature: NDArray[np.int32]
    threshold: Floats
    left: NDArray[np.int32]
    right: NDArray[np.int32]
    value: Floats
    root: NDArray[np.int32]
    bias: float
    calibration_x: Floats
    calibration_y: Floats
    missing_left: NDArray[np.bool_] | None = None

    def raw(self, features: Floats) -> Floats:
        """Sum of the trees in logits: features float64 [N, F] -> [N]."""
        rows = np.arange(len(features))[:, None]
        node = np.broadcast_to(self.root, (len(features), len(self.root))).copy()
        while True:
            feature = self.feature[node]
            inner = feature >= 0
            if not inner.any():
                return np.asarray(self.value[node].sum(axis=1) + self.bias)
            seen = features[rows, np.maximum(feature, 0)]
            goes_left = seen <= self.threshold[node]
            if self.missing_left is not None:
                goes_left |= np.isnan(seen) & self.missing_left[node]
            node = np.where(inner, np.where(goes_left, self.left[node], self.right[node]), node)

    def probability(self, features: Floats) -> Floats:
        """Calibrated: features float64 [N, F] -> [N]."""
        plain = 1.0 / (1.0 + np.exp(-np.clip(self.raw(features), -40.0, 40.0)))
        return np.asarray(np.interp(plain, self.calibration_x, self.calibration_y))


@dataclass(frozen=True)
class TreeFile:
    """models: by name. digest: sha256 of their arrays."""

    models: dict[str, Trees]
    provenance: dict[str, Any]
    digest: str


def save_trees(
    path: Path, form: str, features: Sequence[str], models: Mapping[str, Trees], provenance: Mapping[str, Any]
) -> None:
    """Write atomically. Raises RobinError DISK_FULL or OPTION_INVALID naming the file."""
    arrays = {
        f"{model}.{name}": np.atleast_1d(np.asarray(getattr(trees, name)))
        for model, trees in models.items()
        for name in (*ARRAYS, MISSING)
        if getattr(trees, name) is not None
    }
    header = {"format": form, "features": features, "sha256": _digest(arrays), "provenance": provenance}
    buffer = io.BytesIO()
    np.savez_compressed(buffer, header=np.array(json.dumps(header)), **arrays)  # type: ignore[arg-type]
    make_folder(path.parent)
    write_atomic(path, buffer.getvalue())


def load_trees(path: Path, form: str, what: str, features: Sequence[str], models: Sequence[str]) -> TreeFile:
    """Read and verify. form: of the header. what: "judge", for messages. models: names that it must hold, and no
    others are read. Raises RobinError MODEL_MISSING, MODEL_MANIFEST_INVALID, MODEL_TENSOR_MISSING or
    MODEL_HASH_MISMATCH, naming the file."""
    try:
        arrays = parse_npz(read_plain_bytes(path, MOST_BYTES), str(path), MOST_BYTES)
    except RobinError as exc:
        code = Code.MODEL_MISSING if exc.code is Code.INPUT_MISSING else Code.MODEL_MANIFEST_INVALID
        raise RobinError(code, f"not a {what} file: {exc.text}") from None
    header = _header(arrays.pop("header", None), path, form, what, features)
    missing = [f"{m}.{a}" for m in models for a in ARRAYS if f"{m}.{a}" not in arrays]
    if missing:
        raise RobinError(Code.MODEL_TENSOR_MISSING, f"{path}: array '{missing[0]}' is missing")
    digest = _digest(arrays)
    if header.get("sha256") != digest:
        raise RobinError(Code.MODEL_HASH_MISMATCH, f"{path}: arrays do not match the header's sha256")
    found = {model: _trees(arrays, model, path, len(features)) for model in models}
    return TreeFile(found, dict(header.get("provenance", {})), digest)


def _header(array: NDArray[Any] | None, path: Path, form: str, what: str, features: Sequence[str]) -> dict[str, Any]:
    header = parse_json("null" if array is None else str(array), f"{path}: header", Code.MODEL_MANIFEST_INVALID)
    if not isinstance(header, dict) or header.get("format") != form:
        raise RobinError(Code.MODEL_MANIFEST_INVALID, f"{path}: header is missing or not '{form}'")
    if header.get("features") != list(features) or not isinstance(header.get("provenance", {}), dict):
        raise RobinError(Code.MODEL_MANIFEST_INVALID, f"{path}: made for other features than those of this {what}")
    return header


def _trees(arrays: dict[str, NDArray[Any]], model: str, path: Path, features: int) -> Trees:
    names = ARRAYS if f"{model}.{MISSING}" not in arrays else (*ARRAYS, MISSING)
    part = {name: arrays[f"{model}.{name}"] for name in names}
    plain = all(a.ndim == 1 and a.dtype.kind in "iufb" and 0 < a.size <= MOST_NODES for a in part.values())
    if not plain or not all(np.isfinite(a).all() for a in part.values()) or not _sound(part, features):
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
        part[MISSING].astype(np.bool_) if MISSING in part else None,
    )


def _sound(part: dict[str, NDArray[Any]], features: int) -> bool:
    """Every walk stays within the table and ends after DEEPEST_TREE steps."""
    feature, left, right, root = (part[name] for name in ("feature", "left", "right", "root"))
    nodes = len(feature)
    if any(len(part[name]) != nodes for name in ("threshold", "left", "right", "value", MISSING) if name in part):
        return False
    if len(part["calibration_x"]) != len(part["calibration_y"]) or (feature >= features).any():
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
