"""What the tests of the command line share: an image that can be picked, and runs of ``robin`` in this process."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from helpers.perception_graphs import blocks, colour_bundle, colour_frame
from robin_cli.main import main
from robin_perception.core.image_folder import save_frame

WIDTH, HEIGHT = 640, 480
BOX_HEIGHT_M = 0.08


@dataclass(frozen=True)
class Done:
    """What a run of ``robin`` left on the terminal."""

    status: int
    out: str
    err: str

    @property
    def error_line(self) -> str:
        """The only line of the message; fails where there are more, or a traceback."""
        lines = [line for line in self.err.splitlines() if line.strip()]
        errors = [line for line in lines if line.startswith("error ")]
        assert len(errors) == 1, self.err
        assert "Traceback" not in self.err
        return errors[0]


class Robin:
    """Runs commands in this process: ``robin("plan", "--folder", path)``."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    def __call__(self, *arguments: object) -> Done:
        self._capsys.readouterr()
        status = main([str(argument) for argument in arguments])
        captured = self._capsys.readouterr()
        return Done(status, captured.out, captured.err)


def pickable_folder(folder: Path) -> Path:
    """Image folder of twelve boxes on a belt, seen from straight above; ``colour_bundle`` segments it."""
    labels = blocks(HEIGHT, WIDTH, 3, 4, 16)
    frame = colour_frame(labels)
    depth = frame.depth.copy()
    depth[labels > 0] -= BOX_HEIGHT_M
    save_frame(folder, frame.with_depth(depth), labels)
    return folder


def colours(folder: Path) -> Path:
    """A small bundle that needs no training."""
    colour_bundle(folder)
    return folder


def left_over(folder: Path) -> list[str]:
    """Everything under ``folder``, to see that a failure left nothing behind."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))
