"""What is remembered of picks that did not work, so that none is repeated unchanged."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from robin_grasp.picks.outcome import PickResult
from robin_grasp.plan import FailedPick, Grasp
from robin_grasp.recovery.action import Action
from robin_perception.core.frame import Frame
from robin_perception.core.scene import Scene

SAME_SPOT_M = 0.04  # two contacts nearer than this are the same spot
GIVE_UP_ON_SPOT = 3  # failures in a row on one spot before the pile is replaced, as an operator would clear a jam
GIVE_UP_ANYWHERE = 4  # failures in a row wherever they are: what rolls away or is dropped is no longer on its spot
# The planner ranks a try behind others after one failure, and rules its cups out there after two
# (``RankConfig.failed_most``).
_TOLD_AS = {Action.OTHER_POSE: 2, Action.OTHER_PARCEL: 2}

Spot = tuple[float, float, float]


@dataclass
class _Failure:
    """Tries of one spot with one set of cups. spot: of the tool; parcel: a point on the parcel that was meant. times:
    that failed; told: as the planner is told. set_downs: of them, how often the load was set down. given_up: the parcel
    is not tried again."""

    spot: Spot
    parcel: Spot
    cups: int
    times: int = 1
    told: int = 1
    set_downs: int = 0
    given_up: bool = False


class FailureMemory:
    """The failures in one pile. A clean pick near a spot forgets it: what lay there is gone."""

    def __init__(self) -> None:
        self._failures: list[_Failure] = []
        self._in_a_row = 0
        self._on_spot = 0
        self._last_spot: Spot | None = None

    @property
    def failed(self) -> tuple[FailedPick, ...]:
        """What the planner is told."""
        return tuple(FailedPick(f.spot, f.cups, max(f.times, f.told)) for f in self._failures)

    @property
    def in_a_row(self) -> int:
        """Failed tries since the last clean pick."""
        return self._in_a_row

    @property
    def stuck(self) -> bool:
        """Where nobody decides what to do next: the pile should be replaced."""
        return self._on_spot >= GIVE_UP_ON_SPOT or self._in_a_row >= GIVE_UP_ANYWHERE

    def note(
        self,
        grasp: Grasp,
        result: PickResult,
        action: Action | None = None,
        set_down: bool = False,
        parcel: Spot | None = None,
    ) -> None:
        """A pick is over. action: what the recovery policy makes of it. set_down: the load was put back. parcel: a
        point on what was meant (``point_on``), by default the grasp's own."""
        spot = _spot(grasp)
        if result is PickResult.CLEAN and not set_down:
            self.forget(spot)
            return
        again = self._last_spot is not None and math.dist(self._last_spot, spot) <= SAME_SPOT_M
        self._in_a_row += 1
        self._on_spot = self._on_spot + 1 if again else 1
        self._last_spot = spot
        known = next((f for f in self._failures if _near(f.spot, spot) and f.cups == grasp.cups), None)
        if known is None:
            known = _Failure(spot, parcel or spot, grasp.cups, times=0)
            self._failures.append(known)
        known.times += 1
        known.parcel = parcel or spot
        known.told = max(known.told, _TOLD_AS.get(action, 1) if action is not None else 1)
        known.set_downs += set_down
        known.given_up |= action is Action.OTHER_PARCEL

    def forget(self, spot: Spot) -> None:
        """What lay there is gone."""
        self._failures = [f for f in self._failures if not _near(f.spot, spot)]
        self.begin_row()

    def begin_row(self) -> None:
        """What failed so far has been looked after: failures in a row are counted anew."""
        self._in_a_row, self._on_spot, self._last_spot = 0, 0, None

    def forget_parcels(self, frame: Frame, scene: Scene, instances: tuple[int, ...]) -> None:
        """Somebody took these instances of that frame away."""
        under = self._under(frame, scene)
        self._failures = [f for f, found in zip(self._failures, under, strict=True) if found not in instances]
        self.begin_row()

    def tries_of(self, frame: Frame, scene: Scene, instance_id: int) -> int:
        """Failed tries of the parcel that this instance shows."""
        return sum(f.times for f in self._on(frame, scene, instance_id))

    def set_downs_of(self, frame: Frame, scene: Scene, instance_id: int) -> int:
        """How often a load of that parcel was set down."""
        return sum(f.set_downs for f in self._on(frame, scene, instance_id))

    def given_up(self, frame: Frame, scene: Scene) -> tuple[int, ...]:
        """Ids of instances that are not tried again, ascending."""
        found = zip(self._failures, self._under(frame, scene), strict=True)
        return tuple(sorted({under for f, under in found if f.given_up and under}))

    def _on(self, frame: Frame, scene: Scene, instance_id: int) -> list[_Failure]:
        found = zip(self._failures, self._under(frame, scene), strict=True)
        return [f for f, under in found if under == instance_id]

    def _under(self, frame: Frame, scene: Scene) -> list[int]:
        """Instance that shows each failure's parcel; 0 for none."""
        if not self._failures:
            return []
        pixels = frame.pixels(np.array([f.parcel for f in self._failures]))
        height, width = scene.labels.shape
        inside = (pixels >= -0.5).all(axis=1) & (pixels[:, 0] < width - 0.5) & (pixels[:, 1] < height - 0.5)
        x, y = np.rint(np.where(inside[:, None], pixels, 0.0)).astype(np.int64).T
        return [int(label) for label in np.where(inside, scene.labels[y, x], 0)]


def point_on(frame: Frame, scene: Scene, instance_id: int) -> Spot | None:
    """A point of base_link in the middle of an instance's mask, metres; None where it has no mask or no depth."""
    rows, columns = np.nonzero((scene.labels == instance_id) & (frame.depth > 0))
    if not len(rows):
        return None
    middle = np.argmin((rows - rows.mean()) ** 2 + (columns - columns.mean()) ** 2)
    y, x = rows[middle], columns[middle]
    ray = np.linalg.solve(frame.K, (x, y, 1.0))
    point = frame.T_base_camera[:3, :3] @ (ray * float(frame.depth[y, x])) + frame.T_base_camera[:3, 3]
    return float(point[0]), float(point[1]), float(point[2])


def _spot(grasp: Grasp) -> Spot:
    x, y, z = (float(v) for v in grasp.T_base_tool[:3, 3])
    return x, y, z


def _near(a: Spot, b: Spot) -> bool:
    return math.dist(a, b) <= SAME_SPOT_M
