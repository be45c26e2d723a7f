"""A run as one file of Rerun (rerun.io): pictures, masks, cloud and tool of each pick, and what its sensors told."""

from __future__ import annotations

from pathlib import Path

from edge_adapt.recording import png_bytes
from edge_adapt.trace import trace_text
from robin_perception.core.frame import depth_units
from robin_perception.segmentation.overlay import instance_colour
from robin_view.exports.picks import (
    CUP_HEIGHT_M,
    ShownPick,
    camera_pose,
    cloud,
    cup_centres,
    missing_library,
    shown_picks,
    written_aside,
)

try:
    import rerun as rr
    import rerun.blueprint as rrb
except ImportError:  # an extra of its own: half a gigabyte
    raise missing_library("rerun-sdk") from None

BASE, CAMERA = "base_link", "base_link/camera"
OPEN, CLOSED = (61, 219, 89), (153, 153, 153)
_PER_METRE = 1000.0
_POINT_M = 0.002
_MOST_PARCELS = 250


def write_rerun(run: Path, path: Path) -> int:
    """Picks written. Raises RobinError INPUT_MISSING, RECORD_INVALID, DISK_FULL."""
    count = 0
    with written_aside(path) as aside, rr.RecordingStream("robin_edge", recording_id=run.name) as stream:
        stream.save(aside, default_blueprint=_layout())
        stream.log("/", rr.ViewCoordinates.RIGHT_HAND_Z_UP, static=True)
        stream.log(f"{CAMERA}/image", _parcel_colours(), static=True)
        for count, pick in enumerate(shown_picks(run), 1):
            stream.set_time("pick", sequence=count)
            stream.set_time("time", timestamp=pick.at_ns / 1e9)
            _told(stream, pick)
            _seen(stream, pick)
            _grasps(stream, pick)
            _sensed(stream, pick)
        stream.flush()
        stream.disconnect()
    return count


def _layout() -> rrb.Blueprint:
    pictures = rrb.Vertical(
        rrb.Spatial2DView(origin=f"{CAMERA}/image", name="colour and masks", contents="$origin/**"),
        rrb.Spatial2DView(origin=f"{CAMERA}/depth", name="depth"),
    )
    curves = rrb.Vertical(
        rrb.TimeSeriesView(origin="vacuum_pa", name="vacuum, Pa"),
        rrb.TimeSeriesView(origin="weight_n", name="weight, N"),
        rrb.TextDocumentView(origin="decision", name="why"),
    )
    # The depth picture would be drawn over the cloud once more, without its colours.
    cell = rrb.Spatial3DView(origin=BASE, name="cell", contents=["$origin/**", f"- /{CAMERA}/depth/**"])
    return rrb.Blueprint(rrb.Horizontal(cell, pictures, curves))


def _parcel_colours() -> rr.AnnotationContext:
    """Those of the masks. The viewer heeds static ones only, and paints the background where it is given none."""
    parcels = [(number, f"parcel {number}", instance_colour(number)) for number in range(1, _MOST_PARCELS + 1)]
    return rr.AnnotationContext([(0, "", (0, 0, 0, 0)), *parcels])


def _told(stream: rr.RecordingStream, pick: ShownPick) -> None:
    stream.log("decision", rr.TextDocument(trace_text(pick.decision)))
    stream.log("result", rr.TextLog(f"{pick.decision.decision_id}: {pick.decision.result}"))


def _seen(stream: rr.RecordingStream, pick: ShownPick) -> None:
    frame = pick.frame
    if frame is None:
        stream.log(CAMERA, rr.Clear(recursive=True))
        stream.log(f"{BASE}/cloud", rr.Clear(recursive=False))
        return
    position, xyzw = camera_pose(frame)
    stream.log(CAMERA, rr.Transform3D(translation=position, quaternion=rr.Quaternion(xyzw=xyzw)))
    lens = rr.Pinhole(image_from_camera=frame.K, width=frame.width, height=frame.height)
    stream.log(f"{CAMERA}/image", lens)
    stream.log(f"{CAMERA}/depth", lens)
    stream.log(f"{CAMERA}/image/color", rr.EncodedImage(contents=png_bytes(frame.rgb), media_type="image/png"))
    stream.log(f"{CAMERA}/depth", rr.DepthImage(depth_units(frame.depth, 1 / _PER_METRE), meter=_PER_METRE))
    points, colours = cloud(frame)
    stream.log(f"{BASE}/cloud", rr.Points3D(points, colors=colours, radii=_POINT_M))
    if pick.labels is not None:
        stream.log(f"{CAMERA}/image/masks", rr.SegmentationImage(pick.labels, opacity=0.4))


def _grasps(stream: rr.RecordingStream, pick: ShownPick) -> None:
    """The tool of the best few grasps, the executed one solid."""
    stream.log(f"{BASE}/grasps", rr.Clear(recursive=True))
    tool = pick.decision.context.tool
    for rank, grasp in enumerate(pick.best()):
        centres, count = cup_centres(pick.decision, grasp), len(tool.cup_centres_m)
        turn = rr.Quaternion(xyzw=grasp.quaternion_xyzw)
        cups = rr.Cylinders3D(
            lengths=[CUP_HEIGHT_M] * count,
            radii=[tool.cup_radius_m] * count,
            centers=centres,
            quaternions=[turn] * count,
            colors=[OPEN if cup in grasp.cups else CLOSED for cup in range(count)],
            fill_mode="solid" if rank == 0 else "majorwireframe",
        )
        stream.log(f"{BASE}/grasps/{rank}", cups)


def _sensed(stream: rr.RecordingStream, pick: ShownPick) -> None:
    for at_ns, vacuum_pa, weight_n in pick.traced():
        stream.set_time("time", timestamp=at_ns / 1e9)
        stream.log("vacuum_pa", rr.Scalars(vacuum_pa))
        stream.log("weight_n", rr.Scalars(weight_n))
