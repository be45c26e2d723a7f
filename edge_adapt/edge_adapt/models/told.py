"""What runs, since when and why, and what the gate found: for the terminal, JSON and diagnostics."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from edge_adapt.models.journal import Entry
from edge_adapt.models.registry import ModelRegistry
from robin_perception.core.errors import Code, RobinError

_LATEST = 20


def status(registry: ModelRegistry) -> dict[str, Any]:
    """Keys: version, model_id, pinned, since, by, why, earlier, versions, problem (None: all is well), latest (entries
    of the journal, newest first). Raises RobinError MODEL_* where not even the factory's model is whole."""
    loaded, state, story = registry.load(), registry.state(), registry.story()
    began = _began(story.entries, state.active)
    problem = loaded.problem or story.problem
    return {
        "version": loaded.version,
        "model_id": loaded.bundle.model_id,
        "pinned": state.pinned,
        "since": began.at if began else "",
        "by": began.by if began else "",
        "why": began.why if began else "nothing was put in place of the factory's model",
        "earlier": list(state.earlier),
        "versions": [version.model_dump(mode="json") for version in state.versions],
        "problem": None if problem is None else str(problem),
        "latest": [_line(entry) for entry in reversed(story.entries[-_LATEST:])],
    }


def explain(registry: ModelRegistry, number: int | None = None) -> dict[str, Any]:
    """What was learned and what the gate found of a version, or of the newest candidate, accepted or refused. Keys:
    those of a journal's line, version (None: refused), gate, learned. Raises RobinError VERSION_UNKNOWN where the
    journal tells of none."""
    for entry in reversed(registry.story().entries):
        version = entry.data.get("version")
        judged = "gate" in entry.data and entry.event in ("added", "refused")
        if (judged and number is None) or (number is not None and entry.event == "added" and version == number):
            told = {key: entry.data.get(key) or {} for key in ("gate", "learned")}
            return {**_line(entry), "version": version, **told}
    what = "no candidate was judged" if number is None else f"version {number} was never added"
    raise RobinError(Code.VERSION_UNKNOWN, f"{registry.folder}: {what}")


def _line(entry: Entry) -> dict[str, Any]:
    names = ("sequence", "event", "by", "why", "at")
    return {**{name: getattr(entry, name) for name in names}, "version": entry.data.get("version")}


def _began(entries: Sequence[Entry], active: int) -> Entry | None:
    """The entry since which ``active`` has been running."""
    began = None
    for entry in reversed(entries):
        if entry.state.get("active") != active:
            return began
        began = entry
    return began if active else None
