"""Counts the candidates that are ruled out, and keeps a few as examples, so that a plan stays small: each parcel's
every reason first once, the best of each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from robin_grasp.plan import Reject, Rejected
from robin_grasp.planner.candidates import Poses, tool_rotations
from robin_grasp.planner.parcels_seen import Parcels
from robin_grasp.planner.surface import Floats, Ints, View
from robin_perception.core.scene import Instance, Scene

EXAMPLE_STEP = 3  # every third pixel tells where a parcel is
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
    Reject.NO_DEPTH_AROUND: "no depth around it",
    Reject.NO_EDGE: "no edge where the mask ends",
    Reject.NO_PARCEL: "no parcel",
}


class Rejects:
    """Counts every reject by its reason, and keeps up to ``per_instance`` of each parcel as examples, at most one per
    reason unless there is room. early: of parcels that are not in ``scene`` any more."""

    def __init__(self, scene: Scene, parcels: Parcels, per_instance: int, early: Sequence[Rejected] = ()) -> None:
        self._parcels = parcels
        self._per_instance = per_instance
        self._kept: dict[int, list[Rejected]] = {}
        self._last: dict[int, Reject] = {}
        self._counts: Counter[Reject] = Counter(rejected.reason for rejected in early)
        for rejected in early:
            self._add(rejected)
        seen = {int(i) for i in parcels.index}
        for index, instance in enumerate(scene.instances):
            if index not in seen:
                terms = {"area_px": float(instance.area_px)}
                self._counts[Reject.TOO_LITTLE_DEPTH] += 1
                self._add(Rejected(instance.id, np.eye(4), 0, Reject.TOO_LITTLE_DEPTH, terms))

    def parcels(self, rows: NDArray[np.bool_], reason: Reject) -> None:
        """Faces (bool [I]) are ruled out before poses were sampled there: one reject for each parcel."""
        if not rows.any():
            return
        _, first = np.unique(self._parcels.index[rows], return_index=True)
        self._counts[reason] += len(first)
        rotations = tool_rotations(self._parcels.axis, self._parcels.long_axis, np.zeros(self._parcels.count))
        measured = np.linalg.det(rotations) > 0.5
        for i in np.flatnonzero(rows)[np.sort(first)]:
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
        self, poses: Poses, rows: NDArray[np.bool_], reason: Reject, terms: dict[str, Floats], cups: Ints | None = None
    ) -> None:
        """Poses (bool [N]) are ruled out; the first of each parcel is an example where there is room."""
        found = np.flatnonzero(rows)
        if len(found) == 0:
            return
        self._counts[reason] += len(found)
        parcel = poses.parcel[found]
        _, first = np.unique(parcel, return_index=True)
        shown = found[np.sort(first)]
        values = np.stack([value[shown] for value in terms.values()], axis=1).tolist() if terms else [[]] * len(shown)
        for i, numbers in zip(shown.tolist(), values, strict=True):
            instance_id = int(self._parcels.ids[poses.parcel[i]])
            self._last[instance_id] = reason
            if not self._room(instance_id):
                continue
            T = np.eye(4)
            T[:3, :3], T[:3, 3] = poses.rotation[i], poses.position[i]
            chosen = int(cups[i]) if cups is not None else 0
            self._add(Rejected(instance_id, T, chosen, reason, dict(zip(terms, numbers, strict=True))))

    def without_example(self, rows: NDArray[np.bool_], reason: Reject) -> None:
        """Poses (bool [N]) are ruled out, and none of them tells more than its number."""
        if count := int(np.count_nonzero(rows)):
            self._counts[reason] += count

    def _room(self, instance_id: int) -> bool:
        return len(self._kept.get(instance_id, ())) < self._per_instance

    def _add(self, rejected: Rejected) -> None:
        self._last[rejected.instance_id] = rejected.reason
        if self._room(rejected.instance_id):
            self._kept.setdefault(rejected.instance_id, []).append(rejected)

    def rows(self) -> tuple[Rejected, ...]:
        return tuple(rejected for kept in self._kept.values() for rejected in kept)

    def counts(self) -> dict[Reject, int]:
        """How many were ruled out for each reason so far, by code."""
        return dict(sorted(self._counts.items()))

    def instance_reasons(self) -> list[Reject]:
        """Why each parcel was not picked: the reason it met last, as that is the hurdle its best candidate failed
        at."""
        return list(self._last.values())


def ruled_out(view: View, instance: Instance, reason: Reject, terms: dict[str, float]) -> Rejected:
    """A parcel that is not looked at any further: a tool straight above the middle of what is seen of it, at the median
    height; at base_link's origin where it has no depth."""
    x0, y0, x1, y1 = view.box(instance.bbox)
    crop = (slice(y0, y1, EXAMPLE_STEP), slice(x0, x1, EXAMPLE_STEP))
    q = np.where(view.labels[crop] == instance.id, view.inverse_depth[crop], 0.0)
    ys, xs = np.nonzero(q)
    T = np.eye(4)
    if len(ys):
        T[:3, :3] = np.diag([1.0, -1.0, -1.0])
        T[:3, 3] = view.points(
            EXAMPLE_STEP * xs.mean() + x0, EXAMPLE_STEP * ys.mean() + y0, np.sort(q[ys, xs])[len(ys) // 2]
        )
    return Rejected(instance.id, T, 0, reason, terms)


def no_grasp_text(reasons: list[Reject]) -> str:
    """One line: how many parcels failed for which reason, the commonest first."""
    if not reasons:
        return "no grasp: no parcel could be judged"
    parts = [f"{count} {REASON_TEXT[reason]}" for reason, count in Counter(reasons).most_common()]
    return f"no grasp on {len(reasons)} parcels: " + ", ".join(parts)
