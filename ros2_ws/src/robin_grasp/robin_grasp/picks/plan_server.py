"""Answers requests for a pick: the newest segmented frame, how old it may be, what failed before. No ROS in here."""

from __future__ import annotations

import itertools
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from robin_grasp.cup_health import CupReport
from robin_grasp.cup_health_file import CupHealthKeeper
from robin_grasp.picks.open_picks import SAME_STAMP_S
from robin_grasp.picks.outcome import PickOutcome, PickResult
from robin_grasp.plan import ALL_SOUND, FailedPick, Plan, Planner, Reject, Rejected
from robin_grasp.plan_report import no_grasp_text
from robin_grasp.recovery.action import Action
from robin_grasp.recovery.failure_memory import FailureMemory, point_on
from robin_grasp.recovery.machine import refuse_to_pick
from robin_perception.core.errors import Code, RobinError
from robin_perception.core.frame import Frame
from robin_perception.core.scene import Scene

FAILED = frozenset({Action.OTHER_CUPS, Action.OTHER_POSE, Action.OTHER_PARCEL, Action.ASK_HELP})
KEPT_PLANS = 16  # handed-out plans whose outcome may still come


@dataclass(frozen=True)
class IssuedPlan:
    """A plan with its name and all that the planner was given.

    plan_id: unique on this station, fit for a file name. requested: a pick may follow. failed: in order, as the planner
    was told. excluded: instance ids that the request ruled out, ascending.
    """

    plan_id: str
    requested: bool
    plan: Plan
    frame: Frame
    scene: Scene
    failed: tuple[FailedPick, ...] = ()
    excluded: tuple[int, ...] = ()
    flags: tuple[str, ...] = ()


def new_session() -> str:
    """A name for this run of a planner: plans made before and after a restart must not share ids."""
    return f"p{time.time_ns() // 1_000_000:x}"


class PlanServer:
    """Holds the newest segmented frame and plans on it.

    Thread-safe in that frames and outcomes may come from any thread while another plans; plans are made one at a time.
    A frame that is older than the limit, or was taken before the last pick ended, is never planned on.
    cups: what is learned of the tool's cups; None: the planner always trusts them.
    """

    def __init__(
        self,
        planner: Planner,
        session: str | None = None,
        clock: Callable[[], float] = time.time,
        cups: CupHealthKeeper | None = None,
    ) -> None:
        self._planner = planner
        self._clock = clock
        self._session = session or new_session()
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()
        self._planning = threading.Lock()
        self._newest: tuple[Frame, Scene] | None = None
        self._memory = FailureMemory()
        self._issued: OrderedDict[str, IssuedPlan] = OrderedDict()
        self._last: IssuedPlan | None = None
        self._pick_ended_s = float("-inf")
        self._cups = cups
        self._felt: OrderedDict[str, None] = OrderedDict()  # plans whose pick the cups have learned from

    @property
    def failed(self) -> tuple[FailedPick, ...]:
        with self._lock:
            return self._memory.failed

    @property
    def stuck(self) -> bool:
        """Too many failures in a row: somebody should look at the pile."""
        with self._lock:
            return self._memory.stuck

    @property
    def planner_flags(self) -> tuple[str, ...]:
        """What the planner says of itself."""
        return tuple(getattr(self._planner, "flags", ()))

    def forget_frame(self) -> None:
        """There is no frame until the next comes."""
        with self._lock:
            self._newest = None

    def forget_time(self) -> None:
        """The clock is another one, or jumped back: there is no frame, and no pick has ended."""
        with self._lock:
            self._newest = None
            self._pick_ended_s = float("-inf")

    def offer(self, frame: Frame, scene: Scene) -> None:
        """``scene`` is what the segmenter says of ``frame``. The latest to come counts, whatever its stamp says."""
        with self._lock:
            self._newest = frame, scene

    def plan_requested(self, age_limit_s: float, exclude: Sequence[int] = ()) -> IssuedPlan:
        """Plan on the newest frame for a pick. Raises RobinError FRAME_NONE, FRAME_STALE, or the number of a condition
        of the station that lets nothing be picked.

        age_limit_s: oldest frame that may be used, seconds. exclude: instance ids that must not be picked, beside those
        that the recovery policy has given up.
        """
        with self._planning:
            frame, scene = self._fresh(age_limit_s)
            refuse_to_pick(scene.conditions)
            issued = self._plan(frame, scene, tuple(sorted(set(exclude))), requested=True)
            with self._lock:
                self._issued[issued.plan_id] = issued
                while len(self._issued) > KEPT_PLANS:
                    self._issued.popitem(last=False)
            return issued

    def plan_scene(self, frame: Frame, scene: Scene) -> IssuedPlan:
        """Plan on a frame for whoever wants to see it; no pick may follow."""
        with self._planning:
            return self._plan(frame, scene, (), requested=False)

    def issued(self, plan_id: str) -> IssuedPlan | None:
        """A plan that was handed out, and whose pick has not ended."""
        with self._lock:
            return self._issued.get(plan_id)

    def note_held(self, ended_s: float) -> None:
        """The tool has left the pile at ``ended_s``, with a load that is not judged yet: earlier frames are stale."""
        with self._lock:
            if ended_s <= self._clock() + 1.0:  # a stamp of another clock must not make every frame stale
                self._pick_ended_s = max(self._pick_ended_s, ended_s)

    def note_outcome(
        self, plan_id: str, grasp: int, result: PickResult | None, ended_s: float, action: Action | None = None
    ) -> bool:
        """A pick has ended at ``ended_s``: earlier frames are stale. result: None when nobody knows it. action: what
        the recovery policy makes of it, None where there is none.

        False for a plan that this server did not hand out (from before a restart): nothing is remembered of it then.
        """
        self.note_held(ended_s)
        with self._lock:
            issued = self._issued.pop(plan_id, None)
            if issued is None or not 0 <= grasp < len(issued.plan.grasps):
                return False
            if result is not None:
                executed = issued.plan.grasps[grasp]
                parcel = point_on(issued.frame, issued.scene, executed.instance_id)
                gone = PickResult.CLEAN if action is Action.GO_ON else result
                back = gone is PickResult.CLEAN and action in FAILED
                self._memory.note(executed, gone, action, set_down=back, parcel=parcel)
            return True

    def note_cups(self, plan_id: str, grasp: int, outcome: PickOutcome) -> tuple[CupReport, ...]:
        """What a pick tells of the cups, at its first report: a later one may be of other cups. Returns those whose
        state changed. Call it before ``note_outcome``, which forgets the plan. Raises RobinError CUPS_MISMATCH."""
        with self._lock:
            issued = self._issued.get(plan_id)
            if self._cups is None or issued is None or plan_id in self._felt or grasp >= len(issued.plan.grasps):
                return ()
            self._felt[plan_id] = None
            while len(self._felt) > KEPT_PLANS:
                self._felt.popitem(last=False)
            return self._cups.note(issued.plan.grasps[grasp], outcome, self._clock())

    def reset_cups(self, cups: tuple[int, ...]) -> tuple[CupReport, ...]:
        """These cups were replaced; empty: all. Returns what is believed now. Raises RobinError CUPS_MISMATCH."""
        with self._lock:
            if self._cups is not None:
                self._cups.reset(cups, self._clock())
        return self.cups

    @property
    def cups(self) -> tuple[CupReport, ...]:
        """What is believed of the cups; empty where nobody watches them."""
        with self._lock:
            return () if self._cups is None else self._cups.health.cups

    @property
    def cups_problem(self) -> RobinError | None:
        """What is wrong with the file of the cups' health now."""
        with self._lock:
            return None if self._cups is None else self._cups.problem

    def forget_failures(self) -> None:
        """The pile is another one."""
        with self._lock:
            self._memory = FailureMemory()

    def _fresh(self, age_limit_s: float) -> tuple[Frame, Scene]:
        with self._lock:
            newest, ended_s = self._newest, self._pick_ended_s
        if newest is None:
            raise RobinError(Code.FRAME_NONE, "no segmented frame has come yet")
        frame = newest[0]
        age_s = self._clock() - frame.stamp_s
        if age_s > age_limit_s:
            raise RobinError(
                Code.FRAME_STALE, f"the newest frame is {age_s:.3f} s old, the limit is {age_limit_s:.3f} s"
            )
        if age_s < -age_limit_s:
            raise RobinError(
                Code.FRAME_STALE, f"the newest frame is stamped {-age_s:.3f} s ahead: the camera's clock is another one"
            )
        if frame.stamp_s < ended_s - SAME_STAMP_S:
            text = f"the newest frame was taken {ended_s - frame.stamp_s:.3f} s before the last pick ended"
            raise RobinError(Code.FRAME_STALE, text)
        return newest

    def _plan(self, frame: Frame, scene: Scene, excluded: tuple[int, ...], requested: bool) -> IssuedPlan:
        failed, last = self.failed, self._last
        with self._lock:
            cups = ALL_SOUND if self._cups is None else self._cups.health.trust
            excluded = tuple(sorted({*excluded, *self._memory.given_up(frame, scene)}))
        same = last is not None and last.scene is scene and last.failed == failed and last.plan.basis.cups == cups
        if same and last is not None and not last.excluded and not excluded:
            plan = last.plan  # planned for display already: the same input gives the same plan
        else:
            plan = without_instances(self._planner.plan(frame, scene, failed, cups), excluded)
        if last_ones := left_for_last(plan, scene):
            plan, excluded = without_instances(plan, last_ones), tuple(sorted({*excluded, *last_ones}))
        plan_id = f"{self._session}-{next(self._numbers):06d}"
        self._last = IssuedPlan(plan_id, requested, plan, frame, scene, failed, excluded, self.planner_flags)
        return self._last


def seldom_held(plan: Plan, scene: Scene) -> tuple[int, ...]:
    """Ids of goods that were seldom held, as the plan was told."""
    last = () if plan.holding is None else plan.holding.last
    return tuple(one.id for one, late in zip(scene.instances, last, strict=False) if late)


def left_for_last(plan: Plan, scene: Scene) -> tuple[int, ...]:
    """Ids of goods that were seldom held, where the plan has nothing else."""
    ids = seldom_held(plan, scene)
    return ids if plan.grasps and all(grasp.instance_id in ids for grasp in plan.grasps) else ()


def without_instances(plan: Plan, excluded: tuple[int, ...]) -> Plan:
    """The plan without grasps on those instances; they become rejected candidates."""
    banned = [grasp for grasp in plan.grasps if grasp.instance_id in excluded]
    if not banned:
        return plan
    kept = tuple(grasp for grasp in plan.grasps if grasp.instance_id not in excluded)
    rejected = plan.rejected + tuple(
        Rejected(g.instance_id, g.T_base_tool, g.cups, Reject.EXCLUDED_BY_CALLER, g.terms) for g in banned
    )
    counts = {**plan.rejected_counts, Reject.EXCLUDED_BY_CALLER: len(banned)}
    left = replace(plan, grasps=kept, rejected=rejected, rejected_counts=counts)
    if kept:
        return replace(left, message=f"{len(kept)} grasps on {len({g.instance_id for g in kept})} parcels")
    reasons = {r.instance_id: r.reason for r in rejected}
    return replace(left, code=Code.NO_GRASP, message=no_grasp_text(list(reasons.values())))
