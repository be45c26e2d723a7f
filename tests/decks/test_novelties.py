"""Unfamiliar goods of many robots: what comes again is one novelty, ranked, decided by persons; faults are kept out."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from helpers.cli_helpers import Robin
from helpers.unfamiliar_samples import BLUE, GREEN, RED, book, unfamiliar

from robin_fleet.folder import Fleet, FleetConfig, make_fleet, open_fleet
from robin_fleet.ledger import novelties as booked
from robin_fleet.novelties import review
from robin_fleet.novelties.clusters import ClusterConfig, Clustering, grouped
from robin_fleet.novelties.ranking import GUARD_S, Seen, standing
from robin_fleet.novelties.update import update, update_fleet
from robin_perception.core.errors import Code, RobinError

SIZE = 196
FAR_S = 10 * GUARD_S


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    make_fleet(tmp_path / "fleet")
    with open_fleet(tmp_path / "fleet") as opened:
        yield opened


def looks(kind: int, count: int, apart: float = 0.2) -> np.ndarray:
    """Looks of one kind: its middle, and differences of that size as a share of its length."""
    rng = np.random.default_rng(kind)
    middle = np.abs(rng.normal(0.25, 0.1, SIZE))
    noise = rng.normal(size=(count, SIZE))
    noise *= apart * np.linalg.norm(middle) / np.linalg.norm(noise, axis=1, keepdims=True)
    return middle + noise


def fed(clustering: Clustering, rows: np.ndarray, name: str) -> None:
    for number, row in enumerate(rows):
        clustering.add({(name, number): row})
        clustering.settle()


def test_kinds_that_come_in_turns_are_told_apart() -> None:
    clustering = Clustering()
    for number, pair in enumerate(zip(looks(1, 12), looks(2, 12), strict=True)):
        for name, row in zip("ab", pair, strict=True):
            clustering.add({(name, number): row})
            clustering.settle()
    homes = {name: {clustering.where(key) for (n, _), key in clustering.home.items() if n == name} for name in "ab"}
    assert len(homes["a"]) == len(homes["b"]) == 1 and homes["a"] != homes["b"]
    assert len(clustering.home) == 24


def test_what_comes_once_is_no_novelty() -> None:
    clustering = Clustering()
    for kind in range(10, 40):
        fed(clustering, looks(kind, 1), str(kind))
    assert clustering.clusters == {} and len(clustering.left) == 30


def test_an_id_stays_when_a_novelty_grows_and_the_older_one_when_two_become_one() -> None:
    clustering = Clustering()
    middle = looks(1, 40, 0.15)
    fed(clustering, middle[:6], "a")
    (first,) = clustering.clusters
    fed(clustering, looks(2, 6, 0.15), "b")
    fed(clustering, middle[6:], "c")
    assert set(clustering.clusters) == {first, "nov-0002"} and clustering.clusters[first].members == 40
    clustering.clusters["nov-0002"].middle = clustering.clusters[first].middle.copy()
    clustering.add({("d", number): row for number, row in enumerate(looks(3, 4, 0.1))})
    clustering.settle()
    assert clustering.where("nov-0002") == first and clustering.clusters[first].members == 46


def test_two_that_persons_judged_stay_two() -> None:
    clustering = Clustering()
    fed(clustering, looks(1, 8), "a")
    fed(clustering, looks(2, 8), "b")
    one, other = sorted(clustering.clusters)
    clustering.clusters[other].middle = clustering.clusters[one].middle.copy()
    clustering.clusters[one].judged = clustering.clusters[other].judged = True
    fed(clustering, looks(3, 6), "c")
    assert {one, other} <= set(clustering.clusters)


def test_what_is_forgotten_leaves_the_middle_where_it_was() -> None:
    clustering = Clustering()
    rows = looks(1, 9)
    fed(clustering, rows[:8], "a")
    (key,) = clustering.clusters
    before = clustering.clusters[key].middle.copy()
    clustering.add({"x": rows[8]})
    clustering.forget("x", rows[8])
    assert np.allclose(clustering.clusters[key].middle, before) and clustering.clusters[key].members == 8


def test_a_loose_crowd_is_no_group() -> None:
    config = ClusterConfig()
    assert list(grouped(looks(1, 12, 0.45), config)) == []
    assert [len(rows) for rows in grouped(looks(1, 12, 0.2), config)] == [12]


def test_other_processes_find_the_same(fleet: Fleet) -> None:
    for number in range(6):
        book(fleet, unfamiliar(RED, number), "lyon", "b1", number * FAR_S)
    spread = replace(fleet, config=FleetConfig(compute="processes://1"))
    done = update_fleet(spread)
    assert (done.looked, done.sightings, done.new, done.unreadable) == (6, 6, 1, 0)
    with pytest.raises(RobinError) as told:
        update_fleet(replace(fleet, config=FleetConfig(compute="abacus://7")))
    assert told.value.code is Code.OPTION_INVALID


def test_failures_sites_and_count_raise_a_novelty() -> None:
    one = [Seen("lyon", "b1", 2.0, False)] * 6
    assert standing([*one, Seen("riga", "b1", 2.0, False)]).score > standing([*one, one[0]]).score
    assert standing([*one, Seen("lyon", "b1", 2.0, True)]).score > standing([*one, one[0]]).score
    assert standing([*one, one[0]]).score > standing(one).score
    near_the_limit = [Seen("lyon", "b1", 1.05, False)] * 6
    assert standing(near_the_limit).score < standing(one).score


def test_the_same_goods_at_two_sites_are_one_and_the_harmful_come_first(fleet: Fleet) -> None:
    for number in range(6):
        book(fleet, unfamiliar(RED, number, result="miss"), f"site{number % 2}", "b1", number * FAR_S)
        book(fleet, unfamiliar(BLUE, 50 + number), f"site{number % 2}", "b2", number * FAR_S)
    done = update(fleet.ledger, fleet.objects)
    assert (done.looked, done.sightings, done.new) == (12, 12, 2)
    first, second = review.ranked(fleet.ledger)
    assert first.standing.failed == 6 and second.standing.failed == 0
    assert first.standing.sites == ("site0", "site1") and first.standing.seen == 6
    assert update(fleet.ledger, fleet.objects).looked == 0
    sheet = review.contact_sheet(fleet.objects, review.of_novelty(fleet.ledger, first.row.novelty)[1])
    red = (sheet[:, :, 2].astype(int) - sheet[:, :, 0] > 80).mean()
    assert red > 0.15


def test_ids_stay_over_updates(fleet: Fleet) -> None:
    for number in range(5):
        book(fleet, unfamiliar(RED, number), "lyon", "b1", number * FAR_S)
    update(fleet.ledger, fleet.objects)
    (before,) = review.ranked(fleet.ledger)
    for number in range(5, 9):
        book(fleet, unfamiliar(RED, number), "riga", "b1", number * FAR_S)
        book(fleet, unfamiliar(GREEN, 20 + number), "riga", "b1", number * FAR_S)
    assert update(fleet.ledger, fleet.objects).new == 1
    after = {one.row.novelty: one.standing.seen for one in review.ranked(fleet.ledger)}
    assert after == {before.row.novelty: 9, "nov-0002": 4}


def test_what_a_fault_shows_is_kept_out_also_what_came_just_before_it_was_told(fleet: Fleet) -> None:
    for number in range(5):
        book(fleet, unfamiliar(RED, number), "lyon", "b1", number * 10.0)
    update(fleet.ledger, fleet.objects)
    assert len(review.ranked(fleet.ledger)) == 1
    book(fleet, unfamiliar(RED, 7, dark=True), "lyon", "b1", 50.0)
    assert update(fleet.ledger, fleet.objects).kept_out == 5
    assert review.ranked(fleet.ledger) == []
    with fleet.ledger.read() as connection:
        (fault,) = booked.faults_by_station(connection)
    assert (fault["station"], fault["condition"], fault["samples"], fault["kept_out"]) == ("b1", "dark", 1, 5)


def test_a_fault_of_one_station_leaves_the_others_alone(fleet: Fleet) -> None:
    for number in range(5):
        book(fleet, unfamiliar(RED, number), "lyon", "b1", number * 10.0)
    book(fleet, unfamiliar(RED, 7, dark=True), "lyon", "b2", 20.0)
    assert update(fleet.ledger, fleet.objects).kept_out == 0
    assert len(review.ranked(fleet.ledger)) == 1


def two_novelties(fleet: Fleet) -> tuple[str, str]:
    for number in range(5):
        book(fleet, unfamiliar(RED, number, result="miss"), "lyon", "b1", number * FAR_S)
        book(fleet, unfamiliar(BLUE, 50 + number), "lyon", "b2", number * FAR_S)
    update(fleet.ledger, fleet.objects)
    first, second = review.ranked(fleet.ledger)
    return first.row.novelty, second.row.novelty


def test_persons_name_merge_and_dismiss(fleet: Fleet) -> None:
    first, second = two_novelties(fleet)
    assert review.name(fleet.ledger, first, "red boxes", "Ana").state == booked.CONFIRMED
    review.dismiss(fleet.ledger, second, "Ana")
    assert [one.title for one in review.ranked(fleet.ledger)] == ["red boxes"]
    book(fleet, unfamiliar(BLUE, 90), "riga", "b2", 90 * FAR_S)
    assert update(fleet.ledger, fleet.objects).new == 0
    assert [one.title for one in review.ranked(fleet.ledger)] == ["red boxes"]
    review.merge(fleet.ledger, "red boxes", second, "Ana")
    row, seen = review.of_novelty(fleet.ledger, second)
    assert row.novelty == first and len(seen) == 11 and row.decided_by == "Ana"


def test_a_dismissed_novelty_takes_what_comes_again(fleet: Fleet) -> None:
    _, second = two_novelties(fleet)
    review.dismiss(fleet.ledger, second, "Ana")
    book(fleet, unfamiliar(BLUE, 91), "riga", "b2", 91 * FAR_S)
    update(fleet.ledger, fleet.objects)
    assert len(review.of_novelty(fleet.ledger, second)[1]) == 6


@pytest.mark.parametrize(
    ("what", "code"),
    [
        (lambda f, a, b: review.confirm(f.ledger, "nov-9999", "Ana"), Code.NOVELTY_UNKNOWN),
        (lambda f, a, b: review.confirm(f.ledger, a, " "), Code.OPTION_INVALID),
        (lambda f, a, b: review.name(f.ledger, a, "\n", "Ana"), Code.OPTION_INVALID),
        (lambda f, a, b: review.name(f.ledger, a, b, "Ana"), Code.OPTION_INVALID),
        (lambda f, a, b: review.merge(f.ledger, a, a, "Ana"), Code.OPTION_INVALID),
    ],
)
def test_what_makes_no_sense_is_refused(fleet: Fleet, what, code: Code) -> None:  # type: ignore[no-untyped-def]
    first, second = two_novelties(fleet)
    with pytest.raises(RobinError) as told:
        what(fleet, first, second)
    assert told.value.code is code


def test_a_damaged_sample_is_counted_and_the_rest_goes_on(fleet: Fleet) -> None:
    broken = book(fleet, unfamiliar(RED, 0), "lyon", "b1", 0.0)
    fleet.objects.remove(broken)
    for number in range(1, 6):
        book(fleet, unfamiliar(RED, number), "lyon", "b1", number * FAR_S)
    done = update(fleet.ledger, fleet.objects)
    assert (done.unreadable, done.sightings, done.new) == (1, 5, 1)


def test_commands(fleet: Fleet, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    for number in range(5):
        book(fleet, unfamiliar(RED, number, result="miss"), "lyon", "b1", number * FAR_S)
    book(fleet, unfamiliar(BLUE, 60, dark=True), "riga", "b1", 0.0)
    robin, common = Robin(capsys), ("--fleet", fleet.folder)
    done = robin("fleet", "novelties", "list", *common, "--json", tmp_path / "n.json")
    assert done.status == 0 and "nov-0001" in done.out
    told = json.loads((tmp_path / "n.json").read_text())["novelties"]
    assert [(one["novelty"], one["seen"], one["failed"]) for one in told] == [("nov-0001", 5, 5)]
    done = robin("fleet", "novelties", "name", "nov-0001", "red boxes", *common, "--by", "Ana")
    assert done.status == 0 and "nov-0001 red boxes: confirmed" in done.out
    sheet = tmp_path / "sheet.png"
    assert robin("fleet", "novelties", "show", "red boxes", *common, "--picture", sheet).status == 0
    assert cv2.imread(str(sheet)).shape[1] > 600
    done = robin("fleet", "novelties", "technicians", *common)
    assert "riga" in done.out and "E141 dark" in done.out
    done = robin("fleet", "novelties", "dismiss", "nov-0404", *common, "--by", "Ana")
    assert done.status == 2 and "E841 NOVELTY_UNKNOWN: 'nov-0404'" in done.err


def test_planted_goods_come_to_the_front_and_faults_never_do(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Two simulated fleets; what counts is measured by ``robin bench recurrence``."""
    done = Robin(capsys)("bench", "recurrence", "--fleets", "2", "--seed", "5", "--json", tmp_path / "r.json")
    assert done.status == 0
    told = json.loads((tmp_path / "r.json").read_text())
    assert told["by_share"]["0.05"]["count"] == told["by_share"]["0.03"]["count"] == 2
    assert told["fault_in_first"]["count"] == 0 and told["fault_sightings_kept_out"] > 0
