"""One pick in the simulated cell: approach, press, vacuum, lift, transfer, and what became of every parcel.

Nothing here knows a planner's score. What is lifted, dropped, dragged along or toppled follows from contacts and from
the cups' force limits (see ``gripper``); whether a cup holds at all from the true meshes (see ``suction``). What is
done with the load at the place station stands in ``in_hand``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass

import mujoco
import numpy as np
from numpy.typing import NDArray

from robin_grasp.picks.outcome import PickOutcome, PickResult
from robin_grasp.picks.traces import PickTraces
from robin_grasp.tool import CellConfig, cups_to_mask, mask_to_cups
from robin_sim.arm import UP, ArmRun, lift_of, transfer_axis, transfer_of
from robin_sim.faults import NO_FAULTS, Faults
from robin_sim.gripper import Gripper, add_tool
from robin_sim.model import Parcel, Pile
from robin_sim.motion import Move
from robin_sim.physics import (
    UnstableSimulationError,
    World,
    add_container,
    add_parcel,
    base_spec,
    finish,
    settle,
    use_firm_contacts,
)
from robin_sim.pick_config import PickConfig
from robin_sim.suction import CupSeal, seal_cups

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Load:
    """What hangs on the tool at the place station. poses: float64 [L, 4, 4], T_base_parcel. indices: of the parcels in
    the pile before the pick. seals: what each cup holds, ``held`` by place in ``parcels``. T_base_tool: float64
    [4, 4]."""

    parcels: tuple[Parcel, ...]
    poses: Array
    indices: tuple[int, ...]
    seals: tuple[CupSeal, ...]
    T_base_tool: Array


@dataclass(frozen=True)
class PickResultSim:
    """outcome: what the cell measured up to the place station, with the truth and the result of delivering it now.
    pile: what is left, at rest, without the load. arrived: the tool went to the place station."""

    outcome: PickOutcome
    pile: Pile
    load: Load
    arrived: bool


def build_cell_world(
    pile: Pile, start: Array, cups: int, cell: CellConfig, config: PickConfig
) -> tuple[World, Gripper]:
    spec = base_spec(config.physics)
    add_container(spec, pile.workspace)
    for index, (parcel, pose) in enumerate(zip(pile.parcels, pile.poses, strict=True)):
        add_parcel(spec, index, parcel, pose, config.physics)
    add_tool(spec, start, cell.tool, config.gripper, mask_to_cups(cups))
    world = finish(spec, pile.parcels, pile.workspace, config.physics)
    use_firm_contacts(world)
    mujoco.mj_forward(world.model, world.data)
    return world, Gripper(world, cell.tool, config.gripper)


def _begin(pile: Pile, contact: Array, cups: int, cell: CellConfig, config: PickConfig) -> ArmRun:
    """World with the tool at the start of its way in.

    Straight along the tool's axis where its start is free. In a crowd it comes straight down to the longest shorter
    approach that starts in the free, and, if there is none, to the full one (and is stopped on the way).
    """
    world, gripper = build_cell_world(pile, contact, cups, cell, config)
    run = ArmRun(world, gripper, config, cell.motion, world.positions().copy(), approach_m=cell.motion.approach_m)
    if _place(run, contact, run.approach_m, 0.0) or config.descend_m <= 0:
        return run
    run.descent_m = config.descend_m
    for share in config.short_approaches:
        if _place(run, contact, share * cell.motion.approach_m, 0.0):
            run.approach_m = share * cell.motion.approach_m
            break
    _place(run, contact, run.approach_m, run.descent_m)
    return run


def _place(run: ArmRun, contact: Array, back_m: float, raise_m: float) -> bool:
    """Put the tool ``back_m`` before the contact, ``raise_m`` up. Is it free there?"""
    run.gripper.drive(contact[:3, 3] - back_m * contact[:3, 2] + raise_m * UP, np.zeros(3), np.zeros(3))
    mujoco.mj_forward(run.world.model, run.world.data)
    return not run.gripper.touches()


def _grip(run: ArmRun, pile: Pile, contact: Array, cups: int, cell: CellConfig, faults: Faults) -> None:
    """Approach, press, seal, attach, evacuate."""
    config, fine = run.config, run.config.physics.timestep_s
    motion = cell.motion
    if run.descent_m:
        down = Move(-UP, run.descent_m, 2 * motion.approach_speed_mps, motion.approach_accel_mps2)
        run.follow(down, "descend", fine, guarded=True)
    near = motion.press_m + 0.015
    way = run.approach_m + motion.press_m
    move = Move(contact[:3, 2].copy(), way, motion.approach_speed_mps, motion.approach_accel_mps2)
    coarse = config.coarse_step_s if not run.descent_m else fine
    if not run.stopped:

        def touch(left_m: float) -> None:
            if left_m <= motion.press_m + motion.vacuum_lead_m:
                _seal_early(run, pile, cups, cell, faults)

        run.follow(move, "approach", lambda left: fine if left < near else coarse, guarded=True, on_touch=touch)
    short_m = float((contact[:3, 3] - run.gripper.pose()[:3, 3]) @ contact[:3, 2])
    if run.stopped and short_m > config.blocked_m:
        run.blocked = {"phase": run.phase, "short_m": round(short_m, 4), "by": run.gripper.pressed_by()}
    run.seals = seal_cups(pile.parcels, run.world.poses(), run.gripper.pose(), cups, cell.tool, faults, config.suction)
    run.stopped = False
    run.gripper.attach(run.seals)
    share_s = motion.dwell_s / (config.late_seals + 1)
    for _ in range(config.late_seals):
        run.hold(share_s, "vacuum", fine)
        _seal_late(run, pile, cell, faults)
    run.hold(share_s, "vacuum", fine)
    _search(run, pile, cell, faults)


def _seal_early(run: ArmRun, pile: Pile, cups: int, cell: CellConfig, faults: Faults) -> None:
    """Vacuum is on before the tool arrives, so a cup takes hold as soon as its lip lies on a face: what would tip or
    slide away under the press is held. Which cups hold in the end is decided once the tool has pressed."""
    held = {hold.cup for hold in run.gripper.holds}
    waiting = cups_to_mask(tuple(cup for cup in mask_to_cups(cups) if cup not in held))
    if not waiting:
        return
    # Faces that the lips do not touch yet are out of reach: the tool is still on its way.
    pose, reach_m = run.gripper.pose(), run.config.suction.reach_m
    pose[:3, 3] -= reach_m * pose[:3, 2]
    seals = seal_cups(pile.parcels, run.world.poses(), pose, waiting, cell.tool, faults, run.config.suction)
    run.gripper.attach(seals, "early")


def _seal_late(run: ArmRun, pile: Pile, cell: CellConfig, faults: Faults) -> None:
    """Valves stay open, so a cup that met nothing, or leaked, takes hold once the parcel has come to its lip: when it
    springs back from the press, or is drawn up by the other cups."""
    held = {hold.cup for hold in run.gripper.holds}
    lost = {release.cup for release in run.gripper.releases}
    waiting = [seal.cup for seal in run.seals if seal.cup not in held | lost]
    if not waiting:
        return
    again = seal_cups(
        pile.parcels,
        run.world.poses(),
        run.gripper.pose(),
        cups_to_mask(tuple(waiting)),
        cell.tool,
        faults,
        run.config.suction,
    )
    found = {seal.cup: seal for seal in again if seal.pressure_pa > 0}
    run.seals = tuple(found.get(seal.cup, seal) for seal in run.seals)
    run.gripper.attach(tuple(found.values()), "late")


def _search(run: ArmRun, pile: Pile, cell: CellConfig, faults: Faults) -> None:
    """Where no cup holds and nothing stands in the way, the parcel gave way under the press: the tool follows it, until
    the first cup holds, or by ``follow_m``."""
    config, motion, fine, followed = run.config, run.motion, run.config.physics.timestep_s, 0.0
    axis = run.gripper.pose()[:3, 2].copy()
    while not run.gripper.holds and not run.blocked and not run.stopped and followed < motion.follow_m:
        followed += motion.follow_step_m
        move = Move(axis, motion.follow_step_m, motion.approach_speed_mps, motion.approach_accel_mps2)
        run.follow(move, "search", fine, guarded=True)
        _seal_late(run, pile, cell, faults)
        run.hold(motion.dwell_s / (config.late_seals + 1), "vacuum", fine)
    run.stopped = False


def _carry(run: ArmRun, cell: CellConfig) -> tuple[list[int], list[int], tuple[float, ...]]:
    """Lift, weigh, transfer. Returns lifted indices, delivered indices, and pressure of each cup after the lift."""
    config, fine, motion = run.config, run.config.physics.timestep_s, cell.motion
    run.follow(lift_of(motion), "lift", fine)
    run.hold(config.weigh_s, "weigh", fine)
    high = run.world.positions()
    raised = high[:, 2] - run.start[:, 2] > config.lifted_m
    held = {hold.cup for hold in run.gripper.holds}
    pressure = {seal.cup: seal.pressure_pa for seal in run.seals if seal.cup in held}
    vacuum = tuple(pressure.get(cup, 0.0) for cup in range(cell.tool.cup_count))
    if not raised.any():
        return [], [], vacuum
    direction = transfer_axis(motion)
    run.follow(transfer_of(motion, direction, float(np.mean(run.weights))), "transfer", fine)
    run.hold(config.arrive_s, "arrive", fine)
    position, (linear, _) = run.world.positions(), run.world.velocities()
    along = (position - high) @ direction > 0.7 * motion.transfer_m
    carried = position[:, 2] > run.start[:, 2] + config.lifted_m
    with_tool = np.linalg.norm(linear, axis=1) < 0.5
    return np.flatnonzero(raised).tolist(), np.flatnonzero(along & carried & with_tool).tolist(), vacuum


def _judge(lifted: list[int], delivered: list[int], target: int | None) -> PickResult:
    if len(lifted) >= 2 or len(delivered) >= 2:
        return PickResult.MULTI
    if not lifted and not delivered:
        return PickResult.MISS
    if not delivered:
        return PickResult.DROP
    return PickResult.CLEAN if delivered[0] == target else PickResult.WRONG


def _aftermath(run: ArmRun, pile: Pile, delivered: list[int]) -> tuple[Pile, list[int], list[int]]:
    """Settle what is left. Returns the new pile, indices moved, indices that left the workspace."""
    config, world = run.config, run.world
    run.gripper.withdraw()
    alive = np.ones(len(pile.parcels), dtype=bool)
    for index in delivered:
        world.retire(index)
        alive[index] = False
    world.model.opt.timestep = config.resettle_step_s
    alive = settle(world, alive, cap_s=config.resettle_cap_s, fall=False)
    distance = np.linalg.norm(world.positions() - run.start, axis=1)
    moved = [int(i) for i in np.flatnonzero(alive & (distance > config.moved_m))]
    fallen = [int(i) for i in np.flatnonzero(~alive) if int(i) not in delivered]
    kept = tuple(p for p, ok in zip(pile.parcels, alive, strict=True) if ok)
    return Pile(kept, world.poses()[alive], pile.workspace, pile.arrangement, pile.tags), moved, fallen


def execute_pick(
    pile: Pile,
    T_base_tool: Array,
    cups: int,
    target_index: int | None,
    cell: CellConfig,
    faults: Faults = NO_FAULTS,
    rng: np.random.Generator | None = None,
    config: PickConfig | None = None,
    sensor_rng: np.random.Generator | None = None,
) -> PickResultSim:
    """Execute one grasp on ``pile``, up to the place station, and tell what happened.

    T_base_tool: float64 [4, 4], tool pose at contact (before the press). cups: 8-bit mask of open valves. target_index:
    parcel the planner means (None or negative: none, so nothing can be clean). rng: arm repeatability and noise of the
    figures after the lift; sensor_rng: noise of the traces; without them these are zero. Raises UnstableSimulationError
    if the physics diverges at half the time step too.
    """
    config = config or PickConfig()
    contact = np.array(T_base_tool, dtype=np.float64)
    noise = draw_noise(cell, rng)
    contact[:3, 3] += config.repeatability_m * noise[:3]
    target = target_index if target_index is not None and target_index >= 0 else None

    def attempt(config: PickConfig) -> PickResultSim:
        run = _begin(pile, contact, cups, cell, config)
        _grip(run, pile, contact, cups, cell, faults)
        return carry_and_tell(run, pile, target, cell, noise, sensor_rng, cell.motion.cycle_overhead_s)

    return steadily(attempt, config)


def press_cups(
    pile: Pile,
    T_base_tool: Array,
    cups: int,
    cell: CellConfig,
    faults: Faults = NO_FAULTS,
    rng: np.random.Generator | None = None,
    config: PickConfig | None = None,
) -> PickTraces:
    """The beginning of a pick, up to the end of the dwell, and nothing is lifted: what the sensors tell of the cups.
    Parameters as of ``execute_pick``; rng: of the arm and of the sensors. ``pile`` stays as it is."""
    config = config or PickConfig()
    contact = np.array(T_base_tool, dtype=np.float64)
    contact[:3, 3] += config.repeatability_m * draw_noise(cell, rng)[:3]
    run = _begin(pile, contact, cups, cell, config)
    _grip(run, pile, contact, cups, cell, faults)
    return run.sensors.traces(rng)


def draw_noise(cell: CellConfig, rng: np.random.Generator | None) -> Array:
    """Standard normal: position [3], vacuum of each cup, weight."""
    draws = 3 + cell.tool.cup_count + 1
    return np.zeros(draws) if rng is None else rng.normal(size=draws)


def steadily(attempt: Callable[[PickConfig], PickResultSim], config: PickConfig) -> PickResultSim:
    """``attempt``, and where the physics diverges once more at half the time step."""
    try:
        return attempt(config)
    except UnstableSimulationError:
        physics = config.physics.model_copy(update={"timestep_s": config.physics.timestep_s / 2})
        finer = {"physics": physics, "coarse_step_s": physics.timestep_s, "resettle_step_s": 2 * physics.timestep_s}
        return attempt(config.model_copy(update=finer))


def carry_and_tell(
    run: ArmRun,
    pile: Pile,
    target: int | None,
    cell: CellConfig,
    noise: Array,
    sensor_rng: np.random.Generator | None,
    before_s: float,
) -> PickResultSim:
    """Lift what the cups hold, carry it to the place station, let the rest settle. before_s: what the cell's time had
    to pay for until the lift."""
    config, motion = run.config, cell.motion
    lifted, delivered, vacuum = _carry(run, cell)
    releases = [asdict(release) for release in run.gripper.releases]
    load, traces = _load(run, pile, delivered), run.sensors.traces(sensor_rng)
    rest, moved, fallen = _aftermath(run, pile, delivered)
    carry_s = transfer_of(motion, UP, float(np.mean(run.weights))).duration_s
    vacuum = tuple(
        max(0.0, p + config.vacuum_noise_pa * float(n)) if p > 0 else 0.0
        for p, n in zip(vacuum, noise[3:-1], strict=True)
    )
    weight = float(np.mean(run.weights)) + config.weight_noise_n * float(noise[-1])
    truth: dict[str, object] = {
        "target": target,
        "lifted": lifted,
        "delivered": delivered,
        "moved": moved,
        "fallen": fallen,
        "blocked": run.blocked,
        "seals": [asdict(seal) for seal in run.seals],
        "releases": releases,
    }
    outcome = PickOutcome(
        result=_judge(lifted, delivered, target),
        vacuum_pa=vacuum,
        lifted_weight_n=max(0.0, weight),
        duration_s=before_s + lift_of(motion).duration_s + (carry_s if lifted else 0.0),
        truth=truth,
        traces=traces,
    )
    return PickResultSim(outcome, rest, load, bool(lifted))


def _load(run: ArmRun, pile: Pile, delivered: list[int]) -> Load:
    """What arrived, and what each cup holds of it."""
    place = {index: k for k, index in enumerate(delivered)}
    area_m2, seals = run.gripper.tool.cup_area_m2, []
    for cup in sorted({hold.cup for hold in run.gripper.holds if hold.parcel in place}):
        holds = [hold for hold in run.gripper.holds if hold.cup == cup and hold.parcel in place]
        total_n = sum(hold.limit_n for hold in holds)
        held = tuple((place[hold.parcel], hold.limit_n / total_n) for hold in holds)
        seals.append(CupSeal(cup, total_n / area_m2, 0.0, held))
    parcels = tuple(pile.parcels[index] for index in delivered)
    return Load(parcels, run.world.poses()[delivered], tuple(delivered), tuple(seals), run.gripper.pose())
