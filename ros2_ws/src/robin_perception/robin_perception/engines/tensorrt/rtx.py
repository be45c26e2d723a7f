"""What TensorRT for RTX asks for that TensorRT does not.

It builds without a GPU: kernels are compiled when an engine is loaded, on the GPU that is there. It times nothing, so
that a timing cache has no use, and NVIDIA means to take it away. A context can be recorded as a CUDA graph only where
the engine was built to take its memory from the application. Sources: TensorRT-RTX's documentation, "Timing Cache
Migration" and "CPU-Only AOT", and the notes of release 1.2.
"""

from __future__ import annotations

from typing import Any

from robin_perception.core.errors import Code, RobinError

COMPUTE = ("8.0", "8.6", "8.9", "12.0")  # Ampere, Ada, Blackwell: what an engine is built for when none is named


def set_up_rtx(trt: Any, config: Any, compute: str, source: str) -> None:
    """Make ``config`` one for compute capability ``compute``, "" for all that one engine can be for.

    Raises RobinError ENGINE_BUILD_FAILED for one that it does not know.
    """
    config.set_flag(trt.BuilderFlag.REQUIRE_USER_ALLOCATION)
    if not compute:
        return
    name = f"SM{compute.replace('.', '')}"
    known = [kind for kind in dir(trt.ComputeCapability) if kind.startswith("SM")]
    if name not in known:
        of = ", ".join(sorted((f"{kind[2:-1]}.{kind[-1]}" for kind in known), key=float))
        text = f"{source}: TensorRT for RTX {trt.__version__} does not build for compute capability {compute}; for {of}"
        raise RobinError(Code.ENGINE_BUILD_FAILED, text)
    config.num_compute_capabilities = 1
    config.set_compute_capability(getattr(trt.ComputeCapability, name), 0)
