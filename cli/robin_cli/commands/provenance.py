"""Where a network's weights come from, for the manifest: its training configuration and the data sets it names."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

from edge_adapt.training.checkpoint import read_state
from robin_cli.options import repository_root
from robin_perception.core.errors import Code, RobinError
from robin_perception.model.bundle import Provenance
from robin_sim.dataset import load_dataset_config
from robin_sim.training_scenes import DatasetConfig


def provenance_of(checkpoint: Path) -> Provenance:
    """Seed, steps, scenes and excluded packaging of the training behind ``checkpoint``.

    A training that started from a bundle goes on with its provenance. The data sets' own dataset.json says what was
    excluded: only what none of them held counts. Raises RobinError when the checkpoint or its data sets cannot be
    read.
    """
    state = read_state(checkpoint)
    config = state.get("config")
    if not isinstance(config, dict) or not config.get("data"):
        raise RobinError(Code.INPUT_UNREADABLE, f"{checkpoint}: holds no training configuration")
    folders = [Path(entry) for entry in config["data"]]
    sets = [load_dataset_config(folder) for folder in folders]
    counts = {
        f"{folder.name} (seed {seed})": _scene_count(folder) for folder, (seed, _) in zip(folders, sets, strict=True)
    }
    own = Provenance(
        seed=int(config.get("seed", 0)),
        scenes=sum(counts.values()),
        steps=int(state.get("steps", 0)),
        commit=_commit(),
        data=", ".join(counts),
        excluded=_excluded([dataset for _, dataset in sets]),
        notes=f"trained for {_minutes(state)} minutes on simulated scenes only",
    )
    started_from = state.get("started_from")
    return own if started_from is None else continued(own, counts, dict(started_from))


def continued(own: Provenance, counts: dict[str, int], started_from: dict[str, Any]) -> Provenance:
    """Both trainings together: steps are summed; only what neither has seen counts as excluded. counts: scenes of each
    data set of the later one, of which those that the earlier one names are not counted again."""
    model = started_from.pop("model")
    before = Provenance.model_validate(started_from)
    new = {name: count for name, count in counts.items() if name not in before.data.split(", ")}
    return own.model_copy(
        update={
            "scenes": before.scenes + sum(new.values()),
            "steps": before.steps + own.steps,
            "data": ", ".join((before.data, *new)),
            "excluded": tuple(name for name in own.excluded if name in before.excluded),
            "notes": f"{own.notes}, from {model} on, which was {before.notes}",
        }
    )


def _excluded(sets: list[DatasetConfig]) -> tuple[str, ...]:
    """What no data set holds, as kind/variant names, and "unseen" for the unseen family of packaging."""
    mixes = [s.mix if s.any_cell is None else s.any_cell.mix for s in sets]
    left_out = set(mixes[0].excluded_variants).intersection(*(mix.excluded_variants for mix in mixes))
    family = ("unseen",) if all(mix.unseen_fraction == 0 for mix in mixes) else ()
    return (*sorted(left_out), *family)


def _scene_count(folder: Path) -> int:
    return sum(1 for entry in folder.glob("[0-9]*") if entry.is_dir())


def _minutes(state: dict[str, Any]) -> int:
    return round(float(state.get("seconds", 0.0)) / 60)


def _commit() -> str:
    """The repository's commit, or empty outside of one."""
    command = ["git", "-C", str(repository_root()), "rev-parse", "--short=12", "HEAD"]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""
