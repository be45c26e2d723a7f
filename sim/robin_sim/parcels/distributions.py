"""What parcels are drawn from: sizes, masses, skins, as data. `docs/parcels.md` says where the figures come from."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from pydantic import Field, ValidationInfo, field_validator

from robin_perception.core.config import StrictConfig
from robin_sim.model import KINDS, ParcelKind


@dataclass(frozen=True)
class Uniform:
    """Uniform in [low, high]."""

    low: float
    high: float

    def draw(self, rng: np.random.Generator) -> float:
        return float(rng.uniform(self.low, self.high))


@dataclass(frozen=True)
class LogNormal:
    """exp(N(ln median, sigma)), clipped to [low, high]."""

    median: float
    sigma: float
    low: float
    high: float

    def draw(self, rng: np.random.Generator) -> float:
        return float(np.clip(self.median * np.exp(self.sigma * rng.standard_normal()), self.low, self.high))


@dataclass(frozen=True)
class ScaledBeta:
    """high * Beta(a, b): most mass near zero, a tail up to ``high``."""

    a: float
    b: float
    high: float

    def draw(self, rng: np.random.Generator) -> float:
        return float(self.high * rng.beta(self.a, self.b))


Distribution = Uniform | LogNormal | ScaledBeta


@dataclass(frozen=True)
class Variant:
    """One look and skin of a kind. ``weight`` is its share among the kind's seen (or unseen) variants.

    colours: sRGB triples to draw the base colour from. roughness, specular, transmission: see ``Material``.
    unseen: packaging that base training never shows. porosity overrides the kind's where the skin differs.
    """

    name: str
    weight: float
    colours: tuple[tuple[int, int, int], ...]
    roughness: Uniform
    specular: Uniform
    transmission: Uniform = Uniform(0.0, 0.0)
    unseen: bool = False
    porosity: Distribution | None = None


@dataclass(frozen=True)
class KindTable:
    """Everything a kind is drawn from. SI units.

    size_m: distributions of the outer x, y, z (tube: length, diameter, unused). fill: volume over that of the bounding
    box, for the mass. density_kgpm3: of the filled volume. mass_kg: hard limits. com_share: 1-sigma of the centre of
    mass, as a share of each edge (clipped at 2.5 sigma).
    """

    size_m: tuple[Distribution, Distribution, Distribution]
    fill: float
    density_kgpm3: LogNormal
    mass_kg: tuple[float, float]
    com_share: tuple[float, float, float]
    friction: Uniform
    porosity: Distribution
    surface_roughness_m: LogNormal
    compliance_m: Uniform
    variants: tuple[Variant, ...]

    def names(self, unseen: bool) -> tuple[str, ...]:
        return tuple(v.name for v in self.variants if v.unseen == unseen)


_KRAFT = ((186, 145, 100), (176, 136, 94), (196, 158, 114), (165, 124, 84))
_WHITE = ((236, 234, 228), (226, 226, 222), (242, 240, 236))
_LOUD = ((190, 30, 40), (20, 110, 60), (30, 60, 150), (200, 160, 50), (120, 30, 110), (230, 120, 150))
_PRINT = ((40, 70, 150), (220, 110, 30), (30, 130, 90), (190, 40, 60), (40, 40, 46), (240, 200, 60), (90, 170, 210))
# Film of coloured bags: as _PRINT, but nothing near black, which is a variant of its own.
_FILM = (*_PRINT[:4], (110, 70, 140), *_PRINT[5:])
_FOIL = ((196, 198, 204), (204, 176, 98), (206, 140, 150), (120, 150, 200), (150, 190, 160))
_MATT, _SATIN, _GLOSS = Uniform(0.75, 0.95), Uniform(0.45, 0.7), Uniform(0.15, 0.4)

KIND_TABLES: dict[ParcelKind, KindTable] = {
    ParcelKind.CARTON: KindTable(
        # x is drawn; y and z come as ratios to x and y, then every edge is clipped to 0.06 .. 0.40 m.
        size_m=(LogNormal(0.24, 0.32, 0.10, 0.40), Uniform(0.50, 0.98), LogNormal(0.62, 0.35, 0.25, 1.15)),
        fill=1.0,
        density_kgpm3=LogNormal(130.0, 0.50, 30.0, 450.0),
        mass_kg=(0.10, 5.0),
        com_share=(0.06, 0.06, 0.05),
        friction=Uniform(0.35, 0.60),
        porosity=ScaledBeta(1.6, 5.0, 0.25),
        surface_roughness_m=LogNormal(0.00010, 0.35, 0.00004, 0.0003),
        compliance_m=Uniform(0.0002, 0.0006),
        variants=(
            Variant("kraft", 0.44, _KRAFT, _MATT, Uniform(0.02, 0.08)),
            Variant("white", 0.18, _WHITE, _MATT, Uniform(0.03, 0.10)),
            Variant("printed", 0.23, _KRAFT + _WHITE + _PRINT, _SATIN, Uniform(0.05, 0.20)),
            Variant("full_print", 0.15, _PRINT, _SATIN, Uniform(0.08, 0.30)),
            Variant("giftwrap", 0.7, _LOUD, _GLOSS, Uniform(0.15, 0.45), unseen=True),
            Variant("foil", 0.3, _FOIL, Uniform(0.2, 0.35), Uniform(0.5, 0.8), unseen=True),
        ),
    ),
    ParcelKind.FLAT_MAILER: KindTable(
        size_m=(Uniform(0.20, 0.36), Uniform(0.14, 0.27), LogNormal(0.006, 0.45, 0.003, 0.015)),
        fill=0.9,
        density_kgpm3=LogNormal(420.0, 0.35, 180.0, 900.0),
        mass_kg=(0.04, 1.0),
        com_share=(0.04, 0.04, 0.0),
        friction=Uniform(0.30, 0.55),
        porosity=ScaledBeta(1.5, 5.0, 0.10),
        surface_roughness_m=LogNormal(0.00006, 0.35, 0.00002, 0.0002),
        compliance_m=Uniform(0.0005, 0.0015),
        variants=(
            Variant("kraft", 0.40, _KRAFT, _MATT, Uniform(0.02, 0.08)),
            Variant("white", 0.40, _WHITE, _MATT, Uniform(0.03, 0.12)),
            Variant("printed", 0.20, _PRINT, _SATIN, Uniform(0.05, 0.25)),
            Variant("holiday_card", 1.0, _LOUD, _GLOSS, Uniform(0.15, 0.45), unseen=True),
        ),
    ),
    ParcelKind.PADDED_MAILER: KindTable(
        size_m=(Uniform(0.20, 0.36), Uniform(0.15, 0.28), LogNormal(0.026, 0.35, 0.012, 0.055)),
        fill=0.62,
        density_kgpm3=LogNormal(230.0, 0.45, 70.0, 700.0),
        mass_kg=(0.05, 1.5),
        com_share=(0.06, 0.06, 0.03),
        friction=Uniform(0.30, 0.55),
        porosity=ScaledBeta(1.4, 6.0, 0.12),
        surface_roughness_m=LogNormal(0.00030, 0.35, 0.0001, 0.0008),
        compliance_m=Uniform(0.002, 0.005),
        variants=(
            Variant("kraft", 0.45, _KRAFT, _MATT, Uniform(0.03, 0.10)),
            Variant("white", 0.35, _WHITE, _SATIN, Uniform(0.08, 0.25)),
            Variant("coloured", 0.20, _PRINT, _SATIN, Uniform(0.10, 0.30)),
            Variant(
                "metallic", 1.0, _FOIL, Uniform(0.2, 0.35), Uniform(0.55, 0.85), unseen=True, porosity=Uniform(0, 0.03)
            ),
        ),
    ),
    ParcelKind.POLY_BAG: KindTable(
        size_m=(Uniform(0.16, 0.40), Uniform(0.13, 0.32), LogNormal(0.038, 0.40, 0.015, 0.08)),
        fill=0.55,
        density_kgpm3=LogNormal(190.0, 0.45, 60.0, 600.0),
        mass_kg=(0.05, 2.5),
        com_share=(0.07, 0.07, 0.05),
        friction=Uniform(0.22, 0.42),
        porosity=ScaledBeta(1.2, 8.0, 0.05),
        surface_roughness_m=LogNormal(0.00022, 0.45, 0.00006, 0.0008),
        compliance_m=Uniform(0.004, 0.008),
        variants=(
            Variant("white", 0.36, ((232, 233, 236), (222, 224, 228)), _GLOSS, Uniform(0.25, 0.50)),
            Variant("grey", 0.22, ((138, 141, 146), (112, 115, 120), (165, 168, 172)), _GLOSS, Uniform(0.25, 0.50)),
            Variant("coloured", 0.18, _FILM, _GLOSS, Uniform(0.25, 0.50)),
            Variant("black", 0.13, ((24, 24, 26), (34, 34, 38), (18, 19, 22)), _GLOSS, Uniform(0.30, 0.60)),
            Variant("clear", 0.11, ((205, 210, 214),), Uniform(0.08, 0.2), Uniform(0.5, 0.8), Uniform(0.72, 0.88)),
            Variant(
                "mesh_sack",
                1.0,
                ((206, 60, 40), (226, 170, 40), (90, 140, 60), (225, 220, 200)),
                _MATT,
                Uniform(0.02, 0.08),
                unseen=True,
                porosity=Uniform(0.55, 0.90),
            ),
        ),
    ),
    ParcelKind.TUBE: KindTable(
        size_m=(Uniform(0.25, 0.60), LogNormal(0.070, 0.20, 0.05, 0.10), Uniform(0.0, 0.0)),
        fill=0.785,
        density_kgpm3=LogNormal(170.0, 0.40, 60.0, 500.0),
        mass_kg=(0.08, 1.5),
        com_share=(0.06, 0.03, 0.03),
        friction=Uniform(0.30, 0.55),
        porosity=ScaledBeta(1.5, 5.0, 0.15),
        surface_roughness_m=LogNormal(0.00008, 0.35, 0.00003, 0.0003),
        compliance_m=Uniform(0.0001, 0.0004),
        variants=(
            Variant("kraft", 0.55, _KRAFT, _MATT, Uniform(0.02, 0.10)),
            Variant("white", 0.30, _WHITE, _MATT, Uniform(0.03, 0.12)),
            Variant("printed", 0.15, _PRINT, _SATIN, Uniform(0.05, 0.25)),
            Variant("holiday_print", 1.0, _LOUD, _GLOSS, Uniform(0.15, 0.45), unseen=True),
        ),
    ),
}

UNSEEN_TAG = "unseen"


def find_variant(kind: ParcelKind, name: str) -> Variant | None:
    return next((v for v in KIND_TABLES[kind].variants if v.name == name), None)


Range = tuple[float, float]


class OwnKind(StrictConfig):
    """A kind of parcel of one's own: like one that there is, but for what is given. Ranges are [least, most], uniform.

    size_m: outer x, y, z (tube: length, diameter, unused). colours: sRGB triples in 0..255, for a skin of its own.
    """

    like: ParcelKind = Field(description="the kind whose shape, skin and stiffness it has")
    weight: float = Field(gt=0, le=1e6, description="how often, beside kind_weights")
    size_m: tuple[Range, Range, Range] | None = Field(None, description="outer edges, m")
    density_kgpm3: Range | None = Field(None, description="of the filled volume, kg/m3")
    friction: Range | None = Field(None, description="sliding, against belt and parcels")
    porosity: Range | None = Field(None, description="0 airtight, 1 no vacuum holds")
    colours: tuple[tuple[int, int, int], ...] = Field((), max_length=16, description="of its skin, sRGB")

    @field_validator("size_m", "density_kgpm3", "friction", "porosity")
    @classmethod
    def _ordered(cls, value: Any, info: ValidationInfo) -> Any:
        least, most = {"size_m": (0.003, 0.8), "density_kgpm3": (5, 5000), "friction": (0.01, 2), "porosity": (0, 1)}[
            str(info.field_name)
        ]
        for low, high in value if info.field_name == "size_m" and value else [value] if value else []:
            if not least <= low <= high <= most:
                raise ValueError(f"[{low:g}, {high:g}] must be ascending within {least:g}..{most:g}")
        return value

    @field_validator("colours")
    @classmethod
    def _bytes(cls, value: tuple[tuple[int, int, int], ...]) -> tuple[tuple[int, int, int], ...]:
        if not all(0 <= channel <= 255 for colour in value for channel in colour):
            raise ValueError("channels must lie in 0..255")
        return value

    def table(self) -> KindTable:
        """What it is drawn from."""
        base, changes = KIND_TABLES[self.like], dict[str, Any]()
        if self.size_m is not None:
            changes["size_m"] = tuple(Uniform(*edge) for edge in self.size_m)
        if self.density_kgpm3 is not None:
            low, high = self.density_kgpm3
            changes["density_kgpm3"] = LogNormal(math.sqrt(low * high), math.log(high / low) / 4, low, high)
        if self.friction is not None:
            changes["friction"] = Uniform(*self.friction)
        if self.porosity is not None:
            changes["porosity"] = Uniform(*self.porosity)
        looks = tuple(v for v in base.variants if not v.unseen)
        if self.colours:
            looks = (replace(looks[0], name="own", weight=1.0, colours=self.colours),)
        return replace(base, variants=looks, **changes)


class ParcelMix(StrictConfig):
    """Which parcels come, and how often.

    kind_weights: relative weight per kind, any scale; a kind left out never comes.
    excluded_variants: "kind/variant" names that are never drawn.
    unseen_fraction: share of parcels in packaging of the unseen family (tag "unseen").
    twin_fraction: chance that a parcel in ``draw_parcels`` repeats the design of an earlier one of that call: the
    identical neighbours that segmentation finds hardest.
    """

    kind_weights: dict[ParcelKind, float] = Field(
        default_factory=lambda: {
            ParcelKind.CARTON: 0.42,
            ParcelKind.FLAT_MAILER: 0.12,
            ParcelKind.PADDED_MAILER: 0.18,
            ParcelKind.POLY_BAG: 0.20,
            ParcelKind.TUBE: 0.08,
        }
    )
    excluded_variants: tuple[str, ...] = ()
    unseen_fraction: float = Field(0.06, ge=0.0, le=1.0)
    twin_fraction: float = Field(0.20, ge=0.0, le=1.0)
    own_kinds: dict[str, OwnKind] = Field(default_factory=dict, max_length=32, description="name -> kind of one's own")

    @field_validator("kind_weights")
    @classmethod
    def _some_weight(cls, value: dict[ParcelKind, float]) -> dict[ParcelKind, float]:
        if any(w < 0 for w in value.values()) or sum(value.values()) <= 0:
            raise ValueError("weights must be >= 0 and not all zero")
        return value

    @field_validator("own_kinds")
    @classmethod
    def _new_names(cls, value: dict[str, OwnKind]) -> dict[str, OwnKind]:
        for name in value:
            if name in KINDS or re.fullmatch(r"[a-z][a-z0-9_]{0,39}", name) is None:
                raise ValueError(
                    f"'{name}': a name of its own, small letters, digits and '_'; taken: {', '.join(KINDS)}"
                )
        return value

    @property
    def class_names(self) -> tuple[str, ...]:
        """Classes of labelled scenes of this mix: the simulator's kinds, then those of its own."""
        return (*KINDS, *sorted(self.own_kinds))

    @field_validator("excluded_variants")
    @classmethod
    def _known(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        known = {f"{kind.value}/{v.name}" for kind, table in KIND_TABLES.items() for v in table.variants}
        for name in value:
            if name not in known:
                raise ValueError(f"unknown variant '{name}'; known: {', '.join(sorted(known))}")
        for kind, table in KIND_TABLES.items():
            if all(f"{kind.value}/{name}" in value for name in table.names(unseen=False)):
                raise ValueError(f"every variant of {kind.value} is excluded; give the kind weight 0 instead")
        return value


BASE_TRAINING_MIX = ParcelMix(
    excluded_variants=("poly_bag/black", "poly_bag/clear"),
    unseen_fraction=0.0,
)
"""What the first bundle may know: no black and no clear bags, nothing of the unseen family."""
