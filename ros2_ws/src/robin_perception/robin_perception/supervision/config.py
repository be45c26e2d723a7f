"""Settings of supervised inference."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from robin_perception.core.config import StrictConfig

NO_FALLBACK = "none"
SUPERVISED = "supervised:"  # before an engine's name: in a process of its own


class SupervisionConfig(StrictConfig):
    """When an engine runs in a process of its own, and what is done about one that hangs, crashes or talks nonsense."""

    mode: Literal["auto", "always", "never"] = Field(
        "auto",
        description="Run the engine in a process of its own; auto = unless it is one of the CPU.",
    )
    deadline_ms: float = Field(
        1000.0, ge=5, le=60_000, description="An engine that has not answered by then, or loaded a head, is ended, ms."
    )
    start_timeout_s: float = Field(
        900.0, ge=1, le=7200, description="Longest start of the engine's process (an engine may be built), s."
    )
    ready_wait_s: float = Field(
        0.0, ge=0, le=7200, description="How long to wait for the engine before the fallback takes the first frames, s."
    )
    fallback: str = Field(
        "onnxruntime",
        min_length=1,
        description="Engine that stands ready in the node's process and answers instead; none = a numbered failure.",
    )
    max_restarts: int = Field(
        3, ge=0, le=1000, description="More restarts within the window, and the engine stays off until configured anew."
    )
    restart_window_s: float = Field(600.0, ge=1, le=86_400, description="Time over which restarts are counted, s.")
    restart_pause_s: float = Field(0.5, ge=0, le=60, description="Pause before the process is started anew, s.")
    check_empty: bool = Field(
        True, description="Ask the fallback too when the engine sees nothing where the depth shows relief."
    )
    empty_below: float = Field(
        0.1, ge=0, le=1, description="Nothing is seen when no calibrated detection with a mask reaches this."
    )
    relief_height_m: float = Field(0.03, ge=0.005, le=1, description="What stands so high above the belt is relief, m.")
    relief_fraction: float = Field(
        0.005, gt=0, le=1, description="Least connected relief that counts, as a share of the picture."
    )
    engine_module: str = Field("", description="Python module to import first, for an engine that registers itself.")
