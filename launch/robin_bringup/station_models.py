"""Which models a station runs, and where it keeps those that it learned: options, parameter files, what is shipped."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from edge_adapt.models.registry import default_folder

Setting = Callable[[str, str], Any]
"""(node, parameter) -> what files or ``-p`` set; None where nothing does."""


def shipped_model() -> Path | None:
    """The bundle of this installation: ``ROBIN_MODEL``, else ``models/base`` of the checkout or the current folder."""
    if os.environ.get("ROBIN_MODEL"):
        return Path(os.environ["ROBIN_MODEL"]).absolute()
    for folder in (*Path(__file__).resolve().parents, Path.cwd()):
        if (folder / "models" / "base" / "manifest.json").is_file():
            return folder / "models" / "base"
    return None


def model_override(option: str, setting: Setting) -> str:
    """An option wins over the parameter files; the shipped bundle only stands in where neither names one."""
    if option:
        return str(Path(option).absolute())
    if setting("segmentation", "model"):
        return ""
    shipped = shipped_model()
    return "" if shipped is None else str(shipped)


def learned_overrides(model: str, setting: Setting) -> dict[str, dict[str, Any]]:
    """Parameters of ``adaptation`` and ``segmentation`` that nobody set: the factory's bundle is the one that
    segmentation begins with, and what was learned lies in ``default_folder``. model: of ``model_override``."""
    named = model or setting("segmentation", "model")
    if not named:
        return {}
    factory = Path(named).absolute()
    values: dict[str, dict[str, Any]] = {"adaptation": {}, "segmentation": {}}
    learned = Path(setting("adaptation", "models") or default_folder(factory)).absolute()
    if setting("adaptation", "factory") is None:
        values["adaptation"]["factory"] = str(factory)
    if setting("adaptation", "models") is None:
        values["adaptation"]["models"] = str(learned)
    if setting("segmentation", "models_folder") is None and factory.parent not in learned.parents:
        values["segmentation"]["models_folder"] = str(learned)
    return values
