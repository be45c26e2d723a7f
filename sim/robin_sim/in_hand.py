"""What the simulated cell can do with a load that hangs on the tool at the place station, other than deliver it.

It goes back over the spot it came from, all of it or a part is let go there, and what is still held is carried to the
place station again. Contacts, cups and the pile behave as in a pick.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from robin_grasp.tool import CellConfig, cups_to_mask, mask_to_cups
from robin_sim.arm import UP, ArmRun, lift_of, transfer_of
from robin_sim.model import Pile
from robin_sim.motion import Move
from robin_sim.physics import settle
from robin_sim.pick import PickResultSim, build_cell_world, carry_and_tell, draw_noise, steadily
from robin_sim.pick_config import PickConfig

Array = NDArray[np.float64]


@dataclass(frozen=True)
class SetDown:
    """pile: with the load in it, at rest. duration_s: way back, down, opening, and up again."""

    pile: Pile
    duration_s: float


def set_down(held: PickResultSim, contact: Array, cell: CellConfig, config: PickConfig | None = None) -> SetDown:
    """Put all of the load back. contact: float64 [4, 4], the tool pose of the pick. Raises UnstableSimulationError."""
    config = config or PickConfig()
    run, pile, down_s = _lowered(held, contact, cell, config)
    run.gripper.release()
    run.hold(config.vent_s, "vacuum", config.physics.timestep_s)
    run.gripper.withdraw()
    run.world.model.opt.timestep = config.resettle_step_s
    alive = settle(run.world, np.ones(len(pile.parcels), dtype=bool), cap_s=config.resettle_cap_s, fall=False)
    kept = tuple(parcel for parcel, ok in zip(pile.parcels, alive, strict=True) if ok)
    left = replace(pile, parcels=kept, poses=run.world.poses()[alive])
    up_s = lift_of(cell.motion).duration_s
    return SetDown(left, _back_s(held, cell) + down_s + config.vent_s + up_s)


def let_go(
    held: PickResultSim,
    cups: int,
    contact: Array,
    target: int | None,
    cell: CellConfig,
    rng: np.random.Generator | None = None,
    sensor_rng: np.random.Generator | None = None,
    config: PickConfig | None = None,
) -> tuple[PickResultSim, Pile]:
    """Let go of a part of the load back over its spot, and bring the rest to the place station again.

    cups: mask of the cups to open. target: as in ``PickResultSim.load.indices``. Returns the new state and the pile
    that its truth's indices are of. Raises UnstableSimulationError.
    """
    noise = draw_noise(cell, rng)
    before: list[Pile] = []

    def attempt(config: PickConfig) -> PickResultSim:
        run, pile, down_s = _lowered(held, contact, cell, config)
        before[:] = [pile]
        run.gripper.release(set(mask_to_cups(cups)))
        run.hold(config.vent_s, "vacuum", config.physics.timestep_s)
        run.start = run.world.positions().copy()
        run.seals = tuple(seal for seal in run.seals if not cups >> seal.cup & 1)
        first = len(held.pile.parcels)
        meant = first + held.load.indices.index(target) if target in held.load.indices else None
        spent_s = _back_s(held, cell) + down_s + config.vent_s
        return carry_and_tell(run, pile, meant, cell, noise, sensor_rng, spent_s)

    return steadily(attempt, config or PickConfig()), before[0]


def _back_s(held: PickResultSim, cell: CellConfig) -> float:
    return transfer_of(cell.motion, UP, held.outcome.lifted_weight_n).duration_s


def _lowered(held: PickResultSim, contact: Array, cell: CellConfig, config: PickConfig) -> tuple[ArmRun, Pile, float]:
    """A world in which the load hangs over its spot again and was lowered until it stands, the pile with it (the rest
    first, then the load), and the time of the lowering."""
    motion = cell.motion.model_copy(update={"stop_force_n": config.set_down_force_n})
    high = np.array(contact, dtype=np.float64)
    high[2, 3] += motion.lift_m
    back = high @ np.linalg.inv(held.load.T_base_tool)
    poses = np.concatenate([held.pile.poses.reshape(-1, 4, 4), back @ held.load.poses.reshape(-1, 4, 4)])
    pile = replace(held.pile, parcels=(*held.pile.parcels, *held.load.parcels), poses=poses)
    first = len(held.pile.parcels)
    seals = tuple(
        replace(seal, held=tuple((first + place, share) for place, share in seal.held)) for seal in held.load.seals
    )
    cups = cups_to_mask(tuple(seal.cup for seal in seals))
    world, gripper = build_cell_world(pile, high, cups, cell, config)
    run = ArmRun(world, gripper, config, motion, world.positions().copy())
    run.seals = seals
    gripper.attach(seals, "held")
    down = Move(-UP, motion.lift_m, config.set_down_speed_mps, config.set_down_accel_mps2)
    begin_s = world.data.time
    run.follow(down, "vacuum", config.physics.timestep_s, guarded=True)
    run.stopped = False
    return run, pile, float(world.data.time - begin_s)
