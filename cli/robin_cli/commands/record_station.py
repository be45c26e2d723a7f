"""A running station into a bag: what ``robin record --live`` does, with the node that a launch file may start too."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path
from typing import Any

import yaml

from edge_adapt.bag.rosbag2 import METADATA_FILE
from robin_perception.core.errors import Code, RobinError


def record_station(out: Path, namespace: str, camera_prefix: str, seconds: float | None) -> dict[str, Any]:
    """Record until Ctrl-C, or for ``seconds``. Returns size in bytes and messages by topic.

    Raises RobinError DEPENDENCY_MISSING without ROS, OPTION_INVALID when ``out`` exists, DISK_FULL when nothing could
    be written at all.
    """
    try:
        from edge_adapt.nodes.bag_recorder_node import BagRecorderNode
        from robin_perception.nodes.run import host_nodes
    except ImportError as exc:
        text = f"--live needs ROS 2 and robin_msgs ({exc}); see `make ros`"
        raise RobinError(Code.DEPENDENCY_MISSING, text) from None
    if out.exists():
        raise RobinError(Code.OPTION_INVALID, f"{out}: exists already; a bag needs a new folder")
    parameters = {"autostart": "true", "bag": f"'{out}'", "camera_prefix": f"'{camera_prefix}'"}
    given = [part for name, value in parameters.items() for part in ("-p", f"{name}:={value}")]
    remaps = ["-r", f"__ns:=/{namespace.strip('/')}"] if namespace.strip("/") else []
    if seconds is not None:
        timer = threading.Timer(seconds, lambda: os.kill(os.getpid(), signal.SIGINT))
        timer.daemon = True
        timer.start()
    host_nodes(lambda: [BagRecorderNode()], ["robin", "--ros-args", *given, *remaps])
    return _written(out)


def _written(out: Path) -> dict[str, Any]:
    """What metadata.yaml says; a bag without one was not recorded to its end."""
    try:
        info = yaml.safe_load((out / METADATA_FILE).read_text())["rosbag2_bagfile_information"]
    except OSError:
        raise RobinError(Code.DISK_FULL, f"{out}: nothing could be recorded") from None
    topics = {t["topic_metadata"]["name"]: t["message_count"] for t in info["topics_with_message_count"]}
    size = sum(path.stat().st_size for path in out.glob("*.mcap"))
    return {"bag": str(out), "bytes": size, "messages": topics}
