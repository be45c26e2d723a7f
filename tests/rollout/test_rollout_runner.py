"""Roll-outs over ledger and repository: picks in, assignments out; ended and restarted at every point."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from helpers.decision_samples import sample_decision, sample_frame, sample_scene
from helpers.release_samples import World, world

from edge_adapt.releases.release import Assignment, Assignments
from edge_adapt.store.blobs import blob_name
from robin_fleet.folder import Fleet as Aggregator
from robin_fleet.folder import FleetConfig
from robin_fleet.housekeeping import Housekeeping
from robin_fleet.ingest.ingest import Answer, Ingest
from robin_fleet.ledger import rollouts as book
from robin_fleet.ledger.core import Ledger, open_ledger
from robin_fleet.ledger.robots import enrol
from robin_fleet.metrics.reports import handlers
from robin_fleet.objects import open_objects
from robin_fleet.objects.own_folder import FolderObjects
from robin_fleet.rollout.plan import RolloutPlan, Stage, StageRule, TrialRule
from robin_fleet.rollout.runner import LATE_S, RolloutRunner
from robin_fleet.rollout.state import Phase, RolloutState, Trial
from robin_perception.core.errors import Code, RobinError

OUT = TrialRule(picks=0, loss=0.5)
PLAN = RolloutPlan(
    replay=TrialRule(picks=50, loss=0.2),
    shadow=OUT,
    acceptance=OUT,
    robot=StageRule(picks=100, hours=0, margin=0.1),
    line=StageRule(picks=100, hours=0, margin=0.05),
    tenth=StageRule(picks=100, hours=0, margin=0.05),
    all=StageRule(picks=100, hours=0),
    tenth_share=0.5,
)
ROBOTS = {f"{site}-{n}": site for site in ("north", "south") for n in range(5)}


@dataclass
class Fleet:
    """Robots that pick as often as they are told to, with what is assigned to them."""

    world: World
    ledger: Ledger
    rng: np.random.Generator

    @property
    def runner(self) -> RolloutRunner:
        return RolloutRunner(self.ledger, self.world.repository, self.world.clock)

    def assigned(self, robot: str) -> Assignment | None:
        return self.world.repository.assignments(ROBOTS[robot]).robots.get(robot)

    def pick(self, failed: float, failed_with: float, picks: int = 400, back: tuple[str, ...] = ()) -> None:
        """Ten minutes of picks of all robots."""
        models = {one.name: one.model for one in self.world.repository.releases()}
        with self.ledger.write() as connection:
            for robot in ROBOTS:
                told = self.assigned(robot)
                runs = told is not None and told.use == "run" and robot not in back
                clean = picks - int(self.rng.binomial(picks, failed_with if runs else failed))
                model = models[told.release] if runs and told is not None else "factory"
                row = {"begin_s": int(self.world.clock.now_s // 600 * 600), "robot": robot, "model": model}
                connection.execute(book.PICK_COUNTS.insert().values(**row, picks=picks, clean=clean))
        self.world.clock.now_s += 600

    def state(self) -> RolloutState:
        with self.ledger.read() as connection:
            return book.all_rollouts(connection)[-1]


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    made = world(tmp_path, sites=("north", "south"))
    made.clock.now_s = made.clock.now_s // 600 * 600
    made.release("spring", bundle=made.bundles[1])
    with open_ledger(f"sqlite:///{tmp_path}/ledger.sqlite") as ledger:
        with ledger.write() as connection:
            for robot, site in ROBOTS.items():
                assert enrol(connection, robot, site, "belt", robot.ljust(40, "k"), 0.0)
        yield Fleet(made, ledger, np.random.default_rng(4))


def begun(fleet: Fleet) -> None:
    fleet.pick(0.05, 0.05)
    state = fleet.runner.start("spring", PLAN)
    assert state.stage is Stage.REPLAY and state.model
    told = fleet.assigned(state.pilot)
    assert told is not None and told.use == "try"
    fleet.runner.report(state.rollout, Stage.REPLAY, Trial(picks=60, lost=1))
    fleet.runner.step()
    told = fleet.assigned(state.pilot)
    assert told is not None and told.use == "run"


def settled(fleet: Fleet) -> None:
    fleet.world.clock.now_s += LATE_S
    fleet.runner.step()
    fleet.world.clock.now_s -= LATE_S


def test_a_good_release_reaches_all_robots(fleet: Fleet) -> None:
    begun(fleet)
    for _ in range(40):
        fleet.pick(0.05, 0.04)
        settled(fleet)
        if not fleet.state().open:
            break
    assert fleet.state().phase is Phase.DONE
    assert all(fleet.assigned(robot) is not None for robot in ROBOTS)
    with fleet.ledger.read() as connection:
        kinds = [told.kind for told in book.events_of(connection, "r0001") if told.kind != "picks"]
    assert kinds == ["started", "trial", "advanced", "advanced", "advanced", "advanced", "done"]


def test_a_bad_release_is_stopped_and_gone_back_from(fleet: Fleet) -> None:
    begun(fleet)
    for _ in range(10):
        fleet.pick(0.05, 0.25)
        settled(fleet)
    state = fleet.state()
    assert state.phase is Phase.STOPPED and state.code == Code.ROLLOUT_WORSE
    for site in ("north", "south"):
        assert fleet.world.repository.assignments(site) == Assignments(back=("spring",))


def test_a_robot_that_goes_back_itself_stops_it(fleet: Fleet) -> None:
    begun(fleet)
    first = fleet.state().pilot
    fleet.pick(0.05, 0.05, picks=10)
    fleet.pick(0.05, 0.05, picks=10, back=(first,))
    settled(fleet)
    assert fleet.state().code == Code.ROLLOUT_WENT_BACK


def test_held_sites_and_pinned_robots_are_left_alone(fleet: Fleet) -> None:
    with fleet.ledger.write() as connection:
        book.hold(connection, book.SITE, "south", "peak week", 0.0)
        book.hold(connection, book.ROBOT, "north-2", "acceptance of the customer", 0.0)
    begun(fleet)
    for _ in range(40):
        fleet.pick(0.05, 0.04)
        settled(fleet)
    got = {robot for robot in ROBOTS if fleet.assigned(robot) is not None}
    assert got == {"north-0", "north-1", "north-3", "north-4"}


class Ended(BaseException):
    """The process ends here."""


def test_it_goes_on_wherever_the_process_ends(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each write of the ledger and each publishing fails once, before or after it was done."""
    begun(fleet)
    ended = []

    def fails_once(owner: object, name: str, after: bool) -> None:
        real = getattr(owner, name)

        def call(*args: object, **kwargs: object) -> object:
            monkeypatch.setattr(owner, name, real)
            if after:
                real(*args, **kwargs)
            ended.append(name)
            raise Ended

        monkeypatch.setattr(owner, name, call)

    for turn in range(40):
        fleet.pick(0.05, 0.04)
        fails_once(*((book, "put") if turn % 2 else (type(fleet.world.repository), "assign")), turn % 4 > 1)  # type: ignore[arg-type]
        try:
            settled(fleet)
        except Ended:
            fleet.world.clock.now_s -= LATE_S
        monkeypatch.undo()
        settled(fleet)
        if not fleet.state().open:
            break
    assert len(ended) >= 4 and fleet.state().phase is Phase.DONE
    with fleet.ledger.read() as connection:
        told = book.events_of(connection, "r0001")
    ends = [one.data["until_s"] for one in told if one.kind == "picks" and "until_s" in one.data]
    assert ends == sorted(set(ends))  # each stretch once
    assert [one.kind for one in told].count("advanced") == 4
    assert all(fleet.assigned(robot) is not None for robot in ROBOTS)


def test_one_roll_out_at_a_time_and_each_release_once(fleet: Fleet) -> None:
    begun(fleet)
    fleet.world.release("summer", bundle=fleet.world.bundles[2])
    for name, code in (("summer", Code.ROLLOUT_STATE), ("winter", Code.RELEASE_UNKNOWN)):
        with pytest.raises(RobinError) as refused:
            fleet.runner.start(name, PLAN)
        assert refused.value.code is code
    fleet.runner.abort("r0001", "a person asked")
    with pytest.raises(RobinError) as refused:
        fleet.runner.start("spring", PLAN)
    assert refused.value.code is Code.ROLLOUT_STATE
    assert fleet.runner.start("summer", PLAN).rollout == "r0002"


def test_picks_are_counted_from_decisions_once(fleet: Fleet, tmp_path: Path) -> None:
    frame = sample_frame(np.random.default_rng(0))
    ingest = Ingest(fleet.ledger, open_objects((tmp_path / "objects").as_uri()), handlers())
    for number, result in enumerate(("clean", "clean", "miss", "infeasible")):
        data = sample_decision(number, result, frame, sample_scene(frame)).model_dump_json().encode()
        for _ in range(2):
            answer = ingest.blob("north-1", blob_name(data, ".json"), "decision", data).answer
            assert answer in (Answer.STORED, Answer.HAVE)
    with fleet.ledger.read() as connection:
        (found,) = book.counted(connection, 0, 1e12)
    assert (found.robot, found.picks, found.clean) == ("north-1", 3, 2)
    assert json.loads(data)["model_id"] == found.model


def aggregator(fleet: Fleet, folder: Path) -> Aggregator:
    """Of the same ledger, with objects of its own in ``folder``."""
    return Aggregator(folder, FleetConfig(), fleet.ledger, FolderObjects(folder / "objects"))


def test_housekeeping_keeps_signatures_fresh_and_roll_outs_going(fleet: Fleet, tmp_path: Path) -> None:
    told: list[str] = []
    keeper = Housekeeping(aggregator(fleet, fleet.world.repository.fleet), told.append, fleet.world.clock)
    begun(fleet)
    before = fleet.world.repository.expiries()["timestamp"]
    keeper.step()
    assert fleet.world.repository.expiries()["timestamp"] == before and told == []
    for _ in range(3):
        fleet.pick(0.05, 0.25)
    fleet.world.clock.now_s += 1.5 * 86_400
    keeper.step()
    assert fleet.world.repository.expiries()["timestamp"] > before
    assert len(told) == 1 and "stopped" in told[0] and "E876" in told[0]


def test_housekeeping_ends_with_its_aggregator(fleet: Fleet, tmp_path: Path) -> None:
    told: list[str] = []
    keeper = Housekeeping(aggregator(fleet, tmp_path / "none"), told.append)
    keeper.start()
    keeper.close()
    assert told == []
