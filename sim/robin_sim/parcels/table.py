"""The parcel distributions as Markdown, for ``docs/parcels.md``: ``python -m robin_sim.parcels.table``."""

from __future__ import annotations

from robin_sim.parcels.distributions import KIND_TABLES, Distribution, KindTable, LogNormal, Uniform


def _text(d: Distribution, factor: float = 1.0) -> str:
    """A distribution in a few characters: U[low, high], LN(median, sigma)[low, high], high·Beta(a, b)."""
    if isinstance(d, Uniform):
        return f"U[{factor * d.low:.3g}, {factor * d.high:.3g}]"
    if isinstance(d, LogNormal):
        return f"LN({factor * d.median:.3g}, {d.sigma:g})[{factor * d.low:.3g}, {factor * d.high:.3g}]"
    return f"{factor * d.high:.3g}·Beta({d.a:g}, {d.b:g})"


def _kind_row(name: str, table: KindTable) -> list[str]:
    cells = [_text(d, 1.0 if name == "carton" and i else 100.0) for i, d in enumerate(table.size_m)]
    return [
        name,
        ", ".join(cells[:2] if name == "tube" else cells),
        f"{table.fill:g}",
        _text(table.density_kgpm3),
        f"{table.mass_kg[0]:g}–{table.mass_kg[1]:g}",
        _text(table.friction),
        _text(table.porosity),
        _text(table.surface_roughness_m, 1e3),
        _text(table.compliance_m, 1e3),
    ]


def _rows(header: list[str], rows: list[list[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def kinds_markdown() -> str:
    """One row per kind: size, mass, skin."""
    header = [
        "kind", "size cm (carton: x cm, y/x, z/y; tube: length, diameter)", "fill", "density kg/m³", "mass kg",
        "friction", "porosity", "roughness mm RMS", "compliance mm",
    ]  # fmt: skip
    return _rows(header, [_kind_row(kind.value, table) for kind, table in KIND_TABLES.items()])


def variants_markdown() -> str:
    """One row per look: weight within its kind (seen and unseen apart) and material."""
    header = ["kind/variant", "family", "weight", "roughness", "specular", "transmission", "porosity"]
    rows = [
        [
            f"{kind.value}/{v.name}",
            "unseen" if v.unseen else "seen",
            f"{v.weight:g}",
            _text(v.roughness),
            _text(v.specular),
            _text(v.transmission) if v.transmission.high > 0 else "0",
            _text(v.porosity) if v.porosity is not None else "as kind",
        ]
        for kind, table in KIND_TABLES.items()
        for v in table.variants
    ]
    return _rows(header, rows)


if __name__ == "__main__":
    print(kinds_markdown(), variants_markdown(), sep="\n\n")
