"""What a carton's mask holds beside its face, and what lies on what where depth does not tell."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from helpers.grasp_scenes import Box, box_scene, instance

from robin_grasp.planner.config import PlannerConfig
from robin_grasp.planner.facets import split_faces
from robin_grasp.planner.fit import shipped_fit
from robin_grasp.planner.order import pick_order
from robin_grasp.planner.planner import SuctionPlanner
from robin_grasp.planner.surface import make_view
from robin_grasp.planner.terms import spread_min
from robin_grasp.tool import CellConfig, mask_to_cups, tote_workspace
from robin_perception.core.frame import Frame
from robin_perception.core.helper_thread import HelperThread
from robin_perception.core.scene import Scene

MAILER = {"kind": "flat_mailer", "visible": 0.95}


def test_a_flat_mailer_across_a_corner_is_seen_by_the_outline_it_spoils() -> None:
    # Both within 2 mm in height, so no step of depth tells; the turned one hides a corner of the other.
    under = Box(0.72, 0.0, 0.26, 0.24, 0.006, **MAILER)  # type: ignore[arg-type]
    over = Box(0.86, 0.12, 0.24, 0.16, 0.008, yaw=0.8, **MAILER)  # type: ignore[arg-type]
    frame, scene = box_scene([under, over])
    order = pick_order(make_view(frame, scene, shipped_fit().surface, HelperThread()), scene, PlannerConfig())
    assert not order.above.any()
    hidden = 1.0 - np.count_nonzero(scene.labels == 1) / np.count_nonzero(box_scene([under])[1].labels == 1)
    assert hidden > 0.1
    assert order.overlap[0] == pytest.approx(hidden - shipped_fit().order.overlap_free, abs=0.04)
    assert order.overlap[1] < 0.03
    assert order.free[0] < 0.85 < order.free[1]


def test_side_by_side_nothing_overlaps() -> None:
    boxes = [Box(0.70, 0.0, 0.18, 0.24, 0.006, **MAILER), Box(0.885, 0.0, 0.18, 0.24, 0.008, **MAILER)]  # type: ignore[arg-type]
    frame, scene = box_scene(boxes)
    order = pick_order(make_view(frame, scene, shipped_fit().surface, HelperThread()), scene, PlannerConfig())
    assert (order.overlap == 0).all()


def test_a_mask_of_two_parcels_is_ragged() -> None:
    frame, scene = box_scene([Box(0.70, 0.0, 0.10, 0.30, 0.05), Box(0.80, 0.09, 0.10, 0.12, 0.05)])
    scene.labels[scene.labels == 2] = 1
    merged = replace(scene, instances=(instance(scene.labels, 1, Box(0.70, 0.0, 0.10, 0.30, 0.05)),))
    best = SuctionPlanner(CellConfig()).plan(frame, merged).best
    assert best is not None and best.terms["merged_probability"] > 0.3
    alone = SuctionPlanner(CellConfig()).plan(*box_scene([Box(0.70, 0.0, 0.10, 0.30, 0.05, yaw=0.5)])).best
    assert alone is not None and alone.terms["merged_probability"] == 0.0


def test_what_touches_nothing_is_as_hidden_as_it_is_said_to_be_and_comes_last() -> None:
    half = Box(0.68, -0.2, 0.2, 0.15, 0.05, visible=0.6)
    frame, scene = box_scene([half])
    order = pick_order(make_view(frame, scene, shipped_fit().surface, HelperThread()), scene, PlannerConfig())
    assert order.free[0] < 0.3
    assert SuctionPlanner(CellConfig()).plan(frame, scene).best is not None  # there is no other
    both = SuctionPlanner(CellConfig()).plan(*box_scene([half, Box(0.72, 0.2, 0.16, 0.12, 0.03)])).best
    assert both is not None and both.instance_id == 2


def carton_with_side(depth_on_side: bool) -> tuple[Frame, Scene]:
    """A carton's top 10 cm wide and a strip of its side, both in the mask: nearly upright, or without depth."""
    top = Box(0.75, 0.0, 0.10, 0.24, 0.20)
    side = Box(0.806, 0.0, 0.012, 0.24, 0.17, slope_x=-3.0)
    frame, scene = box_scene([top, side])
    depth = frame.depth.copy()
    if not depth_on_side:
        depth[scene.labels == 2] = 0.0
    scene.labels[scene.labels == 2] = 1
    return frame.with_depth(depth), replace(scene, instances=(instance(scene.labels, 1, top),))


@pytest.mark.parametrize("depth_on_side", [True, False])
def test_a_cartons_grazing_side_is_none_of_its_face(depth_on_side: bool) -> None:
    frame, scene = carton_with_side(depth_on_side)
    view = make_view(frame, scene, shipped_fit().surface, HelperThread())
    faces, _ = split_faces(view, scene, shipped_fit())
    _, top = box_scene([Box(0.75, 0.0, 0.10, 0.24, 0.20)])
    largest = np.bincount(faces.labels[faces.labels > 0]).max()
    assert largest / np.count_nonzero(top.labels) == pytest.approx(0.95, abs=0.06)
    best = SuctionPlanner(CellConfig()).plan(frame, scene).best
    assert best is not None
    cups = CellConfig().tool.cups_m[list(mask_to_cups(best.cups))]
    world = cups @ best.T_base_tool[:3, :3].T + best.T_base_tool[:3, 3]
    assert (np.abs(world[:, 0] - 0.75) < 0.05 - 0.012).all()


def test_dark_print_without_depth_is_bridged_on_a_carton_only() -> None:
    for kind, bridged in (("carton", True), ("poly_bag", False)):
        frame, scene = box_scene([Box(0.75, 0.0, 0.16, 0.24, 0.1, kind=kind)])
        depth = frame.depth.copy()
        ys, xs = np.nonzero(scene.labels == 1)
        y, x = int(ys.mean()), int(xs.mean())
        depth[y - 22 : y + 22, x - 45 : x + 45] = 0.0
        best = SuctionPlanner(CellConfig()).plan(frame.with_depth(depth), scene).best
        assert best is not None
        assert (best.terms["holes_max"] > 0.6) == bridged


def test_noise_of_the_parcels_own_depth_is_no_neighbour() -> None:
    frame, scene = box_scene([Box(0.75, 0.0, 0.25, 0.30, 0.03, kind="padded_mailer")])
    depth = frame.depth.copy()
    ys, xs = np.nonzero(scene.labels == 1)
    y, x = int(ys.mean()), int(xs.mean())
    depth[y - 8 : y + 8, x - 8 : x + 8] -= 0.035  # dark print: stereo finds a hill that is not there
    result = SuctionPlanner(CellConfig()).plan(frame.with_depth(depth), scene)
    assert result.best is not None, result.message


def test_the_totes_walls_in_the_image_are_no_neighbours() -> None:
    """A wall seen in depth, with 1 cm of noise, beside a parcel whose grasp clears the true wall."""
    cell = CellConfig(workspace=tote_workspace())
    parcel = Box(0.75, 0.16, 0.24, 0.16, 0.05)
    inner = cell.workspace.size_m[1] / 2
    wall = Box(0.75, inner + 0.02 - 0.012, 0.7, 0.04, 0.22)
    frame, scene = box_scene([parcel, wall])
    scene.labels[scene.labels == 2] = 0
    result = SuctionPlanner(cell).plan(frame, replace(scene, instances=scene.instances[:1]))
    assert result.best is not None, result.message


def test_spread_of_open_cups() -> None:
    cups = CellConfig().tool.cups_m[:, :2]
    row, all_cups, corner = [0, 1, 2, 3], list(range(8)), [0, 1, 4]
    open_cups = np.array([np.isin(all_cups, some) for some in (row, all_cups, corner)])
    least = np.linalg.eigvalsh(np.cov(cups[corner].T, bias=True)).min()
    assert spread_min(open_cups, cups) == pytest.approx([0.0, 0.03, np.sqrt(least)], abs=1e-9)
