"""Parts of the demo of a fleet: what the scripted persons draw, picks that are drawn, roll-outs over skipped hours."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from helpers.cli_helpers import Robin
from helpers.model_samples import bundles
from helpers.unfamiliar_samples import RED, book, unfamiliar

from robin_cli.fleet_demo import robots
from robin_cli.fleet_demo.cells import Cell
from robin_cli.fleet_demo.page import lines, render
from robin_cli.fleet_demo.person import labelled, pairs_as_one
from robin_cli.fleet_demo.robots import Measured, Robot
from robin_cli.fleet_demo.rollouts import UNTRIED, Clock, Lines, Told
from robin_cli.fleet_demo.story import Order, Story
from robin_fleet.folder import Fleet, make_fleet, open_fleet
from robin_fleet.ledger.decks import ACCEPTED, REFUSED, DeckRow, TrainingRow
from robin_fleet.ledger.labels import PERSON, labels_of
from robin_fleet.ledger.novelties import NoveltyRow
from robin_fleet.ledger.robots import enrol
from robin_fleet.ledger.samples import SampleFilter, find_samples
from robin_fleet.novelties.ranking import Seen, standing
from robin_fleet.novelties.review import Ranked
from robin_fleet.release.parts import Given, gather
from robin_fleet.release.repository import ReleaseRepository
from robin_fleet.rollout.state import Phase
from robin_fleet.training.closed_loop import Tally
from robin_perception.core.errors import Code
from robin_perception.core.image_folder import write_png
from robin_perception.model.bundle import load_bundle

CELLS = (Cell("lyon", "bags", 1), Cell("turin", "mixed", 2))


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    make_fleet(tmp_path / "fleet")
    with open_fleet(tmp_path / "fleet") as opened:
        yield opened


def test_the_scripted_person_draws_what_there_is_and_the_careless_one_two_as_one(fleet: Fleet, tmp_path: Path) -> None:
    book(fleet, unfamiliar(RED, 1), "lyon", "b1", 1.0)
    with fleet.ledger.read() as connection:
        rows = find_samples(connection, SampleFilter())
    shown = np.zeros((480, 640), np.uint16)
    for number in range(4):
        shown[80:240, 20 + 150 * number : 140 + 150 * number] = number + 1
    shown[400:403, 20:24] = 9  # hardly to be seen
    write_png(tmp_path / "truth.png", shown)

    def drawn(out: str, spoil: object) -> list[np.ndarray]:
        labelled(fleet, rows, lambda row: tmp_path / "truth.png", tmp_path / out, "Ana", spoil)  # type: ignore[arg-type]
        with fleet.ledger.read() as connection:
            found = [one for one in labels_of(connection, rows[0].sample) if one.class_name != "ignore"]
        assert all(one.origin == PERSON for one in found)
        return [one.mask() for one in found]

    masks = drawn("right", None)
    assert len(masks) == 4 and all(any((mask == (shown == n)).all() for mask in masks) for n in range(1, 5))
    assert sorted(int(mask.sum()) for mask in drawn("wrong", pairs_as_one)) == [2 * 19_200, 2 * 19_200]


def test_pairs_of_an_odd_count_leave_one_alone() -> None:
    shown = np.repeat(np.array([[1, 1, 2, 2, 0, 3]], np.uint16), 4, axis=0)
    merged = pairs_as_one(shown)
    assert len(np.unique(merged[merged > 0])) == 2 and ((merged > 0) == (shown > 0)).all()


def lines_of(fleet: Fleet, tmp_path: Path, failed_with: dict[str, int]) -> tuple[Lines, list[Path]]:
    """Robots of two lines; a release per entry, of 200 picks so many failed with it, 4 without."""
    paths = bundles(tmp_path / "bundles", len(failed_with))  # and the factory's
    repository = ReleaseRepository(fleet.folder)
    root = repository.init(tmp_path / "keys", tuple(cell.site for cell in CELLS))
    found: list[Robot] = []
    with fleet.ledger.write() as connection:
        for cell in CELLS:
            for number in range(4):
                name = f"{cell.site}-{number}"
                assert enrol(connection, name, cell.site, cell.station, name.ljust(40, "k"), 0.0)
                found.append(robots.robot(name, cell, tmp_path / "robots" / name, paths[0]))
    measured = Measured()
    for path, failed in zip(paths, (4, *failed_with.values()), strict=True):
        for cell in CELLS:
            tally = Tally({"clean": 200 - failed, "miss": failed})
            measured.tallies[cell.site, load_bundle(path).model_id] = tally
    made = Lines(fleet, found, str(repository.folder), root, measured, Clock(), np.random.default_rng(3))
    for name, path in zip(failed_with, paths[1:], strict=True):
        made.repository.add(*gather(name, Given(bundle=path)))
        made.repository.sign(tmp_path / "keys")
    made.before()
    return made, paths


@pytest.mark.timeout(600)
def test_a_good_release_reaches_all_robots_and_a_bad_one_is_taken_back(fleet: Fleet, tmp_path: Path) -> None:
    made, paths = lines_of(fleet, tmp_path, {"good": 3, "bad": 80})
    factory, good, bad = (load_bundle(path).model_id for path in paths)
    assert {one.model for one in made.robots} == {factory}
    told = made.roll_out("good", UNTRIED, made.robots[0], lambda text: None)
    assert told.state.phase is Phase.DONE and told.ran_it == len(made.robots)
    assert {one.model for one in made.robots} == {good}
    told = made.roll_out("bad", UNTRIED, made.robots[0], lambda text: None)
    assert told.state.phase is Phase.STOPPED and told.state.code == Code.ROLLOUT_WORSE
    assert 1 <= told.ran_it < len(made.robots) and len(told.went_back) == told.ran_it
    assert {one.model for one in made.robots} == {good} and bad not in {one.model for one in made.robots}
    assert told.points[-1].worse >= 1 and "<svg" in lines(told)
    assert told.to_json()["robots_that_went_back"] == told.ran_it
    page = told_page(tmp_path, told)
    assert "stopped on the way" in page and "went back from bad" in page
    assert "seen 6 times at lyon and porto" in page and "30 of 40 clean after" in page


def told_page(folder: Path, told: Told) -> str:
    """With a lesson that was accepted and one that was refused; both are rolled out as ``told``."""
    story = Story(Order(folder, folder, lambda scenes: folder, 8, 1, 1), list(CELLS))
    for cell in CELLS:
        story.picked[cell.site], story.sent[cell.site] = Tally({"clean": 8}), {"sent_mb": 9.5}
    rows = [Seen(site, "belt", 2.0, False) for site in ("lyon", "porto") for _ in range(3)]
    story.novelty = Ranked(1, NoveltyRow("nov-0001", "", "open", None, "", None, 1.0), standing(rows))
    for name, state in (("good", ACCEPTED), ("spoiled", REFUSED)):
        result = {"text": "why", "closed_loop": {"text": "38 of 40 clean before, 30 of 40 clean after"}}
        story.taught[name] = TrainingRow(f"{name}-1", name, 1, "base@1", "base@2", state, "due", result, None, 1.0, 2.0)
        story.decks[name] = DeckRow(name, 1, "m", 30, 12, "Ana", 1.0)
        story.rolled[name] = told
    picture = np.zeros((40, 60, 3), np.uint8)
    return render(story, picture, [{"lesson": "good", "picture": picture, "text": "lyon"}])


def test_shares_of_failed_picks_are_those_that_were_measured() -> None:
    measured = Measured(
        {("lyon", "m"): Tally({"clean": 9, "miss": 1}), ("porto", "m"): Tally({"clean": 8, "multi": 2})}
    )
    measured.tallies["lyon", "other"] = Tally({"miss": 10})
    assert measured.failing("m") == pytest.approx(3.5 / 21)
    with pytest.raises(KeyError):
        measured.failing("nothing")


def test_a_roll_out_without_hours_has_no_lines(fleet: Fleet, tmp_path: Path) -> None:
    made, _ = lines_of(fleet, tmp_path, {"good": 3})
    state = made.roll_out("good", UNTRIED, made.robots[0], lambda text: None).state
    assert lines(Told(state)) == ""


def test_the_command_tells_what_it_needs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told = Robin(capsys)("fleet", "demo", "--picks", "2", "--out", tmp_path / "out")
    assert told.status == 2 and "--picks" in told.err
