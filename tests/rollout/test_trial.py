"""A release on a robot's own record, and its report on the way to the roll-out."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from helpers.cli_helpers import Robin
from helpers.release_samples import ROBOT, SITE, World, world
from helpers.stored_piles import fill

from edge_adapt.releases.install import take
from edge_adapt.releases.release import Assignment
from edge_adapt.releases.trial import try_release
from edge_adapt.store.blobs import blob_name
from edge_adapt.uplink.reports import Outbox
from robin_fleet.ingest.ingest import Answer, Ingest
from robin_fleet.ledger import rollouts as book
from robin_fleet.ledger.core import open_ledger
from robin_fleet.ledger.robots import enrol
from robin_fleet.metrics.reports import handlers
from robin_fleet.objects import open_objects
from robin_fleet.rollout.plan import RolloutPlan, Stage, TrialRule
from robin_fleet.rollout.runner import RolloutRunner
from robin_fleet.rollout.state import Phase
from robin_perception.core.errors import Code, RobinError


@pytest.fixture
def made(tmp_path: Path) -> World:
    """Release "blind", which sees nothing, was fetched for trial by roll-out r0001; two piles were picked here."""
    it = world(tmp_path)
    it.release("blind", bundle=it.bundles[1])
    client = it.client()
    client.refresh()
    take(client, it.registry, it.robot, Assignment(release="blind", use="try", rollout="r0001"))
    fill(tmp_path / "store", 2)
    return it


def test_a_release_that_sees_nothing_loses_all_that_was_picked(made: World) -> None:
    found = try_release(made.folder / "store", made.registry, "blind", "replay")
    assert (found.picks, found.lost, found.fault) == (6, 6, 0) and found.rollout == "r0001"
    later = try_release(made.folder / "store", made.registry, "blind", "shadow", after=found.latest)
    assert later.picks == 0
    fill(made.folder / "store", 1, first=2)
    later = try_release(made.folder / "store", made.registry, "blind", "shadow", after=found.latest)
    assert later.picks == 3 and later.latest == found.latest + 3


def test_one_that_cannot_run_is_reported_with_its_code(made: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> None:
        raise RobinError(Code.ENGINE_BUILD_FAILED, "no engine for it")

    monkeypatch.setattr("edge_adapt.learn.seen_again.load_segmenter", fails)
    found = try_release(made.folder / "store", made.registry, "blind", "replay")
    assert found.fault == Code.ENGINE_BUILD_FAILED and "no engine" in found.text
    with pytest.raises(RobinError) as refused:
        try_release(made.folder / "store", made.registry, "other", "replay")
    assert refused.value.code is Code.RELEASE_UNKNOWN


def test_its_report_stops_the_roll_out(made: World, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    rule = TrialRule(picks=5, loss=0.3)
    with open_ledger(f"sqlite:///{tmp_path}/ledger.sqlite") as ledger:
        with ledger.write() as connection:
            for robot in (ROBOT, "cell-2"):
                assert enrol(connection, robot, SITE, "belt", robot.ljust(40, "k"), 0.0)
        runner = RolloutRunner(ledger, made.repository, made.clock)
        assert runner.start("blind", RolloutPlan(replay=rule), ROBOT).rollout == "r0001"
        where = ("--models", made.registry.folder, "--model", made.bundles[0], "--store", tmp_path / "store")
        done = Robin(capsys)("adapt", "try", "blind", *where, "--uplink", tmp_path / "up", "--json", tmp_path / "f")
        assert done.status == 0 and "6 of 6 lost" in done.out, done.err
        assert json.loads((tmp_path / "f").read_text())["lost"] == 6
        box = Outbox(tmp_path / "up", 1_000_000)
        (name,) = box.names()
        data = (box.folder / name).read_bytes()
        ingest = Ingest(ledger, open_objects((tmp_path / "objects").as_uri()), handlers())
        other = data.replace(b'"lost": 6', b'"lost": 0')
        assert ingest.blob("cell-2", blob_name(other, ".json"), "metrics", other).answer is Answer.QUARANTINED
        assert ingest.blob(ROBOT, blob_name(data, ".json"), "metrics", data).answer is Answer.STORED
        assert ingest.blob(ROBOT, blob_name(data, ".json"), "metrics", data).answer is Answer.HAVE
        runner.step()
        with ledger.read() as connection:
            state = book.find_rollout(connection, "r0001")
    assert state.phase is Phase.STOPPED and state.stage is Stage.REPLAY and state.code == Code.ROLLOUT_TRIAL
    assert state.trials["replay"].picks == 6
