"""Draw parcels: design (kind, variant, size, print) first, then the one specimen (dents, mass, skin)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from robin_perception.core.errors import Code, RobinError
from robin_sim.model import Material, Parcel, ParcelKind
from robin_sim.parcels import shapes
from robin_sim.parcels.atlas import Atlas, carton_atlas, sheet_atlas, tube_atlas
from robin_sim.parcels.distributions import (
    KIND_TABLES,
    UNSEEN_TAG,
    KindTable,
    LogNormal,
    ParcelMix,
    Variant,
    find_variant,
)
from robin_sim.parcels.textures import draw_texture

CARTON_EDGE_M = (0.06, 0.40)


@dataclass(frozen=True)
class _Source:
    """What a parcel is drawn from. own_kind: its name where it is none of the simulator's; edges_m: the table's sizes
    are those of the edges, not the ratios of a carton."""

    kind: ParcelKind
    table: KindTable
    own_kind: str = ""
    edges_m: bool = False


@dataclass(frozen=True)
class _Design:
    source: _Source
    variant: Variant
    size_m: tuple[float, float, float]
    atlas: Atlas
    material: Material
    density_kgpm3: float


def draw_parcel(
    rng: np.random.Generator,
    mix: ParcelMix | None = None,
    kind: ParcelKind | None = None,
    variant: str | None = None,
) -> Parcel:
    """One parcel. A named kind or variant wins over the mix's weights and exclusions.

    Raises RobinError (OPTION_INVALID) when no kind, or not this kind, has such a variant.
    """
    return _specimen(rng, _draw_design(rng, *_choose(rng, mix or ParcelMix(), kind, variant)))


def draw_parcels(rng: np.random.Generator, count: int, mix: ParcelMix | None = None) -> tuple[Parcel, ...]:
    """``count`` parcels; with ``mix.twin_fraction`` a parcel repeats an earlier one's design (tag "twin").

    Twins share the ``Material`` object and ``size_m``; dents, mass and skin are their own.
    """
    mix = mix or ParcelMix()
    designs: list[_Design] = []
    parcels = []
    for _ in range(count):
        if designs and rng.random() < mix.twin_fraction:
            design, tags = designs[int(rng.integers(len(designs)))], frozenset({"twin"})
        else:
            design, tags = _draw_design(rng, *_choose(rng, mix, None, None)), frozenset()
            designs.append(design)
        parcels.append(_specimen(rng, design, tags))
    return tuple(parcels)


def _choose(
    rng: np.random.Generator, mix: ParcelMix, kind: ParcelKind | None, name: str | None
) -> tuple[_Source, Variant]:
    if name is not None:
        named, variant = _named(rng, kind, name)
        return _Source(named, KIND_TABLES[named]), variant
    source = _Source(kind, KIND_TABLES[kind]) if kind is not None else _source(rng, mix)
    unseen = bool(rng.random() < mix.unseen_fraction)
    allowed = [v for v in source.table.variants if f"{source.kind.value}/{v.name}" not in mix.excluded_variants]
    # Where every unseen look of this kind is excluded, or it has none, any other will do.
    options = [v for v in allowed if v.unseen == unseen] or allowed or list(source.table.variants)
    weights = np.array([v.weight for v in options])
    return source, options[int(rng.choice(len(options), p=weights / weights.sum()))]


def _source(rng: np.random.Generator, mix: ParcelMix) -> _Source:
    """One of the simulator's kinds, or of the mix's own."""
    sources = [(_Source(k, KIND_TABLES[k]), mix.kind_weights.get(k, 0.0)) for k in ParcelKind]
    sources += [
        (_Source(own.like, own.table(), name, own.size_m is not None), own.weight)
        for name, own in sorted(mix.own_kinds.items())
    ]
    sources = [(source, weight) for source, weight in sources if weight > 0]
    weights = np.array([weight for _, weight in sources])
    return sources[int(rng.choice(len(sources), p=weights / weights.sum()))][0]


def _named(rng: np.random.Generator, kind: ParcelKind | None, name: str) -> tuple[ParcelKind, Variant]:
    found = [(k, v) for k in ParcelKind if kind in (None, k) and (v := find_variant(k, name)) is not None]
    if not found:
        where = f"kind '{kind.value}'" if kind is not None else "any kind"
        raise RobinError(Code.OPTION_INVALID, f"parcel variant '{name}' is not known for {where}")
    return found[int(rng.integers(len(found)))]


def _draw_size(rng: np.random.Generator, source: _Source) -> tuple[float, float, float]:
    x, y, z = (d.draw(rng) for d in source.table.size_m)
    if source.kind is ParcelKind.CARTON:
        if source.edges_m:
            return x, y, z
        low, high = CARTON_EDGE_M
        # The floor is drawn, so that no single edge length is common.
        y = min(max(x * y, rng.uniform(low, 1.4 * low)), high)
        return x, float(y), float(min(max(y * z, rng.uniform(low, 1.4 * low)), high))
    if source.kind is ParcelKind.TUBE:
        return x, y, y
    return (x, y, z) if x >= y else (y, x, z)


def _draw_design(rng: np.random.Generator, source: _Source, variant: Variant) -> _Design:
    kind, size = source.kind, _draw_size(rng, source)
    make_atlas = {ParcelKind.CARTON: carton_atlas, ParcelKind.TUBE: tube_atlas}.get(kind, sheet_atlas)
    atlas = make_atlas(size)
    material = Material(
        albedo=draw_texture(kind, variant, atlas, rng),
        roughness=variant.roughness.draw(rng),
        specular=variant.specular.draw(rng),
        transmission=variant.transmission.draw(rng),
    )
    return _Design(source, variant, size, atlas, material, source.table.density_kgpm3.draw(rng))


def _profile(rng: np.random.Generator, design: _Design) -> shapes.PillowProfile:
    """How full, soft and crinkled a specimen of this sheet-made design is."""
    height = design.size_m[2]
    if design.source.kind is ParcelKind.FLAT_MAILER:
        return shapes.PillowProfile(
            plateau=rng.uniform(12, 30), shoulder=rng.uniform(0.5, 0.9), hem_share=rng.uniform(0.0, 0.04), pull_in=0.0,
            bow_m=rng.uniform(0.0, 0.004), crease_m=rng.uniform(0, 0.0006), crease_count=4,
            lump_m=rng.uniform(0, 0.12) * height, bottom_share=0.5,
        )  # fmt: skip
    if design.source.kind is ParcelKind.PADDED_MAILER:
        return shapes.PillowProfile(
            plateau=rng.uniform(2.5, 7), shoulder=rng.uniform(0.5, 0.9), hem_share=rng.uniform(0.04, 0.10),
            pull_in=rng.uniform(0.0, 0.03), bow_m=rng.uniform(0.0, 0.004), crease_m=rng.uniform(0.0004, 0.0014),
            crease_count=int(rng.integers(6, 18)), lump_m=rng.uniform(0.02, 0.14) * height,
            bottom_share=rng.uniform(0.35, 0.5), lean=rng.uniform(0, 0.12), hem_wave_m=rng.uniform(0.0, 0.002),
        )  # fmt: skip
    return shapes.PillowProfile(
        plateau=rng.uniform(2.2, 8), shoulder=rng.uniform(0.45, 0.85), hem_share=rng.uniform(0.04, 0.16),
        pull_in=rng.uniform(0.01, 0.09), bow_m=rng.uniform(0.0, 0.005), crease_m=rng.uniform(0.0015, 0.0045),
        crease_count=int(rng.integers(18, 45)), lump_m=rng.uniform(0.05, 0.22) * height,
        bottom_share=rng.uniform(0.35, 0.5), lean=rng.uniform(0, 0.25), hem_wave_m=rng.uniform(0.0, 0.006),
    )  # fmt: skip


def _specimen(rng: np.random.Generator, design: _Design, tags: frozenset[str] = frozenset()) -> Parcel:
    table, variant, size = design.source.table, design.variant, design.size_m
    if design.source.kind is ParcelKind.CARTON:
        shape = shapes.carton(size, design.atlas, rng)
    elif design.source.kind is ParcelKind.TUBE:
        shape = shapes.tube(size, design.atlas, rng)
    else:
        shape = shapes.pillow(size, _profile(rng, design), design.atlas, rng)
    spread = LogNormal(design.density_kgpm3, 0.08, table.density_kgpm3.low, table.density_kgpm3.high).draw(rng)
    mass = float(np.clip(spread * table.fill * np.prod(size), *table.mass_kg))
    offset = np.clip(rng.standard_normal(3), -2.5, 2.5) * table.com_share * np.array(size)
    porosity = (variant.porosity or table.porosity).draw(rng)
    return Parcel(
        kind=design.source.kind,
        variant=variant.name,
        size_m=size,
        mass_kg=mass,
        com_offset_m=(float(offset[0]), float(offset[1]), float(offset[2])),
        friction=table.friction.draw(rng),
        porosity=porosity,
        surface_roughness_m=table.surface_roughness_m.draw(rng),
        compliance_m=table.compliance_m.draw(rng),
        mesh=shape.mesh,
        material=design.material,
        collision=shape.collision,
        tags=tags | ({UNSEEN_TAG} if variant.unseen else frozenset()),
        own_kind=design.source.own_kind,
    )
