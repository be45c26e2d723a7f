"""Where frames come from: one base class, a typed config per source, a registry, lazy imports."""

from robin_perception.cameras.source import (
    FrameSource,
    SourceConfig,
    SourceCounters,
    make_source,
    source_config,
    source_config_type,
    source_names,
)

__all__ = [
    "FrameSource",
    "SourceConfig",
    "SourceCounters",
    "make_source",
    "source_config",
    "source_config_type",
    "source_names",
]
