"""The camera node with a camera whose plug a test can pull: while the file named by FLAKY_PLUG exists, it is out."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from robin_perception.cameras.folder import FolderSource
from robin_perception.cameras.source import FrameSource
from robin_perception.core.errors import Code, RobinError
from robin_perception.core.frame import Frame
from robin_perception.nodes.camera_node import CameraNode
from robin_perception.nodes.run import run_nodes

PLUG = Path(os.environ["FLAKY_PLUG"])


class FlakySource(FolderSource):
    """Frames of a folder, through a plug."""

    def _open(self) -> None:
        if PLUG.exists():
            raise RobinError(Code.CAMERA_NOT_FOUND, "no camera is plugged in")
        super()._open()

    def _read(self, timeout_s: float) -> Frame:
        if PLUG.exists():
            raise RobinError(Code.CAMERA_UNPLUGGED, "the camera was unplugged")
        return super()._read(timeout_s)


class FlakyCameraNode(CameraNode):
    def make_source(self) -> FrameSource:
        return FlakySource(self.config.folder, self.config.camera_pose())


if __name__ == "__main__":
    sys.exit(run_nodes(lambda: [FlakyCameraNode()]))
