"""What the process that teaches the network is ordered to do: a file of plain values."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from robin_perception.core.config import StrictConfig

JOB_FILE = "job.json"


class DistillationConfig(StrictConfig):
    """How much the factory's answers are held, by output; see ``edge_adapt.training.distillation``."""

    heat: float = Field(60.0, ge=0, description="where parcels are")
    mask: float = Field(60.0, ge=0, description="masks")
    boundary: float = Field(10.0, ge=0, description="edges between parcels")
    offset: float = Field(10.0, ge=0, description="votes for a parcel's centre")
    quality: float = Field(20.0, ge=0, description="mask quality")
    visible: float = Field(3.0, ge=0, description="visible fraction")
    classes: float = Field(3.0, ge=0, description="class probabilities")
    embedding: float = Field(2.0, ge=0, description="embedding, on taught frames too")


class QuickConfig(StrictConfig):
    """Teaching the head alone, on features of the trunk that are computed once."""

    steps: int = Field(250, ge=1, le=100_000)
    batch: int = Field(4, ge=1, le=64, description="taught frames of a step")
    replayed: int = Field(8, ge=1, le=64, description="known scenes of a step")
    learning_rate: float = Field(
        3e-3, gt=0, le=0.1, description="the highest; rises for a tenth of the steps, then falls"
    )
    variants: int = Field(8, ge=1, le=64, description="of each taught frame: as it is, mirrored, nearer, other light")
    most_change: float = Field(1.0, gt=0, le=10, description="of a layer's weights, as a share of the factory's norm")
    distillation: DistillationConfig = DistillationConfig()


class DeepConfig(StrictConfig):
    """Teaching the whole network."""

    steps: int = Field(160, ge=1, le=100_000)
    batch: int = Field(4, ge=1, le=64, description="taught frames of a step")
    replayed: int = Field(4, ge=1, le=64, description="known scenes of a step")
    learning_rate: float = Field(
        1.5e-4, gt=0, le=0.1, description="the highest; rises for a tenth of the steps, then falls"
    )
    most_change: float = Field(0.5, gt=0, le=10, description="of a layer's weights, as a share of the factory's norm")
    checkpoint_steps: int = Field(25, ge=1, description="what a killed run loses at most")
    distillation: DistillationConfig = DistillationConfig()


class TeachJob(StrictConfig):
    """One run of the process. taught, core: folders of labelled scenes, numbered; content: digest of the taught
    frames; rows: which of them it learns from; core_scenes: how many of the core set. work: its features and
    checkpoints; out: the bundle it writes."""

    bundle: Path
    taught: Path
    content: str
    rows: tuple[int, ...] = Field(min_length=1)
    core: Path
    core_scenes: int = Field(ge=1)
    work: Path
    core_features: Path
    out: Path
    notes: str = Field(max_length=1000)
    deep: bool = False
    seed: int = Field(0, ge=0)
    threads: int = Field(2, ge=1, le=64)
    niceness: int = Field(10, ge=0, le=19)
    memory_bytes: int = Field(2_000_000_000, ge=300_000_000)
    quick_config: QuickConfig = QuickConfig()
    deep_config: DeepConfig = DeepConfig()
