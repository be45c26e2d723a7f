"""Parcels laid into other pictures: masks, depth, colour and occlusion stay one picture."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from helpers.label_samples import BELT_M, HEIGHT, WIDTH, Block, picture
from scipy.spatial.transform import Rotation

from robin_fleet.decks.juxtapose import JuxtaposeConfig, Labelled, depths, heights, juxtaposed, lay
from robin_perception.core.frame import Frame

CONFIG = JuxtaposeConfig(least_px=100, shadow=0.4, gain=1.0)
LOW = Block(40, 50, 60, 50, 0.06, (200, 60, 60), 1)
TALL = Block(120, 60, 70, 60, 0.25, (60, 60, 200), 2)
FLAT = Block(120, 60, 70, 60, 0.02, (60, 60, 200), 2)
LIGHT = (60.0, 40.0)


def labelled(*blocks: Block, seed: int = 1) -> Labelled:
    labels = np.zeros((HEIGHT, WIDTH), dtype=np.uint16)
    for number, block in enumerate(blocks, 1):
        labels[block.mask] = number
    return Labelled(picture(list(blocks), seed), labels)


def tilted(one: Labelled) -> Labelled:
    """An empty belt seen by another camera: other lens, higher, looking aslant."""
    pose = one.frame.T_base_camera.copy()
    pose[:3, :3] = pose[:3, :3] @ Rotation.from_euler("xy", (0.25, -0.15)).as_matrix()
    pose[:3, 3] = (0.05, -0.25, 1.3)
    K = one.frame.K.copy()
    K[0, 0] = K[1, 1] = 260.0
    frame = replace(one.frame, K=K, T_base_camera=pose)
    depth = depths(np.zeros((HEIGHT, WIDTH), dtype=np.float32), frame, 0.0)
    return Labelled(frame.with_depth(depth), np.zeros((HEIGHT, WIDTH), dtype=np.uint16))


def at_pixel(one: Labelled, u: float, v: float) -> tuple[float, float]:
    """The spot of the belt that a camera looking straight down sees there."""
    K = one.frame.K
    return (u - K[0, 2]) / K[0, 0] * BELT_M, -(v - K[1, 2]) / K[1, 1] * BELT_M


def test_height_and_depth_are_inverse() -> None:
    frame: Frame = tilted(labelled(LOW)).frame
    height = np.random.default_rng(0).uniform(0, 0.3, frame.depth.shape).astype(np.float32)
    assert np.allclose(heights(depths(height, frame, 0.0), frame, 0.0), height, atol=1e-5)


@pytest.mark.parametrize("other", [lambda: labelled(TALL, seed=5), lambda: tilted(labelled(LOW))])
def test_a_parcel_keeps_its_height_over_the_support_plane(other) -> None:  # type: ignore[no-untyped-def]
    into, source = other(), labelled(LOW)
    laid = lay(into, source, 1, (-0.2, 0.1), 0.7, LIGHT, CONFIG)
    assert laid is not None
    made, one = laid
    mask = made.labels == one.number
    assert np.nanmedian(made.heights()[mask]) == pytest.approx(LOW.high_m, abs=0.004)
    assert one.seen == 1.0


def test_what_lies_outside_of_the_mask_keeps_depth_and_labels() -> None:
    into = labelled(TALL, seed=5)
    laid = lay(into, labelled(LOW), 1, at_pixel(into, 50, 120), 0.3, LIGHT, CONFIG)
    assert laid is not None
    made, one = laid
    mask = made.labels == one.number
    assert 0.8 < mask.sum() / LOW.mask.sum() < 1.2
    assert np.array_equal(made.frame.depth[~mask], into.frame.depth[~mask])
    assert np.array_equal(made.labels[~mask], into.labels[~mask])
    red, blue = made.frame.rgb[mask][:, 0].astype(int), made.frame.rgb[mask][:, 2].astype(int)
    assert (red > blue + 60).mean() > 0.97


def test_a_taller_parcel_hides_it_and_a_flatter_one_is_hidden() -> None:
    where = (112, 90)  # half beside the other parcel, half on it
    for other, on_top in ((TALL, False), (FLAT, True)):
        into = labelled(other, seed=5)
        laid = lay(into, labelled(LOW), 1, at_pixel(into, *where), 0.0, LIGHT, CONFIG)
        assert laid is not None
        made, one = laid
        new, old = made.labels == one.number, made.labels == 1
        assert not (new & old).any()
        if on_top:
            assert one.seen == 1.0 and old.sum() < other.mask.sum() - 200
        else:
            assert one.seen < 0.8 and old.sum() == other.mask.sum()
            assert np.array_equal(made.frame.rgb[old], into.frame.rgb[old])  # no shadow climbs it
        assert (made.heights()[new] > into.heights()[new] - 0.02).mean() > 0.99


def test_a_parcel_under_others_is_not_laid() -> None:
    into = labelled(TALL, seed=5)
    assert lay(into, labelled(LOW), 1, at_pixel(into, 155, 90), 0.0, LIGHT, CONFIG) is None


def test_a_parcel_that_the_picture_cuts_off_is_not_laid() -> None:
    into = labelled(TALL, seed=5)
    assert lay(into, labelled(LOW), 1, at_pixel(into, -20, 90), 0.0, LIGHT, CONFIG) is None
    assert lay(into, labelled(LOW), 1, (5.0, 5.0), 0.0, LIGHT, CONFIG) is None


def test_a_shadow_falls_beside_it_and_only_darkens() -> None:
    into = labelled(TALL, seed=5)
    bright = lay(into, labelled(LOW), 1, at_pixel(into, 50, 120), 0.0, LIGHT, CONFIG.model_copy(update={"shadow": 0.0}))
    dark = lay(into, labelled(LOW), 1, at_pixel(into, 50, 120), 0.0, LIGHT, CONFIG)
    assert bright is not None and dark is not None
    outside = dark[0].labels != dark[1].number
    difference = bright[0].frame.rgb.astype(int) - dark[0].frame.rgb.astype(int)
    assert (difference[outside] >= 0).all() and (difference[outside] > 15).sum() > 200
    assert not difference[~outside].any()
    assert np.array_equal(bright[0].frame.rgb[outside], into.frame.rgb[outside])


def test_noise_of_depth_makes_no_holes_in_a_flat_parcel() -> None:
    flat = replace(FLAT, x=40, high_m=0.003)
    into = labelled(TALL, seed=5)
    laid = lay(into, labelled(flat), 1, at_pixel(into, 50, 120), 0.4, LIGHT, CONFIG)
    assert laid is not None and laid[1].seen > 0.995


def test_holes_of_depth_stay_holes() -> None:
    source = labelled(LOW)
    depth = source.frame.depth.copy()
    depth[60:70, 55:75] = 0
    source = replace(source, frame=source.frame.with_depth(depth))
    into = labelled(TALL, seed=5)
    laid = lay(into, source, 1, at_pixel(into, 50, 120), 0.0, LIGHT, CONFIG)
    assert laid is not None
    mask = laid[0].labels == laid[1].number
    assert 150 < (laid[0].frame.depth[mask] == 0).sum() < 260


def test_the_same_seed_makes_the_same_picture() -> None:
    sources = {"a": labelled(LOW, seed=7), "b": labelled(FLAT, seed=8)}
    made = [juxtaposed(labelled(TALL, seed=5), sources, np.random.default_rng(seed), CONFIG) for seed in (3, 3, 4)]
    (first, whence), (again, _), (other, _) = made
    assert whence and set(whence.values()) <= {("a", 1), ("b", 1)}
    assert np.array_equal(first.frame.rgb, again.frame.rgb) and np.array_equal(first.labels, again.labels)
    assert not np.array_equal(first.frame.rgb, other.frame.rgb)
