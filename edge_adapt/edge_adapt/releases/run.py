"""One look at the repository, in a process of its own: ``python -m edge_adapt.releases.run ORDER``, as JSON. What is
assigned is fetched; what is assigned for trial is tried on the robot's own record, and reported."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from pathlib import Path

from pydantic import Field, ValidationError

from edge_adapt.models.registry import ModelRegistry
from edge_adapt.releases.client import ReleaseClient
from edge_adapt.releases.config import LookOrder, ReleasesConfig
from edge_adapt.releases.install import Fetched, follow
from edge_adapt.releases.release import TRIALS, Assignment
from edge_adapt.releases.trial import StageName, try_release
from edge_adapt.uplink.config import UplinkConfig
from edge_adapt.uplink.reports import Outbox
from robin_perception.core.bounded import CONFIG_BYTES, parse_json, read_plain_bytes
from robin_perception.core.config import StrictConfig, first_fault
from robin_perception.core.disk import write_atomic
from robin_perception.core.errors import Code, RobinError
from robin_perception.core.parent_death import end_with_parent

TRIAL_FILE = "trial.json"
_NICE = 10
_EXIT_FAILURE = 1


class TrialState(StrictConfig):
    """How far trials have come. rollout, stage: the last one; latest: newest sample that it saw. report: what is not in
    the outbox yet; the same bytes again are the same report."""

    rollout: str = ""
    stage: str = ""
    latest: int = Field(0, ge=0)
    report: str = ""


def look(order: LookOrder) -> list[str]:
    """What happened, in lines for people. Raises RobinError RELEASE_*, MODEL_*, VERSION_PINNED, STORE_*, DISK_FULL."""
    config, told = order.releases, []
    registry = ModelRegistry(order.models, order.factory)
    client = ReleaseClient(config.folder, config.source)
    done = follow(client, registry, config.folder, config.site, config.robot)
    if done is not None and (done.active or done.back or done.parts):
        told.append(_line(done))
    wanted = client.assignments(config.site).robots.get(config.robot)
    if wanted is not None and wanted.trial in TRIALS and config.store is not None and config.uplink is not None:
        told += _trial(config, config.store, config.uplink, registry, wanted)
    return told


def _trial(config: ReleasesConfig, store: Path, uplink: Path, registry: ModelRegistry, wanted: Assignment) -> list[str]:
    """A replay is done once; a shadow goes on with the samples that came since."""
    path = config.folder / TRIAL_FILE
    state = _read(path)
    outbox = Outbox(uplink, int(float(UplinkConfig.model_fields["outbox_mb"].default) * 1e6))
    state = _reported(path, state, outbox)
    same = state.rollout == wanted.rollout
    stage: StageName = "shadow" if wanted.trial == "shadow" else "replay"
    if same and state.stage == stage == "replay":
        return []
    after = state.latest if same and stage == "shadow" else 0
    found = try_release(
        store, registry, wanted.release, stage, frames=config.trial_frames, after=after, engine=config.engine
    )
    if not found.picks and not found.fault:
        return []
    report = found.report(time.time()).decode()
    state = TrialState(rollout=wanted.rollout, stage=stage, latest=found.latest, report=report)
    write_atomic(path, state.model_dump_json().encode())
    _reported(path, state, outbox)
    return [f"{wanted.release}, {stage}: {found.text}"]


def _reported(path: Path, state: TrialState, outbox: Outbox) -> TrialState:
    if state.report:
        outbox.put(state.report.encode())
        state = state.model_copy(update={"report": ""})
        write_atomic(path, state.model_dump_json().encode())
    return state


def _read(path: Path) -> TrialState:
    """A file that is missing or damaged begins anew: a trial is done once more."""
    with contextlib.suppress(RobinError, ValidationError):
        return TrialState.model_validate(parse_json(read_plain_bytes(path, CONFIG_BYTES), str(path)))
    return TrialState()


def _line(done: Fetched) -> str:
    then = "the one before runs again" if done.back else "runs from now on" if done.active else "is there for trial"
    return f"release {done.release} {then}"


def main(argument: str) -> int:
    end_with_parent(os.getppid())
    with contextlib.suppress(OSError):
        os.nice(_NICE)
    try:
        order = LookOrder.model_validate_json(argument)
        print(json.dumps(look(order)))
    except ValidationError as exc:
        print(f"E{int(Code.CONFIG_OUT_OF_RANGE)} CONFIG_OUT_OF_RANGE: {first_fault(exc)}", file=sys.stderr)
        return _EXIT_FAILURE
    except RobinError as exc:
        print(exc, file=sys.stderr)
        return _EXIT_FAILURE
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
