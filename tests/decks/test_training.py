"""Retraining from a deck: when it is due, the gate on the fleet's history, the report and its signature."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from helpers.cli_helpers import Robin
from helpers.fleet_training import CONFIG, order, prepare

from robin_fleet.folder import Fleet, make_fleet, open_fleet
from robin_fleet.ledger import decks as booked
from robin_fleet.ledger.decks import ACCEPTED, TrainingRow
from robin_fleet.ledger.novelties import CONFIRMED, OPEN, NoveltyRow
from robin_fleet.novelties.ranking import Seen, standing
from robin_fleet.novelties.review import Ranked
from robin_fleet.training.closed_loop import LoopConfig, Tally, judge_loop
from robin_fleet.training.history import HistoryConfig, judge_history
from robin_fleet.training.run import find_training, sign, train
from robin_fleet.training.schedule import ScheduleConfig, due, past_bar
from robin_perception.core.errors import Code, RobinError
from robin_perception.core.scene import CLASSES, Instance, Scene
from robin_perception.evaluation.evaluate import Prediction, SceneResult, compare

HOUR_S = 3600.0
NOW_S = 1e9


def novelty(seen: int, failed: int, state: str = CONFIRMED, key: str = "nov-0001") -> Ranked:
    rows = [Seen("lyon", "b1", 2.0, number < failed) for number in range(seen)]
    return Ranked(1, NoveltyRow(key, "", state, None, "Ana", 1.0, 1.0), standing(rows))


@pytest.mark.parametrize(
    ("last_h", "every_h", "novelties", "taught", "why"),
    [
        (None, 84, [], (), "the first one"),
        (83, 84, [], (), None),
        (84, 84, [], (), "84 h since the last one"),
        (-5, 84, [], (), None),  # the clock was set back
        (1, None, [], (), None),
        (1, 84, [novelty(30, 3)], (), "past the bar: nov-0001"),
        (1, None, [novelty(30, 3)], (), "past the bar: nov-0001"),
        (1, 84, [novelty(30, 3)], ("nov-0001",), None),
        (1, 84, [novelty(29, 3)], (), None),
        (1, 84, [novelty(30, 2)], (), None),
        (1, 84, [novelty(30, 3, OPEN)], (), None),
    ],
)
def test_a_training_is_due(last_h, every_h, novelties, taught, why) -> None:  # type: ignore[no-untyped-def]
    last_s = None if last_h is None else NOW_S - last_h * HOUR_S
    every_s = None if every_h is None else every_h * HOUR_S
    assert due(NOW_S, last_s, every_s, novelties, taught) == why


def test_what_nobody_confirmed_can_be_let_through() -> None:
    assert past_bar([novelty(30, 3, OPEN)], ScheduleConfig(confirmed=False))


def results(share: float, count: int = 40, seed: int = 0) -> list[SceneResult]:
    """Scenes of three parcels, of which that share is found whole and the others by a third."""
    rng, found = np.random.default_rng(seed), []
    for _ in range(count):
        truth = np.zeros((60, 90), dtype=np.uint16)
        masks = []
        for parcel in range(3):
            truth[10:50, 30 * parcel + 3 : 30 * parcel + 27] = parcel + 1
            mask = np.zeros(truth.shape, dtype=bool)
            mask[10:50, 30 * parcel + 3 : 30 * parcel + (27 if rng.random() < share else 11)] = True
            masks.append(mask)
        seen = scene_of(masks, truth.shape)
        found.append(compare(Prediction(seen, seen), truth, {}))
    return found


def scene_of(masks: list[np.ndarray], shape: tuple[int, int]) -> Scene:
    labels = np.zeros(shape, dtype=np.uint16)
    instances = []
    for number, mask in enumerate(masks, 1):
        labels[mask] = number
        ys, xs = np.nonzero(mask)
        box = (int(xs.min()), int(ys.min()), int(xs.max()) + 1, int(ys.max()) + 1)
        classes = np.full(len(CLASSES), 1 / len(CLASSES), np.float32)
        instances.append(Instance(number, box, len(xs), classes, 0.9, 0.9, 1.0, 1.0, np.zeros(4, np.float32)))
    return Scene(0.0, "hand", labels, tuple(instances), np.zeros((15, 22), np.float32))


PILES = [f"p{number // 2}" for number in range(40)]
GROUPS = {"site a": list(range(20)), "site b": list(range(20, 40)), "packaging x": [0, 1]}


def test_history_lets_an_equal_model_through_and_tells_what_it_cannot_judge() -> None:
    same = results(0.9)
    groups = {one.name: one for one in judge_history(GROUPS, same, same, PILES, np.random.default_rng(0))}
    assert groups["site a"].check is not None and groups["site a"].check.passed
    assert groups["packaging x"].check is None and groups["packaging x"].piles == 1


def test_history_finds_the_one_site_that_gets_worse() -> None:
    before, after = results(0.9), [*results(0.9)[:20], *results(0.2, seed=1)[20:]]
    groups = {one.name: one for one in judge_history(GROUPS, before, after, PILES, np.random.default_rng(0))}
    good, bad = groups["site a"].check, groups["site b"].check
    assert good is not None and good.passed
    assert bad is not None and not bad.passed and bad.high is not None and bad.high < -0.02


def test_not_worse_is_to_be_shown_and_not_only_not_refuted() -> None:
    """Few piles and much noise: the interval reaches beyond the margin."""
    before, after = results(0.7, 12, seed=3), results(0.7, 12, seed=4)
    (group,) = judge_history({"site a": list(range(12))}, before, after, PILES, np.random.default_rng(0))
    assert group.check is not None and group.check.low is not None
    assert group.check.low < -0.02 and not group.check.passed
    loose = HistoryConfig(margin=0.6)
    (group,) = judge_history({"site a": list(range(12))}, before, after, PILES, np.random.default_rng(0), loose)
    assert group.check is not None and group.check.passed


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    make_fleet(tmp_path / "fleet")
    with open_fleet(tmp_path / "fleet") as opened:
        yield opened


def booked_training(fleet: Fleet, state: str, page: str | None = "p" * 64 + ".html") -> str:
    row = TrainingRow(
        "goods-1-abc", "goods", 1, "base@1", "base@2", state, "asked for", {"text": "why"}, page, 1.0, 2.0
    )
    with fleet.ledger.write() as connection:
        booked.put_training(connection, row)
    return row.training


def test_a_person_signs_and_the_ledger_keeps_it(fleet: Fleet, capsys: pytest.CaptureFixture[str]) -> None:
    training = booked_training(fleet, ACCEPTED)
    robin, common = Robin(capsys), ("--fleet", fleet.folder)
    done = robin("fleet", "train", "sign", training, *common, "--by", "Ana", "--decision", "accept", "--text", "good")
    assert done.status == 0 and "accept by Ana" in done.out
    assert "accept by Ana" in robin("fleet", "train", "status", *common).out
    with fleet.ledger.read() as connection:
        (signature,) = booked.signatures(connection, training)
    assert (signature.decision, signature.text, signature.page) == ("accept", "good", "p" * 64 + ".html")


@pytest.mark.parametrize(
    ("state", "page", "decision", "by", "code"),
    [
        (booked.REFUSED, "p" * 64 + ".html", "accept", "Ana", Code.TRAINING_REFUSED),
        (booked.RUNNING, None, "reject", "Ana", Code.TRAINING_REFUSED),
        (ACCEPTED, "p" * 64 + ".html", "maybe", "Ana", Code.OPTION_INVALID),
        (ACCEPTED, "p" * 64 + ".html", "accept", " ", Code.OPTION_INVALID),
    ],
)
def test_what_cannot_be_signed(fleet: Fleet, state, page, decision, by, code) -> None:  # type: ignore[no-untyped-def]
    training = booked_training(fleet, state, page)
    with pytest.raises(RobinError) as told:
        sign(fleet, training, by, decision)
    assert told.value.code is code
    with fleet.ledger.read() as connection:
        assert booked.signatures(connection, training) == []


def test_a_refused_one_can_be_rejected_and_an_unknown_one_is_told(fleet: Fleet) -> None:
    assert sign(fleet, booked_training(fleet, booked.REFUSED), "Ana", "reject").decision == "reject"
    with pytest.raises(RobinError) as told:
        find_training(fleet, "nothing")
    assert told.value.code is Code.TRAINING_UNKNOWN


def worse(bundle: Path) -> Tally:
    """The candidate is the one that a training has made."""
    return Tally({"clean": 30, "miss": 10} if bundle.name == "bundle" else {"clean": 38, "drop": 2})


@pytest.mark.parametrize(
    ("before", "after", "margin", "passed"),
    [((380, 400), (379, 400), 0.05, True), ((38, 40), (38, 40), 0.05, False), ((380, 400), (340, 400), 0.05, False)],
)
def test_the_closed_loop_asks_for_proof_that_not_so_much_is_lost(
    before: tuple[int, int], after: tuple[int, int], margin: float, passed: bool
) -> None:
    sides = {Path("a"): before, Path("b"): after}

    def pick(bundle: Path) -> Tally:
        clean, of = sides[bundle]
        return Tally({"clean": clean, "multi": of - clean})

    found = judge_loop(pick, Path("a"), Path("b"), LoopConfig(margin=margin))
    assert found.check.passed is passed and found.check.low is not None
    assert (found.check.low > -margin) is passed


def test_a_candidate_that_picks_nothing_is_refused() -> None:
    sides = {Path("a"): Tally({"clean": 9}), Path("b"): Tally({})}
    assert not judge_loop(sides.__getitem__, Path("a"), Path("b"), LoopConfig()).check.passed


@pytest.mark.timeout(1200)
def test_a_training_from_a_deck_ends_in_a_page_to_sign(fleet: Fleet, tmp_path: Path) -> None:
    """An untrained network and three steps: it learns nothing, and the gate says so."""
    prepare(tmp_path)
    mine = order(fleet, worse)
    done = train(fleet, mine, CONFIG, lambda what, done, total: None)
    assert done.state == booked.REFUSED and "frames of the core set" in done.result["text"]
    assert "closed loop: 38 of 40 clean before, 30 of 40 clean after" in done.result["text"]
    assert done.result["replay"]["of"] == 2 and done.result["novelties"] == ["nov-0001"]
    names = [group["name"] for group in done.result["history"]]
    assert "site lyon" in names and "stratum clean" in names
    assert done.page is not None
    page = fleet.objects.get(done.page).decode()
    assert f"robin fleet train sign {done.training}" in page and "site lyon" in page and "The gate refuses it" in page
    assert "Simulated closed loop: 30 of 40 clean" in page
    assert json.loads(json.dumps(done.result)) == done.result
    again = train(fleet, mine, CONFIG, lambda what, done, total: pytest.fail("it was done before"))
    assert again == find_training(fleet, done.training)


@pytest.mark.timeout(1200)
def test_a_training_that_is_killed_goes_on_where_it_was(fleet: Fleet, tmp_path: Path) -> None:
    prepare(tmp_path)
    for part in ("writing the deck", "teaching", "judging", "replaying"):
        code = "import sys; from pathlib import Path; from helpers.fleet_training import train_until; "
        command = [sys.executable, "-c", code + "train_until(Path(sys.argv[1]), sys.argv[2])", str(tmp_path), part]
        path = os.pathsep.join([str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
        ended = subprocess.run(command, check=False, env={**os.environ, "PYTHONPATH": path})
        assert ended.returncode == -signal.SIGKILL, part
        with fleet.ledger.read() as connection:
            (row,) = booked.trainings(connection)
        assert row.state == booked.RUNNING and row.page is None
    told: list[str] = []
    done = train(fleet, order(fleet), CONFIG, lambda what, done, total: told.append(what))
    assert done.state == booked.REFUSED and done.training == row.training and done.started_s == row.started_s
    assert "replaying" in told and not {"writing the deck", "teaching"} & set(told)
