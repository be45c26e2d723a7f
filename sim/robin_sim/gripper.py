"""The suction tool as a MuJoCo body, and its cups' hold on parcels as force-limited constraints.

The tool is a very heavy free body whose position and velocity are prescribed at every step, so contacts and
constraints see its true velocity. Each cup slides on its bellows (spring, damper, stroke), which vacuum draws together.
A sealed cup holds a parcel by a compliant weld; the weld's force is read back at every step and compared with what
vacuum and friction can carry:

    N = V - pull                normal force left on the lip, V = pressure * area * share
    pull            > V         torn off
    |bending|       > r N       the lip lifts at its edge and the cup peels
    shear           > mu N      the lip slides on the parcel, and is off once it has slid too far
    |torsion|       > r mu N    the lip turns on the parcel

While vacuum draws the bellows up, a lip slides and settles but does not come off. A cup that lets go stays off, but
for one that did so while the tool still pressed: it may seal again.
Bending stiffness is chosen so that a full bending moment r V is reached at the bellows' tilt limit. The limits are
those of Dex-Net 3.0 (Mahler et al. 2018) with the lip's lever r for its material term.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import mujoco
import numpy as np
from numpy.typing import NDArray

from robin_grasp.tool import ToolConfig
from robin_sim.gripper_config import GripperConfig
from robin_sim.physics import World
from robin_sim.suction import CupSeal

Array = NDArray[np.float64]
SLOTS = 2  # parcels one cup can hold at once
WELD_IMPEDANCE = 0.9
STOP_IMPEDANCE = 0.95
LONG_AGO_S = 10.0  # vacuum that stood for so long is in full


@dataclass
class Hold:
    """One cup's grip on one parcel. limit_n: V at steady vacuum. slid_m: path of the lip on the parcel so far.
    wrench: filtered load on the cup in tool axes (+z away from the tool), force N then moment Nm."""

    equality: int
    cup: int
    parcel: int
    limit_n: float
    slid_m: float = 0.0
    wrench: Array = field(default_factory=lambda: np.zeros(6))


@dataclass(frozen=True)
class Release:
    """A cup that let go: when, in which phase, why (pull, peel, shear), and the load at that moment."""

    cup: int
    parcel: int
    time_s: float
    phase: str
    reason: str
    pull_n: float
    shear_n: float
    bending_nm: float
    limit_n: float


def add_tool(spec: mujoco.MjSpec, pose: Array, tool: ToolConfig, config: GripperConfig, cups: tuple[int, ...]) -> None:
    """Tool body with plate, stem and sliding cups, and SLOTS inactive welds per cup of ``cups``.

    Cups that are not in ``cups`` (valve closed) stand back a little beyond their travel, as on tools with a stem per
    cup, so they do not push against what the others hold.
    """
    quaternion = np.empty(4)
    mujoco.mju_mat2Quat(quaternion, np.ascontiguousarray(pose[:3, :3]).ravel())
    body = spec.worldbody.add_body(name="tool", pos=pose[:3, 3], quat=quaternion, gravcomp=1.0)
    body.explicitinertial = True
    body.sleep = mujoco.mjtSleepPolicy.mjSLEEP_NEVER
    body.mass, body.inertia = 1000.0, [100.0, 100.0, 100.0]
    body.add_freejoint(name="tool")
    touch = {"contype": 0, "conaffinity": 1, "friction": [0.3, 0.005, 0.0]}
    # As for the welds: MuJoCo scales a limit's stiffness by the joint's inverse weight, here 1 / cup mass.
    stop = config.stop_stiffness_npm * (1 - STOP_IMPEDANCE) / config.cup_mass_kg
    for name, (half_x, half_y, bottom, top) in zip(("tool_plate", "tool_stem"), tool.boxes_m, strict=True):
        if top > bottom:
            size, place = [half_x, half_y, (top - bottom) / 2], [0, 0, -(top + bottom) / 2]
            body.add_geom(name=name, type=mujoco.mjtGeom.mjGEOM_BOX, size=size, pos=place, **touch)
    for i, centre in enumerate(tool.cups_m):
        cup = body.add_body(name=f"cup{i}", pos=centre, gravcomp=1.0)
        cup.explicitinertial = True
        cup.mass, cup.inertia = config.cup_mass_kg, [2e-5, 2e-5, 2e-5]
        cup.add_joint(
            name=f"bellows{i}",
            type=mujoco.mjtJoint.mjJNT_SLIDE,
            axis=[0, 0, 1],
            range=[-max(tool.bellows_travel_m, 1e-4), max(config.stretch_m, 1e-4)],
            limited=True,
            stiffness=tool.bellows_stiffness_npm,
            damping=config.bellows_damping_npsm,
            solref_limit=[-stop, -0.004 * stop],
            solimp_limit=[STOP_IMPEDANCE, STOP_IMPEDANCE, 0.001, 0.5, 2.0],
        )
        lip = {**touch, "friction": [tool.friction, 0.005, 0.0]}
        cup.add_geom(
            name=f"lip{i}",
            type=mujoco.mjtGeom.mjGEOM_CYLINDER,
            size=[0.95 * tool.cup_radius_m, 0.010, 0],
            pos=[0, 0, -0.010 - (0.0 if i in cups else tool.bellows_travel_m + config.stand_back_m)],
            **lip,
        )
    for i in cups:
        for slot in range(SLOTS):
            equality = spec.add_equality(name=f"hold{i}_{slot}", type=mujoco.mjtEq.mjEQ_WELD)
            equality.objtype = mujoco.mjtObj.mjOBJ_BODY
            equality.name1, equality.name2 = f"cup{i}", "parcel0"
            equality.active = False
            equality.solimp = [WELD_IMPEDANCE, WELD_IMPEDANCE, 0.001, 0.5, 2.0]


class Gripper:
    """Drives the tool of a world and keeps its holds. One per pick; not thread-safe (it owns the world's MjData)."""

    def __init__(self, world: World, tool: ToolConfig, config: GripperConfig) -> None:
        self.world, self.tool, self.config = world, tool, config
        model = world.model
        joint = model.joint("tool")
        self._qpos, self._dof = int(joint.qposadr[0]), int(joint.dofadr[0])
        self._body = model.body("tool").id
        cups = range(tool.cup_count)
        self._slides = [model.joint(f"bellows{i}").id for i in cups]
        self._free_range = model.jnt_range[self._slides[0]].copy()
        self._strokes = [int(model.joint(f"bellows{i}").qposadr[0]) for i in cups]
        self._cups = [model.body(f"cup{i}").id for i in cups]
        self._lips = [model.geom(f"lip{i}").id for i in cups]
        self.start = self.pose()
        self.holds: list[Hold] = []
        self.releases: list[Release] = []
        self._vacuum_on_s = 0.0
        self._pressing = False

    def pose(self) -> Array:
        """T_base_tool, float64 [4, 4]."""
        out, rotation = np.eye(4), np.empty(9)
        mujoco.mju_quat2Mat(rotation, self.world.data.qpos[self._qpos + 3 : self._qpos + 7])
        out[:3, :3] = rotation.reshape(3, 3)
        out[:3, 3] = self.world.data.qpos[self._qpos : self._qpos + 3]
        return out

    def drive(self, position: Array, velocity: Array, acceleration: Array) -> None:
        """Prescribe the tool for the coming step: base frame, SI; the orientation stays."""
        data = self.world.data
        data.qpos[self._qpos : self._qpos + 3] = position
        data.qvel[self._dof : self._dof + 6] = 0.0
        data.qvel[self._dof : self._dof + 3] = velocity
        data.xfrc_applied[self._body, :3] = 1000.0 * acceleration

    def reaction_n(self) -> Array:
        """Force of all contacts and holds on the tool in base axes, newtons, float64 [3]."""
        return np.array(self.world.data.qfrc_constraint[self._dof : self._dof + 3])

    def pressures_pa(self) -> Array:
        """Steady pressure difference of each cup that holds something, 0 of the others, float64 [cups]."""
        force_n = np.zeros(self.tool.cup_count)
        for hold in self.holds:
            force_n[hold.cup] += hold.limit_n
        return np.asarray(force_n / self.tool.cup_area_m2)

    def touches(self) -> bool:
        """Does the tool overlap a parcel or the container right now (after a forward pass)?"""
        data = self.world.data
        tree = self.world.model.body_rootid[self.world.model.geom_bodyid]
        ours = (tree[data.contact.geom] == self._body).any(axis=1)
        return bool((data.contact.dist[ours] < -0.0005).any())

    def pressed_by(self) -> str:
        """Name of what the tool runs into deepest: a parcel, a wall, the belt; empty if it touches nothing."""
        model, data = self.world.model, self.world.data
        tree = model.body_rootid[model.geom_bodyid]
        touching = [c for c in range(data.ncon) if self._body in tree[data.contact.geom[c]]]
        if not touching:
            return ""
        deepest = min(touching, key=lambda c: float(data.contact.dist[c]))
        other = next(int(g) for g in data.contact.geom[deepest] if tree[g] != self._body)
        return str(model.geom(other).name or model.body(int(model.geom_bodyid[other])).name)

    def attach(self, seals: tuple[CupSeal, ...], when: Literal["early", "pressed", "late", "held"] = "pressed") -> None:
        """Vacuum on sealed cups: one weld per cup and held parcel, at the relative pose of this moment.

        early: while the tool still presses; the bellows give way further, and are not drawn together yet. pressed: the
        tool stands; these seals take the place of early ones, and the bellows are drawn together from now on. late:
        these join the others. held: a load that hangs on the tool already, with all of its vacuum."""
        model, data = self.world.model, self.world.data
        if when == "pressed":
            for cup in {hold.cup for hold in self.holds}:
                self._let_go(cup)
        if when == "pressed" or (when == "early" and not self.holds):
            self._vacuum_on_s = data.time
        if when == "held":
            self._vacuum_on_s = data.time - LONG_AGO_S
        self._pressing = when == "early"
        for seal in seals:
            if seal.pressure_pa <= 0:
                continue
            strongest = sorted(seal.held, key=lambda item: -item[1])[:SLOTS]
            for slot, (parcel, share) in enumerate(strongest):
                equality = model.equality(f"hold{seal.cup}_{slot}").id
                self._weld(equality, self._cups[seal.cup], int(self.world.bodies[parcel]))
                limit = seal.pressure_pa * self.tool.cup_area_m2 * share
                self.holds.append(Hold(equality, seal.cup, parcel, limit))
                data.eq_active[equality] = 1
                self._swing(parcel, self.config.swing_damping_ps)
            # The weld carries push as well as pull from here on; the lip's own contact would hide part of the load.
            model.geom_conaffinity[self._lips[seal.cup]] = 0
            here = float(data.qpos[self._strokes[seal.cup]])
            model.jnt_range[self._slides[seal.cup]] = (self._free_range[0] if self._pressing else here, here + 1e-6)
        self.holds.sort(key=lambda hold: hold.equality)

    def _weld(self, equality: int, cup: int, parcel: int) -> None:
        """Point an inactive weld at (cup, parcel) where they are now, with this cup's stiffness.

        MuJoCo scales a soft constraint by the bodies' inverse weights; undoing that gives springs in N/m and Nm/rad:
        f = S x / ((1 - d) w) for solref (-S, -B), impedance d and inverse weight w. Rotation rows are the half angle
        times the torque scale.
        """
        model, data, config = self.world.model, self.world.data, self.config
        rotation = data.xmat[parcel].reshape(3, 3)
        inverse, relative = np.empty(4), np.empty(4)
        mujoco.mju_negQuat(inverse, data.xquat[cup])
        mujoco.mju_mulQuat(relative, inverse, data.xquat[parcel])
        weight = model.body_invweight0[cup] + model.body_invweight0[parcel]
        stiffness = config.side_stiffness_npm * (1 - WELD_IMPEDANCE) * weight[0]
        full = self.tool.cup_radius_m * self.tool.cup_force_n
        bending = min(full / max(self.tool.bellows_tilt_rad, 1e-6), config.max_bending_npm_per_rad)
        model.eq_obj1id[equality], model.eq_obj2id[equality] = cup, parcel
        model.eq_data[equality, 0:3] = rotation.T @ (data.xpos[cup] - data.xpos[parcel])
        model.eq_data[equality, 3:6] = 0.0
        model.eq_data[equality, 6:10] = relative
        model.eq_data[equality, 10] = 2 * np.sqrt(bending / config.side_stiffness_npm * weight[1] / weight[0])
        # An explicit spring and damper: parcels too light for this time step get softer ones.
        step = config.stability * WELD_IMPEDANCE / model.opt.timestep
        stiffness = min(stiffness, step**2 / config.stability)
        model.eq_solref[equality] = (-stiffness, -min(stiffness * config.hold_damping_s, step))

    def monitor(self, phase: str) -> None:
        """After a step: read every hold's load, let go of those beyond their limit."""
        if not self.holds:
            return
        model, data, config = self.world.model, self.world.data, self.config
        step = model.opt.timestep
        blend = step / (step + config.force_filter_s)
        rise = float(1.0 - np.exp(-(data.time - self._vacuum_on_s) / config.vacuum_time_s))
        rows = data.efc_force[: 6 * len(self.holds)].reshape(-1, 6)
        axes = data.xmat[self._body].reshape(3, 3)
        parcels = self.world.bodies[[hold.parcel for hold in self.holds]]
        scale = 0.5 * model.eq_data[[hold.equality for hold in self.holds], 10]
        torque = np.einsum("nij,nj->ni", data.xmat[parcels].reshape(-1, 3, 3), rows[:, 3:]) * scale[:, None]
        loads = np.concatenate([rows[:, :3] @ axes, torque @ axes], axis=1)
        seated = data.time - self._vacuum_on_s > config.draw_time_s
        gone: set[int] = set()
        for hold, load in zip(self.holds, loads, strict=True):
            hold.wrench += blend * (load - hold.wrench)
            self._slide(hold, load, hold.limit_n * rise)
            if not seated:
                self._settle(hold)
            reason = self._over_limit(hold, hold.limit_n * rise)
            if reason and (seated or self._pressing):
                gone.add(hold.cup)
                if not self._pressing:
                    self.releases.append(self._release(hold, phase, reason))
        for cup in gone:
            self._let_go(cup)
        if not self._pressing:
            self._move_bellows(rise, step)

    def _move_bellows(self, rise: float, step_s: float) -> None:
        """Vacuum draws a bellows together and lifts what follows, up to a pull of ``draw_force`` V: near that it closes
        slower, for vacuum cannot draw harder than it is. A bellows opens again, as far as it is long, where it carries
        more than that and more than the others on its parcel: the cups share a load, and none keeps a pull that its
        neighbours could take. What all of them would open by only lowers the parcel, and is left out."""
        model, config, travel = self.world.model, self.config, self.tool.bellows_travel_m
        share = min(1.0, (self.world.data.time - self._vacuum_on_s) / config.draw_time_s)
        closing = 2 * travel / config.draw_time_s * np.sin(np.pi * share) ** 2 * step_s
        opening = travel / config.open_time_s * step_s
        count = self.tool.cup_count
        pull, limit, parcel = np.zeros(count), np.zeros(count), np.full(count, -1)
        for hold in self.holds:
            pull[hold.cup] += hold.wrench[2]
            limit[hold.cup] += hold.limit_n * rise
            parcel[hold.cup] = hold.parcel
        used = pull / np.maximum(limit, 1e-9)
        for cup in np.flatnonzero(limit > 0):
            bounds = model.jnt_range[self._slides[cup]]
            if used[cup] < config.draw_force:
                room = 0.5 * (config.draw_force - used[cup]) * limit[cup] / config.stop_stiffness_npm
                bounds -= min(closing, room, max(0.0, float(bounds[0]) + travel))
            else:
                excess = (used[cup] - used[parcel == parcel[cup]].mean()) / (1 - config.draw_force)
                bounds += min(opening * min(max(excess, 0.0), 1.0), max(0.0, -float(bounds[0])))

    def _swing(self, parcel: int, damping_ps: float) -> None:
        """Damping of a parcel's rotation: lips and contents take the swing out of what hangs on cups."""
        model, dof = self.world.model, self.world.dofs[parcel] + 3
        model.dof_damping[dof : dof + 3] = damping_ps * model.body_inertia[self.world.bodies[parcel]]

    def _slide(self, hold: Hold, load: Array, limit: float) -> None:
        """Coulomb friction of the lip: where shear or torsion exceeds it, the weld's rest pose follows the parcel."""
        model = self.world.model
        friction = self.tool.friction * max(limit - load[2], 0.0)
        shear, torsion = float(np.hypot(load[0], load[1])), abs(float(load[5]))
        if shear > friction:
            hold.slid_m += self._follow(hold, 1 - friction / shear)
        if torsion > friction * self.tool.cup_radius_m:
            share = 1 - friction * self.tool.cup_radius_m / torsion
            model.eq_data[hold.equality, 6:10] = self._turned(hold, share)

    def _follow(self, hold: Hold, share: float) -> float:
        """Move the weld's seat by ``share`` of the sideways offset of cup and parcel. Returns the path, metres."""
        model, data = self.world.model, self.world.data
        cup, parcel = self._cups[hold.cup], int(self.world.bodies[hold.parcel])
        axis, rotation = data.xmat[cup].reshape(3, 3)[:, 2], data.xmat[parcel].reshape(3, 3)
        apart = data.xpos[cup] - data.xpos[parcel] - rotation @ model.eq_data[hold.equality, 0:3]
        step = share * (apart - (apart @ axis) * axis)
        model.eq_data[hold.equality, 0:3] += rotation.T @ step
        return float(np.linalg.norm(step))

    def _settle(self, hold: Hold) -> None:
        """While it is drawn up a lip lays itself against the face, so it starts the lift unbent and unsheared."""
        self._follow(hold, self.config.settle_share)
        rest, now = self.world.model.eq_data[hold.equality, 6:10], self._relative(hold)
        blend = rest + self.config.settle_share * (now * np.sign(now @ rest) - rest)
        self.world.model.eq_data[hold.equality, 6:10] = blend / np.linalg.norm(blend)

    def _relative(self, hold: Hold) -> Array:
        """Rotation of the parcel in the cup's frame, quaternion."""
        data, inverse, now = self.world.data, np.empty(4), np.empty(4)
        mujoco.mju_negQuat(inverse, data.xquat[self._cups[hold.cup]])
        mujoco.mju_mulQuat(now, inverse, data.xquat[self.world.bodies[hold.parcel]])
        return now

    def _turned(self, hold: Hold, share: float) -> Array:
        """The weld's relative rotation, moved by ``share`` of the present twist about the cup's axis."""
        rest = self.world.model.eq_data[hold.equality, 6:10].copy()
        inverse, error, turn, out = (np.empty(4) for _ in range(4))
        mujoco.mju_negQuat(inverse, rest)
        mujoco.mju_mulQuat(error, self._relative(hold), inverse)
        angle = 2.0 * float(np.arctan2(error[3], error[0]))
        wrapped = float(np.arctan2(np.sin(angle), np.cos(angle)))
        mujoco.mju_axisAngle2Quat(turn, np.array([0.0, 0.0, 1.0]), share * wrapped)
        mujoco.mju_mulQuat(out, turn, rest)
        return out

    def _over_limit(self, hold: Hold, limit: float) -> str:
        """Why the cup comes off now, "" if it does not."""
        pull = hold.wrench[2]
        if pull > limit:
            return "pull"
        if np.hypot(hold.wrench[3], hold.wrench[4]) > self.tool.cup_radius_m * (limit - pull):
            return "peel"
        return "shear" if hold.slid_m > self.config.slide_limit_m else ""

    def _release(self, hold: Hold, phase: str, reason: str) -> Release:
        load, now = hold.wrench, float(self.world.data.time)
        shear, bending = float(np.hypot(load[0], load[1])), float(np.hypot(load[3], load[4]))
        return Release(hold.cup, hold.parcel, now, phase, reason, float(load[2]), shear, bending, hold.limit_n)

    def _let_go(self, cup: int) -> None:
        """Open a cup on all it holds: once its lip has lifted anywhere the whole cup is vented."""
        freed = [hold for hold in self.holds if hold.cup == cup]
        self.holds = [hold for hold in self.holds if hold.cup != cup]
        for hold in freed:
            self.world.data.eq_active[hold.equality] = 0
            if all(other.parcel != hold.parcel for other in self.holds):
                self._swing(hold.parcel, self.world.config.spin_damping_ps)
        self.world.model.geom_conaffinity[self._lips[cup]] = 1
        self.world.model.jnt_range[self._slides[cup]] = self._free_range

    def release(self, cups: set[int] | None = None) -> None:
        """Open the valves of these cups to the air, by default of all."""
        for cup in {hold.cup for hold in self.holds if cups is None or hold.cup in cups}:
            self._let_go(cup)

    def withdraw(self) -> None:
        """Take the tool out of the scene: nothing held, nothing touched, parked high up."""
        self.release()
        model = self.world.model
        for geom in np.flatnonzero(model.body_rootid[model.geom_bodyid] == self._body):
            model.geom_contype[geom] = model.geom_conaffinity[geom] = 0
        self.drive(np.array([0.0, 0.0, 20.0]), np.zeros(3), np.zeros(3))
