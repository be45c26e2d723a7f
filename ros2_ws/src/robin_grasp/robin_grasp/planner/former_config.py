"""Planner configurations as earlier releases recorded them: settings and fitted figures in one table, per-class figures
in the order of five classes, eight cups."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from robin_grasp.planner.fit import PlannerFit, shipped_fit

FORMER_CLASSES = ("carton", "flat_mailer", "padded_mailer", "poly_bag", "tube")
PER_CLASS = {
    ("seal", "base_logit"): "seal_logit",
    ("wrench", "vacuum_share"): "vacuum_share",
    ("wrench", "density_kgpm3"): "density_kgpm3",
    ("wrench", "thickness_m"): "thickness_m",
    ("wrench", "mass_log_sigma"): "mass_log_sigma",
}
RENAMED = {
    ("surface", "least_inverse_depth_noise_pm"): "least_inverse_depth_noise_per_m",
    ("surface", "most_inverse_depth_noise_pm"): "most_inverse_depth_noise_per_m",
    ("facets", "least_carton_probability"): "least_box_probability",
    ("seal", "bridge_carton_probability"): "bridge_box_probability",
    ("multi", "ragged_merged"): "background_merged",
    ("order", "ragged_free"): "background_free",
    ("rank", "standing_aspect"): "edge_on_aspect",
    ("rank", "standing_cost"): "edge_on_cost",
}


LATER = {("rank", "film_cost"): 0.0}
"""Figures that earlier fits did not have, as they worked without."""


def from_former(values: Mapping[str, Any]) -> dict[str, Any]:
    """A recorded table of an earlier release as the values of a ``PlannerConfig``; one of today is returned as it is.
    What it does not name has the value that is shipped. Unknown keys stay, for ``PlannerConfig`` to refuse."""
    if "fit" in values:
        return {**values, "fit": _with_later_figures(values["fit"])}
    settings: dict[str, Any] = {}
    fit = shipped_fit().model_dump()
    for section, keys in values.items():
        if not isinstance(keys, Mapping):
            settings[section] = keys
            continue
        for key, value in keys.items():
            name = RENAMED.get((section, key), key)
            if (section, key) in PER_CLASS and isinstance(value, list | tuple):
                for kind, figure in zip(FORMER_CLASSES, value, strict=True):
                    fit["classes"][kind][PER_CLASS[section, key]] = figure
            elif name in fit.get(section, ()):
                fit[section][name] = value
            else:
                settings.setdefault(section, {})[key] = value
    if settings.get("cup_health") in ([1.0] * 8, (1.0,) * 8):
        del settings["cup_health"]  # all sound: what an empty one says
    if PlannerFit.model_validate(fit) != shipped_fit():
        fit["name"] = "recorded by an earlier release"
    return {**settings, "fit": fit}


def _with_later_figures(fit: Any) -> Any:
    """A recorded fit with what came after it; anything else is left for ``PlannerFit`` to refuse."""
    if not isinstance(fit, Mapping):
        return fit
    found = dict(fit)
    for (section, key), value in LATER.items():
        if isinstance(found.get(section), Mapping):
            found[section] = {key: value, **found[section]}
    return found
