"""Cases made and looked at in one process or several; a pile is one piece of work."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from itertools import count
from pathlib import Path
from typing import TypeVar

from robin_perception.core.disk import make_folder
from robin_perception.core.errors import Code, RobinError
from robin_perception.engines.base import EngineConfig
from robin_perception.segmentation.segmenter import load_segmenter
from robin_sim.cell import SeeFrame
from robin_sim.pick_cases.evaluate import CaseRow, rows_of
from robin_sim.pick_cases.make import KINDS, CaseKind, CaseMaker
from robin_sim.pick_cases.store import case_count
from robin_sim.runs.workers import process_context, worker_pool

T = TypeVar("T")
A = TypeVar("A")
Progress = Callable[[int, int], None]
MOST_EMPTY = 40  # piles in a row without a pick, after which something is wrong


@dataclass(frozen=True)
class CaseWork:
    """How cases are made and looked at. model, engine: of the pile's masks, and of the look at the load. kinds: that
    piles take turns in."""

    model: Path
    engine: str
    workers: int = 1
    kinds: tuple[CaseKind, ...] = KINDS


def make_cases(folder: Path, seed: int, picks: int, work: CaseWork, progress: Progress | None = None) -> list[Path]:
    """Files of piles 0, 1, … of a seed until they hold ``picks`` picks; what is there already is not made again. Raises
    RobinError: DISK_FULL, OPTION_INVALID, and what loading the model raises."""
    make_folder(folder)
    maker = CaseMaker(seed, work.model, work.engine, folder, work.kinds)
    paths: list[Path] = []
    done, empty = 0, 0
    for path in _mapped(maker.make, count(), work.workers):
        found = case_count(path)
        empty = 0 if found else empty + 1
        if empty > MOST_EMPTY:
            raise RobinError(Code.NO_GRASP, f"{empty} piles in a row without a pick")
        paths.append(path)
        done += found
        if progress is not None:
            progress(min(done, picks), picks)
        if done >= picks:
            return paths
    return paths


def case_rows(paths: list[Path], work: CaseWork, progress: Progress | None = None) -> list[CaseRow]:
    """Features and truth of the cases of these files, in order. Raises RobinError RECORD_INVALID naming a file."""
    rows: list[CaseRow] = []
    for k, found in enumerate(_mapped(partial(_rows, work), paths, work.workers)):
        rows += found
        if progress is not None:
            progress(k + 1, len(paths))
    return rows


def case_files(folders: Iterable[Path]) -> list[Path]:
    """All files of cases in these folders. Raises RobinError INPUT_MISSING for a folder without any."""
    paths: list[Path] = []
    for folder in folders:
        found = sorted(folder.glob("*.npz"))
        if not found:
            raise RobinError(Code.INPUT_MISSING, f"{folder}: no pick cases there (robin pickcheck cases makes them)")
        paths += found
    return paths


def load_segmenter_of(work: CaseWork) -> SeeFrame:
    return load_segmenter(work.model, work.engine, engine_config=EngineConfig(intra_threads=1, spin=False)).segment


_see: dict[tuple[Path, str], SeeFrame] = {}


def _rows(work: CaseWork, path: Path) -> list[CaseRow]:
    key = (work.model, work.engine)
    if key not in _see:  # one network per process
        _see[key] = load_segmenter_of(work)
    return list(rows_of([path], _see[key]))


def _mapped(task: Callable[[A], T], items: Iterable[A], workers: int) -> Iterator[T]:
    """task of each item, in order; with several workers a few ahead."""
    if workers == 1:
        yield from map(task, items)
        return
    pending: deque[Future[T]] = deque()
    with worker_pool(workers, process_context(), _nothing) as pool:
        for item in items:
            pending.append(pool.submit(task, item))
            if len(pending) > workers:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()


def _nothing() -> None:
    """Workers need no preparation: the first task of each loads what it needs."""
