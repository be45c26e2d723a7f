"""Something that holds for a while and is not as it should be: with the station or with the goods."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from robin_perception.core.errors import Code


class Family(str, Enum):
    """environment: light, lens, depth, camera: a technician's business. novelty: goods that the model was never taught:
    a trainer's business."""

    ENVIRONMENT = "environment"
    NOVELTY = "novelty"


class PickingEffect(str, Enum):
    """What a condition does to picking, from the mildest to the strictest."""

    GO_ON = "go_on"
    LOOK_AGAIN = "look_again"
    SLOW_DOWN = "slow_down"
    STOP = "stop"


@dataclass(frozen=True)
class Condition:
    """code: the numbered reason. name: lower case, e.g. "dark", "camera_moved", "novel-03". value: as measured; limit:
    beyond which it is told; unit of both. since_s: stamp of the first frame of it. effect: on picking. text: one line.
    instances: ids in the scene that it concerns; empty: the whole picture."""

    code: Code
    name: str
    family: Family
    value: float
    limit: float
    unit: str
    since_s: float
    effect: PickingEffect
    text: str
    instances: tuple[int, ...] = ()
