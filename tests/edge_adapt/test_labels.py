"""Labels from picks: what one pick says of its frame, and what the picks of a pile say of the frames before."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from helpers.label_samples import Block, iou, judgement, picked, picture, scene

from edge_adapt.labels import pick_label
from edge_adapt.labels.evidence import gone_evidence
from edge_adapt.labels.label import MaskLabel, NoLabel, Origin, TwoLabel
from edge_adapt.labels.pick_label import SeenPick, label_pick
from edge_adapt.labels.pile import PileLabels
from robin_grasp.picks.outcome import PickResult
from robin_perception.core.condition import Condition, Family, PickingEffect
from robin_perception.core.errors import Code

BOX = Block(40, 50, 70, 60, 0.08, (170, 120, 70))
BESIDE = Block(112, 50, 60, 60, 0.08, (175, 125, 75), print_seed=2)
FLAT = Block(150, 120, 60, 40, 0.004, (180, 60, 60), print_seed=3)


def label_of(pick: SeenPick) -> MaskLabel:
    label = label_pick(pick)
    assert isinstance(label, MaskLabel), label
    return label


def test_a_good_mask_is_kept_and_its_edge_ignored() -> None:
    label = label_of(picked(picture([BOX, BESIDE], 1), scene([BOX.mask, BESIDE.mask]), picture([BESIDE], 2)))
    assert iou(label.mask, BOX.mask) > 0.97 and label.confidence > 0.9
    assert label.origin is Origin.PICK and label.instance == 1
    assert label.ignore[BOX.y, BOX.x + 30] and not label.ignore[80, 70] and not label.ignore[20, 20]


def test_of_two_parcels_under_one_mask_the_one_that_was_taken_is_labelled() -> None:
    merged = replace(BOX, width=BESIDE.x + BESIDE.width - BOX.x).mask
    label = label_of(picked(picture([BOX, BESIDE], 1), scene([merged]), picture([BESIDE], 2)))
    assert iou(merged, BOX.mask) < 0.6 and iou(label.mask, BOX.mask) > 0.9


def test_a_mask_that_shows_half_a_parcel_is_completed() -> None:
    half = BOX.mask.copy()
    half[:, 75:] = False
    label = label_of(picked(picture([BOX, BESIDE], 1), scene([half, BESIDE.mask]), picture([BESIDE], 2)))
    assert iou(half, BOX.mask) < 0.6 and iou(label.mask, BOX.mask) > 0.9


def test_a_fragment_that_is_gone_too_is_part_of_the_parcel() -> None:
    left, right = BOX.mask.copy(), BOX.mask.copy()
    left[:, 80:], right[:, :80] = False, False
    label = label_of(picked(picture([BOX, BESIDE], 1), scene([left, right, BESIDE.mask]), picture([BESIDE], 2)))
    assert iou(label.mask, BOX.mask) > 0.95 and not label.mask[BESIDE.mask].any()


def test_a_thin_parcel_is_told_by_its_colour() -> None:
    half = FLAT.mask.copy()
    half[:, 180:] = False
    label = label_of(picked(picture([BOX, FLAT], 1), scene([half, BOX.mask]), picture([BOX], 2)))
    assert iou(label.mask, FLAT.mask) > 0.85


def test_exposure_and_a_shadow_that_goes_are_no_parcel() -> None:
    shadow = BOX.shifted(25).mask & ~BOX.mask
    before, after = picture([BOX], 1, shadow=shadow), picture([], 2, light=1.35)
    label = label_of(picked(before, scene([BOX.mask]), after))
    assert iou(label.mask, BOX.mask) > 0.97


def test_colour_alone_tells_a_parcel_from_exposure_and_shadow() -> None:
    shadow = BOX.shifted(90).mask
    before, after = picture([BOX], 1, shadow=shadow), picture([], 2, light=1.35)
    without = [frame.with_depth(np.zeros_like(frame.depth)) for frame in (before, after)]
    evidence = gone_evidence(without[0], without[1], ~BOX.mask)
    kept = ~(BOX.shifted(-5).mask | BOX.shifted(5).mask)
    assert (evidence[BOX.mask] > 0).mean() > 0.9 and (evidence[kept] > 0).mean() < 0.1
    inner = replace(BOX, x=BOX.x + 95, y=BOX.y + 5, width=60, height=50).mask
    assert (evidence[inner] > 0).mean() < 0.4


def test_a_neighbour_that_moved_is_left_out_and_ignored() -> None:
    before, after = picture([BOX, BESIDE], 1), picture([BESIDE.shifted(20)], 2)
    label = label_of(picked(before, scene([BOX.mask, BESIDE.mask]), after))
    assert iou(label.mask, BOX.mask) > 0.95 and not (label.mask & BESIDE.mask).any()
    assert label.ignore[BESIDE.mask].mean() > 0.9


@pytest.mark.parametrize(
    ("after", "why"),
    [
        (picture([BOX, BESIDE], 2), "nothing is gone"),
        (picture([Block(0, 0, 240, 180, 0.15, (30, 60, 170), 7)], 2), "a picture of another pile"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_pictures_that_contradict_the_judgement_give_no_label(after: object, why: str) -> None:
    label = label_pick(picked(picture([BOX, BESIDE], 1), scene([BOX.mask, BESIDE.mask]), after))  # type: ignore[arg-type]
    assert isinstance(label, NoLabel) and label.code is Code.LABEL_UNCLEAR, why


def test_a_mask_that_no_picture_speaks_for_is_no_label(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pick_label, "gone_evidence", lambda before, *_: np.full_like(before.depth, -0.5))
    label = label_pick(picked(picture([BOX], 1), scene([BOX.mask]), picture([], 2)))
    assert isinstance(label, NoLabel) and label.code is Code.LABEL_UNCLEAR and "0 % of" in label.text


def void(change: str) -> SeenPick:
    before, after = picture([BOX], 1), picture([], 2)
    pick = picked(before, scene([BOX.mask]), after)
    moved = after.T_base_camera.copy()
    moved[0, 3] += 0.01
    dark = Condition(Code.INPUT_MISSING, "dark", Family.ENVIRONMENT, 1.0, 0.5, "", 0.0, PickingEffect.GO_ON, "dark")
    return {
        "sound": pick,
        "novel": replace(pick, scene=replace(pick.scene, conditions=(replace(dark, family=Family.NOVELTY),))),
        "dark": replace(pick, scene=replace(pick.scene, conditions=(dark,))),
        "no_after": replace(pick, after=None),
        "moved_camera": replace(pick, after=replace(after, T_base_camera=moved)),
        "unsure": replace(pick, judgement=judgement(probability=0.8)),
        "not_judged": replace(pick, judgement=None),
        "miss": replace(pick, judgement=judgement(PickResult.MISS)),
        "no_mask": replace(pick, target=9),
    }[change]


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ("sound", None),
        ("novel", None),
        ("dark", Code.LABEL_STATION),
        ("no_after", Code.FRAME_AFTER_MISSING),
        ("moved_camera", Code.FRAME_AFTER_UNUSABLE),
        ("unsure", Code.LABEL_UNSURE),
        ("not_judged", Code.LABEL_UNSURE),
        ("miss", Code.LABEL_NOTHING_SAID),
        ("no_mask", Code.LABEL_UNCLEAR),
    ],
)
def test_what_makes_a_pick_say_nothing_is_numbered(change: str, code: Code | None) -> None:
    label = label_pick(void(change))
    assert (label.code if isinstance(label, NoLabel) else None) is code


@pytest.mark.parametrize("gone", [(), (2,)])
def test_a_double_pick_says_two_and_pretends_no_mask(gone: tuple[int, ...]) -> None:
    pick = picked(picture([BOX, BESIDE], 1), scene([BOX.mask, BESIDE.mask]), picture([], 2))
    label = label_pick(replace(pick, judgement=judgement(PickResult.MULTI, gone=gone)))
    assert label == TwoLabel((1, *gone), 0.98, 1.0)


TOP = Block(70, 40, 60, 60, 0.12, (60, 70, 160), print_seed=4)


def pile(blocks: list[list[Block]]) -> PileLabels:
    """Each list is what lies there; the last of it is picked next."""
    labels = PileLabels()
    for k, (now, then) in enumerate(zip(blocks, [*blocks[1:], []], strict=True)):
        frame = picture(now, 10 + k)
        labels.add(picked(frame, scene([block.mask for block in now]), picture(then, 11 + k), target=len(now)))
    return labels


def test_an_emptied_pile_labels_its_first_frame() -> None:
    found = pile([[FLAT, BOX, TOP], [FLAT, BOX], [FLAT]]).of_frame(0, picture([], 20))
    assert [label.origin for label in found.parcels.values()] == [Origin.PICK, Origin.EARLIER, Origin.EARLIER]
    shown = {1: TOP.mask, 2: BOX.mask & ~TOP.mask, 3: FLAT.mask}
    assert all(iou(found.labels == number, mask) > 0.9 for number, mask in shown.items())
    belt = ~(TOP.mask | BOX.mask | FLAT.mask)
    assert found.ignore.mean() < 0.2 and (found.labels[belt & ~found.ignore] == 0).all()


def test_without_the_empty_belt_background_is_not_known() -> None:
    found = pile([[FLAT, BOX], [FLAT]]).of_frame(0)
    assert found.ignore[found.labels == 0].all()


def test_a_parcel_that_moved_keeps_its_label_in_later_frames_only() -> None:
    labels = pile([[FLAT, BOX, TOP], [FLAT, BOX.shifted(-15)], [FLAT]])
    assert set(labels.of_frame(0).parcels) == {0, 2}
    assert set(labels.of_frame(1).parcels) == {1, 2}


def test_nothing_is_carried_over_a_camera_that_moved() -> None:
    labels = PileLabels()
    first, second = picture([FLAT, BOX], 1), picture([FLAT], 2)
    labels.add(picked(first, scene([FLAT.mask, BOX.mask]), second, target=2))
    moved = second.T_base_camera.copy()
    moved[0, 3] += 0.01
    second, empty = replace(second, T_base_camera=moved), replace(picture([], 3), T_base_camera=moved)
    labels.add(picked(second, scene([FLAT.mask]), empty))
    found = labels.of_frame(0, empty)
    assert set(found.parcels) == {0} and found.ignore[found.labels == 0].all()


def test_a_frame_that_no_pick_has_is_refused() -> None:
    for number in (-1, 1):
        with pytest.raises(IndexError):
            pile([[BOX]]).of_frame(number)
