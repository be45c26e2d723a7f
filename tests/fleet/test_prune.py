"""Old samples go, what something rests on stays, and nothing is lost on the way."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from helpers.cli_helpers import Robin
from helpers.fleet_servers import LEDGERS, ledger_server, new_ledger_url
from helpers.unfamiliar_samples import BLUE, RED, book, unfamiliar

from edge_adapt.store.blobs import blob_name
from robin_fleet import prune as pruning
from robin_fleet.folder import Fleet, FleetConfig, PruneConfig, make_fleet, open_fleet
from robin_fleet.housekeeping import Housekeeping
from robin_fleet.ledger.events import QUARANTINE, add_refused
from robin_fleet.ledger.labels import PERSON, PSEUDO, Label, replace_labels
from robin_fleet.ledger.samples import SampleFilter, files_of, find_samples, known_blobs
from robin_fleet.novelties.update import update
from robin_fleet.objects.interface import is_blob
from robin_fleet.prune import ORPHAN_S, PruneRule, prune
from robin_perception.core.errors import Code, RobinError

DAY_S = 86_400.0
NUMBERS = itertools.count()
NOW_S = 400 * DAY_S


@pytest.fixture(scope="module", params=LEDGERS)
def place(request: pytest.FixtureRequest) -> Iterator[str]:
    with ledger_server(request.param) as found:
        yield found


@pytest.fixture
def fleet(place: str, tmp_path: Path) -> Iterator[Fleet]:
    make_fleet(tmp_path / "fleet", FleetConfig(ledger=new_ledger_url(place, f"prune{next(NUMBERS)}")))
    with open_fleet(tmp_path / "fleet") as opened:
        yield opened


def booked(fleet: Fleet, number: int, days: float) -> str:
    """A sample that came in so many days before NOW_S; of familiar goods."""
    sample = unfamiliar(BLUE if number % 2 else RED, number, novelty=0.5)
    return book(fleet, sample, "lyon", "b1", NOW_S - days * DAY_S, number)


def left(fleet: Fleet) -> set[str]:
    with fleet.ledger.read() as connection:
        return {row.sample for row in find_samples(connection, SampleFilter())}


def label(sample: str, origin: str) -> Label:
    return Label(sample, 1, "", origin, 1.0, 8, 8, "", "", 0.0)


def test_old_samples_go_with_their_objects_and_the_others_stay_whole(fleet: Fleet) -> None:
    old, young = booked(fleet, 1, 200), booked(fleet, 2, 10)
    update(fleet.ledger, fleet.objects)
    with fleet.ledger.write() as connection:
        files = files_of(connection, young)
        replace_labels(connection, old, [label(old, PSEUDO)])
    assert prune(fleet, PruneRule(older_s=180 * DAY_S), NOW_S, dry=True).samples == 1 and left(fleet) == {old, young}
    done = prune(fleet, PruneRule(older_s=180 * DAY_S), NOW_S)
    assert done.samples == 1 and done.bytes > 0 and done.kept == 0 and left(fleet) == {young}
    assert {name for name in fleet.objects.names() if is_blob(name)} == {young, *files.values()}
    with fleet.ledger.read() as connection:
        assert set(known_blobs(connection, [young, *files.values()])) == {young, *files.values()}
        assert known_blobs(connection, [old]) == {}


def test_a_file_that_another_sample_has_too_stays(fleet: Fleet) -> None:
    sample = unfamiliar(RED, 1, novelty=0.5)
    old = book(fleet, sample, "lyon", "b1", NOW_S - 200 * DAY_S, 1)
    young = book(fleet, sample, "lyon", "b1", NOW_S - 10 * DAY_S, 2)
    with fleet.ledger.read() as connection:
        shared = set(files_of(connection, old).values()) & set(files_of(connection, young).values())
    assert shared
    prune(fleet, PruneRule(older_s=180 * DAY_S), NOW_S)
    assert left(fleet) == {young} and all(fleet.objects.size(name) is not None for name in shared)


def test_the_oldest_go_until_there_is_room(fleet: Fleet) -> None:
    names = [booked(fleet, number, 100 - number) for number in range(1, 5)]
    with fleet.ledger.read() as connection:
        sizes = {row.sample: row.bytes for row in find_samples(connection, SampleFilter())}
    prune(fleet, PruneRule(most_bytes=sizes[names[2]] + sizes[names[3]]), NOW_S)
    assert left(fleet) == set(names[2:])


def test_what_something_rests_on_stays(fleet: Fleet) -> None:
    labelled = booked(fleet, 1, 300)
    with fleet.ledger.write() as connection:
        replace_labels(connection, labelled, [label(labelled, PERSON)])
    novel = {book(fleet, unfamiliar(RED, n), "lyon", "b1", NOW_S - 300 * DAY_S, n) for n in range(10, 20)}
    plain = booked(fleet, 2, 300)
    assert update(fleet.ledger, fleet.objects).new == 1
    done = prune(fleet, PruneRule(older_s=DAY_S), NOW_S)
    assert plain not in left(fleet) and labelled in left(fleet)
    assert len(left(fleet) & novel) >= 4 and done.kept == len(left(fleet))


def test_an_orphan_goes_at_the_second_look_and_what_was_booked_meanwhile_stays(fleet: Fleet) -> None:
    orphan, late = b"left by a crash", b"about to be booked"
    for data in (orphan, late):
        fleet.objects.put(blob_name(data, ".json"), data)
    assert (first := prune(fleet, PruneRule(), NOW_S)).orphans == 0 and first.waiting == 2
    assert prune(fleet, PruneRule(), NOW_S + ORPHAN_S / 2).orphans == 0
    with fleet.ledger.write() as connection:
        connection.execute(
            pruning.booked.BLOBS.insert().values(name=blob_name(late, ".json"), bytes=len(late), stored_s=NOW_S)
        )
    fleet.objects.put("decks/goods/manifest.json", b"a key of an area")
    assert prune(fleet, PruneRule(), NOW_S + ORPHAN_S).orphans == 1
    assert fleet.objects.size(blob_name(orphan, ".json")) is None and fleet.objects.size(blob_name(late, ".json"))
    assert fleet.objects.size("decks/goods/manifest.json")


def test_a_crash_between_ledger_and_objects_leaves_orphans_that_go_later(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = booked(fleet, 1, 200)
    with monkeypatch.context() as patch:

        def fails(name: str) -> bool:
            raise RobinError(Code.OBJECTS_UNREACHABLE, "gone")

        patch.setattr(fleet.objects, "remove", fails)
        with pytest.raises(RobinError):
            prune(fleet, PruneRule(older_s=DAY_S), NOW_S)
    assert left(fleet) == set() and fleet.objects.size(old) is not None
    prune(fleet, PruneRule(), NOW_S)
    assert prune(fleet, PruneRule(), NOW_S + ORPHAN_S).orphans > 0
    assert not [name for name in fleet.objects.names() if is_blob(name)]


def test_the_newest_of_the_quarantine_stay(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pruning, "MOST_REFUSED", 3)
    with fleet.ledger.write() as connection:
        for number in range(5):
            add_refused(connection, f"{number:064d}.png", "cell", Code.BLOB_REFUSED, "why", float(number))
    fleet.objects.put(f"quarantine/{0:064d}.png", b"bytes")
    assert prune(fleet, PruneRule(), NOW_S).refused == 2
    assert fleet.objects.size(f"quarantine/{0:064d}.png") is None
    with fleet.ledger.read() as connection:
        assert [row.blob[:64].lstrip("0") for row in connection.execute(QUARANTINE.select())] == ["2", "3", "4"]


def test_the_command(fleet: Fleet, capsys: pytest.CaptureFixture[str]) -> None:
    booked(fleet, 1, 200)
    robin, common = Robin(capsys), ("--fleet", fleet.folder)
    assert robin("fleet", "prune", "--older", "1h", *common).status == 2
    told = robin("fleet", "prune", "--older", "3d", "--dry-run", *common)
    assert told.status == 0 and "1 samples" in told.out and "would go" in told.out and len(left(fleet)) == 1
    assert robin("fleet", "prune", "--most-gb", "0", *common).status == 0 and left(fleet) == set()


def test_an_aggregator_makes_room_by_itself_once_a_period_and_also_after_a_restart(fleet: Fleet) -> None:
    old, young, told = booked(fleet, 1, 200), booked(fleet, 2, 10), list[str]()
    limited = replace(fleet, config=FleetConfig(prune=PruneConfig(older_days=180, every_h=12)))

    def looks(at_s: float, one: Fleet = limited) -> set[str]:
        Housekeeping(one, told.append, lambda: at_s).make_room()
        os.utime(fleet.folder / "orphans.json", (NOW_S, NOW_S))  # as if that look had been at NOW_S
        return left(fleet)

    assert looks(NOW_S, fleet) == {old, young} and told == [], "no limit, no sample goes"
    assert looks(NOW_S + 11 * 3600.0) == {old, young}, "not yet due"
    assert looks(NOW_S + 13 * 3600.0) == {young} and told == ["room made: 1 samples, 0 orphans, 0 refused ones"]


def test_a_look_that_is_ended_leaves_the_rest_for_the_next(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pruning, "_BATCH", 1)
    for number in range(3):
        booked(fleet, number + 1, 200 + number)
    answers = iter([False, True])
    done = prune(fleet, PruneRule(older_s=DAY_S), NOW_S, stop=lambda: next(answers))
    assert done.samples == 1 and len(left(fleet)) == 2 and pruning.last_pruned_s(fleet.folder) == 0
    assert prune(fleet, PruneRule(older_s=DAY_S), NOW_S).samples == 2 and pruning.last_pruned_s(fleet.folder) > 0
