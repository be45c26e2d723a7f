"""What other viewers are shown of a run: each pick with its pictures, its cloud and the tool, on one clock."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from edge_adapt.decision import Decision
from edge_adapt.decision_store import read_decisions
from edge_adapt.evidence import FolderEvidence, frame_of
from edge_adapt.record_parts import CandidateRecord
from robin_grasp.picks.traces import PickTraces
from robin_perception.core.disk import sync_folder, write_error
from robin_perception.core.errors import Code, RobinError
from robin_perception.core.frame import Frame

SHOWN_GRASPS = 3
CUP_HEIGHT_M = 0.01
CLOUD_STEP = 2
_GAP_NS = 100_000_000


@dataclass(frozen=True)
class ShownPick:
    """One pick. at_ns: where it stands on the export's clock. frame and labels are None where the pictures are gone;
    traces where there are none."""

    decision: Decision
    at_ns: int
    frame: Frame | None = None
    labels: NDArray[np.uint16] | None = None
    traces: PickTraces | None = None

    def traced(self) -> Iterator[tuple[int, list[float], float]]:
        """Nanoseconds, vacuum of each cup in Pa and weight in N of each sample."""
        traces = self.traces
        if traces is not None:
            for at, (vacuum, weight) in enumerate(zip(traces.vacuum_pa, traces.weight_n, strict=True)):
                yield self.at_ns + round(at * 1e9 / traces.rate_hz), vacuum.tolist(), float(weight)

    def best(self) -> tuple[CandidateRecord, ...]:
        """The executed grasp first, then others by rank."""
        others = [one for one in self.decision.candidates if one is not self.decision.chosen]
        chosen = () if self.decision.chosen is None else (self.decision.chosen,)
        return (*chosen, *others)[:SHOWN_GRASPS]


def shown_picks(run: Path) -> Iterator[ShownPick]:
    """Picks of a run's folder, in order. They stand at the time of their record, and later where the traces of the one
    before would reach into them. Raises RobinError INPUT_MISSING, RECORD_INVALID."""
    log = read_decisions(run)
    free_ns = 0
    for decision in log.decisions:
        at_ns = max(_recorded_ns(decision), free_ns)
        pick = _shown(log.folder, decision, at_ns)
        lasts_s = 0.0 if pick.traces is None else pick.traces.samples / pick.traces.rate_hz
        free_ns = at_ns + round(lasts_s * 1e9) + _GAP_NS
        yield pick


def _recorded_ns(decision: Decision) -> int:
    try:
        return round(datetime.fromisoformat(decision.recorded_at).timestamp() * 1e9)
    except ValueError:
        raise RobinError(Code.RECORD_INVALID, f"{decision.decision_id}: 'recorded_at' is no time") from None


def _shown(run: Path, decision: Decision, at_ns: int) -> ShownPick:
    beside, frame = FolderEvidence(run, decision), None
    with contextlib.suppress(RobinError):  # pictures that make no frame; the record still tells
        frame = frame_of(beside)
    labels = beside.labels()
    fits = frame is not None and labels is not None and labels.shape == frame.depth.shape
    return ShownPick(decision, at_ns, frame, labels if fits else None, beside.traces())


def cloud(frame: Frame, step: int = CLOUD_STEP) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """Points [N, 3] of base_link, metres, and their colours [N, 3]: of every ``step``-th row and column, where
    there is depth."""
    depth, rgb = frame.depth[::step, ::step], frame.rgb[::step, ::step]
    y, x = np.nonzero(depth)
    z = depth[y, x].astype(np.float64)
    pixels = np.stack([x * step, y * step], axis=1)
    seen = np.column_stack([(pixels - frame.K[:2, 2]) / (frame.K[0, 0], frame.K[1, 1]) * z[:, None], z])
    points = seen @ frame.T_base_camera[:3, :3].T + frame.T_base_camera[:3, 3]
    return points.astype(np.float32), rgb[y, x]


def cup_centres(decision: Decision, grasp: CandidateRecord) -> NDArray[np.float64]:
    """Middles of the cups' lips [cups, 3] in base_link, metres."""
    flat = np.array([(x, y, -CUP_HEIGHT_M / 2) for x, y in decision.context.tool.cup_centres_m])
    return np.asarray(Rotation.from_quat(grasp.quaternion_xyzw).apply(flat) + np.asarray(grasp.position_m))


def camera_pose(frame: Frame) -> tuple[Sequence[float], Sequence[float]]:
    """Position in metres and quaternion xyzw of the camera in base_link."""
    pose = frame.T_base_camera
    return pose[:3, 3].tolist(), Rotation.from_matrix(pose[:3, :3]).as_quat().tolist()


@contextlib.contextmanager
def written_aside(path: Path) -> Iterator[Path]:
    """A file to write in place of ``path``, which it becomes in one step at the end. Raises RobinError DISK_FULL."""
    aside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield aside
        with aside.open("rb+") as stream:
            os.fsync(stream.fileno())
        aside.replace(path)
        sync_folder(path.parent)
    except OSError as exc:
        raise write_error(path, exc) from None
    finally:
        aside.unlink(missing_ok=True)


def missing_library(package: str) -> RobinError:
    return RobinError(Code.DEPENDENCY_MISSING, f"{package} is not installed: pip install 'robin-edge[viz]'")
