"""What rosbag2 keeps beside the messages: offered QoS profiles and ``metadata.yaml`` (version 9, ROS 2 Jazzy)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import yaml

METADATA_FILE = "metadata.yaml"
METADATA_VERSION = 9
ROS_DISTRO = "jazzy"
_FOREVER = {"sec": 9223372036, "nsec": 854775807}


@dataclass(frozen=True)
class Qos:
    """reliability: 'reliable' or 'best_effort'. durability: 'volatile' or 'transient_local' (latched)."""

    reliability: str = "reliable"
    durability: str = "volatile"
    depth: int = 10

    def profile(self) -> dict[str, Any]:
        return {
            "history": "keep_last",
            "depth": self.depth,
            "reliability": self.reliability,
            "durability": self.durability,
            "deadline": dict(_FOREVER),
            "lifespan": dict(_FOREVER),
            "liveliness": "automatic",
            "liveliness_lease_duration": dict(_FOREVER),
            "avoid_ros_namespace_conventions": False,
        }

    def text(self) -> str:
        """As a channel's ``offered_qos_profiles``."""
        return yaml.safe_dump([self.profile()], sort_keys=False).rstrip()


@dataclass(frozen=True)
class TopicInfo:
    """One recorded topic."""

    name: str
    type: str
    qos: Qos
    count: int


def metadata_text(
    file_name: str, topics: list[TopicInfo], start_ns: int, end_ns: int, custom: Mapping[str, str]
) -> bytes:
    """metadata.yaml of a bag of one file."""
    duration = {"nanoseconds": end_ns - start_ns}
    start = {"nanoseconds_since_epoch": start_ns}
    count = sum(topic.count for topic in topics)
    values = {
        "version": METADATA_VERSION,
        "storage_identifier": "mcap",
        "duration": duration,
        "starting_time": start,
        "message_count": count,
        "topics_with_message_count": [
            {
                "topic_metadata": {
                    "name": topic.name,
                    "type": topic.type,
                    "serialization_format": "cdr",
                    "offered_qos_profiles": [topic.qos.profile()],
                    "type_description_hash": "",
                },
                "message_count": topic.count,
            }
            for topic in topics
        ],
        "compression_format": "",
        "compression_mode": "",
        "relative_file_paths": [file_name],
        "files": [
            {"path": file_name, "starting_time": dict(start), "duration": dict(duration), "message_count": count}
        ],
        "custom_data": dict(custom),
        "ros_distro": ROS_DISTRO,
    }
    return yaml.dump({"rosbag2_bagfile_information": values}, Dumper=_NoAliases, sort_keys=False).encode()


class _NoAliases(yaml.SafeDumper):
    def ignore_aliases(self, data: Any) -> bool:
        return True
