"""Settings of what a robot fetches by itself."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from robin_perception.core.config import StrictConfig


class ReleasesConfig(StrictConfig):
    """Where releases come from, and how often they are looked for."""

    source: str = Field("", description="Repository of releases: http(s)://, or a folder; empty: nothing is fetched.")
    folder: Path = Field(Path("releases"), description="Folder of the trusted root and of what was fetched.")
    site: str = Field("", description="This robot's site in the fleet.")
    robot: str = Field("", description="This robot's name in the fleet.")
    every_s: float = Field(600.0, ge=10, le=86_400, description="From one look to the next, s.")
    most_s: float = Field(900.0, ge=10, le=86_400, description="A look that takes longer is ended, s.")
    store: Path | None = Field(None, description="Store of samples that trials see again; empty: no trials.")
    uplink: Path | None = Field(None, description="Folder of the uplink, which takes reports of trials; empty: none.")
    trial_frames: int = Field(400, ge=1, le=10_000, description="Newest samples that a replay sees, at most.")
    engine: str = Field("onnxruntime", description="Engine of trials.")


class LookOrder(StrictConfig):
    """What the process that looks for releases is told. models, factory: of the registry."""

    releases: ReleasesConfig
    models: Path
    factory: Path
