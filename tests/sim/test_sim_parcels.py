"""Parcels: reproducible, closed, within what they declare."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from robin_perception.core.errors import Code, RobinError
from robin_perception.core.scene import CLASSES
from robin_sim.model import CollisionGeom, Parcel, ParcelKind
from robin_sim.parcels import BASE_TRAINING_MIX, KIND_TABLES, UNSEEN_TAG, ParcelMix, draw_parcel, draw_parcels
from robin_sim.parcels.draw import CARTON_EDGE_M
from robin_sim.parcels.table import kinds_markdown, variants_markdown

ALL_LOOKS = [(kind, v.name) for kind, table in KIND_TABLES.items() for v in table.variants]


def _same(a: Parcel, b: Parcel) -> bool:
    scalars = ("kind", "variant", "size_m", "mass_kg", "com_offset_m", "friction", "porosity", "collision", "tags")
    return (
        all(getattr(a, s) == getattr(b, s) for s in scalars)
        and np.array_equal(a.mesh.vertices, b.mesh.vertices)
        and np.array_equal(a.mesh.uv, b.mesh.uv)
        and np.array_equal(a.material.albedo, b.material.albedo)
    )


def test_kinds_are_the_networks_classes() -> None:
    assert tuple(k.value for k in ParcelKind) == CLASSES
    assert tuple(k.value for k in KIND_TABLES) == CLASSES


def test_same_seed_same_parcels_whatever_was_drawn_before() -> None:
    first = draw_parcels(np.random.default_rng(7), 12)
    draw_parcels(np.random.default_rng(8), 5)
    again = draw_parcels(np.random.default_rng(7), 12)
    assert all(_same(a, b) for a, b in zip(first, again, strict=True))
    other = draw_parcels(np.random.default_rng(9), 12)
    assert not any(_same(a, b) for a, b in zip(first, other, strict=True))


@pytest.mark.parametrize(("kind", "variant"), ALL_LOOKS)
def test_mesh_is_closed_and_faces_out(kind: ParcelKind, variant: str) -> None:
    rng = np.random.default_rng(3)
    for _ in range(3):
        parcel = draw_parcel(rng, kind=kind, variant=variant)
        mesh = parcel.mesh
        t = mesh.triangles
        assert 500 < len(t) < 5000
        assert t.min() == 0 and t.max() == len(mesh.vertices) - 1
        edges = np.concatenate([t[:, [0, 1]], t[:, [1, 2]], t[:, [2, 0]]])
        forward = {tuple(e) for e in edges.tolist()}
        assert len(forward) == len(edges), "an edge is used twice in one direction"
        assert all((b, a) in forward for a, b in forward), "an edge has one side only"
        p = mesh.vertices[t].astype(np.float64)
        volume = np.einsum("ij,ij->i", p[:, 0], np.cross(p[:, 1], p[:, 2])).sum() / 6
        assert 0.25 * np.prod(parcel.size_m) < volume < 1.1 * np.prod(parcel.size_m)


@pytest.mark.parametrize(("kind", "variant"), ALL_LOOKS)
def test_texture_and_material(kind: ParcelKind, variant: str) -> None:
    parcel = draw_parcel(np.random.default_rng(4), kind=kind, variant=variant)
    h, w = parcel.material.albedo.shape[:2]
    assert parcel.material.albedo.dtype == np.uint8
    assert 100 <= w <= 440 and 40 <= h <= 700
    assert parcel.mesh.uv.shape == (len(parcel.mesh.triangles), 3, 2)
    assert parcel.mesh.uv.min() >= 0 and parcel.mesh.uv.max() <= 1
    assert 0 <= parcel.material.roughness <= 1 and 0 <= parcel.material.specular <= 1
    assert (parcel.material.transmission > 0.5) == (variant == "clear")
    assert (UNSEEN_TAG in parcel.tags) == next(v.unseen for v in KIND_TABLES[kind].variants if v.name == variant)


def _bounds(geoms: tuple[CollisionGeom, ...]) -> tuple[np.ndarray, np.ndarray]:
    lows, highs = [], []
    for g in geoms:
        half = (g.size_m[1], g.size_m[0], g.size_m[0]) if g.type == "cylinder" else g.size_m
        lows.append(np.array(g.position_m) - half)
        highs.append(np.array(g.position_m) + half)
    return np.min(lows, axis=0), np.max(highs, axis=0)


@pytest.mark.parametrize("kind", list(ParcelKind))
def test_sizes_masses_and_collision_match_what_is_declared(kind: ParcelKind) -> None:
    rng = np.random.default_rng(5)
    table = KIND_TABLES[kind]
    for _ in range(25):
        parcel = draw_parcel(rng, kind=kind)
        size = np.array(parcel.size_m)
        low, high = parcel.mesh.vertices.min(axis=0), parcel.mesh.vertices.max(axis=0)
        assert np.all(np.abs(high - size / 2) < 0.012) and np.all(np.abs(low + size / 2) < 0.012)
        c_low, c_high = _bounds(parcel.collision)
        assert np.all(c_high < high + 0.003) and np.all(c_low > low - 0.003)
        assert (high - c_high)[2] < 0.014 and (c_low - low)[2] < 0.014
        assert table.mass_kg[0] <= parcel.mass_kg <= table.mass_kg[1]
        assert np.all(np.abs(parcel.com_offset_m) < 0.2 * size + 1e-9)
        assert 0 <= parcel.porosity <= 1 and parcel.surface_roughness_m > 0 and parcel.compliance_m > 0
        assert 0.1 < parcel.friction < 1
        if kind is ParcelKind.CARTON:
            assert size.min() >= CARTON_EDGE_M[0] and size.max() <= CARTON_EDGE_M[1]
        if kind is ParcelKind.TUBE:
            assert size[0] >= size[1] == size[2]


def test_base_training_mix_knows_no_black_clear_or_unseen() -> None:
    parcels = draw_parcels(np.random.default_rng(6), 150, BASE_TRAINING_MIX)
    assert {p.kind for p in parcels} == set(ParcelKind)
    assert not any(p.variant in ("black", "clear") or UNSEEN_TAG in p.tags for p in parcels)


def test_unseen_fraction_and_twins() -> None:
    rng = np.random.default_rng(6)
    parcels = draw_parcels(rng, 20, ParcelMix(unseen_fraction=1.0))
    assert all(UNSEEN_TAG in p.tags for p in parcels)
    twins = draw_parcels(rng, 6, ParcelMix(twin_fraction=1.0))
    assert len({id(p.material) for p in twins}) == 1 and len({p.size_m for p in twins}) == 1
    assert len({p.mass_kg for p in twins}) > 1 and sum("twin" in p.tags for p in twins) == 5


def test_named_variant_wins_over_the_mix_and_unknown_is_refused() -> None:
    rng = np.random.default_rng(1)
    assert draw_parcel(rng, BASE_TRAINING_MIX, variant="clear").kind is ParcelKind.POLY_BAG
    with pytest.raises(RobinError) as caught:
        draw_parcel(rng, kind=ParcelKind.TUBE, variant="clear")
    assert caught.value.code is Code.OPTION_INVALID
    with pytest.raises(ValueError, match="unknown variant"):
        ParcelMix(excluded_variants=("poly_bag/blakc",))
    with pytest.raises(ValueError, match="not all zero"):
        ParcelMix(kind_weights={ParcelKind.TUBE: 0.0})


def test_documented_distributions_are_those_in_the_code() -> None:
    text = (Path(__file__).parents[2] / "docs" / "parcels.md").read_text()
    assert kinds_markdown() in text
    assert variants_markdown() in text


def test_contact_sheet_shows_every_parcel(tmp_path: Path) -> None:
    pytest.importorskip("open3d")
    from robin_sim.parcels import sheet

    sheet.main([str(tmp_path / "sheet.png"), "--count", "5", "--seed", "2"])
    image = cv2.imread(str(tmp_path / "sheet.png"))
    assert image is not None and image.shape == (2 * 254, 4 * 480, 3)
    with pytest.raises(RobinError):
        sheet.main([str(tmp_path / "none" / "sheet.png"), "--count", "1"])


POUCH = {
    "like": "poly_bag",
    "weight": 1.0,
    "size_m": [[0.16, 0.2], [0.12, 0.15], [0.03, 0.04]],
    "density_kgpm3": [350, 600],
    "porosity": [0.0, 0.01],
    "colours": [[200, 60, 40]],
}


def test_a_kind_of_ones_own_is_drawn_as_it_says() -> None:
    mix = ParcelMix.model_validate(
        {"kind_weights": {"carton": 1.0}, "own_kinds": {"pouch": POUCH}, "twin_fraction": 0.0}
    )
    parcels = draw_parcels(np.random.default_rng(3), 60, mix)
    pouches = [p for p in parcels if p.kind_name == "pouch"]
    assert {p.kind_name for p in parcels} == {"carton", "pouch"} and 15 < len(pouches) < 45
    for pouch in pouches:
        assert pouch.kind is ParcelKind.POLY_BAG and pouch.variant == "own"
        assert all(low <= edge <= high for edge, (low, high) in zip(pouch.size_m, POUCH["size_m"], strict=True))
        assert pouch.porosity <= 0.01
        red, _, blue = pouch.material.albedo.reshape(-1, 3).mean(axis=0)
        assert red > blue
    assert mix.class_names == (*CLASSES, "pouch")


def test_a_carton_like_kind_has_edges_not_ratios() -> None:
    box = {"like": "carton", "weight": 1.0, "size_m": [[0.3, 0.3], [0.2, 0.2], [0.1, 0.1]]}
    mix = ParcelMix.model_validate({"kind_weights": {"tube": 1e-9}, "own_kinds": {"crate": box}})
    assert draw_parcel(np.random.default_rng(1), mix).size_m == (0.3, 0.2, 0.1)


def test_without_kinds_of_ones_own_nothing_changes() -> None:
    plain, own = np.random.default_rng(7), np.random.default_rng(7)
    never = ParcelMix.model_validate({"own_kinds": {}})
    assert all(_same(a, b) for a, b in zip(draw_parcels(plain, 5), draw_parcels(own, 5, never), strict=True))


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"size_m": [[0.2, 0.1], [0.1, 0.2], [0.1, 0.2]]}, "ascending"),
        ({"porosity": [0.5, 1.5]}, "within 0..1"),
        ({"colours": [[0, 0, 300]]}, "0..255"),
        ({"like": "crate"}, "carton"),
        ({"wight": 2}, "wight"),
    ],
)
def test_a_kind_that_cannot_be_is_refused(change: dict[str, object], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        ParcelMix.model_validate({"own_kinds": {"pouch": {**POUCH, **change}}})
    with pytest.raises(ValueError, match="taken"):
        ParcelMix.model_validate({"own_kinds": {"carton": POUCH}})
