"""Learning to see from labelled frames: read them, teach in a process of its own, judge before against after."""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field

from edge_adapt.learn.see_child import Progress, run_job
from edge_adapt.learn.see_data import Fold, Split, TaughtSet, gather, split_by_order
from edge_adapt.learn.see_job import DeepConfig, QuickConfig, TeachJob
from edge_adapt.learn.see_judge import Judged, judge, network_times
from edge_adapt.models.gate import Compared, GateConfig, GateVerdict, judge_candidate
from robin_perception.core.config import StrictConfig, config_digest
from robin_perception.core.disk import make_folder, sync_folder, sync_tree, write_error
from robin_perception.core.image_folder import scene_folders
from robin_perception.core.output import locked
from robin_perception.evaluation.evaluate import Difference, SceneResult, paired_differences
from robin_perception.model.bundle import Bundle, load_bundle, update_manifest
from robin_perception.model.calibration import fit_calibration
from robin_perception.segmentation.segmenter import load_segmenter

BUNDLE = "bundle"
_CALIBRATION_SCENES = 100
FIGURES = ("overlap_f", "boundary_f", "ap50", "ap75")


class TeachConfig(StrictConfig):
    """Learning to see. Scenes of the core set are replayed, and the ones after them are judged, never learned."""

    core_scenes: int = Field(180, ge=2, le=10_000, description="Of the core set, replayed.")
    judged_scenes: int = Field(120, ge=2, le=10_000, description="Of the core set, to measure what was forgotten.")
    memory_bytes: int = Field(2_000_000_000, ge=300_000_000, description="Of the process that teaches.")
    niceness: int = Field(10, ge=0, le=19, description="Of that process: 19 gives way to all others.")
    quick: QuickConfig = QuickConfig()
    deep: DeepConfig = DeepConfig()
    gate: GateConfig = Field(
        GateConfig(site_frames=4, site_parcels=8),
        description="What the candidate must show. Fewer than four frames let one in ten that gains nothing pass.",
    )


@dataclass(frozen=True)
class TeachRequest:
    """data: labelled frames; judge: others, to judge by and not to learn from. bundle: the factory's. core: gives the
    data set of known scenes, called with how many are needed now and how many later; they may have to be rendered. out:
    where the bundle goes, and what a stopped run goes on with. running: what the candidate is held against; None: the
    factory's. at_once: judge both at a time, on two cores."""

    data: tuple[Path, ...]
    judge: tuple[Path, ...]
    bundle: Path
    core: Callable[[int, int], Path]
    out: Path
    engine: str = "onnxruntime"
    deep: bool = False
    seed: int = 0
    running: Path | None = None
    at_once: bool = False


@dataclass(frozen=True)
class Lesson:
    """factory: what was begun from; running: what it is held against; candidate: what was taught. site, core: (before,
    after) on the judged frames and on the core set."""

    factory: Bundle
    running: Bundle
    candidate: Bundle
    taught: TaughtSet
    split: Split
    rows: tuple[int, ...]
    site: tuple[Judged, Judged]
    core: tuple[Judged, Judged]
    verdict: GateVerdict
    seconds: dict[str, float] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Keys: model, parent, running, frames, parcels, how, foreign, site, site_with_depth, core, gate, seconds. The
        figures are those of ``paired_differences``."""
        return {
            "model": self.candidate.model_id,
            "parent": self.factory.model_id,
            "running": self.running.model_id,
            "frames": len(self.rows),
            "parcels": self.taught.parcels,
            "how": self.split.how,
            "foreign": list(self.taught.foreign),
            "site": differences(self.site[0].as_they_are, self.site[1].as_they_are),
            "site_with_depth": differences(self.site[0].with_depth, self.site[1].with_depth),
            "core": differences(self.core[0].as_they_are, self.core[1].as_they_are),
            "gate": self.verdict.to_json(),
            "seconds": {key: round(value, 1) for key, value in self.seconds.items()},
        }


def teach(request: TeachRequest, config: TeachConfig, progress: Progress) -> Lesson:
    """Teach and judge. A run that was ended goes on where it was when the same is asked again.

    Raises RobinError as ``gather`` and ``run_job``.
    """
    factory = load_bundle(request.bundle)
    running = factory if request.running is None else load_bundle(request.running)
    make_folder(request.out / "work")
    with locked(request.out):
        return _Teaching(request, config, factory, running, progress).run()


class _Teaching:
    def __init__(
        self, request: TeachRequest, config: TeachConfig, factory: Bundle, running: Bundle, progress: Progress
    ) -> None:
        self.request, self.config, self.factory, self.progress = request, config, factory, progress
        self.running = running
        self.work, self.core = request.out / "work", Path()
        self.seconds: dict[str, float] = {}

    def run(self) -> Lesson:
        request = self.request
        taught = self._timed("reading", lambda: gather(request.data, request.judge, self.work, self.classes))
        rows = tuple(range(taught.frames))
        if taught.judged is not None:
            others = scene_folders(taught.judged)
            split = Split((Fold(rows, ()),), f"taught on {taught.frames} frames, judged on {len(others)} others")
        else:
            split, others = split_by_order(taught.frames), []
        self.core = self._timed("known scenes", lambda: self._known(self.config.core_scenes))
        learned = rows if split.crossed else split.folds[0].learn
        candidate = self._timed("teaching", lambda: self._taught(taught, learned, "candidate"))
        site = self._timed("judging", lambda: self._site(taught, split, others, candidate))
        self._timed("more known scenes", lambda: self._known(self._scenes))
        scenes = scene_folders(self.core)[self.config.core_scenes : self._scenes]
        core = self._timed("judging the core set", lambda: self._both(candidate, scenes, "judging the core set"))
        verdict = self._timed("gate", lambda: self._verdict(site, core, candidate))
        candidate = published(candidate, request.out / BUNDLE)
        return Lesson(self.factory, self.running, candidate, taught, split, learned, site, core, verdict, self.seconds)

    @property
    def _scenes(self) -> int:
        return self.config.core_scenes + self.config.judged_scenes

    def _known(self, now: int) -> Path:
        return self.request.core(now, self._scenes)

    def _verdict(self, site: tuple[Judged, Judged], core: tuple[Judged, Judged], candidate: Bundle) -> GateVerdict:
        times = None
        if self.request.deep:
            runs = self.config.gate.latency_runs
            times = network_times(self.running, candidate, self.request.engine, runs)
        here, known = (Compared(before.as_they_are, after.as_they_are, before.piles) for before, after in (site, core))
        return judge_candidate(here, known, times, np.random.default_rng(self.request.seed), self.config.gate)

    @property
    def classes(self) -> tuple[str, ...]:
        return self.factory.manifest.classes

    def _timed(self, what: str, work: Callable[[], Any]) -> Any:
        start = time.monotonic()
        try:
            return work()
        finally:
            self.seconds[what] = time.monotonic() - start

    def _taught(self, taught: TaughtSet, rows: tuple[int, ...], name: str) -> Bundle:
        request, config = self.request, self.config
        lesson = config_digest({"frames": taught.digest, "rows": rows, "seed": request.seed, **config.model_dump()})
        work = self.work / f"{name}-{'deep' if request.deep else 'quick'}-{lesson[:12]}"
        how = "whole network" if request.deep else "head"
        job = TeachJob(
            bundle=request.bundle.absolute(),
            taught=taught.folder.absolute(),
            content=taught.digest,
            rows=rows,
            core=self.core.absolute(),
            core_scenes=config.core_scenes,
            core_features=self.core_features,
            work=work.absolute(),
            out=(work / "bundle").absolute(),
            notes=f"{how} taught on {len(rows)} labelled frames",
            deep=request.deep,
            seed=request.seed,
            threads=len(os.sched_getaffinity(0)),
            niceness=config.niceness,
            memory_bytes=config.memory_bytes,
            quick_config=config.quick,
            deep_config=config.deep,
        )
        made = run_job(job, self.progress)
        return self._calibrated(made) if request.deep else made

    def _calibrated(self, bundle: Bundle) -> Bundle:
        """Its scores mean what they say again, on scenes that are replayed and not those that are judged."""
        segmenter = load_segmenter(bundle.directory, self.request.engine)
        count = min(_CALIBRATION_SCENES, self.config.core_scenes)
        try:
            tables = fit_calibration(
                segmenter, self.core, count, lambda done, total: self.progress("calibrating", done, total)
            )
        finally:
            segmenter.close()
        update_manifest(bundle.directory, calibration=tables)
        return load_bundle(bundle.directory)

    @property
    def core_features(self) -> Path:
        """Beside the core set: they are worth keeping, and of one trunk."""
        trunk = self.factory.manifest.files["network.onnx"][:12]
        return (self.core / f"features-{trunk}").absolute()

    def _site(
        self, taught: TaughtSet, split: Split, others: Sequence[Path], candidate: Bundle
    ) -> tuple[Judged, Judged]:
        folders = scene_folders(taught.folder)
        if others:
            return self._both(candidate, others, "judging")
        if not split.crossed:
            return self._both(candidate, [folders[row] for row in split.folds[0].judge], "judging")
        before, after = Judged(), Judged()
        for number, fold in enumerate(split.folds):
            bundle = self._taught(taught, fold.learn, f"fold{number}")
            pair = self._both(bundle, [folders[row] for row in fold.judge], "judging")
            for whole, part in zip((before, after), pair, strict=True):
                whole.as_they_are += part.as_they_are
                whole.with_depth += part.with_depth
                whole.piles += part.piles
                whole.shown |= part.shown
        return before, after

    def _both(self, candidate: Bundle, folders: Sequence[Path], what: str) -> tuple[Judged, Judged]:
        done, telling = iter(range(1, 2 * len(folders) + 1)), threading.Lock()

        def tell() -> None:
            with telling:
                self.progress(what, next(done), 2 * len(folders))

        def judged(bundle: Bundle) -> Judged:
            return judge(bundle.directory, self.request.engine, folders, tell)

        with ThreadPoolExecutor(2 if self.request.at_once else 1) as pool:
            before, after = pool.map(judged, (self.running, candidate))
        return before, after


def differences(before: Sequence[SceneResult], after: Sequence[SceneResult]) -> dict[str, Difference]:
    """FIGURES before and after, with intervals of the difference."""
    return paired_differences(before, after, FIGURES, np.random.default_rng(0))


def published(bundle: Bundle, out: Path) -> Bundle:
    """A copy of the bundle at ``out``, in place of an earlier one: whole or not at all. Raises RobinError DISK_FULL,
    OPTION_INVALID."""
    aside, old = out.with_name(f".{out.name}.tmp"), out.with_name(f".{out.name}.old")
    try:
        for left in (aside, old):
            shutil.rmtree(left, ignore_errors=True)
        shutil.copytree(bundle.directory, aside)
        sync_tree(aside)
        load_bundle(aside)
        if out.exists():
            out.rename(old)
        aside.rename(out)
        sync_folder(out.parent)
    except OSError as exc:
        raise write_error(out, exc) from None
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    shutil.rmtree(old, ignore_errors=True)
    return load_bundle(out)
