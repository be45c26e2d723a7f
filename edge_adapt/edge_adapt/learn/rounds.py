"""Learning to see from the store, in rounds: a lesson of picks, the gate, the shadow, and the version runs.

A round teaches from the factory's weights, and later picks judge. An accepted candidate becomes a version that does not
run yet: it sees the frames that the store takes next (``shadow``), off the path of a pick. Then it is the active one;
whoever serves frames puts it to work and watches it.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError

from edge_adapt.learn.lessons import LessonFrame, StoredPick, lesson_frames, pile_of, stored_picks, write_lesson
from edge_adapt.learn.see import Lesson, TeachConfig, TeachRequest, teach
from edge_adapt.learn.see_child import Progress
from edge_adapt.learn.see_page import write_page
from edge_adapt.learn.seen_again import seen_again
from edge_adapt.models.gate import GateConfig, blocked_split
from edge_adapt.models.registry import ModelRegistry
from edge_adapt.models.shadow import ShadowConfig
from edge_adapt.store.index import SampleRow
from edge_adapt.store.store import StoreReader
from robin_grasp.picks.outcome import PickResult
from robin_perception.core.bounded import parse_json, read_plain_bytes
from robin_perception.core.config import StrictConfig, first_fault
from robin_perception.core.disk import make_folder, write_atomic
from robin_perception.core.errors import Code, RobinError
from robin_perception.core.output import locked

STATE_FILE = "rounds.json"
PAGE = "lesson.html"
BY = "robin adapt run"
LEAST_GAIN = 0.002
"""Of overlap F. Labels from picks begin with the masks that the running model drew: a lesson that gains a thousandth by
them has learned nothing, and changes what is seen all the same."""
_STATE_BYTES = 1_000_000
_LEARN, _JUDGE, _TEACH = "learn", "judge", "teach"
_NOTHING_LEARNED = (Code.TAUGHT_TOO_LITTLE, Code.TEACHING_DIVERGED)


class RoundsConfig(StrictConfig):
    """When a lesson is due, and what it is made of."""

    first_picks: int = Field(120, ge=8, description="Clean picks in the store before the first lesson.")
    growth: float = Field(
        1.6, ge=1.0, le=10, description="The next lesson at so many times the clean picks of the one before."
    )
    newest_picks: int = Field(600, ge=16, le=100_000, description="Picks that a lesson is made of: the newest.")
    pile_frames: int = Field(4, ge=1, le=100, description="Frames of one pile that are taught, at most.")
    shadow: ShadowConfig = ShadowConfig()
    teach: TeachConfig = Field(
        TeachConfig(gate=GateConfig(site_frames=3, least_gain=LEAST_GAIN)), description="As for robin adapt teach."
    )


class RoundsState(StrictConfig):
    """done: rounds that have ended; clean: clean picks in the store at the last one. pending: version that was accepted
    and is not proven yet; since: newest sample when it was."""

    format: str = Field("robin-rounds-1", pattern="^robin-rounds-1$")
    done: int = Field(0, ge=0)
    clean: int = Field(0, ge=0)
    pending: int = Field(0, ge=0)
    since: int = Field(0, ge=0)


@dataclass(frozen=True)
class RoundStep:
    """One thing that was done. what: "lesson" or "shadow"; passed: accepted, or put to work. version: 0 for none.
    figures: of a lesson as ``Lesson.to_json``, of a shadow as ``Shadow.to_json``."""

    what: str
    number: int
    passed: bool
    version: int
    text: str
    took_s: float
    figures: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


class SeeRounds:
    """One robot's lessons. work: state, pages and what a stopped lesson goes on with; of one process at a time.

    core: as in ``TeachRequest``. belt_z_m: height of the support plane in base_link.
    """

    def __init__(
        self,
        store: Path,
        registry: ModelRegistry,
        work: Path,
        core: Callable[[int, int], Path],
        config: RoundsConfig | None = None,
        *,
        belt_z_m: float = 0.0,
        engine: str = "onnxruntime",
        deep: bool = False,
        seed: int = 0,
    ) -> None:
        self.config = config or RoundsConfig()
        self._store, self._registry, self._work, self._core = store, registry, work, core
        self._belt_z_m, self._engine, self._deep, self._seed = belt_z_m, engine, deep, seed
        make_folder(work)

    def state(self) -> RoundsState:
        """Raises RobinError RECORD_INVALID for a damaged file."""
        path = self._work / STATE_FILE
        try:
            return RoundsState.model_validate(parse_json(read_plain_bytes(path, _STATE_BYTES), str(path)))
        except ValidationError as exc:
            raise RobinError(Code.RECORD_INVALID, f"{path}: {first_fault(exc)}") from None
        except RobinError as exc:
            if exc.code is Code.INPUT_MISSING:
                return RoundsState()
            raise

    @property
    def pinned(self) -> bool:
        """Whether a version is pinned: until it is not, an accepted candidate waits, and no other lesson begins."""
        return self._registry.state().pinned

    def step(self, progress: Progress, *, now: bool = False) -> RoundStep | None:
        """Do what is due; None where nothing is. now: a lesson is due whatever has come since the last one.

        Raises RobinError as ``teach``, STORE_*, MODELS_*, OPTION_INVALID where another process works here; what ran
        goes on.
        """
        with locked(self._work), StoreReader(self._store) as store:
            state = self.state()
            if state.pending:
                return self._shadowed(store, state)
            clean = clean_picks(store)
            if not now and clean < max(self.config.first_picks, round(self.config.growth * state.clean)):
                return None
            return self._lesson(store, state, clean, progress)

    def _lesson(self, store: StoreReader, state: RoundsState, clean: int, progress: Progress) -> RoundStep:
        """A lesson that has nothing to teach, or that diverges, counts as refused: the next needs more picks."""
        started, number = time.monotonic(), state.done + 1
        folder = self._work / f"round-{number:04d}"
        try:
            newest = self._gathered(store, folder, progress)
            lesson = self._taught(folder, number, progress)
        except RobinError as exc:
            if exc.code not in _NOTHING_LEARNED:
                raise
            self._registry.refuse(BY, exc.text, {"code": int(exc.code)})
            version, newest, text, figures = 0, 0, str(exc), {}
        else:
            write_page(folder / PAGE, lesson)
            version, text, figures = self._added(lesson, number), lesson.verdict.text, lesson.to_json()
        self._save(RoundsState(done=number, clean=clean, pending=version, since=newest if version else 0))
        for name in (_LEARN, _JUDGE, _TEACH):
            shutil.rmtree(folder / name, ignore_errors=True)
        return RoundStep("lesson", number, bool(version), version, text, time.monotonic() - started, figures)

    def _taught(self, folder: Path, number: int, progress: Progress) -> Lesson:
        loaded = self._registry.load()
        request = TeachRequest(
            data=(folder / _LEARN,),
            judge=(folder / _JUDGE,),
            bundle=self._registry.factory,
            core=self._core,
            out=folder / _TEACH,
            engine=self._engine,
            deep=self._deep,
            seed=self._seed + number,
            running=loaded.bundle.directory,
        )
        return teach(request, self.config.teach, progress)

    def _added(self, lesson: Lesson, number: int) -> int:
        """The version that it became, 0 for none."""
        told = {"learned": {"round": number, "how": lesson.split.how}, "gate": lesson.verdict.to_json()}
        if not lesson.verdict.accepted:
            self._registry.refuse(BY, lesson.verdict.text, told)
            return 0
        return self._registry.add(lesson.candidate.directory, BY, lesson.split.how, told)

    def _gathered(self, store: StoreReader, folder: Path, progress: Progress) -> int:
        """The lesson's frames on the disk; sequence number of the newest sample. Raises RobinError
        TAUGHT_TOO_LITTLE."""
        rows = list(store.samples())
        newest = rows[-1].seq if rows else 0
        if (folder / _LEARN).is_dir() and (folder / _JUDGE).is_dir():
            return newest  # of a lesson that was ended
        learn, judge = split_rows(rows[-self.config.newest_picks :])
        make_folder(folder)
        counts = [
            write_lesson(folder / name, self._frames(store, part, progress))
            for name, part in ((_LEARN, learn), (_JUDGE, judge))
        ]
        if not all(counts):
            text = f"{len(rows)} samples give {counts[0]} labelled frames to learn from and {counts[1]} later ones"
            raise RobinError(Code.TAUGHT_TOO_LITTLE, text)
        return newest

    def _frames(self, store: StoreReader, rows: Sequence[SampleRow], progress: Progress) -> Iterator[LessonFrame]:
        def read() -> Iterator[StoredPick]:
            for number, pick in enumerate(stored_picks(store, rows), start=1):
                progress("labels from picks", number, len(rows))
                yield pick

        return lesson_frames(read(), self._belt_z_m, self.config.pile_frames)

    def _shadowed(self, store: StoreReader, state: RoundsState) -> RoundStep | None:
        """The candidate on the frames that came after its lesson, once there are enough and no version is pinned."""
        started, config = time.monotonic(), self.config.shadow
        if self.pinned:
            return None
        rows = list(store.samples(after=state.since, limit=config.frames))
        if len(rows) < config.frames:
            return None
        shadow = seen_again(store, rows, self._registry.path(state.pending), self._engine, config)
        error, told = shadow.error(), {"shadow": shadow.to_json()}
        done = state.model_copy(update={"pending": 0, "since": 0})
        if error is None:
            self._registry.activate(state.pending, BY, f"the gate and {shadow.frames} frames in the shadow", told)
            text = f"{shadow.seen} of {shadow.picked} cleanly picked parcels seen as one"
        else:
            self._registry.refuse(BY, f"version {state.pending}: {error.text}", {**told, "code": int(error.code)})
            text = error.text
        self._save(done)
        took = time.monotonic() - started
        return RoundStep("shadow", state.done, error is None, state.pending, text, took, shadow.to_json())

    def _save(self, state: RoundsState) -> None:
        write_atomic(self._work / STATE_FILE, (json.dumps(state.model_dump()) + "\n").encode())


def clean_picks(store: StoreReader) -> int:
    """Clean picks that the store holds."""
    return sum(row.kept for row in store.strata() if row.result == PickResult.CLEAN.value)


def split_rows(rows: Sequence[SampleRow]) -> tuple[list[SampleRow], list[SampleRow]]:
    """Samples to learn from, and those of later piles to judge by; with too few piles in the order that they came."""
    names = {name: number for number, name in enumerate(dict.fromkeys(pile_of(row.decision) for row in rows))}
    learn, judge = blocked_split([names[pile_of(row.decision)] for row in rows])
    if not judge:
        return list(rows[: 3 * len(rows) // 4]), list(rows[3 * len(rows) // 4 :])
    return [rows[k] for k in learn], [rows[k] for k in judge]
