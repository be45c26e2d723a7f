"""Frames of one station, with what the network sees in them: for its baseline and for the doctor."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from robin_cli.terminal import note
from robin_perception.core.errors import Code, RobinError

if TYPE_CHECKING:
    from robin_perception.core.frame import Frame
    from robin_perception.core.scene import Scene

_READ_S = 10.0
CAMERA_ID = "camera_color_optical_frame"
"""What nodes call a camera whose name nobody changed."""


def frames_of(path: Path, camera_id: str) -> Iterator[Frame]:
    """Of a folder of image folders, or of a bag, in order. Raises RobinError INPUT_MISSING, BAG_*, and for a frame that
    the gate refuses its reason."""
    from robin_perception.cameras.source import make_source, source_config

    is_bag = path.suffix == ".mcap" or (path / "metadata.yaml").exists()
    values: dict[str, Any] = {"path": str(path), "camera_id": camera_id}
    if not is_bag:
        values["repeat"] = False
    with make_source(source_config("bag" if is_bag else "folder", values)) as source:
        while True:
            try:
                frame = source.read(_READ_S)
            except RobinError as exc:
                if exc.code == Code.END_OF_SOURCE:
                    return
                raise
            if not source.pose_known:
                text = f"{path}: its frames carry no camera pose, which the monitors need"
                raise RobinError(Code.POSE_INVALID, text)
            yield frame


def seen_in(path: Path, camera_id: str, model: Path, engine: str) -> Iterator[tuple[Frame, Scene]]:
    """With the scene of each frame."""
    from robin_perception.segmentation.segmenter import load_segmenter

    segmenter = load_segmenter(model, engine)
    try:
        for frame in frames_of(path, camera_id):
            yield frame, segmenter.segment(frame)
    finally:
        segmenter.close()


def simulated(scenario: str, seed: int, count: int, model: Path, engine: str) -> Iterator[tuple[Frame, Scene]]:
    """``count`` healthy frames of a simulated station, goods coming and going."""
    import numpy as np

    from robin_grasp.tool import CellConfig
    from robin_perception.segmentation.segmenter import load_segmenter
    from robin_sim.scenario import load_scenario
    from robin_sim.sensor import spoil
    from robin_sim.station import SimStation, picked_from

    station = SimStation(load_scenario(scenario).config, CellConfig(), seed, 0)
    segmenter = load_segmenter(model, engine)
    note(segmenter.engine.selection.line())
    rng = np.random.default_rng([seed, 1])
    made = 0
    while made < count:
        for pile in picked_from(station.new_pile(), 5, 5):
            seen = station.see(pile)
            for _ in range(min(3, count - made)):
                made += 1
                frame = spoil(seen.view, seen.camera, rng, station.sensor, stamp_s=float(made))
                yield frame, segmenter.segment(frame)
    segmenter.close()
