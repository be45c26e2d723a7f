"""The bundle's film network: from a frame to where film stands. It runs on the CPU by ONNX Runtime, whatever the
engine, and only for frames in which goods lack depth.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robin_perception.core.bounded import read_plain_bytes
from robin_perception.core.errors import Code, RobinError
from robin_perception.engines.base import EngineConfig
from robin_perception.model.bundle import FILM_FILE, FRAME_INPUTS, MODEL_BYTES, Bundle
from robin_perception.model.graph_bounds import refuse_unbounded
from robin_perception.model.onnx_graph import frame_inputs, parse

FILM_OUTPUT = "film"
FACTS_KEY = "robin"
"""Of the graph's properties: JSON of what it was made from."""


class FilmReader:
    """Reads film. facts: what the film network was made from, as far as it tells. Raises RobinError
    FILM_NETWORK_INVALID, ENGINE_FAILED."""

    def __init__(self, bundle: Bundle, config: EngineConfig | None = None) -> None:
        from robin_perception.engines.ort.session import open_session, session_options

        path = bundle.directory / FILM_FILE
        self.facts = _checked(read_plain_bytes(path, MODEL_BYTES), bundle, str(path))
        self._session = open_session(path, session_options(config or EngineConfig()))

    def read(self, inputs: Mapping[str, NDArray[Any]]) -> NDArray[np.float32]:
        """float32 [2, h/4, w/4]: height above the belt where there is film, metres, and P(film). inputs: those of the
        network. Raises RobinError ENGINE_FAILED."""
        try:
            film = self._session.run([FILM_OUTPUT], {name: inputs[name] for name in FRAME_INPUTS})[0]
        except Exception as exc:  # ONNX Runtime raises a dozen unrelated types
            raise RobinError(Code.ENGINE_FAILED, f"film network: {type(exc).__name__}: {exc}") from None
        return np.asarray(film, dtype=np.float32)


def film_reader(bundle: Bundle, config: EngineConfig | None = None) -> FilmReader | None:
    """None for a bundle without a film network. Raises as ``FilmReader``."""
    return FilmReader(bundle, config) if FILM_FILE in bundle.manifest.files else None


def _checked(data: bytes, bundle: Bundle, source: str) -> dict[str, Any]:
    """What the graph tells of its training, if it is one that reads frames of the bundle's size."""
    size = (bundle.manifest.input_height, bundle.manifest.input_width)
    wanted = {"rgb": (*size, 3), "depth": size, "intrinsics": (4,), "belt_plane": (4,)}
    try:
        model = parse(data, source)
        shapes = refuse_unbounded(model, source)
    except RobinError as exc:
        raise RobinError(Code.FILM_NETWORK_INVALID, exc.text) from None
    found = {
        value.name: tuple(size.dim_value for size in value.type.tensor_type.shape.dim)
        for value in frame_inputs(model.graph)
    }
    if found != wanted:
        raise RobinError(Code.FILM_NETWORK_INVALID, f"{source}: its inputs are {found}, not {wanted}")
    if shapes.get(FILM_OUTPUT) != (2, size[0] // 4, size[1] // 4):
        text = f"{source}: output '{FILM_OUTPUT}' must be {[2, size[0] // 4, size[1] // 4]}"
        raise RobinError(Code.FILM_NETWORK_INVALID, text)
    told = next((entry.value for entry in model.metadata_props if entry.key == FACTS_KEY), "{}")
    try:
        facts = json.loads(told)
    except ValueError:
        facts = {}
    return facts if isinstance(facts, dict) else {}
