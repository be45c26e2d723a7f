"""The camera node on the vendor's SDK; its software camera is plugged in while the file named by USB_PLUG exists.

USB_RECORDING: what the camera sees, a recording made by the SDK.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pyrealsense2 as rs

from robin_perception.cameras.realsense import RealSenseSource
from robin_perception.cameras.source import FrameSource
from robin_perception.nodes.camera_node import CameraNode
from robin_perception.nodes.run import run_nodes

RECORDING, PLUG = os.environ["USB_RECORDING"], Path(os.environ["USB_PLUG"])


class Usb:
    """A bus without the machine's own cameras; a thread of its own plugs and unplugs."""

    def __init__(self) -> None:
        self.context = rs.context('{"device-mask": 0}')
        self._device: Any = None
        threading.Thread(target=self._follow, daemon=True).start()

    def _follow(self) -> None:
        while True:
            if PLUG.exists() and self._device is None:
                self._device = self.context.load_device(RECORDING)
            elif not PLUG.exists() and self._device is not None:
                self.context.unload_device(RECORDING)
                self._device = None
            time.sleep(0.02)


class UsbCameraNode(CameraNode):
    """Looks for its camera on that bus."""

    usb = Usb()

    def make_source(self) -> FrameSource:
        return RealSenseSource(self.config.realsense, self.config.camera_pose(), context=self.usb.context)


if __name__ == "__main__":
    sys.exit(run_nodes(lambda: [UsbCameraNode()]))
