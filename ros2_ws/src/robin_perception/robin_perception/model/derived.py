"""A bundle that was made from another one: its head or its whole network is new, what it is used with stays."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from robin_perception.core.bounded import read_plain_bytes
from robin_perception.model.bundle import (
    FILM_FILE,
    MODEL_BYTES,
    NOVELTY_FILE,
    Bundle,
    CalibrationTables,
    add_file,
    check_head,
    load_bundle,
    write_bundle,
)


def derive_bundle(
    parent: Bundle,
    out: Path,
    head: Mapping[str, NDArray[np.float32]],
    *,
    notes: str,
    network: bytes | None = None,
    calibration: CalibrationTables | None = None,
) -> Bundle:
    """Write ``parent`` with another head, and with another ``network`` (a serialised graph) and ``calibration`` where
    they are given. Scores do not go along, for they were the parent's. Nor do the statistics of known goods to another
    network, on whose masks they were not measured.

    Raises RobinError MODEL_TENSOR_MISSING for a head of another shape or with NaN, and as ``write_bundle``.
    """
    manifest = parent.manifest
    check_head(manifest, head, str(out))
    said = {"parent": parent.model_id, "notes": notes}
    bundle = write_bundle(
        out,
        network or read_plain_bytes(parent.network_path, MODEL_BYTES),
        head,
        name=manifest.name,
        input_size=(manifest.input_height, manifest.input_width),
        max_instances=manifest.max_instances,
        classes=manifest.classes,
        parameters=manifest.parameters,
        calibration=calibration or manifest.calibration,
        thresholds=manifest.thresholds,
        provenance=manifest.provenance.model_copy(update=said),
        card=f"# {manifest.name}\n\n{notes}. Made from `{parent.model_id}`.\n",
    )
    for name in (FILM_FILE, NOVELTY_FILE) if network is None else (FILM_FILE,):
        if name in manifest.files:
            add_file(out, name, read_plain_bytes(parent.directory / name, MODEL_BYTES))
            bundle = load_bundle(out)
    return bundle
