"""Goods that are clear film to the depth camera: what it sees under them misleads, a level face is tried instead."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from helpers.grasp_scenes import Box
from helpers.hold_picks import CELL, goods, grasp_on, outcome_of, plan_with
from helpers.planner_fits import with_fit

from edge_adapt.learn.hold import HoldConfig, HoldLearner
from edge_adapt.learn.hold_file import HoldKeeper
from robin_grasp.holding import HoldTerms
from robin_grasp.plan import Grasp
from robin_grasp.planner.hidden_depth import with_film_faces, with_level_faces
from robin_grasp.planner.planner import SuctionPlanner
from robin_grasp.planner.registry import make_planner
from robin_grasp.recovery.machine import PickTarget
from robin_perception.core.frame import Frame
from robin_perception.core.scene import Scene
from robin_perception.segmentation.film import film_design

FILM = Box(0.62, 0.0, 0.24, 0.3, 0.1)
CARTON = Box(0.92, 0.0, 0.24, 0.3, 0.12)
FILM_ID, CARTON_ID = 1, 2
CONFIG = HoldConfig(explore_rate=0.0)


def film_goods(film: Box = FILM) -> tuple[Frame, Scene]:
    """A carton, and a bag of film: depth catches one side of the film, is lost on a strip, and sees the belt through
    the rest."""
    frame, scene = goods(film, CARTON)
    # The same view of the belt alone.
    axis, K = frame.T_base_camera[2, :3], frame.K
    v, u = np.indices(frame.depth.shape)
    rise = axis[0] * (u - K[0, 2]) / K[0, 0] + axis[1] * (v - K[1, 2]) / K[1, 1] + axis[2]
    belt = (-frame.T_base_camera[2, 3] / rise).astype(np.float32)
    mask = scene.labels == FILM_ID
    x0, _, x1, _ = scene.instances[0].bbox
    along = (u - x0) / (x1 - x0)
    through, lost = mask & (along < 0.6), mask & (along >= 0.6) & (along < 0.75)
    depth = np.where(lost, 0.0, np.where(through, belt, frame.depth)).astype(np.float32)
    rgb = frame.rgb.copy()
    rgb[mask] = (205, 210, 214)
    return replace(frame, rgb=rgb, depth=depth), scene


class Level:
    """Knows that the first parcel's depth misleads."""

    def expected(self, frame: Frame, scene: Scene) -> HoldTerms:
        terms = HoldTerms.factory(len(scene.instances))
        terms.level_face[0] = True
        return terms


def height_of(frame: Frame, scene: Scene, instance_id: int) -> np.ndarray:
    v, u = np.nonzero(scene.labels == instance_id)
    axis, K, z = frame.T_base_camera[2, :3], frame.K, frame.depth[v, u]
    rise = axis[0] * (u - K[0, 2]) / K[0, 0] + axis[1] * (v - K[1, 2]) / K[1, 1] + axis[2]
    return frame.T_base_camera[2, 3] + rise * z


def film_pick(learner: HoldLearner | HoldKeeper, share: float, of: tuple[Frame, Scene] | None = None) -> Grasp:
    frame, scene = of or film_goods()
    grasp = grasp_on(FILM_ID, plan_with(learner, frame, scene))
    outcome = outcome_of(grasp, share)
    learner.note(PickTarget(grasp, frame, scene), outcome, outcome.result)
    return grasp


def test_a_level_face_lies_at_the_height_of_the_film_and_other_depth_stays() -> None:
    frame, scene = film_goods()
    level = with_level_faces(frame, scene, np.array([True, False]))
    mask = scene.labels == FILM_ID
    assert np.array_equal(level.depth[~mask], frame.depth[~mask])
    heights = height_of(level, scene, FILM_ID)
    assert np.ptp(heights) < 1e-4 and heights[0] == pytest.approx(FILM.top, abs=0.003)
    assert with_level_faces(frame, scene, np.array([False, False])) is frame


def test_a_mask_without_depth_stays_as_it_is() -> None:
    frame, scene = film_goods()
    blank = frame.with_depth(np.where(scene.labels == FILM_ID, np.float32(0), frame.depth))
    assert np.array_equal(with_level_faces(blank, scene, np.array([True, False])).depth, blank.depth)


def test_a_level_tool_meets_the_film_with_more_cups() -> None:
    frame, scene = film_goods()
    level = grasp_on(FILM_ID, make_planner("geometric", CELL, holding=Level()).plan(frame, scene))
    assert level.T_base_tool[2, 2] < -0.999 and level.T_base_tool[2, 3] == pytest.approx(FILM.top, abs=0.005)
    assert level.terms["level_face"] == 1.0 and level.terms["depth_share"] > 0.99
    plain = [g for g in make_planner("geometric", CELL).plan(frame, scene).grasps if g.instance_id == FILM_ID]
    assert all(g.terms["cup_count"] < level.terms["cup_count"] for g in plain)


def test_a_mask_that_shows_no_thing_is_no_parcel_as_a_level_face_either() -> None:
    """What a mask on the bare belt shows is judged by the depth that was seen, not by the face that was put there."""
    flat, scene = goods(replace(FILM, top=0.0005), CARTON)
    inner = np.zeros_like(scene.labels, dtype=bool)
    x0, y0, x1, y1 = scene.instances[0].bbox
    inner[y0 + (y1 - y0) // 4 : y1 - (y1 - y0) // 4, x0 + (x1 - x0) // 4 : x1 - (x1 - x0) // 4] = True
    bare = replace(flat, rgb=np.full_like(flat.rgb, 90), depth=np.where(inner, flat.depth - 0.05, flat.depth))
    kept = make_planner("geometric", CELL, holding=Level()).plan(bare, scene)
    assert {g.instance_id for g in kept.grasps} == {CARTON_ID}


def test_goods_that_fail_by_their_depth_are_taken_for_level_faces_while_that_holds() -> None:
    learner = HoldLearner(CELL, CONFIG)
    frame, scene = film_goods()
    assert film_pick(learner, 0.0).terms.get("level_face", 0.0) == 0.0
    assert learner.expected(frame, scene).level_face.tolist() == [True, False]
    for _ in range(4):
        assert film_pick(learner, 0.55).terms["level_face"] == 1.0
    terms = learner.expected(frame, scene)
    assert terms.level_face[0] and not terms.last[0] and terms.clean_logit[0] == 0.0
    assert not terms.seal_logit[0].any(), "seals by depth say nothing of a level face"


def test_goods_with_whole_depth_are_never_taken_for_level_faces() -> None:
    learner, whole = HoldLearner(CELL, CONFIG), goods(FILM, CARTON)
    for _ in range(6):
        assert film_pick(learner, 0.0, whole).terms.get("level_face", 0.0) == 0.0
    assert not learner.expected(*whole).level_face.any() and learner.expected(*whole).last[0]


def test_goods_that_hold_neither_way_are_left_for_last() -> None:
    learner = HoldLearner(CELL, CONFIG)
    ways = [film_pick(learner, 0.0).terms.get("level_face", 0.0) for _ in range(10)]
    assert {0.0, 1.0} <= set(ways)
    assert learner.expected(*film_goods()).last.tolist() == [True, False]


def test_what_was_learned_of_level_faces_outlives_the_process(tmp_path) -> None:  # type: ignore[no-untyped-def]
    keeper = HoldKeeper(CELL, tmp_path / "hold.json", CONFIG)
    for share in (0.0, 0.55, 0.55):
        film_pick(keeper, share)
    again = HoldKeeper(CELL, tmp_path / "hold.json", CONFIG)
    assert again.problem is None and again.learned.digest == keeper.learned.digest
    assert len(again.learner.level_field.picks) == 2
    assert again.expected(*film_goods()).level_face.tolist() == [True, False]


def told_film() -> tuple[Frame, Scene]:
    """As ``film_goods``, where the network tells where the film stands."""
    frame, scene = film_goods()
    truth, _ = goods(FILM, CARTON)
    film, carton = scene.instances
    v, u = np.nonzero(scene.labels == FILM_ID)
    terms = film_design(u.astype(np.float64), v.astype(np.float64), film.bbox)
    face = np.linalg.lstsq(terms, truth.depth[v, u], rcond=None)[0]
    return frame, replace(scene, instances=(replace(film, film_depth=tuple(face.tolist())), carton))


def test_a_film_face_takes_the_place_of_what_is_seen_there_and_nowhere_else() -> None:
    frame, scene = told_film()
    shown = with_film_faces(frame, scene)
    assert np.abs(height_of(shown, scene, FILM_ID) - FILM.top).max() < 0.003
    elsewhere = scene.labels != FILM_ID
    assert np.array_equal(shown.depth[elsewhere], frame.depth[elsewhere])
    bare = replace(scene, instances=tuple(replace(one, film_depth=()) for one in scene.instances))
    assert with_film_faces(frame, bare) is frame


def test_film_is_picked_where_the_network_tells_it() -> None:
    """By the depth that is seen no cup meets the film; on its face the grasp comes from above, at its height."""
    frame, scene = told_film()
    grasps = [g for g in make_planner("geometric", CELL).plan(frame, scene).grasps if g.instance_id == FILM_ID]
    assert grasps and abs(grasps[0].T_base_tool[2, 3] - FILM.top) < 0.01
    assert grasps[0].T_base_tool[2, 2] < -0.99
    bare = replace(scene, instances=tuple(replace(one, film_depth=()) for one in scene.instances))
    seen = [g for g in make_planner("geometric", CELL).plan(frame, bare).grasps if g.instance_id == FILM_ID]
    assert not seen or abs(seen[0].T_base_tool[2, 3] - FILM.top) > 0.02 or seen[0].score < grasps[0].score


def test_a_told_face_orders_grasps_and_rules_none_out() -> None:
    frame, scene = told_film()
    config = with_fit(rank={"film_cost": 100.0})  # P(clean) of eight cups below ``least_clean``
    plain, doubted = (SuctionPlanner(CELL, c).plan(frame, scene) for c in (with_fit(rank={"film_cost": 0.0}), config))
    assert {grasp.instance_id for grasp in doubted.grasps} == {grasp.instance_id for grasp in plain.grasps}
    assert doubted.best is not None and doubted.best.instance_id == CARTON_ID
    before, after = (grasp_on(FILM_ID, result) for result in (plain, doubted))
    assert after.terms["film"] == 1.0 and after.terms["p_clean"] < before.terms["p_clean"] - 0.1
    carton = [grasp_on(CARTON_ID, result).terms["p_clean"] for result in (plain, doubted)]
    assert carton[0] == carton[1]
