"""One camera's monitors: every frame in, what is wrong with the station out."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass

from robin_perception.core.condition import Condition, Family, PickingEffect
from robin_perception.core.errors import Code, RobinError
from robin_perception.core.frame import Frame
from robin_perception.core.scene import Scene
from robin_perception.monitors.baseline import StationBaseline, load_baseline
from robin_perception.monitors.cause import Cause, Surroundings
from robin_perception.monitors.config import CauseConfig, MonitorsConfig
from robin_perception.monitors.look import Look, look_at
from robin_perception.monitors.motion import MotionMeter
from robin_perception.monitors.registry import make_causes
from robin_perception.monitors.sequential import SequentialTest, slack_for

_RECENT = 5  # frames whose middle value is told
REFUSED_AS = {Code.DEPTH_UNIT_SUSPECT: "depth_unit", Code.PICTURE_FROZEN: "frozen"}
"""Codes of frames that the gate refuses -> the cause that they show."""


@dataclass(frozen=True)
class Reading:
    """One cause as it stands. value: the newest, NaN where the frame did not show it; limit: beyond which it counts."""

    name: str
    code: Code
    value: float
    usual: float
    limit: float
    unit: str
    alarm: bool


class StationMonitor:
    """Feed every frame in order. Deterministic; not thread-safe.

    baseline: what is usual here; None: stated defaults, which see less. A baseline that does not go with the frames, or
    that could not be read (``problem``), is told as a condition, and the defaults hold.
    """

    def __init__(
        self,
        config: MonitorsConfig | None = None,
        baseline: StationBaseline | None = None,
        belt_z_m: float = 0.0,
        problem: RobinError | None = None,
    ) -> None:
        self.config = config or MonitorsConfig()
        self._baseline = baseline
        self._meter: MotionMeter | None = None if baseline is None else baseline.meter()
        self._belt_z_m = belt_z_m
        self._problem = problem
        settings = self.config
        slack = slack_for(settings.false_alarm_frames, settings.frames_per_scene, settings.least_frames)
        self._watched = [
            _Watched(cause, getattr(settings, cause.name), SequentialTest(slack, settings.least_frames))
            for cause in make_causes(settings)
        ]
        self._last: Frame | None = None
        self._misfit: Condition | None = None
        self.conditions: tuple[Condition, ...] = ()

    @classmethod
    def of(cls, config: MonitorsConfig, belt_z_m: float = 0.0) -> StationMonitor:
        """With the baseline that the configuration names. One that is missing or damaged is told as a condition."""
        if config.baseline is None:
            return cls(config, None, belt_z_m)
        try:
            return cls(config, load_baseline(config.baseline), belt_z_m)
        except RobinError as exc:
            return cls(config, None, belt_z_m, exc)

    @property
    def learning_allowed(self) -> bool:
        """Nothing is learnt from a station that is not as it should be."""
        return not any(condition.family == Family.ENVIRONMENT for condition in self.conditions)

    def reset(self) -> None:
        """Forget all frames: the clock jumped, the camera was exchanged or started anew."""
        for watched in self._watched:
            watched.reset()
        self._last = self._misfit = None
        self.conditions = ()

    def observe(self, frame: Frame, scene: Scene) -> tuple[Condition, ...]:
        """What holds with this frame, in the order of the causes. The same frame again changes nothing; a stamp before
        the last one starts anew."""
        if not self.config.enabled:
            return ()
        if self._last is not None:
            if frame.stamp_s < self._last.stamp_s or frame.rgb.shape != self._last.rgb.shape:
                self.reset()
            elif frame.stamp_s == self._last.stamp_s:
                return self.conditions
        self._last = frame
        around = self._surroundings(frame, scene)
        look = look_at(frame, scene.labels)
        for watched in self._watched:
            watched.look(look, around, self._baseline if around.reference is not None else None)
        told = [watched.condition() for watched in self._watched if watched.test.alarm]
        self.conditions = (*self._about_baseline(frame), *told)
        return self.conditions

    def refused(self, code: Code, stamp_s: float) -> tuple[Condition, ...]:
        """The gate let no frame through, for this reason; what that shows counts as a frame of it."""
        for watched in self._watched:
            if watched.cause.name == REFUSED_AS.get(code):
                watched.note(2.0 * watched.limit, stamp_s)
        told = [watched.condition() for watched in self._watched if watched.test.alarm]
        self.conditions = (*([] if self._misfit is None else [self._misfit]), *told)
        return self.conditions

    def readings(self) -> tuple[Reading, ...]:
        """Every cause as it stands, for diagnostics."""
        return tuple(watched.reading() for watched in self._watched)

    def _surroundings(self, frame: Frame, scene: Scene) -> Surroundings:
        fits = self._baseline is not None and self._baseline.misfit(frame) is None
        reference = self._baseline.reference if fits and self._baseline is not None else None
        return Surroundings(reference, self._meter if fits else None, scene.support, self._belt_z_m)

    def _about_baseline(self, frame: Frame) -> list[Condition]:
        if self._problem is not None:
            code, text = self._problem.code, self._problem.text
        elif self._baseline is not None and (misfit := self._baseline.misfit(frame)) is not None:
            code, text = Code.BASELINE_FOREIGN, f"the baseline does not hold: {misfit}"
        else:
            self._misfit = None
            return []
        said = f"{text}; stated defaults hold, take it anew (robin station baseline)"
        if self._misfit is None or self._misfit.text != said:
            go_on, since_s = PickingEffect.GO_ON, frame.stamp_s
            self._misfit = Condition(code, "baseline", Family.ENVIRONMENT, 1.0, 0.0, "", since_s, go_on, said)
        return [self._misfit]


class _Watched:
    """A cause with its test, and what is usual for it."""

    def __init__(self, cause: Cause, config: CauseConfig, test: SequentialTest) -> None:
        self.cause, self.config, self.test = cause, config, test
        self._usual, self._sigma = 0.0, 1.0
        self.reset()

    def reset(self) -> None:
        self.cause.reset()
        self.test.reset()
        self._value = math.nan
        self._recent: deque[float] = deque(maxlen=_RECENT)
        self._expect(None)

    @property
    def limit(self) -> float:
        return self._usual + self.test.slack * self._sigma

    def look(self, look: Look, around: Surroundings, baseline: StationBaseline | None) -> None:
        self._expect(baseline)
        value = self.cause.measure(look, around)
        known = self.cause.default is not None or (baseline is not None and self.cause.name in baseline.usual)
        if value is None or not known or self.cause.spoiled_by & around.suspects:
            self._value = math.nan
            return
        around.found[self.cause.name] = value - self._usual
        if value - self._usual > self.cause.suspect * (self.limit - self._usual):
            around.suspects.add(self.cause.name)
        self.note(value, look.frame.stamp_s)

    def note(self, value: float, stamp_s: float) -> None:
        """One frame's statistic."""
        self._value = value
        self._recent.append(value)
        self.test.update((value - self._usual) / self._sigma, stamp_s)

    def _expect(self, baseline: StationBaseline | None) -> None:
        """What is usual, by the baseline where that knows it."""
        usual = None if baseline is None else baseline.usual.get(self.cause.name)
        tolerated = self.config.tolerated
        if usual is None:
            if self.cause.default is None:
                return
            usual, tolerated = self.cause.default
        self._usual = 0.0 if self.cause.from_zero and baseline is not None else usual.location
        self._sigma = max(usual.spread, tolerated / self.test.slack)

    def condition(self) -> Condition:
        beyond = [value for value in self._recent if value > self.limit] or [self.limit]
        value = sorted(beyond)[len(beyond) // 2]
        deviation = value - self._usual
        effect = self.config.effect_of(deviation)
        cause, since_s = self.cause, self.test.since_s
        return Condition(
            cause.code,
            cause.name,
            Family.ENVIRONMENT,
            value,
            self.limit,
            cause.unit,
            since_s,
            effect,
            cause.text(deviation),
        )

    def reading(self) -> Reading:
        cause = self.cause
        return Reading(cause.name, cause.code, self._value, self._usual, self.limit, cause.unit, self.test.alarm)
