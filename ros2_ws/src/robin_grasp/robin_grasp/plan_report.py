"""Collects rejected candidates so that a plan stays small: a few per parcel, each reason first once, the best of
each."""

from __future__ import annotations

from collections import Counter

import numpy as np

from robin_grasp.candidates import Poses, tool_rotations
from robin_grasp.parcels_seen import Parcels
from robin_grasp.plan import Reject, Rejected
from robin_grasp.surface import Floats, Ints
from robin_perception.scene import Scene

REASON_TEXT = {
    Reject.OUT_OF_REACH: "out of the arm's reach",
    Reject.OUTSIDE_WORKSPACE: "outside the workspace",
    Reject.LOW_DETECTION: "detected too uncertainly",
    Reject.TOO_LITTLE_DEPTH: "too little depth",
    Reject.NO_CUP_SEALS: "no cup seals",
    Reject.WRENCH_TOO_LARGE: "too heavy for the cups that seal",
    Reject.MULTI_PICK_RISK: "a cup would touch a neighbour",
    Reject.TOOL_HITS_NEIGHBOUR: "the tool would hit a neighbour",
    Reject.TOOL_HITS_WALL: "the tool would hit a wall",
    Reject.COVERED_BY_OTHER: "covered by another parcel",
    Reject.TILT_TOO_LARGE: "tilted too far",
    Reject.OUTRANKED_ON_INSTANCE: "outranked",
    Reject.FAILED_BEFORE: "failed here before",
    Reject.LIKELY_MERGED: "probably two parcels",
    Reject.EXCLUDED_BY_CALLER: "excluded by the caller",
}


class Rejects:
    """Keeps up to ``per_instance`` rejects of each parcel, at most one per reason unless there is room."""

    def __init__(self, scene: Scene, parcels: Parcels, per_instance: int) -> None:
        self._parcels = parcels
        self._per_instance = per_instance
        self._kept: dict[int, list[Rejected]] = {}
        seen = {int(i) for i in parcels.index}
        for index, instance in enumerate(scene.instances):
            if index not in seen:
                self._kept[instance.id] = [
                    Rejected(instance.id, np.eye(4), 0, Reject.TOO_LITTLE_DEPTH, {"area_px": float(instance.area_px)})
                ]

    def parcels(self, rows: np.ndarray, reason: Reject) -> None:
        """Whole parcels (bool [I]) are ruled out."""
        if not rows.any():
            return
        rotations = tool_rotations(self._parcels.axis, self._parcels.long_axis, np.zeros(self._parcels.count))
        measured = np.linalg.det(rotations) > 0.5
        for i in np.flatnonzero(rows):
            T = np.eye(4)
            if measured[i]:  # no depth, no plane: then nobody knows where the parcel is
                T[:3, :3], T[:3, 3] = rotations[i], self._parcels.centre[i]
            terms = {
                "detection": float(self._parcels.detection[i]),
                "depth_share": float(self._parcels.depth_share[i]),
                "visible_fraction": float(self._parcels.visible[i]),
            }
            self._add(Rejected(int(self._parcels.ids[i]), T, 0, reason, terms))

    def poses(
        self, poses: Poses, rows: np.ndarray, reason: Reject, terms: dict[str, Floats], cups: Ints | None = None
    ) -> None:
        """Poses (bool [N]) are ruled out; the first of each parcel is kept, or a few with room left."""
        found = np.flatnonzero(rows)
        if len(found) == 0:
            return
        parcel = poses.parcel[found]
        _, first = np.unique(parcel, return_index=True)
        rows = found[np.sort(first)]
        values = np.stack([value[rows] for value in terms.values()], axis=1).tolist() if terms else [[]] * len(rows)
        for i, numbers in zip(rows.tolist(), values, strict=True):
            instance_id = int(self._parcels.ids[poses.parcel[i]])
            if not self._room(instance_id):
                continue
            T = np.eye(4)
            T[:3, :3], T[:3, 3] = poses.rotation[i], poses.position[i]
            chosen = int(cups[i]) if cups is not None else 0
            self._add(Rejected(instance_id, T, chosen, reason, dict(zip(terms, numbers, strict=True))))

    def _room(self, instance_id: int) -> bool:
        return len(self._kept.get(instance_id, ())) < self._per_instance

    def _add(self, rejected: Rejected) -> None:
        if self._room(rejected.instance_id):
            self._kept.setdefault(rejected.instance_id, []).append(rejected)

    def rows(self) -> tuple[Rejected, ...]:
        return tuple(rejected for kept in self._kept.values() for rejected in kept)

    def instance_reasons(self) -> list[Reject]:
        """Why each parcel was not picked: the reason it met last, as that is the hurdle its best candidate failed
        at."""
        return [kept[-1].reason for kept in self._kept.values() if kept]


def no_grasp_text(reasons: list[Reject]) -> str:
    """One line: how many parcels failed for which reason, the commonest first."""
    if not reasons:
        return "no grasp: no parcel could be judged"
    parts = [f"{count} {REASON_TEXT[reason]}" for reason, count in Counter(reasons).most_common()]
    return f"no grasp on {len(reasons)} parcels: " + ", ".join(parts)
