"""Learns to hold: for goods of each look, how well cups seal by their place, how much they leak, how heavy they are and
how often a pick ends clean, against what the factory expects (``evidence`` has the posteriors).

A look starts from its class, and a class from the factory. What was learned fades with further picks, whatever they are
of, so goods or a fault that are gone are forgotten. Goods that were seldom held are left for last.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from scipy.special import expit, logit

from edge_adapt.learn.evidence import Evidence, log_bound, rate_logit, seen_log, seen_rate
from edge_adapt.learn.hold_field import MOST_PICKS, FieldPick, HoldField
from edge_adapt.learn.looks import GoodsLook, Looks, novelty_names
from robin_grasp.cup_health import pressed_vacuum
from robin_grasp.cup_health_fit import shipped_cup_fit
from robin_grasp.holding import PLACES, STEEP_RAD, HoldTerms, place_of
from robin_grasp.learned import LearnedState
from robin_grasp.picks.outcome import PickOutcome, PickResult
from robin_grasp.plan import ALL_SOUND, CupTrust, Grasp
from robin_grasp.recovery.machine import PickTarget
from robin_grasp.tool import GRAVITY_MPS2, CellConfig, mask_to_cups
from robin_perception.core.config import StrictConfig, config_digest
from robin_perception.core.frame import Frame
from robin_perception.core.scene import Scene
from robin_perception.novelty.appearance import appearance, skin_maps
from robin_perception.novelty.watch import held_back
from robin_perception.segmentation.view import View

NETWORK_SIZE = (512, 384)  # that looks are measured at
_TEACH = (PickResult.CLEAN, PickResult.MISS, PickResult.DROP)
_LEAST_SHARE, _MOST_SHARE = 0.02, 0.98
_USUAL_CLEAN = 0.95  # P(clean) that shifts of a share are told at


class HoldConfig(StrictConfig):
    """How fast holding is learned, and when goods are given up."""

    half_life_picks: float = Field(400.0, gt=1, le=1e6, description="picks of any goods after which half is forgotten")
    same_look: float = Field(0.35, gt=0, le=1.5, description="looks nearer than this, as a share of their length")
    most_looks: int = Field(64, ge=1, le=1000, description="looks that are remembered; the one with least picks goes")
    look_prior_picks: float = Field(4.0, gt=0, le=1000, description="picks that the class counts as against a look's")
    class_prior_picks: float = Field(60.0, gt=0, le=1000, description="picks that the factory counts as, per class")
    caution_sds: float = Field(1.0, ge=0, le=5, description="standard deviations in the factory's favour")
    seldom_held_tries: float = Field(4.0, ge=1, le=100, description="tries of such goods before they are left for last")
    seldom_held_below: float = Field(0.5, gt=0, lt=1, description="mean of P(clean) below which they were seldom held")
    level_below_depth: float = Field(
        0.93, ge=0, le=1, description="share of valid depth in a mask below which goods may be taken for level faces"
    )
    level_better_by: float = Field(0.05, ge=0, le=1, description="by so much more P(clean) than by their depth")
    explore_rate: float = Field(0.02, ge=0, le=1, description="share of picks for which nothing is left for last")
    seed: int = Field(0, ge=0, description="of these draws")


class HoldLearner:
    """Implements ``robin_grasp.holding.Holding``. Not thread-safe. picks: that taught something so far."""

    def __init__(self, cell: CellConfig, config: HoldConfig | None = None) -> None:
        self.cell = cell
        self.config = config or HoldConfig()
        self.looks = Looks(self.config.same_look, self.config.most_looks)
        self.classes: dict[str, Evidence] = {}
        self.field = HoldField(self.config.half_life_picks)
        self.level_field = HoldField(self.config.half_life_picks)
        self.picks = 0
        self.learned = LearnedState.of(0, self.to_json())
        self._seen: tuple[Frame, Scene, NDArray[np.float32]] | None = None

    def expected(self, frame: Frame, scene: Scene) -> HoldTerms:
        """As ``Holding``: the same answer for a frame until the next pick is noted."""
        terms = replace(HoldTerms.factory(len(scene.instances)), state=self.learned)
        if not self.classes:
            return terms
        explores = np.random.default_rng([self.config.seed, self.picks]).random() < self.config.explore_rate
        names, seen = novelty_names(scene), self._appearances(frame, scene)
        for row, one in enumerate(scene.instances):
            parent = self.classes.get(scene.class_name(one), Evidence())
            look = self.looks.find(seen[row], names.get(one.id, ""))
            self._fill(terms, row, Evidence() if look is None else look.evidence, parent)
        self._fill_by_likeness(terms, seen, depth_shares(frame, scene))
        terms.last[:] &= not explores
        return terms

    def note(
        self, pick: PickTarget, outcome: PickOutcome, result: PickResult | None, trust: CupTrust = ALL_SOUND
    ) -> None:
        """Learn from a pick. result: as judged, None where nobody judged. trust: what the plan expected of the cups.

        Nothing is learned while the station is not in order, from a load of two or of another parcel, nor of a planner
        that tells no P(clean).
        """
        scene, grasp = pick.scene, pick.grasp
        rows = [row for row, one in enumerate(scene.instances) if one.id == grasp.instance_id]
        if result not in _TEACH or held_back(scene) or "p_clean" not in grasp.terms or not rows:
            return
        by_depth = not grasp.terms.get("level_face")
        told = self.expected(pick.frame, scene)
        seen = self._appearances(pick.frame, scene)[rows[0]]
        found = Evidence()
        if by_depth:
            found = self._evidence(pick, outcome, result, trust, told.seal_logit[rows[0]])
        self.picks += 1
        share = 0.5 ** (1.0 / self.config.half_life_picks)
        for known in (*self.classes.values(), *(look.evidence for look in self.looks.all)):
            known.fade(share)
        self.classes.setdefault(scene.class_name(scene.instances[rows[0]]), Evidence()).add(found)
        if seen.any():
            self.looks.learn(seen, novelty_names(scene).get(grasp.instance_id, "")).evidence.add(found)
            field = self.field if by_depth else self.level_field
            field.note(seen, _factory_clean(grasp), result is PickResult.CLEAN, self.picks)
        self.learned = LearnedState.of(self.picks, self.to_json())

    def restore(
        self,
        picks: int,
        classes: dict[str, Evidence],
        looks: list[GoodsLook],
        alike: list[FieldPick],
        level: list[FieldPick],
    ) -> None:
        """What an earlier learner knew."""
        self.picks, self.classes = picks, classes
        self.field.picks, self.level_field.picks = alike[-MOST_PICKS:], level[-MOST_PICKS:]
        self.looks.all = looks[: self.config.most_looks]
        self.learned = LearnedState.of(picks, self.to_json())

    def to_json(self) -> dict[str, Any]:
        """All that was learned, as the file holds it."""
        return {
            "tool": config_digest(self.cell.tool),
            "picks": self.picks,
            "classes": {name: evidence.to_json() for name, evidence in self.classes.items()},
            "looks": [look.to_json() for look in self.looks.all],
            "alike": [pick.to_json() for pick in self.field.picks],
            "level": [pick.to_json() for pick in self.level_field.picks],
        }

    def _fill(self, terms: HoldTerms, row: int, look: Evidence, of_class: Evidence) -> None:
        config, sds = self.config, self.config.caution_sds

        def rate(of_look: NDArray[np.float64], above: NDArray[np.float64]) -> float:
            parent = rate_logit(above, config.class_prior_picks, 0.0, sds)
            return rate_logit(of_look, config.look_prior_picks, parent, sds)

        def log(of_look: NDArray[np.float64], above: NDArray[np.float64], side: int) -> float:
            parent = log_bound(above, config.class_prior_picks, 0.0, sds, side)
            return log_bound(of_look, config.look_prior_picks, parent, sds, side)

        terms.seal_logit[row] = [rate(look.seal[k], of_class.seal[k]) for k in range(len(PLACES))]
        terms.clean_logit[row] = rate(look.clean, of_class.clean)
        terms.steep_logit[row] = rate(look.steep, of_class.steep)
        terms.vacuum_log[row] = log(look.vacuum, of_class.vacuum, -1)
        terms.mass_log[row] = log(look.mass, of_class.mass, 1)
        terms.tries[row] = look.tries

    def _fill_by_likeness(self, terms: HoldTerms, seen: NDArray[np.float32], depth: NDArray[np.float64]) -> None:
        """What picks of goods that look alike say, by their depth and as level faces. depth [I]: share of each mask
        where it is valid. Goods that fail by what is seen of their depth are taken for level faces, until these fail
        as well; what picks said of seals by depth doesn't hold for them."""
        by_depth, shift, last = self._alike(self.field, seen)
        as_level, level_shift, level_last = self._alike(self.level_field, seen)
        better = as_level > by_depth + self.config.level_better_by
        level = better & (depth < self.config.level_below_depth) & seen.any(axis=1)
        terms.level_face[:] = level
        terms.seal_logit[level] = 0.0
        for rates in (terms.clean_logit, terms.steep_logit):
            rates[:] = np.where(level, level_shift, np.minimum(rates, shift))
        terms.last[:] = np.where(level, level_last, last)

    def _alike(
        self, field: HoldField, seen: NDArray[np.float32]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.bool_]]:
        """Of goods that look so [I]: by how much P(clean) differs from what the factory expects, the same for sure as a
        shift of its logit, and whether they were seldom held. As elsewhere, nothing is expected to be better than the
        factory expects, and what is not sure changes nothing."""
        mean, sd, tries = field.change(seen, self.picks)
        sure = np.where(seen.any(axis=1), np.minimum(mean + self.config.caution_sds * sd, 0.0), 0.0)
        shift = logit(np.clip(_USUAL_CLEAN + sure, _LEAST_SHARE, _USUAL_CLEAN)) - logit(_USUAL_CLEAN)
        known = seen.any(axis=1) & (tries >= self.config.seldom_held_tries - 0.5)  # half a try may have faded
        return mean, shift, known & (_USUAL_CLEAN + mean < self.config.seldom_held_below)

    def _evidence(
        self, pick: PickTarget, outcome: PickOutcome, result: PickResult, trust: CupTrust, offsets: NDArray[np.float64]
    ) -> Evidence:
        """What one pick shows. offsets [places]: that its P(seal) were told with. Cups of one pick are not
        independent: those of one place count as one."""
        terms, tool, found = pick.grasp.terms, self.cell.tool, Evidence()
        clean = result is PickResult.CLEAN
        steep = tool_tilt(pick.grasp) >= STEEP_RAD
        rate = found.steep if steep else found.clean
        rate += seen_rate(_factory_clean(pick.grasp), float(clean))
        cups = self._sound_cups(pick.grasp, outcome, trust)
        if len(cups) and not steep:
            places = place_of(edge_distances(pick.frame, pick.scene, pick.grasp, self.cell)[cups], tool.cup_radius_m)
            sealed = np.clip(np.array(pick.grasp.cup_seal)[cups], _LEAST_SHARE, _MOST_SHARE)
            factory = expit(logit(sealed) - offsets[places])
            least = shipped_cup_fit().reading_edges[0] * tool.vacuum_pa
            # After the lift: a cup that peels off does not hold such goods.
            held = np.array(outcome.vacuum_pa)[cups] >= least
            for place in np.unique(places):
                here = places == place
                found.seal[place] += seen_rate(float(factory[here].mean()), float(held[here].mean()))
            pressed = pressed_vacuum(outcome.traces, tool.cup_count)
            reached = np.array(outcome.vacuum_pa if pressed is None else pressed)[cups]
            if "vacuum_share" in terms and (reached >= least).any():
                expected = terms["vacuum_share"] / np.exp(terms["learned_vacuum_log"]) * tool.vacuum_pa
                found.vacuum += seen_log(float(reached[reached >= least].mean()) / expected)
        if clean and outcome.lifted_weight_n > 0 and "mass_kg" in terms:
            expected = terms["mass_kg"] / np.exp(terms.get("learned_mass_log", 0.0))
            found.mass += seen_log(outcome.lifted_weight_n / GRAVITY_MPS2 / expected)
        return found

    def _sound_cups(self, grasp: Grasp, outcome: PickOutcome, trust: CupTrust) -> NDArray[np.int64]:
        """Open cups of which the planner told what it expects, none of them in doubt: a torn cup is no fault of the
        goods."""
        count = self.cell.tool.cup_count
        if len(grasp.cup_seal) != count or len(outcome.vacuum_pa) != count:
            return np.zeros(0, dtype=np.int64)
        known = np.isfinite(grasp.cup_seal) & np.isfinite(outcome.vacuum_pa)
        if trust.shares:
            known &= np.array(trust.shares) >= 1.0
        return np.array([cup for cup in mask_to_cups(grasp.cups) if known[cup]], dtype=np.int64)

    def _appearances(self, frame: Frame, scene: Scene) -> NDArray[np.float32]:
        if self._seen is None or self._seen[0] is not frame or self._seen[1] is not scene:
            view = View.of(frame, NETWORK_SIZE, self.cell.workspace.belt_z_m)
            self._seen = frame, scene, appearance(skin_maps(view), view, scene)
        return self._seen[2]


def _factory_clean(grasp: Grasp) -> float:
    return grasp.terms.get("p_clean_before_learned", grasp.terms["p_clean"])


def tool_tilt(grasp: Grasp) -> float:
    """How far the tool leans from straight down, radians."""
    return float(np.arccos(np.clip(-grasp.T_base_tool[2, 2], -1.0, 1.0)))


def depth_shares(frame: Frame, scene: Scene) -> NDArray[np.float64]:
    """Of each instance's mask, the share with valid depth [I]."""
    shares = np.ones(len(scene.instances))
    for row, one in enumerate(scene.instances):
        x0, y0, x1, y1 = one.bbox
        shares[row] = float((frame.depth[y0:y1, x0:x1][scene.crop(one)] > 0).mean())
    return shares


def edge_distances(frame: Frame, scene: Scene, grasp: Grasp, cell: CellConfig) -> NDArray[np.float64]:
    """Of each of the tool's cups, from its centre to the edge of the mask that it was meant for, metres [cups]; 0
    beside the mask."""
    T = grasp.T_base_tool
    centres = cell.tool.cups_m @ T[:3, :3].T + T[:3, 3]
    instance = next(one for one in scene.instances if one.id == grasp.instance_id)
    inside = np.pad(scene.crop(instance), 1).astype(np.uint8)
    distance = cv2.distanceTransform(inside, cv2.DIST_L2, 5)
    x, y = np.nan_to_num(frame.pixels(centres) - instance.bbox[:2] + 1, nan=-1.0).round().astype(np.int64).T
    on = (x >= 0) & (y >= 0) & (x < inside.shape[1]) & (y < inside.shape[0])
    pixels = np.where(on, distance[np.where(on, y, 0), np.where(on, x, 0)], 0.0)
    depth = (centres - frame.T_base_camera[:3, 3]) @ frame.T_base_camera[:3, 2]
    return np.asarray(pixels * np.maximum(depth, 0.0) / frame.K[0, 0], dtype=np.float64)
