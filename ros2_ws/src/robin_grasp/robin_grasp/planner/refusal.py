"""What keeps any planner from planning on a scene at all."""

from __future__ import annotations

from robin_grasp.plan import Plan
from robin_perception.core.errors import Code
from robin_perception.core.frame import Frame
from robin_perception.core.scene import Scene
from robin_perception.core.support_check import POSE_FLAGS, measure_support
from robin_perception.core.support_plane import BARE_FLAG


def refusal(frame: Frame, scene: Scene, belt_z_m: float, planner: str) -> Plan | None:
    """A plan without a grasp where there can be none: POSE_CONTRADICTED, NO_INSTANCE. None where planning may begin."""
    if POSE_FLAGS[Code.POSE_CONTRADICTED] in scene.flags:
        support = scene.support or measure_support(frame, scene.labels, belt_z_m)  # a message has the flag alone
        text = "the surface seen is not z = 0" if support is None else support.text(belt_z_m)
        return Plan(Code.POSE_CONTRADICTED, f"{text}: the camera's pose is wrong", (), (), planner)
    if not scene.instances:
        nothing = BARE_FLAG in scene.flags
        text = "no parcel was detected" + (": nothing stands on the support plane" if nothing else "")
        return Plan(Code.NO_INSTANCE, text, (), (), planner)
    return None
