"""Roll-outs on a simulated fleet: how often a release is stopped, how far it gets, what it costs.

The roll-out is the real one (``robin_fleet.rollout.state``); what is drawn is whether a pick is clean. Trials before
the first robot and the watch of each robot are left out: they could only stop a bad release sooner.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robin_fleet.rollout.evidence import Picks
from robin_fleet.rollout.plan import STAGES, RobotFacts, RolloutPlan, Stage, TrialRule
from robin_fleet.rollout.state import Phase, RolloutState, decided, picked, started
from robin_perception.core.stats import percentiles, rate

CASES = {"worse": 0.02, "equal": 0.0, "better": -0.005}
"""Rate of clean picks that the release loses."""
_LONGEST_H = 400.0

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class RolloutBench:
    """robots in lines of ``of_line``. failed: middle rate of failed picks of a line; spread: sigma of its logarithm.
    own: standard deviation of a robot's rate within its line. drift: by which share a line's failures rise and fall
    over ``drift_h`` hours. picks_per_hour: of a robot."""

    runs: int = 200
    robots: int = 200
    of_line: int = 10
    failed: float = 0.02
    spread: float = 0.5
    own: float = 0.001
    drift: float = 0.4
    drift_h: tuple[float, float] = (6.0, 30.0)
    picks_per_hour: float = 500.0
    seed: int = 7


class SimulatedFleet:
    """Rates of failed picks of each robot over time, with and without the release."""

    def __init__(self, bench: RolloutBench, loss: float, rng: np.random.Generator) -> None:
        lines = -(-bench.robots // bench.of_line)
        self._bench, self._loss, self._rng = bench, loss, rng
        self.line = np.arange(bench.robots) // bench.of_line
        self._middle = np.clip(bench.failed * np.exp(rng.normal(0, bench.spread, lines)), 0.003, 0.08)
        self._own = rng.normal(0, bench.own, bench.robots)
        self._period = rng.uniform(*bench.drift_h, lines)
        self._phase = rng.uniform(0, 2 * np.pi, lines)

    def failed(self, hour: float) -> Floats:
        """[robots], without the release."""
        wave = 1 + self._bench.drift * np.sin(2 * np.pi * hour / self._period + self._phase)
        return np.asarray(np.clip((self._middle * wave)[self.line] + self._own, 0.001, 0.5))

    def facts(self) -> list[RobotFacts]:
        """As a ledger tells them: rates of the last 20,000 picks."""
        before = np.mean([self.failed(-hour) for hour in range(40)], axis=0)
        known = 1 - np.asarray(self._rng.binomial(20_000, before)) / 20_000
        return [
            RobotFacts(f"robot-{n:03d}", f"line-{line:02d}", rate=float(share))
            for n, (line, share) in enumerate(zip(self.line, known, strict=True))
        ]

    def window(self, hour: float, hours: float, with_release: NDArray[np.bool_]) -> tuple[dict[str, Picks], float]:
        """(picks of one window by line, picks that the release lost more than the old one is expected to)."""
        failed = self.failed(hour)
        release = np.clip(failed + self._loss, 0.0005, 1.0)
        picks = self._rng.poisson(self._bench.picks_per_hour * hours, len(failed))
        clean = picks - self._rng.binomial(picks, np.where(with_release, release, failed))
        found = {}
        for line in np.unique(self.line):
            own = self.line == line
            w, o = own & with_release, own & ~with_release
            counts = [int(v[m].sum()) for m in (w, o) for v in (clean, picks)]
            found[f"line-{line:02d}"] = Picks(
                clean_with=counts[0], with_release=counts[1], clean_without=counts[2], without=counts[3]
            )
        return found, float((picks * (release - failed))[with_release].sum())


@dataclass(frozen=True)
class Run:
    """How one roll-out ended. reached: robots that had the release at most. extra: picks that it lost more than the old
    one would have."""

    phase: Phase
    stage: Stage
    reached: int
    hours: float
    picks: int
    lost: int
    extra: float


def simulate(bench: RolloutBench, loss: float, plan: RolloutPlan, rng: np.random.Generator) -> Run:
    """One roll-out, from the first robot to its end."""
    fleet = SimulatedFleet(bench, loss, rng)
    robots = fleet.facts()
    index = {r.robot: n for n, r in enumerate(robots)}
    state, _ = started("bench", "new", "m@2", "old", plan, robots, 0.0)
    extra, reached = 0.0, len(state.robots)
    while state.open and state.seen_s < _LONGEST_H * 3600:
        mask = np.zeros(len(robots), bool)
        mask[[index[name] for name in state.robots]] = True
        found, more = fleet.window(state.seen_s / 3600, plan.window_s / 3600, mask)
        extra += more
        state, _ = picked(state, state.seen_s + plan.window_s, found)
        if (change := decided(state, robots)) is not None:
            state = change[0]
        reached = max(reached, len(state.robots))
    return Run(state.phase, state.stage, reached, state.seen_s / 3600, *_counts(state), extra)


def measure_rollouts(
    bench: RolloutBench, plan: RolloutPlan, advance: Callable[[int, int, str], None]
) -> dict[str, Any]:
    """Keys: plan, fleet, and for each of ``CASES`` what ``_told`` gives."""
    nothing = TrialRule(picks=0, loss=0.5)
    plan = plan.model_copy(update={"replay": nothing, "shadow": nothing, "acceptance": nothing})
    result: dict[str, Any] = {"plan": plan.model_dump(mode="json"), "fleet": asdict(bench)}
    total = bench.runs * len(CASES)
    for case, (name, loss) in enumerate(CASES.items()):
        runs = []
        for number in range(bench.runs):
            rng = np.random.default_rng([bench.seed, case, number])
            runs.append(simulate(bench, loss, plan, rng))
            advance(case * bench.runs + number + 1, total, name)
        result[name] = _told(runs, loss, bench)
    return result


def _told(runs: list[Run], loss: float, bench: RolloutBench) -> dict[str, Any]:
    stopped = [run for run in runs if run.phase is Phase.STOPPED]
    tenth = [run for run in stopped if run.reached < bench.robots / 10]
    stages = {s.value: sum(r.stage is s for r in stopped) for s in STAGES if any(r.stage is s for r in stopped)}
    return {
        "loss": loss,
        "runs": len(runs),
        "stopped": rate(len(stopped), len(runs)),
        "stopped_before_tenth": rate(len(tenth), len(runs)),
        "reached_all": rate(sum(run.phase is Phase.DONE for run in runs), len(runs)),
        "stopped_in": stages,
        "hours": percentiles([run.hours for run in runs]),
        "picks": percentiles([run.picks for run in runs]),
        "lost": percentiles([run.lost for run in runs]),
        "extra_lost": percentiles([run.extra for run in runs]),
    }


def _counts(state: RolloutState) -> tuple[int, int]:
    return state.evidence.picks, state.evidence.lost
