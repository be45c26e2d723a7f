"""MuJoCo worlds made of parcels on a belt or in a tote: building, stepping to rest, reading poses.

Contact parameters are chosen for parcels of 0.05 to 10 kg: resting penetration stays near 0.2 mm per layer whatever the
mass (MuJoCo's soft constraints scale with the effective mass), light parcels stay stable at 4 ms steps.
"""

from __future__ import annotations

from dataclasses import dataclass

import mujoco
import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from robin_grasp.tool import WorkspaceConfig
from robin_perception.core.config import StrictConfig
from robin_sim.model import Parcel

WALL_FRICTION = 0.2  # smooth polypropylene against cardboard and film
GEOM_TYPES = {
    "box": mujoco.mjtGeom.mjGEOM_BOX,
    "cylinder": mujoco.mjtGeom.mjGEOM_CYLINDER,
    "capsule": mujoco.mjtGeom.mjGEOM_CAPSULE,
    "ellipsoid": mujoco.mjtGeom.mjGEOM_ELLIPSOID,
}


class UnstableSimulationError(RuntimeError):
    """The solver diverged (NaN or absurd speed). The caller drops this pile or pick; it never becomes a result."""


class PhysicsConfig(StrictConfig):
    """Solver and settling constants. Times in seconds of simulated time."""

    timestep_s: float = Field(0.005, gt=0, le=0.01)
    iterations: int = Field(50, ge=1, le=200)
    friction_impedance: float = Field(
        6.0, ge=1, le=200, description="MuJoCo's impratio: at 1 a loaded slope creeps 1 cm/s, at 6 it holds"
    )
    contact_time_s: float = Field(0.012, gt=0, le=0.1, description="time constant of a contact's spring; >= 2 steps")
    rolling_friction_m: float = Field(0.0015, ge=0, le=0.05, description="of cylinders and capsules (dented tubes)")
    spin_damping_ps: float = Field(
        1.5, ge=0, le=20, description="loss of angular speed per second (air, soft contents)"
    )
    drift_damping_ps: float = Field(0.1, ge=0, le=20, description="loss of linear speed per second")
    settle_cap_s: float = Field(4.0, gt=0, le=20)
    guide_height_m: float = Field(2.0, ge=0, le=5, description="chute around the workspace while a pile falls")
    fall_cap_s: float = Field(2.5, gt=0, le=20, description="firm contacts from here on, however lively the pile")
    calm_speed_mps: float = Field(0.25, gt=0, le=2, description="slower than this the fall is over")
    rest_window_s: float = Field(0.15, gt=0, le=2)
    rest_travel_m: float = Field(
        0.0015, gt=0, le=0.05, description="travel within the window that still counts as rest"
    )
    sleep_speed_mps: float = Field(0.0, ge=0, le=0.1, description="an island slower than this is frozen; 0: never")
    max_speed_mps: float = Field(25.0, gt=0, description="faster than this is a diverged solver")


@dataclass
class World:
    """A compiled model and its state. bodies/qpos/dofs: int arrays [N], MuJoCo addresses of each parcel."""

    model: mujoco.MjModel
    data: mujoco.MjData
    workspace: WorkspaceConfig
    config: PhysicsConfig
    bodies: NDArray[np.intp]
    qpos: NDArray[np.intp]
    dofs: NDArray[np.intp]

    def positions(self) -> NDArray[np.float64]:
        """Parcel origins in base, float64 [N, 3], metres."""
        return np.asarray(self.data.qpos[self.qpos[:, None] + np.arange(3)])

    def velocities(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Linear [N, 3] m/s (base axes) and angular [N, 3] rad/s (parcel axes)."""
        both = self.data.qvel[self.dofs[:, None] + np.arange(6)]
        return both[:, :3], both[:, 3:]

    def poses(self) -> NDArray[np.float64]:
        """T_base_parcel, float64 [N, 4, 4]."""
        out = np.tile(np.eye(4), (len(self.bodies), 1, 1))
        for i, address in enumerate(self.qpos):
            rotation = np.empty(9)
            mujoco.mju_quat2Mat(rotation, self.data.qpos[address + 3 : address + 7])
            out[i, :3, :3] = rotation.reshape(3, 3)
            out[i, :3, 3] = self.data.qpos[address : address + 3]
        return out

    def retire(self, index: int) -> None:
        """Take parcel ``index`` out without rebuilding the model: no contacts, parked far below, damped."""
        body = self.bodies[index]
        for geom in range(self.model.body_geomadr[body], self.model.body_geomadr[body] + self.model.body_geomnum[body]):
            self.model.geom_contype[geom] = self.model.geom_conaffinity[geom] = 0
        dof = self.dofs[index]
        self.model.dof_damping[dof : dof + 6] = 1e3 * self.model.body_mass[body]
        self.data.qpos[self.qpos[index] : self.qpos[index] + 3] = (index, 0.0, -50.0)
        self.data.qvel[dof : dof + 6] = 0.0

    def check_stable(self) -> None:
        """Raise UnstableSimulationError when the state is not finite or absurdly fast."""
        speed = np.abs(self.data.qvel)
        if not np.isfinite(speed).all() or (len(speed) and speed.max() > 20 * self.config.max_speed_mps):
            raise UnstableSimulationError("state is not finite")
        linear, _ = self.velocities()
        if len(linear) and np.abs(linear).max() > self.config.max_speed_mps:
            raise UnstableSimulationError(f"a parcel moves at {np.abs(linear).max():.0f} m/s")


def base_spec(config: PhysicsConfig) -> mujoco.MjSpec:
    """An empty model with the solver options every world uses."""
    spec = mujoco.MjSpec()
    spec.compiler.inertiafromgeom = mujoco.mjtInertiaFromGeom.mjINERTIAFROMGEOM_FALSE
    option = spec.option
    option.timestep = config.timestep_s
    option.integrator = mujoco.mjtIntegrator.mjINT_IMPLICITFAST
    option.cone = mujoco.mjtCone.mjCONE_ELLIPTIC
    option.solver = mujoco.mjtSolver.mjSOL_NEWTON
    option.iterations = config.iterations
    option.impratio = config.friction_impedance
    # A loose tolerance (1e-6) stops Newton early and lets elliptic contacts diverge at this impedance ratio.
    option.ls_iterations = 30
    option.tolerance = 1e-8
    option.disableflags |= int(mujoco.mjtDisableBit.mjDSBL_AUTORESET)
    if config.sleep_speed_mps > 0:
        option.enableflags |= int(mujoco.mjtEnableBit.mjENBL_SLEEP)
        option.sleep_tolerance = config.sleep_speed_mps
    return spec


def add_container(spec: mujoco.MjSpec, workspace: WorkspaceConfig) -> None:
    """Belt plane (friction comes from the parcels) and, for a tote, four walls around the workspace."""
    x, y = workspace.centre_m
    spec.worldbody.add_geom(
        name="belt",
        type=mujoco.mjtGeom.mjGEOM_PLANE,
        pos=[x, y, workspace.belt_z_m],
        size=[5, 5, 0.1],
        friction=[0.05, 0.001, 0.0001],
    )
    if workspace.wall_height_m <= 0:
        return
    # Walls collide thicker than they look, outwards, so that nothing tunnels through a 6 mm sheet in one step.
    _add_walls(
        spec, workspace, "wall", workspace.belt_z_m, workspace.wall_height_m, max(workspace.wall_thickness_m, 0.04)
    )


def _add_walls(
    spec: mujoco.MjSpec, workspace: WorkspaceConfig, name: str, bottom: float, height: float, thickness: float
) -> None:
    """Four boxes just outside the workspace's rectangle."""
    (x, y), z = workspace.centre_m, bottom + height / 2
    half_x, half_y, thick = workspace.size_m[0] / 2, workspace.size_m[1] / 2, thickness / 2
    for side, pos, size in (
        ("x0", (x - half_x - thick, y, z), (thick, half_y + thickness, height / 2)),
        ("x1", (x + half_x + thick, y, z), (thick, half_y + thickness, height / 2)),
        ("y0", (x, y - half_y - thick, z), (half_x + thickness, thick, height / 2)),
        ("y1", (x, y + half_y + thick, z), (half_x + thickness, thick, height / 2)),
    ):
        spec.worldbody.add_geom(
            name=f"{name}_{side}",
            type=mujoco.mjtGeom.mjGEOM_BOX,
            pos=pos,
            size=size,
            priority=1,  # the wall's friction holds, not the larger of the two
            friction=[WALL_FRICTION, 0.001, 0.0001],
            solref=[0.012, 1.0],
            solimp=[0.95, 0.99, 0.001, 0.5, 2.0],
        )


def drop_guides(world: World) -> None:
    """Take the chute away, if there is one: its walls no longer touch anything."""
    for geom in range(world.model.ngeom):
        if world.model.geom(geom).name.startswith("guide_"):
            world.model.geom_contype[geom] = world.model.geom_conaffinity[geom] = 0


def add_parcel(
    spec: mujoco.MjSpec, index: int, parcel: Parcel, pose: NDArray[np.float64], config: PhysicsConfig
) -> None:
    """One free body with the parcel's collision geoms, mass and centre of mass; inertia of a solid box of its size."""
    quaternion = np.empty(4)
    mujoco.mju_mat2Quat(quaternion, np.ascontiguousarray(pose[:3, :3]).ravel())
    size = np.maximum(np.asarray(parcel.size_m, dtype=np.float64), 0.01)
    square = size**2
    body = spec.worldbody.add_body(name=f"parcel{index}", pos=pose[:3, 3], quat=quaternion)
    body.explicitinertial = True
    body.mass = parcel.mass_kg
    body.ipos = parcel.com_offset_m
    body.iquat = [1, 0, 0, 0]
    body.inertia = parcel.mass_kg / 12.0 * (square.sum() - square)
    body.add_freejoint(name=f"free{index}")
    for geom in parcel.collision:
        rolls = geom.type in ("cylinder", "capsule")
        body.add_geom(
            type=GEOM_TYPES[geom.type],
            size=geom.size_m,
            pos=geom.position_m,
            quat=geom.quaternion_wxyz,
            friction=[parcel.friction, 0.005, config.rolling_friction_m if rolls else 0.0],
            condim=6 if rolls else 3,
            solref=[config.contact_time_s, 1.0],
            solimp=[0.95, 0.99, 0.001, 0.5, 2.0],
        )


def finish(
    spec: mujoco.MjSpec, parcels: tuple[Parcel, ...], workspace: WorkspaceConfig, config: PhysicsConfig
) -> World:
    """Compile and set the damping of the parcels' free joints."""
    model = spec.compile()
    bodies = np.array([model.body(f"parcel{i}").id for i in range(len(parcels))], dtype=np.intp)
    joints = model.body_jntadr[bodies] if len(bodies) else bodies
    qpos = model.jnt_qposadr[joints].astype(np.intp)
    dofs = model.jnt_dofadr[joints].astype(np.intp)
    for body, dof in zip(bodies, dofs, strict=True):
        model.dof_damping[dof : dof + 3] = config.drift_damping_ps * model.body_mass[body]
        model.dof_damping[dof + 3 : dof + 6] = config.spin_damping_ps * model.body_inertia[body]
    data = mujoco.MjData(model)
    return World(model, data, workspace, config, bodies, qpos, dofs)


def build_world(
    parcels: tuple[Parcel, ...],
    poses: NDArray[np.float64],
    workspace: WorkspaceConfig,
    config: PhysicsConfig,
    guides: bool = False,
) -> World:
    """A world with the container and the parcels at ``poses`` (float64 [N, 4, 4], T_base_parcel).

    ``guides`` adds a chute around the workspace that keeps a falling pile together until ``drop_guides``.
    """
    spec = base_spec(config)
    add_container(spec, workspace)
    if guides:
        _add_walls(spec, workspace, "guide", workspace.belt_z_m + workspace.wall_height_m, config.guide_height_m, 0.2)
    for index, (parcel, pose) in enumerate(zip(parcels, poses, strict=True)):
        add_parcel(spec, index, parcel, pose, config)
    return finish(spec, parcels, workspace, config)


def outside(world: World) -> NDArray[np.bool_]:
    """bool [N]: parcels whose origin is beyond the workspace's rectangle or below the belt."""
    workspace = world.workspace
    position = world.positions()
    beyond = np.abs(position[:, :2] - workspace.centre_m) > np.asarray(workspace.size_m) / 2
    return np.asarray(beyond.any(axis=1) | (position[:, 2] < workspace.belt_z_m - 0.02))


def use_fast_contacts(world: World) -> None:
    """Pyramidal cones at a loose tolerance: three times faster while things fly, but loaded slopes creep."""
    option = world.model.opt
    option.cone, option.impratio, option.tolerance = int(mujoco.mjtCone.mjCONE_PYRAMIDAL), 1.0, 1e-6


def use_firm_contacts(world: World) -> None:
    """Elliptic cones with stiff friction: static friction holds. A loose tolerance would let this diverge."""
    option = world.model.opt
    option.cone, option.tolerance = int(mujoco.mjtCone.mjCONE_ELLIPTIC), 1e-8
    option.impratio = world.config.friction_impedance


def _displacement(world: World, before: NDArray[np.float64]) -> NDArray[np.float64]:
    """float64 [N]: how far each parcel moved since the state vector ``before``, metres, turning counted at 0.1 m."""
    columns = world.qpos[:, None] + np.arange(7)
    old, new = before[columns], world.data.qpos[columns]
    cosine = np.clip(np.abs((old[:, 3:] * new[:, 3:]).sum(axis=1)), 0.0, 1.0)
    moved: NDArray[np.float64] = np.linalg.norm(new[:, :3] - old[:, :3], axis=1) + 0.1 * 2 * np.arccos(cosine)
    return moved


def _retire_leavers(world: World, alive: NDArray[np.bool_], still: NDArray[np.bool_]) -> bool:
    """Retire living parcels that lie still outside the workspace or are well away from it. True if any was."""
    far = np.linalg.norm(world.positions()[:, :2] - world.workspace.centre_m, axis=1) > 1.2
    leave = alive & outside(world) & (still | far)
    for index in np.flatnonzero(leave):
        world.retire(int(index))
        alive[index] = False
    return bool(leave.any())


def settle(world: World, alive: NDArray[np.bool_], cap_s: float | None = None, fall: bool = True) -> NDArray[np.bool_]:
    """Step until every living parcel is at rest, retiring those that come to rest (or run away) outside the workspace.

    alive: bool [N] of parcels still in the scene. Returns the new ``alive``. ``fall``: begin with fast contacts and
    switch to firm ones (and drop the chute, if there is one) when the pile has calmed down. Rest means that nothing
    moved more than ``rest_travel_m`` over ``rest_window_s``, so a soft contact's buzz does not count. Stops at
    ``cap_s`` of simulated time even if something still creeps. Velocities are zero afterwards. Raises
    UnstableSimulationError.
    """
    config, model, data = world.config, world.model, world.data
    alive = alive.copy()
    chunk = max(1, round(config.rest_window_s / model.opt.timestep / 2))
    span = chunk * model.opt.timestep
    (use_fast_contacts if fall else use_firm_contacts)(world)
    falling, calm, elapsed = fall, 0, 0.0
    while elapsed < (config.settle_cap_s if cap_s is None else cap_s):
        before = data.qpos.copy()
        mujoco.mj_step(model, data, chunk)
        elapsed += span
        world.check_stable()
        moved = _displacement(world, before)
        if falling:
            if not alive.any() or moved[alive].max() < config.calm_speed_mps * span or elapsed > config.fall_cap_s:
                falling = False
                drop_guides(world)
                use_firm_contacts(world)
            continue
        still = moved < config.rest_travel_m / 2
        calm = 0 if _retire_leavers(world, alive, still) or not still[alive].all() else calm + 1
        if calm >= 2:
            break
    for index in np.flatnonzero(alive & outside(world)):
        alive[index] = False
    data.qvel[:] = 0.0
    return alive
