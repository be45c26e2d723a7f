"""The gate: whether a candidate may take the place of the model that runs, check by check.

It must be shown to be better on the site's later frames, and must not be worse on the core set, in calibration, in
time, or on any single packaging. Too little to judge by is a refusal.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from robin_perception.core.config import StrictConfig
from robin_perception.core.errors import Code
from robin_perception.evaluation.evaluate import Difference, SceneResult, paired_differences
from robin_perception.model.calibration import expected_calibration_error

_LEAST_DETECTION = 0.03  # candidates below it decide nothing, and hundreds of them would hide an error
_HIT_IOU = 0.5


class GateConfig(StrictConfig):
    """What a candidate must show. Figures are fractions: .002 of AP50 is .2 points."""

    site_figure: Literal["overlap_f", "boundary_f", "ap50", "ap75"] = Field(
        "overlap_f", description="What must be better on the site's frames."
    )
    least_gain: float = Field(0.0, ge=0, lt=1, description="The low end of the site's gain must be above it.")
    least_site: float = Field(
        0.5, ge=0, le=1, description="The candidate's own figure; below it the labels are not to be believed."
    )
    site_frames: int = Field(6, ge=2, description="Later frames of the site, or piles of them, at least.")
    site_parcels: int = Field(20, ge=1, description="Parcels that are labelled in them, at least.")
    core_frames: int = Field(40, ge=2, description="Frames of the core set, at least.")
    core_ap50: float = Field(0.002, ge=0, le=1, description="AP50 that may be lost on the core set.")
    core_ap75: float = Field(0.005, ge=0, le=1, description="AP75 that may be lost on the core set.")
    calibration: float = Field(0.02, ge=0, le=1, description="By how much the calibration error may grow.")
    latency: float = Field(1.02, ge=1, le=10, description="p99 of the network, as a multiple of the running model's.")
    latency_runs: int = Field(100, ge=20, description="Timed runs of each network, at least.")
    packaging: float = Field(0.03, ge=0, le=1, description="AP50 that may be lost on a single packaging.")
    packaging_parcels: int = Field(100, ge=1, description="Packaging with fewer parcels is not judged alone.")
    confidence: float = Field(0.95, gt=0.5, lt=1, description="Of all intervals.")
    replicates: int = Field(1000, ge=100, le=100_000, description="Of each bootstrap.")


@dataclass(frozen=True)
class Compared:
    """The running model and the candidate on the same labelled frames, in the order in which those were taken. blocks:
    name of the pile, or of the stretch of time, of each frame; None: each stands alone."""

    running: Sequence[SceneResult]
    candidate: Sequence[SceneResult]
    blocks: Sequence[int] | Sequence[str] | None = None

    @property
    def independent(self) -> int:
        """How many blocks there are."""
        return len(self.running) if self.blocks is None else len(set(self.blocks))


@dataclass(frozen=True)
class Times:
    """Milliseconds of the network, taken in turns; float64 [N] each."""

    running_ms: NDArray[np.float64]
    candidate_ms: NDArray[np.float64]


@dataclass(frozen=True)
class Check:
    """One question of the gate. value: what was found; bound: what it was held against; low, high: interval of the
    value, None where it has none. text: in words."""

    name: str
    passed: bool
    value: float
    bound: float
    low: float | None = None
    high: float | None = None
    text: str = ""


@dataclass(frozen=True)
class GateVerdict:
    """code: OK, CANDIDATE_REFUSED, or CANDIDATE_UNJUDGED where there was too little to judge by."""

    code: Code
    checks: tuple[Check, ...]
    config: GateConfig = field(default_factory=GateConfig)

    @property
    def accepted(self) -> bool:
        return self.code is Code.OK

    @property
    def text(self) -> str:
        """In one line."""
        if self.accepted:
            return f"all {len(self.checks)} checks passed"
        return "; ".join(f"{check.name}: {check.text}" for check in self.checks if not check.passed)

    def to_json(self) -> dict[str, Any]:
        """Keys: code, accepted, text, checks, config."""
        checks = [asdict(check) for check in self.checks]
        config = self.config.model_dump(mode="json")
        return {
            "code": int(self.code),
            "accepted": self.accepted,
            "text": self.text,
            "checks": checks,
            "config": config,
        }


def judge_candidate(
    site: Compared,
    core: Compared,
    times: Times | None,
    rng: np.random.Generator,
    config: GateConfig | None = None,
) -> GateVerdict:
    """Every check, whether or not an earlier one failed.

    site: labelled frames of this site that are later than those the candidate learned from. core: frames that every
    model must go on to do well. times: None where both run the same network, as with another head.
    """
    config = config or GateConfig()
    enough = tuple(_enough(site, core, times, config))
    if not all(check.passed for check in enough):
        return GateVerdict(Code.CANDIDATE_UNJUDGED, enough, config)
    checks = (*enough, *_site(site, rng, config), *_core(core, rng, config), *_calibration(site, core, config))
    checks += (*_packaging(site, core, rng, config), _latency(times, rng, config))
    passed = all(check.passed for check in checks)
    return GateVerdict(Code.OK if passed else Code.CANDIDATE_REFUSED, checks, config)


def blocked_split(blocks: Sequence[int], later: float = 0.25) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Indices of frames to learn from, and of later ones to judge by: whole blocks, the last ``later`` of them, with
    the block between left out, since it shares parcels with both. blocks: of each frame, in order of time (never of the
    clock, which may jump). Fewer than three blocks leave nothing to judge by."""
    order = list(dict.fromkeys(blocks))
    if len(order) < 3:
        return tuple(range(len(blocks))), ()
    count = min(max(1, round(later * len(order))), len(order) - 2)
    judged, between = set(order[-count:]), order[-count - 1]
    learned = tuple(n for n, block in enumerate(blocks) if block not in judged and block != between)
    return learned, tuple(n for n, block in enumerate(blocks) if block in judged)


def calibration_error(results: Sequence[SceneResult]) -> float:
    """Expected calibration error of the detection scores: whether so many of the masks are parcels (IoU above .5)."""
    detection = np.concatenate([r.detection for r in results])
    hit = np.concatenate([r.iou for r in results]) > _HIT_IOU
    rows = detection >= _LEAST_DETECTION
    return expected_calibration_error(detection[rows], hit[rows].astype(np.float64))


def _enough(site: Compared, core: Compared, times: Times | None, config: GateConfig) -> Iterator[Check]:
    parcels = sum(len(r.tags) for r in site.running)
    counts = [
        ("frames of the site", site.independent, config.site_frames),
        ("parcels of the site", parcels, config.site_parcels),
        ("frames of the core set", core.independent, config.core_frames),
    ]
    if times is not None:
        runs = min(len(times.running_ms), len(times.candidate_ms))
        counts.append(("timed runs", runs, config.latency_runs))
    for name, count, least in counts:
        yield Check(name, count >= least, count, least, text=f"{count}, at least {least} are needed")


def _site(site: Compared, rng: np.random.Generator, config: GateConfig) -> Iterator[Check]:
    key = config.site_figure
    found = _differences(site, (key,), rng, config).get(key)
    if found is None:
        yield _unknown("site gain", config.least_gain)
        return
    text = f"{key} {_change(found)}, interval [{found['low']:+.4f}, {found['high']:+.4f}], low end above "
    passed = found["low"] > config.least_gain
    yield Check(
        "site gain",
        passed,
        found["value"],
        config.least_gain,
        found["low"],
        found["high"],
        f"{text}{config.least_gain:g} is needed",
    )
    text = f"{key} {found['after']:.3f} on its own labels, at least {config.least_site:g} is needed"
    yield Check("site figure", found["after"] >= config.least_site, found["after"], config.least_site, text=text)


def _core(core: Compared, rng: np.random.Generator, config: GateConfig) -> Iterator[Check]:
    found = _differences(core, ("ap50", "ap75"), rng, config)
    for key, loss in (("ap50", config.core_ap50), ("ap75", config.core_ap75)):
        yield _loss(f"core {key.upper()}", found.get(key), loss)


def _calibration(site: Compared, core: Compared, config: GateConfig) -> Iterator[Check]:
    for name, side in (("site", site), ("core", core)):
        before, after = calibration_error(side.running), calibration_error(side.candidate)
        text = f"{before:.4f} to {after:.4f}, may grow by {config.calibration:g}"
        grown = after - before
        yield Check(f"{name} calibration", grown <= config.calibration, grown, config.calibration, text=text)


def _packaging(site: Compared, core: Compared, rng: np.random.Generator, config: GateConfig) -> Iterator[Check]:
    """One for each packaging of which enough parcels are labelled."""
    for name, side in (("site", site), ("core", core)):
        counts: dict[str, int] = {}
        for result in side.running:
            for tag in (tag for tags in result.tags for tag in tags):
                counts[tag] = counts.get(tag, 0) + 1
        for tag in sorted(tag for tag, count in counts.items() if count >= config.packaging_parcels):
            found = _differences(side, ("ap50",), rng, config, tag)
            yield _loss(f"{name} {tag}", found.get("ap50"), config.packaging)


def _latency(times: Times | None, rng: np.random.Generator, config: GateConfig) -> Check:
    """A p99 of few runs is unsure: refused is what is shown to be slower, or is slower in most runs."""
    if times is None:
        return Check("latency p99", True, 1.0, config.latency, text="the network is the same, only its head differs")
    ratio = float(np.percentile(times.candidate_ms, 99) / np.percentile(times.running_ms, 99))
    middle = float(np.median(times.candidate_ms) / np.median(times.running_ms))
    draws = [_resampled_p99(times.candidate_ms, rng) / _resampled_p99(times.running_ms, rng) for _ in range(300)]
    tail = 50 * (1 - config.confidence)
    low, high = (float(v) for v in np.percentile(draws, (tail, 100 - tail)))
    text = f"{ratio:.3f} times, interval [{low:.3f}, {high:.3f}], p50 {middle:.3f} times; may be {config.latency:g}"
    passed = bool(low <= config.latency and middle <= config.latency)
    return Check("latency p99", passed, ratio, config.latency, low, high, text)


def _resampled_p99(values: NDArray[np.float64], rng: np.random.Generator) -> float:
    return float(np.percentile(rng.choice(values, len(values)), 99))


def _differences(
    side: Compared, keys: Sequence[str], rng: np.random.Generator, config: GateConfig, stratum: str | None = None
) -> dict[str, Difference]:
    return paired_differences(
        side.running,
        side.candidate,
        keys,
        rng,
        blocks=side.blocks,
        stratum=stratum,
        confidence=config.confidence,
        replicates=config.replicates if stratum is None else min(300, config.replicates),
    )


def _loss(name: str, found: Difference | None, loss: float) -> Check:
    if found is None:
        return _unknown(name, -loss)
    text = f"{_change(found)}, interval [{found['low']:+.4f}, {found['high']:+.4f}], may lose {loss:g}"
    return Check(name, found["value"] >= -loss, found["value"], -loss, found["low"], found["high"], text)


def _change(found: Difference) -> str:
    return f"{found['before']:.4f} to {found['after']:.4f}"


def _unknown(name: str, bound: float) -> Check:
    return Check(name, False, float("nan"), bound, text="cannot be told from these frames")
