"""What is believed of each cup of the tool: good, weak (it leaks) or blocked (it never gets vacuum).

A pick shows for each open cup how much of the pump's vacuum it reached. That depends on the parcel too, and on all cups
alike: nothing holds on a mesh sack, rough card leaks under every lip. So the belief is a latent class model. A pick has
a class c, which nobody sees, with share pi_c of all picks. Given it, cups are independent: T_s[c, x] is the probability
of reading x of a cup in state s (of a good one it depends on the seal that the planner expected too). With b_j the
belief in cup j before the pick,

    P(readings | cup i in state s) = sum_c pi_c T_s[c, x_i] prod_{j != i} sum_r b_j[r] T_r[c, x_j]

and Bayes gives the belief after it. Where no cup holds, the class in which nothing holds explains all of them, and the
belief hardly moves; where all but one hold, it moves fast. The tables are fitted to simulated picks
(``cup_health_fit``).

Reference: latent class analysis (Lazarsfeld and Henry 1968); the beliefs stay independent of each other
(assumed-density filtering, Boyen and Koller 1998).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import IntEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from robin_grasp.cup_health_fit import CupHealthFit, shipped_cup_fit
from robin_grasp.learned import LearnedState
from robin_grasp.picks.outcome import PickOutcome
from robin_grasp.picks.traces import PickTraces
from robin_grasp.plan import CupTrust, Grasp
from robin_grasp.tool import ToolConfig, mask_to_cups
from robin_perception.core.config import StrictConfig
from robin_perception.core.errors import Code, RobinError

Floats = NDArray[np.float64]
LEAST_GOOD = (
    0.002  # P(good) falls no lower: a cup may be replaced and nobody says so. Nor does P(bad) fall below that of
)
# a new cup, for a good one may break
SMOOTHED_SAMPLES = 3  # of a trace, averaged: a single sample is noise
LIFTING_S = 0.1  # of the lift still count as pressing: nothing carries weight before that, and a late cup is evacuated


class CupState(IntEnum):
    """The order is that of the columns of a belief."""

    GOOD = 0
    WEAK = 1
    BLOCKED = 2


FINDINGS = {CupState.WEAK: Code.CUP_WEAK, CupState.BLOCKED: Code.CUP_BLOCKED}


class CupHealthConfig(StrictConfig):
    """When a cup counts as bad, and how soon it is believed."""

    bad_before: float = Field(0.0001, gt=0, lt=0.5, description="P(weak or blocked) of a cup of which nothing is known")
    found_at: float = Field(0.99, gt=0.5, lt=1, description="P(weak or blocked) from which a cup counts as found bad")
    cleared_at: float = Field(0.5, gt=0, lt=1, description="a cup that was found bad counts as good below this")
    doubted_at: float = Field(0.1, gt=0, lt=1, description="from here the planner expects less of it and tries it out")
    weight: float = Field(0.8, gt=0, le=1, description="of one pick's evidence: picks of a pile are not independent")
    retry_picks: int = Field(25, ge=1, le=10_000, description="a cup that was found bad is tried again after so many")


@dataclass(frozen=True)
class CupReport:
    """One cup. probabilities: of CupState, they sum to 1. share: of the vacuum, as the planner is told. picks: that
    used it since it was last reset; held: in how many of these it held. changed_s: when ``state`` last changed."""

    cup: int
    state: CupState
    probabilities: tuple[float, float, float]
    share: float
    picks: int
    held: int
    changed_s: float

    @property
    def code(self) -> Code:
        """CUP_WEAK or CUP_BLOCKED where it was found bad, else OK."""
        return FINDINGS.get(self.state, Code.OK)

    @property
    def text(self) -> str:
        """One line for people."""
        bad = 1.0 - self.probabilities[CupState.GOOD]
        told = f"cup {self.cup}: held in {self.held} of {self.picks} picks"
        if self.state is CupState.BLOCKED:
            return f"{told}; blocked with {bad:.1%}: clean its line or replace it, then reset it"
        if self.state is CupState.WEAK:
            return f"{told}; leaks with {bad:.1%}: replace it, then reset it"
        return told if bad < 0.1 else f"{told}; in doubt, bad with {bad:.0%}: it is tried where that costs nothing"


class CupHealth:
    """Beliefs in the cups of one tool, kept over picks. Not thread-safe. Times are of any one clock, seconds."""

    def __init__(
        self,
        tool: ToolConfig,
        config: CupHealthConfig | None = None,
        fit: CupHealthFit | None = None,
        now_s: float = 0.0,
    ) -> None:
        self.tool = tool
        self.config = config or CupHealthConfig()
        self._fit = fit or shipped_cup_fit()
        bad = self.config.bad_before
        self._fresh = np.array([1.0 - bad, bad / 2, bad / 2])
        self.belief: Floats = np.tile(self._fresh, (tool.cup_count, 1))
        self.state = [CupState.GOOD] * tool.cup_count
        self.picks = np.zeros(tool.cup_count, dtype=np.int64)
        self.held = np.zeros(tool.cup_count, dtype=np.int64)
        self.unused = np.zeros(tool.cup_count, dtype=np.int64)
        self.changed_s = np.full(tool.cup_count, now_s)

    def note(self, grasp: Grasp, outcome: PickOutcome, now_s: float) -> tuple[CupReport, ...]:
        """Learn from one pick. Returns the cups whose state changed.

        A grasp whose planner does not tell what it expects of the cups (``Grasp.cup_seal``) teaches nothing. Raises
        RobinError CUPS_MISMATCH where grasp or outcome are of a tool with another number of cups.
        """
        self.clock(now_s)
        seals = np.array(grasp.cup_seal)
        if not seals.size:
            return ()
        reached, lifted = self._reached(outcome)
        self._require(len(seals), "the grasp")
        cups = np.array(
            [cup for cup in mask_to_cups(grasp.cups) if np.isfinite(seals[cup]) and np.isfinite(reached[cup])]
        )
        if not cups.size:
            return ()
        held = reached[cups] >= self._fit.reading_edges[0]
        self.picks[cups] += 1
        self.held[cups] += held
        self.unused += 1
        self.unused[cups] = 0
        self._learn(cups, self._fit.likelihoods(reached[cups], seals[cups], after_lift=lifted))
        return self._judge(now_s)

    @property
    def state_of_learning(self) -> LearnedState:
        """picks: of the cup that was used most since it was last reset."""
        return LearnedState.of(int(self.picks.max()), self.to_json())

    def to_json(self) -> list[dict[str, Any]]:
        """All that is believed, cup by cup, as the file holds it."""
        return [
            {
                **dict(zip(("good", "weak", "blocked"), report.probabilities, strict=True)),
                "state": report.state.name.lower(),
                "picks": report.picks,
                "held": report.held,
                "unused": int(self.unused[report.cup]),
                "changed_s": report.changed_s,
            }
            for report in self.cups
        ]

    @property
    def trust(self) -> CupTrust:
        """What the planner may expect; equal to ALL_SOUND as long as no cup is in doubt."""
        return replace(self._trust(), state=self.state_of_learning)

    def _trust(self) -> CupTrust:
        bad, found = self._bad, np.array([state is not CupState.GOOD for state in self.state])
        doubted = ~found & (bad >= self.config.doubted_at)
        again = found & ((self.unused >= self.config.retry_picks) | (bad < self.config.found_at))
        if not (found | doubted).any():
            return CupTrust()
        shares = np.where(found, 0.0, np.where(doubted, 1.0 - bad, 1.0))
        return CupTrust(tuple(shares.tolist()), int((doubted | again) @ (1 << np.arange(len(bad)))))

    @property
    def cups(self) -> tuple[CupReport, ...]:
        """All cups, in order."""
        return tuple(self._report(cup) for cup in range(self.tool.cup_count))

    @property
    def findings(self) -> tuple[CupReport, ...]:
        """Cups that were found bad."""
        return tuple(report for report in self.cups if report.code is not Code.OK)

    def reset(self, cups: tuple[int, ...], now_s: float) -> None:
        """These cups were replaced; empty: all. Raises RobinError CUPS_MISMATCH for a cup that the tool lacks, and
        changes nothing then."""
        for cup in cups:
            if not 0 <= cup < self.tool.cup_count:
                text = f"there is no cup {cup}: the tool has cups 0 to {self.tool.cup_count - 1}"
                raise RobinError(Code.CUPS_MISMATCH, text)
        self.clock(now_s)
        for cup in cups or range(self.tool.cup_count):
            self.belief[cup], self.state[cup] = self._fresh, CupState.GOOD
            self.picks[cup] = self.held[cup] = self.unused[cup] = 0
            self.changed_s[cup] = now_s

    def clock(self, now_s: float) -> None:
        """Nothing changed later than now: after a clock that jumped back, ``changed_s`` is the time of the jump."""
        self.changed_s = np.minimum(self.changed_s, now_s)

    @property
    def _bad(self) -> Floats:
        return np.asarray(1.0 - self.belief[:, CupState.GOOD])

    def _reached(self, outcome: PickOutcome) -> tuple[Floats, bool]:
        """Share of the vacuum that each cup reached [cups], and whether that is after the lift only."""
        self._require(len(outcome.vacuum_pa), "the outcome")
        pressed = pressed_vacuum(outcome.traces, self.tool.cup_count)
        vacuum = np.array(outcome.vacuum_pa) if pressed is None else pressed
        return vacuum / self.tool.vacuum_pa, pressed is None

    def _require(self, count: int, what: str) -> None:
        if count != self.tool.cup_count:
            text = f"{what} knows {count} cups, cup health {self.tool.cup_count}"
            raise RobinError(Code.CUPS_MISMATCH, text)

    def _learn(self, cups: NDArray[np.int64], likelihood: Floats) -> None:
        """likelihood: [n, states, classes], of each cup's reading."""
        before = self.belief[cups]
        expected = np.einsum("ns,nsc->nc", before, likelihood)
        others = np.exp(np.log(expected).sum(axis=0) - np.log(expected))
        evidence = np.einsum("c,nsc,nc->ns", self._fit.class_shares, likelihood, others)
        evidence = (evidence / evidence.max(axis=1, keepdims=True)) ** self.config.weight
        after = before * evidence
        self.belief[cups] = _normal(np.maximum(_normal(after), [LEAST_GOOD, *self._fresh[1:]]))

    def _judge(self, now_s: float) -> tuple[CupReport, ...]:
        changed = []
        for cup, bad in enumerate(self._bad):
            state = self.state[cup]
            if bad >= self.config.found_at:
                state = CupState(1 + int(self.belief[cup, 1:].argmax()))
            elif bad < self.config.cleared_at:
                state = CupState.GOOD
            if state is not self.state[cup]:
                self.state[cup], self.changed_s[cup] = state, now_s
                changed.append(self._report(cup))
        return tuple(changed)

    def _report(self, cup: int) -> CupReport:
        good, weak, blocked = (float(p) for p in self.belief[cup])
        shares = self._trust().shares
        share = shares[cup] if shares else 1.0
        picks, held = int(self.picks[cup]), int(self.held[cup])
        return CupReport(cup, self.state[cup], (good, weak, blocked), share, picks, held, float(self.changed_s[cup]))


def pressed_vacuum(traces: PickTraces | None, cup_count: int) -> Floats | None:
    """Most vacuum of each cup while the tool pressed, Pa, float64 [cups]; None without traces of such a tool. A cup
    that peels off in the lift says nothing of itself, so the lift does not count."""
    if traces is None or traces.vacuum_pa.ndim != 2 or traces.vacuum_pa.shape[1] != cup_count:
        return None
    lift = traces.marks.get("lift")
    end = len(traces.vacuum_pa) if lift is None else lift + round(LIFTING_S * traces.rate_hz)
    vacuum = traces.vacuum_pa[:end].astype(np.float64)
    if len(vacuum) < SMOOTHED_SAMPLES:
        return None
    smoothed = np.lib.stride_tricks.sliding_window_view(vacuum, SMOOTHED_SAMPLES, axis=0).mean(axis=-1)
    return np.asarray(smoothed.max(axis=0))


def _normal(belief: Floats) -> Floats:
    return np.asarray(belief / belief.sum(axis=1, keepdims=True))
