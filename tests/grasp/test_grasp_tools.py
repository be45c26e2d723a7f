"""Any tool of one to eight cups, any list of classes: the planner asks the tool and the scene, never a constant."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from helpers.grasp_scenes import Box, box_scene

from robin_grasp.plan import Grasp, Plan, Reject
from robin_grasp.planner.config import PlannerConfig, WrenchConfig
from robin_grasp.planner.fit import shipped_fit
from robin_grasp.planner.planner import SuctionPlanner
from robin_grasp.planner.registry import make_planner, planner_names
from robin_grasp.planner.wrench import subset_members, subset_table
from robin_grasp.tool import CellConfig, ToolConfig, mask_to_cups
from robin_perception.core.errors import Code, RobinError
from robin_perception.core.scene import CLASSES, Scene

ANGLES = np.arange(6) * np.pi / 3
RING = tuple((round(0.045 * float(np.cos(a)), 4), round(0.045 * float(np.sin(a)), 4)) for a in ANGLES)
CUPS = {
    "one": ((0.0, 0.0),),
    "four": ((-0.03, -0.03), (0.03, -0.03), (-0.03, 0.03), (0.03, 0.03)),
    "seven": ((0.0, 0.0), *RING),
}
PARCEL = Box(0.75, 0.0, 0.20, 0.16, 0.10)
SIX = (*CLASSES, "crate")


def cell_of(cups: tuple[tuple[float, float], ...], half_m: float = 0.065) -> CellConfig:
    stem = (min(half_m, 0.045),) * 2
    return CellConfig(tool=ToolConfig(cup_centres_m=cups, plate_half_size_m=(half_m, half_m), stem_half_size_m=stem))


def open_cups(grasp: Grasp, cell: CellConfig) -> np.ndarray:
    """Centres of the open cups in base_link, [n, 3]."""
    cups = cell.tool.cups_m[list(mask_to_cups(grasp.cups))]
    return np.asarray(cups @ grasp.T_base_tool[:3, :3].T + grasp.T_base_tool[:3, 3])


@pytest.mark.parametrize("name", CUPS)
def test_a_tool_of_another_number_of_cups_plans(name: str) -> None:
    cell = cell_of(CUPS[name])
    result = SuctionPlanner(cell).plan(*box_scene([PARCEL]))
    assert result.best is not None, result.message
    assert len(mask_to_cups(result.best.cups)) == len(CUPS[name])  # there is room for all
    assert np.allclose(open_cups(result.best, cell).mean(axis=0), (0.75, 0.0, 0.10), atol=0.012)
    assert result.best.terms["p_clean"] > 0.85
    for grasp in result.grasps:
        inside = np.abs(open_cups(grasp, cell)[:, :2] - (0.75, 0.0)) < (0.10 - 0.011, 0.08 - 0.011)
        assert grasp.cups < 1 << len(CUPS[name]) and inside.all()


@pytest.mark.parametrize("name", CUPS)
def test_no_tool_bridges_two_parcels(name: str) -> None:
    cell = cell_of(CUPS[name])
    flush = [Box(0.75, -0.06, 0.3, 0.12, 0.1), Box(0.75, 0.06, 0.3, 0.12, 0.1)]
    result = SuctionPlanner(cell).plan(*box_scene(flush))
    assert {grasp.instance_id for grasp in result.grasps} == {1, 2}
    for grasp in result.grasps:
        side = -1 if grasp.instance_id == 1 else 1
        assert (side * open_cups(grasp, cell)[:, 1] > cell.tool.cup_radius_m).all()


@pytest.mark.parametrize("name", CUPS)
def test_every_planner_takes_every_tool(name: str) -> None:
    for planner in planner_names():
        result = make_planner(planner, cell_of(CUPS[name])).plan(*box_scene([PARCEL]))
        assert result.best is not None and 0 < result.best.cups < 1 << len(CUPS[name]), planner


@pytest.mark.parametrize("count", range(1, 9))
def test_all_subsets_of_a_tool_share_a_pull(count: int) -> None:
    tool = ToolConfig(cup_centres_m=tuple((0.04 * i, 0.0) for i in range(count)), plate_half_size_m=(0.3, 0.05))
    members = subset_members(count)
    assert members.shape == (1 << count, count) and members.sum() == count << (count - 1)
    middle = tool.cups_m.mean(axis=0)
    pull = np.array([[[0.0, 0.0, 1.0, *np.cross(middle, (0.0, 0.0, 1.0))]]])
    found = subset_table(tool, peel_moment_share=1.0).utilisation(pull)
    assert found.shape == (1, 1 << count) and found[0, -1] == pytest.approx(1 / count, rel=1e-3)


def test_a_health_for_other_cups_than_the_tools_is_refused() -> None:
    four = cell_of(CUPS["four"])
    with pytest.raises(RobinError, match="'cup_health' names 8 cups, the tool has 4") as wrong:
        SuctionPlanner(four, PlannerConfig(cup_health=(1.0,) * 8))
    assert wrong.value.code is Code.CONFIG_OUT_OF_RANGE
    sick = SuctionPlanner(four, PlannerConfig(cup_health=(1.0, 0.0, 1.0, 1.0))).plan(*box_scene([PARCEL]))
    assert sick.grasps and all(not grasp.cups & 0b0010 for grasp in sick.grasps)


# Classes


def reclassed(scene: Scene, names: tuple[str, ...], of: str) -> Scene:
    """The same scene by a bundle of other classes: every parcel is surely one ``of`` them."""
    classes = np.array([name == of for name in names], dtype=np.float32)
    instances = tuple(replace(instance, class_probabilities=classes) for instance in scene.instances)
    return replace(scene, instances=instances, class_names=names)


def plan_as(names: tuple[str, ...], of: str, planner: str = "geometric", config: PlannerConfig | None = None) -> Plan:
    frame, scene = box_scene([PARCEL, Box(0.75, 0.30, 0.16, 0.12, 0.05)])
    return make_planner(planner, CellConfig(), config=config).plan(frame, reclassed(scene, names, of))


@pytest.mark.parametrize("planner", ["geometric", "single_cup"])
def test_a_class_that_the_fit_does_not_know_is_planned_with_neutral_figures(planner: str) -> None:
    result = plan_as(SIX, "crate", planner)
    assert {grasp.instance_id for grasp in result.grasps} == {1, 2}, result.message
    if planner != "single_cup":
        terms = result.grasps[0].terms
        assert (terms["is_crate"], terms["is_carton"]) == (1.0, 0.0)
        assert terms["thickness_m"] <= shipped_fit().unknown_class.thickness_m
        assert 0.1 < terms["mass_kg"] < 2.0


def test_a_fit_that_knows_a_class_is_asked() -> None:
    fit = shipped_fit()
    lead = fit.unknown_class.model_copy(update={"density_kgpm3": 11_000.0, "thickness_m": 0.5})
    heavy = WrenchConfig(most_mass_kg=50.0)
    config = PlannerConfig(wrench=heavy, fit=fit.model_copy(update={"classes": {**fit.classes, "crate": lead}}))
    lead_filled = plan_as(SIX, "crate", config=config)
    assert {grasp.instance_id for grasp in lead_filled.grasps} == {2}  # the large one weighs 35 kg
    assert Reject.WRENCH_TOO_LARGE in lead_filled.rejected_counts
    assert {grasp.instance_id for grasp in plan_as(SIX, "carton", config=config).grasps} == {1, 2}


def test_decisions_hang_on_what_a_class_is_called_and_not_on_its_place() -> None:
    known = plan_as(CLASSES, "tube")
    for names in (SIX, ("tube",), ("crate", "tube", "carton")):
        other = plan_as(names, "tube")
        assert len(other.grasps) == len(known.grasps) > 0
        for mine, theirs in zip(other.grasps, known.grasps, strict=True):
            assert (mine.cups, mine.instance_id) == (theirs.cups, theirs.instance_id)
            shared = mine.terms.keys() & theirs.terms.keys()
            assert {k: mine.terms[k] for k in shared} == pytest.approx({k: theirs.terms[k] for k in shared})
