"""Recorded against replayed: field by field for one machine, by what matters for a pick across machines."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from scipy.spatial.transform import Rotation

from robin_grasp.tool import ToolConfig, mask_to_cups
from robin_perception.core.config import StrictConfig

# Fields that may differ between two runs of the same thing: names, times, and what is only sent for display.
IGNORED_FIELDS = frozenset(
    {
        "plan.header",
        "plan.plan_id",
        "plan.requested",
        "plan.model_id",
        "plan.timings",
        "scene.header",
        "scene.model_id",
        "scene.model_version",
        "scene.label_image.header",
        "scene.boundary",
        "scene.timings",
        "scene.segment_ms",
    }
)


class MachineTolerances(StrictConfig):
    """What two machines may differ in. The same best grasp, or one that was as good: sums in another order move scores
    in their last digits, and two nearly equal grasps may then change places.

    position_m: between the spots that open cups stand on. angle_rad: between tool axes. differing_share: of a bag's
    plans that may be outside of the others, since a threshold can lie just between.
    """

    position_m: float = Field(0.010, ge=0, le=0.1)
    angle_rad: float = Field(0.10, ge=0, le=1)
    score: float = Field(0.02, ge=0, le=1, description="of the best grasp; also what counts as equally good")
    instances: int = Field(1, ge=0, le=20, description="parcels seen")
    probability: float = Field(0.05, ge=0, le=1, description="of a judgement")
    mask_share: float = Field(0.01, ge=0, le=1, description="of all pixels: parcel in one, none in the other")
    differing_share: float = Field(0.03, ge=0, le=1)


@dataclass(frozen=True)
class Difference:
    """One field that differs, with both values as text."""

    field: str
    recorded: str
    replayed: str

    def __str__(self) -> str:
        return f"{self.field}: recorded {self.recorded}, replayed {self.replayed}"


def exact_differences(recorded: Mapping[str, Any], replayed: Mapping[str, Any]) -> list[Difference]:
    """Every field but IGNORED_FIELDS, to the last bit. Arguments: {'plan': ``with_named_terms``, 'scene': ...}."""
    return list(_tree("", recorded, replayed))


def machine_differences(
    recorded: Mapping[str, Any], replayed: Mapping[str, Any], limits: MachineTolerances, tool: ToolConfig
) -> list[Difference]:
    """What exceeds ``limits``; arguments as for ``exact_differences``."""
    return [
        *_scene_differences(recorded, replayed, limits),
        *_plan_differences(recorded["plan"], replayed["plan"], limits, tool),
    ]


def _tree(path: str, a: Any, b: Any) -> Iterator[Difference]:
    if path in IGNORED_FIELDS:
        return
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        # A message may have got fields since the bag was made; of the terms, either side may have more.
        names = dict.fromkeys([*a, *b]) if path.endswith("terms") else a
        for name in names:
            yield from _tree(f"{path}.{name}" if path else name, a.get(name), b.get(name))
    elif isinstance(a, np.ndarray) and isinstance(b, np.ndarray):
        yield from _arrays(path, a, b)
    elif isinstance(a, list) and isinstance(b, list):
        yield from _lists(path, a, b)
    elif a != b and not (isinstance(a, float) and isinstance(b, float) and math.isnan(a) and math.isnan(b)):
        yield Difference(path, _text(a), _text(b))


def _lists(path: str, a: list[Any], b: list[Any]) -> Iterator[Difference]:
    if len(a) != len(b):
        yield Difference(f"{path}.length", str(len(a)), str(len(b)))
    for index, (one, other) in enumerate(zip(a, b, strict=False)):
        yield from _tree(f"{path}[{index}]", one, other)


def _arrays(path: str, a: NDArray[Any], b: NDArray[Any]) -> Iterator[Difference]:
    if a.shape != b.shape:
        yield Difference(f"{path}.length", str(a.size), str(b.size))
        return
    differs = a != b
    if a.dtype.kind == "f":
        differs &= ~(np.isnan(a) & np.isnan(b))
    if differs.any():
        first = int(np.flatnonzero(differs)[0])
        count = int(differs.sum())
        yield Difference(f"{path}[{first}] (first of {count})", _text(a.flat[first]), _text(b.flat[first]))


def _scene_differences(
    recorded: Mapping[str, Any], replayed: Mapping[str, Any], limits: MachineTolerances
) -> Iterator[Difference]:
    if "scene" not in recorded or "scene" not in replayed:
        return
    a, b = recorded["scene"], replayed["scene"]
    if _conditions(a) != _conditions(b):
        yield Difference("scene.conditions", _conditions(a), _conditions(b))
    if abs(len(a["instances"]) - len(b["instances"])) > limits.instances:
        yield Difference("scene.instances", str(len(a["instances"])), str(len(b["instances"])))
    one, other = (np.asarray(s["label_image"]["data"]).view(np.uint16) > 0 for s in (a, b))
    if one.shape != other.shape:
        yield Difference("scene.label_image.length", str(one.size), str(other.size))
        return
    share = float((one != other).mean()) if one.size else 0.0
    if share > limits.mask_share:
        yield Difference("scene.label_image", "parcels", f"another {share:.2%} of the image")


def _conditions(scene: Mapping[str, Any]) -> str:
    """Their names; figures may differ in their last digits."""
    told = scene.get("conditions", ())
    return ", ".join(sorted(c if isinstance(c, str) else f"{c['name']}: {c['action']}" for c in told)) or "none"


def _plan_differences(
    a: Mapping[str, Any], b: Mapping[str, Any], limits: MachineTolerances, tool: ToolConfig
) -> Iterator[Difference]:
    if a["code"] != b["code"]:
        yield Difference("plan.code", f"{a['code']} ({a['text']})", f"{b['code']} ({b['text']})")
        return
    if not a["grasps"] or not b["grasps"]:
        return
    best, found = a["grasps"][0], b["grasps"][0]
    if abs(best["score"] - found["score"]) > limits.score:
        yield Difference("plan.grasps[0].score", _text(best["score"]), _text(found["score"]))
    equally_good = [g for g in a["grasps"] if best["score"] - g["score"] <= limits.score]
    if not any(_same_contact(g, found, limits, tool) for g in equally_good):
        yield Difference("plan.grasps[0]", _grasp_text(best), _grasp_text(found))


def _same_contact(a: Mapping[str, Any], b: Mapping[str, Any], limits: MachineTolerances, tool: ToolConfig) -> bool:
    """Open cups stand on the same spots, whichever cups those are: a tool that is moved by one cup's pitch, or turned
    by half a turn, touches the parcel where another subset did."""
    (lips, axis), (others, other_axis) = _open_cups(a, tool), _open_cups(b, tool)
    if len(lips) != len(others) or not len(lips):
        return len(lips) == len(others)
    apart = np.linalg.norm(lips[:, None] - others[None], axis=2)
    nearest = max(float(apart.min(axis=0).max()), float(apart.min(axis=1).max()))
    angle = math.acos(min(1.0, max(-1.0, float(axis @ other_axis))))
    return nearest <= limits.position_m and angle <= limits.angle_rad


def _open_cups(grasp: Mapping[str, Any], tool: ToolConfig) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Centres of the open cups [N, 3] and the tool's axis [3], in base_link."""
    turned = Rotation.from_quat([grasp["pose"]["orientation"][axis] for axis in "xyzw"])
    position = np.array([grasp["pose"]["position"][axis] for axis in "xyz"])
    lips = turned.apply(tool.cups_m[list(mask_to_cups(int(grasp["cups"])))].reshape(-1, 3)) + position
    return lips, turned.apply([0.0, 0.0, 1.0])


def _grasp_text(grasp: Mapping[str, Any]) -> str:
    x, y, z = (grasp["pose"]["position"][axis] for axis in "xyz")
    return f"({x:.4f} {y:.4f} {z:.4f}) m, cups {grasp['cups']:08b}, score {grasp['score']:.4f}"


def _text(value: Any) -> str:
    """Shortest text that tells values apart: floats to their last digit."""
    if isinstance(value, (float, np.floating)):
        return repr(float(value))
    if isinstance(value, (Mapping, list, np.ndarray)):
        return f"{type(value).__name__} of {len(value)}"
    return f"'{value}'" if isinstance(value, str) else str(value)
