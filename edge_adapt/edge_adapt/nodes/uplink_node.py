"""The uplink of a station: its process is started, watched and shown; whatever becomes of it, picks go on."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from edge_adapt.node_config import UplinkNodeConfig
from edge_adapt.uplink.child import UplinkChild
from robin_perception.core.errors import Code
from robin_perception.nodes.base import RobinNode
from robin_perception.nodes.frame_bus import FrameBus
from robin_perception.nodes.run import run_nodes

_LASTING = (Code.UPLINK_UNREACHABLE, Code.UPLINK_KEY_REFUSED, Code.STORE_MISSING, Code.DISK_FULL)
_SHOWN = ("connected", "robot", "under_way", "stored", "checked", "pending", "lost", "refused", "resets", "sent_mb")


class UplinkNode(RobinNode[UplinkNodeConfig]):
    """Sends nothing itself: that is done by a process beside this one, at a low priority, so that no pick shares an
    interpreter with it. A fleet that does not answer is a warning here and nothing more."""

    def __init__(self, bus: FrameBus | None = None, **ros: Any) -> None:
        super().__init__("uplink", UplinkNodeConfig, bus=bus, **ros)
        self._child: UplinkChild | None = None

    def setup(self) -> None:
        self._child = UplinkChild(self.config.uplink())

    def stop(self) -> None:
        if self._child is not None:
            self._child.stop()

    def teardown(self) -> None:
        self._child = None

    def watch(self) -> None:
        if self._child is None or not self.is_active:
            return
        faults = self._child.look()
        for fault in faults:
            self.report(fault.code, fault.text, warning=True, lasting=fault.code in _LASTING)
        over = [code for code in _LASTING if code not in {fault.code for fault in faults}]
        self.recovered("the fleet has what is sent", *over)

    def status_values(self) -> dict[str, str]:
        if self._child is None:
            return {}
        status = self._child.status()
        values = {key: str(status[key]).lower() for key in _SHOWN if key in status}
        return {**values, "process": str(self._child.pid or ""), "restarts": str(self._child.restarts)}


def main(args: Sequence[str] | None = None) -> int:
    """``ros2 run edge_adapt uplink_node``"""
    return run_nodes(lambda: [UplinkNode()], args)


if __name__ == "__main__":
    sys.exit(main())
