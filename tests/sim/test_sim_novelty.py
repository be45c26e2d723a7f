"""Piles for the novelty score: odd looks, which parcel a mask shows, resumption, and the figures of the evaluation."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from helpers.novelty_samples import samples, scene_of, statistics

from robin_perception.engines.testing.tiny_bundle import tiny_bundle
from robin_perception.model.bundle import NETWORK_FILE, NOVELTY_FILE, add_file, load_bundle
from robin_perception.novelty.appearance import SIZE
from robin_perception.novelty.scorer import NoveltyConfig, NoveltyScorer
from robin_sim import novelty_scenes
from robin_sim.model import ParcelKind, RenderedView
from robin_sim.novelty_scenes import KNOWN, UNSEEN, Seen, Series, collect, joined, parcels_shown
from robin_sim.novelty_trials import area_under_roc, compare, judge, samples_of
from robin_sim.parcels import KIND_TABLES, draw_parcel
from robin_sim.parcels.odd_looks import ODD_VARIANT, odd_looking


def seen(count: int, variant: str, fault: str = "", shift: float = 0.0, pile: int = 0) -> Seen:
    """``count`` instances of one packaging; odd ones have appearances off the known ones."""
    source = samples()
    looks = source.appearance[source.odd if shift else ~source.odd][:count]
    return Seen(
        appearance=looks,
        cut=np.random.default_rng(1).normal(shift, 1, (count, 6)).astype(np.float32),
        embedding=np.random.default_rng(2).normal(shift, 1, (count, 4)).astype(np.float32),
        classes=np.eye(2, dtype=np.float32)[np.arange(count) % 2],
        variant=np.full(count, variant, dtype="U40"),
        fault=np.full(count, fault, dtype="U40"),
        pile=np.arange(count, dtype=np.int64) % 6 + pile,
    )


def scorer(folder: Path) -> NoveltyScorer:
    bundle = tiny_bundle(folder)
    add_file(folder, NOVELTY_FILE, statistics(bundle.manifest.files[NETWORK_FILE]).to_bytes())
    return NoveltyScorer(load_bundle(folder), NoveltyConfig())


@pytest.mark.parametrize("kind", list(ParcelKind))
def test_an_odd_look_changes_the_skin_alone_and_the_same_seed_gives_the_same(kind: ParcelKind) -> None:
    parcel = draw_parcel(np.random.default_rng(5), kind=kind)
    before = parcel.material.albedo.copy()
    odd, again = (odd_looking(parcel, np.random.default_rng(6)) for _ in range(2))
    assert odd.variant == ODD_VARIANT
    assert (odd.size_m, odd.mass_kg, odd.porosity, odd.mesh) == (
        parcel.size_m,
        parcel.mass_kg,
        parcel.porosity,
        parcel.mesh,
    )
    assert np.array_equal(odd.material.albedo, again.material.albedo)
    assert np.array_equal(parcel.material.albedo, before)


def test_no_bag_is_made_black_or_clear_by_an_odd_look() -> None:
    rng = np.random.default_rng(8)
    for _ in range(12):
        bag = draw_parcel(rng, kind=ParcelKind.POLY_BAG, variant="white")
        odd = odd_looking(bag, rng)
        assert odd.material.transmission == bag.material.transmission
        assert odd.material.albedo.mean() > 45


def test_every_packaging_of_the_evaluation_is_one_that_base_training_never_drew() -> None:
    known = {f"{kind.value}/{v.name}": v.unseen for kind, table in KIND_TABLES.items() for v in table.variants}
    for name in UNSEEN:
        assert known[name] or name in KNOWN.mix.excluded_variants
    assert KNOWN.mix.unseen_fraction == 0


def test_a_mask_shows_the_parcel_it_overlaps_by_half() -> None:
    scene = scene_of(2)
    labels = np.zeros_like(scene.labels)
    labels[120:320, 60:260] = 3  # the left mask to the pixel
    labels[120:320, 380:450] = 1  # a third of the right one
    view = cast(RenderedView, SimpleNamespace(labels=labels))
    assert parcels_shown(scene, view, 3).tolist() == [2, -1]
    assert parcels_shown(scene_of(0), view, 3).tolist() == []


def test_finished_piles_are_not_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[int] = []

    def look(segmenter: Any, series: Series, seed: int, index: int) -> Seen:
        made.append(index)
        return seen(index + 2, "carton/kraft")

    monkeypatch.setattr(novelty_scenes, "look_at_pile", look)
    segmenter = cast(Any, SimpleNamespace(model_id="base-00000000"))
    assert len(collect(segmenter, KNOWN, 2, 7, tmp_path)) == 5
    whole = collect(segmenter, KNOWN, 3, 7, tmp_path)
    assert made == [0, 1, 2]
    assert len(whole) == 9 and whole.appearance.shape == (9, SIZE)
    collect(segmenter, KNOWN, 1, 8, tmp_path)
    assert made == [0, 1, 2, 0]


def test_what_is_flagged_and_how_well_it_is_told_apart(tmp_path: Path) -> None:
    known = joined([seen(120, "carton/kraft"), seen(40, "carton/kraft", fault="dark")])
    unseen = joined([seen(60, name, shift=1.0, pile=10) for name in UNSEEN] + [seen(30, "carton/white", pile=10)])
    figures = judge(scorer(tmp_path / "m"), known, unseen)
    assert figures["auroc"].keys() == set(UNSEEN.values())
    assert all(area > 0.95 for area in figures["auroc"].values())
    assert figures["flagged"]["unseen"] > 0.8 > 0.2 > figures["flagged"]["known"]
    assert figures["flagged_intervals"]["known"]["of"] == 150
    assert figures["flagged_by_fault"].keys() == {"dark"}


def test_the_comparison_holds_every_method_on_every_kind_of_features() -> None:
    known = joined([seen(200, "carton/kraft"), seen(200, "carton/white", pile=1)])
    unseen = joined([seen(30, name, shift=4.0) for name in UNSEEN])
    found = compare(known, unseen)
    assert set(found) == {"cut", "embedding", "appearance"}
    assert all(len(methods) == 3 for methods in found.values())
    assert found["cut"]["mds_plus_plus"]["mesh"] > 0.6


def test_known_goods_among_odd_ones_teach_what_is_known() -> None:
    both = samples_of(
        seen(10, "carton/kraft", fault="blur"), joined([seen(5, "carton/odd", shift=1.0), seen(5, "carton/white")])
    )
    assert both.odd.tolist() == [False] * 10 + [True] * 5 + [False] * 5
    assert both.faulty.tolist() == [True] * 10 + [False] * 10


def test_area_under_roc_counts_ties_half() -> None:
    assert area_under_roc(np.array([0.0, 1.0]), np.array([2.0, 3.0])) == 1
    assert area_under_roc(np.array([1.0, 1.0]), np.array([1.0])) == 0.5
    assert np.isnan(area_under_roc(np.array([]), np.array([1.0])))
