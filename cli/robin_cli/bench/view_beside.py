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
from numpy.typing import NDArray

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
"""Over all frames, a turn: its p99 is of FRAMES x PASSES plans."""
PICK_S = 3.0
"""A record with pictures comes so often, as from a cell with 1200 picks an hour."""
_NICE = 10
_DRAWS = 2000


def measure_beside(
    folder: Path, url: str, rounds: int, seed: int, model: Path, engine: str, advance: Callable[[int, int, str], None]
) -> dict[str, Any]:
    """``rounds`` pairs of turns; which of both comes first changes from pair to pair.

    folder: what the server at ``url`` follows; its last record is CROWDED. Keys: ``live_hz``; ``beside_p50`` and
    ``beside_p99``, medians of the ratios of frame to plan with the page over without, and their 95 % intervals under
    ``*_interval``.
    """
    helper = HelperThread()
    segmenter = load_segmenter(model, engine, engine_config=EngineConfig(), helper=helper)
    planner = make_planner("geometric", CellConfig(), helper=helper)
    frames = simulated_frames(PipelineBench(FRAMES, 1, 1280, 720, 0, "geometric", seed, model, engine))
    records = _Records(folder)

    def turn(picture: LivePicture | None) -> NDArray[np.float64]:
        times = []
        for number in range(FRAMES * PASSES):
            frame = frames[number % FRAMES]
            began = time.perf_counter()
            scene = segmenter.segment(frame)
            if picture is not None:
                picture.offer(frame.rgb, scene.labels)
            planner.plan(frame, scene)
            times.append(1e3 * (time.perf_counter() - began))
            if picture is not None:
                records.step()
        return np.asarray(times)

    turn(None)  # warm
    ratios, looks = list[tuple[float, float]](), list[float]()
    with _tablet(url) as follow:
        for number in range(rounds):
            found: dict[bool, NDArray[np.float64]] = {}
            for beside in (number % 2 == 0, number % 2 == 1):
                if beside:
                    with contextlib.closing(LivePicture(folder / LIVE)) as picture, follow(looks):
                        found[True] = turn(picture)
                else:
                    found[False] = turn(None)
                advance(2 * number + len(found), 2 * rounds, "picking beside Live")
            with_page, without = (np.percentile(found[beside], (50, 99)) for beside in (True, False))
            ratios.append((with_page[0] / without[0], with_page[1] / without[1]))
    rng, values = np.random.default_rng(seed), np.asarray(ratios)
    result: dict[str, Any] = {"live_hz": round(float(np.median(looks)), 2), "rounds": rounds, "beside_ratios": ratios}
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


@contextlib.contextmanager
def _tablet(url: str) -> Iterator[Callable[[list[float]], contextlib.AbstractContextManager[None]]]:
    """Follows Live while inside of what is given, and appends the pictures that it got a second."""
    command = [sys.executable, "-m", "robin_cli.bench.view_reader", url]
    reader = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, preexec_fn=lambda: os.nice(_NICE)
    )
    assert reader.stdin is not None and reader.stdout is not None
    say, hear = reader.stdin, reader.stdout

    @contextlib.contextmanager
    def follow(looks: list[float]) -> Iterator[None]:
        say.write("on\n")
        say.flush()
        yield
        say.write("off\n")
        say.flush()
        told = json.loads(hear.readline())
        looks.append(told["pictures"] / told["seconds"])

    try:
        yield follow
    finally:
        say.close()
        reader.wait(60)
