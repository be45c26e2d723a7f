"""Picking beside the page: the same frames planned in turns with Live followed by a tablet, and with no page at all."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from edge_adapt.live_picture import LivePicture
from edge_adapt.record_file import RECORD_FILE
from robin_cli.bench.pipeline import PipelineBench, simulated_frames
from robin_cli.bench.view_records import CROWDED
from robin_grasp.planner.registry import make_planner
from robin_grasp.tool import CellConfig
from robin_perception.core.helper_thread import HelperThread
from robin_perception.engines import EngineConfig
from robin_perception.segmentation.segmenter import load_segmenter
from robin_view.sources import LIVE

FRAMES = 8
PASSES = 15
"""Of a round: its p99 are of FRAMES x PASSES plans."""
PICK_S = 3.0
"""A record with pictures comes so often, as from a cell with 1200 picks an hour."""
_NICE = 10
_SETTLE_S = 0.1
_DRAWS = 2000


def measure_beside(
    folder: Path, url: str, rounds: int, seed: int, model: Path, engine: str, advance: Callable[[int, int, str], None]
) -> dict[str, Any]:
    """``rounds`` times PASSES pairs of turns of a second or so, so that whatever else the machine does meets both;
    which of a pair comes first changes from pair to pair. A round gives one ratio, of FRAMES x PASSES plans of either.

    folder: what the server at ``url`` follows; its last record is CROWDED. Keys: ``live_hz``, of the time that pictures
    were offered; ``beside_p50`` and ``beside_p99``, medians of the ratios of frame to plan with the page over without,
    and their 95 % intervals under ``*_interval``.
    """
    helper = HelperThread()
    segmenter = load_segmenter(model, engine, engine_config=EngineConfig(), helper=helper)
    planner = make_planner("geometric", CellConfig(), helper=helper)
    frames = simulated_frames(PipelineBench(FRAMES, 1, 1280, 720, 0, "geometric", seed, model, engine))
    records, ratios, beside_s = _Records(folder), list[tuple[float, float]](), 0.0

    def turn(picture: LivePicture | None) -> list[float]:
        times = []
        for frame in frames:
            began = time.perf_counter()
            scene = segmenter.segment(frame)
            if picture is not None:
                picture.offer(frame.rgb, scene.labels)
            planner.plan(frame, scene)
            times.append(1e3 * (time.perf_counter() - began))
            if picture is not None:
                records.step()
        return times

    turn(None)  # warm
    with contextlib.closing(LivePicture(folder / LIVE)) as picture, _tablet(url) as tablet:
        for number in range(rounds):
            found: dict[bool, list[float]] = {True: [], False: []}
            for part in range(PASSES):
                for beside in (part % 2 == 0, part % 2 == 1):
                    began = time.perf_counter()
                    found[beside] += turn(picture if beside else None)
                    if beside:
                        time.sleep(_SETTLE_S)  # what the page is at ends before the turn without
                        beside_s += time.perf_counter() - began
            with_page, without = (np.percentile(found[beside], (50, 99)) for beside in (True, False))
            ratios.append((with_page[0] / without[0], with_page[1] / without[1]))
            advance(number + 1, rounds, "picking beside Live")
    rng, values = np.random.default_rng(seed), np.asarray(ratios)
    result: dict[str, Any] = {
        "live_hz": round(tablet.pictures / beside_s, 2),
        "rounds": rounds,
        "beside_ratios": ratios,
    }
    for column, name in enumerate(("beside_p50", "beside_p99")):
        draws = np.median(rng.choice(values[:, column], (_DRAWS, rounds)), axis=1)
        result[name] = round(float(np.median(values[:, column])), 3)
        result[f"{name}_interval"] = [round(float(v), 3) for v in np.percentile(draws, (2.5, 97.5))]
    return result


class _Records:
    """Appends a pick with pictures every PICK_S, as the cell would."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / RECORD_FILE
        self._line = self._path.read_text().splitlines()[-1]
        self._number, self._due_s = 0, 0.0

    def step(self) -> None:
        if time.monotonic() < self._due_s:
            return
        self._due_s, self._number = time.monotonic() + PICK_S, self._number + 1
        with self._path.open("a") as file:
            file.write(self._line.replace(f'"{CROWDED}"', f'"beside-{self._number:05d}"') + "\n")


class _Tablet:
    """pictures: of the camera, that it got; known once it has ended."""

    pictures = 0


@contextlib.contextmanager
def _tablet(url: str) -> Iterator[_Tablet]:
    """Follows Live in a process of its own; a real one has a processor of its own."""
    command = [sys.executable, "-m", "robin_cli.bench.view_reader", url]
    tablet = _Tablet()
    reader = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, preexec_fn=lambda: os.nice(_NICE)
    )
    try:
        yield tablet
    finally:
        told, _ = reader.communicate(timeout=60)
        tablet.pictures = json.loads(told or "0")
