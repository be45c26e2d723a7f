"""An engine that misbehaves on demand: what it is to do stands in the file ``mood`` of its bundle's folder.

Import it (``engine_module``) and ask for the engine "misbehaving". It computes what ONNX Runtime does, unless the mood
is one of those below; "slow_start" is read once, when it is made, and all others at every call.
"""

from __future__ import annotations

import ctypes
import os
import signal
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from robin_perception.core.errors import Code, RobinError
from robin_perception.engines import EngineConfig, engine_names, register_engine
from robin_perception.engines.base import HeadSet, Tensors
from robin_perception.engines.ort.engine import OnnxRuntimeEngine
from robin_perception.model.bundle import Bundle

NAME = "misbehaving"
FOREVER_S = 3600


def set_mood(bundle: Path, mood: str) -> None:
    """Atomic, for the engine may read it at any time."""
    aside = bundle / "mood.tmp"
    aside.write_text(mood)
    aside.rename(bundle / "mood")


class MisbehavingEngine(OnnxRuntimeEngine):
    """Moods: good, hang, hang_in_driver (never lets go of the interpreter), kill, exit, error, lost, bug, nan, shape,
    nothing, no_masks, late_head; at the start also slow_start, bad_start, refuse, no_memory."""

    name = NAME

    def __init__(self, bundle: Bundle, config: EngineConfig) -> None:
        super().__init__(bundle, config)
        self.mood_file = bundle.directory / "mood"
        self.output_buffers = None
        mood = self.mood()
        if mood == "slow_start":
            while self.mood() == mood:
                time.sleep(0.01)
        elif mood == "bad_start":
            os._exit(3)
        elif mood == "refuse":
            raise RobinError(Code.ENGINE_UNAVAILABLE, "no driver")
        elif mood == "no_memory":
            raise RobinError(Code.ENGINE_OUT_OF_MEMORY, "the GPU is out of memory")

    def mood(self) -> str:
        return self.mood_file.read_text() if self.mood_file.exists() else "good"

    def _load_head(self, head: HeadSet) -> None:
        super()._load_head(head)
        if self.mood() == "late_head":
            time.sleep(FOREVER_S)

    def _run(self, feeds: Tensors, outputs: Sequence[str], head: HeadSet) -> Tensors:
        mood = self.mood()
        if mood == "hang":
            time.sleep(FOREVER_S)
        elif mood == "hang_in_driver":
            ctypes.PyDLL(None).sleep(FOREVER_S)
        elif mood == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        elif mood == "exit":
            os._exit(7)
        elif mood == "error":
            raise RobinError(Code.ENGINE_FAILED, "out of device memory")
        elif mood == "lost":
            raise RobinError(Code.ENGINE_CRASHED, "the GPU's context is lost")
        elif mood == "bug":
            raise ZeroDivisionError("a bug")
        return self._spoilt(super()._run(feeds, outputs, head), mood)

    def _spoilt(self, results: Tensors, mood: str) -> Tensors:
        spoilt: dict[str, Any] = {}
        if mood == "nan":
            spoilt["mask_logits"] = results["mask_logits"].copy()
            spoilt["mask_logits"][1, 5, 7] = np.nan
        elif mood == "shape":
            spoilt["mask_logits"] = results["mask_logits"][:, :-1]
        elif mood == "nothing":
            spoilt["detection"] = np.zeros_like(results["detection"])
        elif mood == "no_masks":
            spoilt["mask_logits"] = np.full_like(results["mask_logits"], -5.0)
        return {**results, **spoilt}


if NAME not in engine_names():
    register_engine(NAME, MisbehavingEngine)
