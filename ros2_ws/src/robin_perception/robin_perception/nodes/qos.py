"""Qualities of service, one place for all nodes."""

from __future__ import annotations

import copy

from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy

SENSOR = QoSProfile(
    history=HistoryPolicy.KEEP_LAST,
    depth=5,
    reliability=ReliabilityPolicy.BEST_EFFORT,
    durability=DurabilityPolicy.VOLATILE,
)
"""Sensor data: takes from reliable and best-effort publishers alike. An image is sent in dozens of pieces, of which
none may be lost, so on a loaded machine few large images arrive whole."""

SENSOR_RELIABLE = QoSProfile(
    history=HistoryPolicy.KEEP_LAST,
    depth=2,
    reliability=ReliabilityPolicy.RELIABLE,
    durability=DurabilityPolicy.VOLATILE,
)
"""Sensor data from a publisher that sends lost pieces again, as camera drivers do by default: whole images or none.
Short, so that nothing old is waited for."""

SENSOR_OUT = QoSProfile(
    history=HistoryPolicy.KEEP_LAST,
    depth=2,
    reliability=ReliabilityPolicy.RELIABLE,
    durability=DurabilityPolicy.VOLATILE,
)
"""Publishers of images: reliable, which either kind of subscriber matches; short, so that a slow one loses old ones."""

RESULT = QoSProfile(
    history=HistoryPolicy.KEEP_LAST,
    depth=10,
    reliability=ReliabilityPolicy.RELIABLE,
    durability=DurabilityPolicy.VOLATILE,
)
"""Scenes, plans, outcomes, decisions."""

LATCHED = QoSProfile(
    history=HistoryPolicy.KEEP_LAST,
    depth=20,
    reliability=ReliabilityPolicy.RELIABLE,
    durability=DurabilityPolicy.TRANSIENT_LOCAL,
)
"""What whoever comes later must still get: requests for help."""


def own_profile(qos: QoSProfile | int) -> QoSProfile:
    """A profile that rclpy may change: what ``qos_overrides`` says goes into the object itself. int: of this depth."""
    return QoSProfile(depth=qos) if isinstance(qos, int) else copy.copy(qos)
