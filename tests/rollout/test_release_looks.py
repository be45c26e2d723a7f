"""A robot looks for releases by itself, in a process beside its picks: fetches, tries, goes back."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import pytest
from helpers.fleet_server import until
from helpers.release_samples import ROBOT, SITE, World, world

from edge_adapt.releases import run as looks
from edge_adapt.releases.child import ReleaseChild
from edge_adapt.releases.config import LookOrder, ReleasesConfig
from edge_adapt.releases.install import running_release
from edge_adapt.releases.release import Assignment, Assignments
from edge_adapt.releases.run import look
from edge_adapt.releases.trial import TrialFound
from edge_adapt.uplink.reports import Outbox
from robin_perception.core.errors import Code, RobinError


@pytest.fixture
def made(tmp_path: Path) -> World:
    found = world(tmp_path)
    found.release("spring", bundle=found.bundles[1])
    return found


def order(made: World, **more: object) -> LookOrder:
    values = {"source": str(made.served), "folder": made.robot, "site": SITE, "robot": ROBOT, "every_s": 10.0, **more}
    releases = ReleasesConfig.model_validate(values)
    return LookOrder(releases=releases, models=made.registry.folder, factory=made.bundles[0])


def assign(made: World, **values: str) -> None:
    told = {ROBOT: Assignment.model_validate({"release": "spring", "rollout": "r0001", **values})}
    made.repository.assign(SITE, Assignments(robots=told))


def test_what_is_assigned_runs_and_is_told_once(made: World) -> None:
    assert look(order(made)) == []
    assign(made)
    assert look(order(made)) == ["release spring runs from now on"]
    assert running_release(made.registry) == "spring" and look(order(made)) == []
    made.repository.assign(SITE, Assignments(back=("spring",)))
    assert look(order(made)) == ["release spring the one before runs again"]
    assert running_release(made.registry) == ""


def found(stage: str, latest: int) -> TrialFound:
    return TrialFound("spring", "r0001", "replay" if stage == "replay" else "shadow", 80, 1, 0, "1 of 80 lost", latest)


def reports(made: World) -> list[dict[str, float]]:
    outbox = Outbox(made.folder / "uplink", 1_000_000)
    return [json.loads((outbox.folder / name).read_text())["values"] for name in outbox.names()]


def test_a_trial_is_done_once_and_reported_and_its_shadow_goes_on(made: World, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, int]] = []

    def tried(store: Path, registry: object, release: str, stage: str, *, after: int, **more: object) -> TrialFound:
        asked.append((stage, after))
        return found(stage, len(asked) * 10)

    monkeypatch.setattr(looks, "try_release", tried)
    mine = order(made, store=made.folder / "store", uplink=made.folder / "uplink")
    assign(made, use="try", trial="replay")
    assert look(mine) == ["release spring is there for trial", "spring, replay: 1 of 80 lost"]
    assert look(mine) == [] and asked == [("replay", 0)] and running_release(made.registry) == ""
    assign(made, use="try", trial="shadow")
    look(mine)
    look(mine)
    assert asked[1:] == [("shadow", 10), ("shadow", 20)]
    assert [(one["stage"], one["picks"]) for one in reports(made)] == [(0, 80), (1, 80), (1, 80)]
    assign(made, use="try")  # a test station's turn
    assert look(mine) == [] and len(asked) == 3


def test_a_report_that_a_crash_kept_back_goes_out_as_it_was(made: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(looks, "try_release", lambda *given, **more: found("replay", 5))
    mine = order(made, store=made.folder / "store", uplink=made.folder / "uplink")
    assign(made, use="try", trial="replay")

    def full(outbox: Outbox, data: bytes) -> None:
        raise RobinError(Code.DISK_FULL, "full")

    with monkeypatch.context() as patch:
        patch.setattr(Outbox, "put", full)
        with pytest.raises(RobinError):
            look(mine)
    monkeypatch.setattr(looks, "try_release", lambda *given, **more: pytest.fail("it was done"))
    look(mine)
    look(mine)
    assert len(reports(made)) == 1


def outcome(child: ReleaseChild) -> tuple[list[str], RobinError | None]:
    """Of the look that is due."""
    told: list[tuple[list[str], RobinError | None]] = []

    def step() -> None:
        told.append(child.step())
        time.sleep(0.02)

    until(lambda: child.looks > 0, step, 6000)
    return told[-1]


def test_the_process_beside_the_picks_does_it_and_says_why_it_cannot(made: World) -> None:
    assign(made)
    assert outcome(ReleaseChild(order(made))) == (["release spring runs from now on"], None)
    assert running_release(made.registry) == "spring"
    happened, fault = outcome(ReleaseChild(order(made, source=str(made.folder / "nowhere"))))
    assert happened == [] and fault is not None and fault.code is Code.OPTION_INVALID


def test_a_look_that_takes_too_long_is_ended(made: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    slow = tmp_path / "slow"
    slow.write_text("#!/bin/sh\nexec sleep 600\n")
    slow.chmod(0o755)
    now_s = [0.0]
    child = ReleaseChild(order(made), clock=lambda: now_s[0])
    monkeypatch.setattr(sys, "executable", str(slow))
    child.step()
    now_s[0] = 1000.0
    happened, fault = child.step()
    assert happened == [] and fault is not None and fault.code is Code.RELEASE_UNREACHABLE and "900 s" in fault.text
