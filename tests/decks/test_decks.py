"""Training decks: versions that never change, held out by station and time, readable by others."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
import webdataset
from helpers.cli_helpers import Robin
from helpers.stored_piles import DARK, pile_samples
from helpers.unfamiliar_samples import book

from edge_adapt.annotations.read import labelled_frames
from edge_adapt.training.data import PackedDataset
from robin_cli.fleet.deck import FORMATS as OFFERED
from robin_cli.fleet.train import due, renewed, unfinished
from robin_fleet.decks.export import FORMATS, export_deck
from robin_fleet.decks.juxtapose import JuxtaposeConfig
from robin_fleet.decks.make import find_deck, make_deck, read_deck
from robin_fleet.decks.manifest import DeckConfig, difference, label_image
from robin_fleet.folder import Fleet, make_fleet, open_fleet
from robin_fleet.ledger.decks import ACCEPTED, RUNNING, DeckRow, TrainingRow, put_training
from robin_fleet.ledger.labels import PERSON, PSEUDO, Label, labels_of, replace_labels
from robin_fleet.ledger.samples import SampleFilter, SampleRow, find_samples
from robin_perception.core.errors import Code, RobinError
from robin_perception.core.image_folder import IGNORE_LABEL

CONFIG = DeckConfig(held_share=0.34, juxtapose=JuxtaposeConfig(per_frame=0.5, least_px=200))
PILES, STATIONS = 3, 3


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three piles at each of three stations, three picks a pile; one more pile in the dark."""
    place = tmp_path_factory.mktemp("decks") / "fleet"
    make_fleet(place)
    with open_fleet(place) as fleet:
        for station in range(STATIONS):
            for pile in range(PILES):
                for pick, sample in enumerate(pile_samples(10 * station + pile)):
                    seq = 10 * pile + pick + 1
                    book(fleet, sample, f"site{station % 2}", f"b{station}", 100.0 * pile + pick, seq)
        for pick, sample in enumerate(pile_samples(90, dark=True)):
            book(fleet, sample, "site0", "b0", 900.0 + pick, 91 + pick)
    return place


@pytest.fixture
def fleet(folder: Path) -> Iterator[Fleet]:
    with open_fleet(folder) as opened:
        yield opened


def rows(fleet: Fleet) -> list[SampleRow]:
    with fleet.ledger.read() as connection:
        return find_samples(connection, SampleFilter())


def made(fleet: Fleet, name: str = "first", config: DeckConfig = CONFIG) -> DeckRow:
    return make_deck(fleet.ledger, fleet.objects, name, rows(fleet), "Ana", "internal", config)


def test_a_deck_holds_out_a_station_and_the_latest_piles_of_the_others(fleet: Fleet) -> None:
    deck = read_deck(fleet.objects, made(fleet))
    assert len(deck.members) == 27 and deck.left_out == {"taken in a fault of the station": 3}
    (held,) = deck.held_stations
    for one in deck.members:
        station = f"{one.site}/{one.station}"
        late = one.at_s >= 200.0
        assert one.held_by == ("station" if station == held else "time" if late else "")
        assert (one.part == "held") == bool(one.held_by)
    parts = {part: {one.block for one in deck.part(part)} for part in ("train", "held")}
    assert not parts["train"] & parts["held"]  # a pile is never on both sides
    assert sum(one.share for one in deck.strata.values()) == pytest.approx(1.0)
    assert deck.origin == "picks of 3 robots at site0, site1" and deck.licence == "internal"


def test_a_version_never_changes_and_the_same_deck_is_made_once(fleet: Fleet) -> None:
    first = made(fleet, "once")
    before = fleet.objects.get(first.manifest)
    assert made(fleet, "once") == first
    second = made(fleet, "once", CONFIG.model_copy(update={"least_confidence": 0.2}))
    assert second.version == 2 and fleet.objects.get(first.manifest) == before
    assert find_deck(fleet.ledger, "once") == second and find_deck(fleet.ledger, "once:1") == first
    found = difference(read_deck(fleet.objects, first), read_deck(fleet.objects, second))
    assert found["config"] == ["least_confidence"] and not found["added"] and not found["relabelled"]


def test_a_corrected_label_makes_another_version(fleet: Fleet) -> None:
    first = made(fleet, "corrected")
    (member, *_) = read_deck(fleet.objects, first).part("train")
    with fleet.ledger.write() as connection:
        before = labels_of(connection, member.sample)
        replace_labels(connection, member.sample, [one._replace(origin=PERSON, confidence=1.0) for one in before])
    second = made(fleet, "corrected")
    found = difference(read_deck(fleet.objects, first), read_deck(fleet.objects, second))
    assert found["relabelled"] == [member.sample]
    frozen = json.loads(fleet.objects.get(member.labels))
    assert [one[3] if isinstance(one, list) else one["origin"] for one in frozen] == [one.origin for one in before]
    with fleet.ledger.write() as connection:
        replace_labels(connection, member.sample, before)


def picture(data: bytes) -> np.ndarray:
    return np.asarray(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED))


def test_webdataset_reads_the_shards_and_the_same_deck_gives_the_same_bytes(fleet: Fleet, tmp_path: Path) -> None:
    deck = read_deck(fleet.objects, made(fleet))
    counts = [export_deck(fleet.objects, deck, tmp_path / name, "webdataset") for name in ("a", "b")]
    names = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert names == ["deck.json", "held-000000.tar", "train-000000.tar"] and counts[0] == counts[1]
    for name in names:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    shard = f"file:{tmp_path / 'a' / 'train-000000.tar'}"
    found = list(webdataset.WebDataset(shard, shardshuffle=False, empty_check=False))
    assert len(found) == counts[0]["train"] > len(deck.part("train"))  # juxtaposed ones come with them
    for one in found:
        rgb = picture(one["color.png"])
        depth = picture(one["depth.png"])
        labels = picture(one["labels.png"])
        info = json.loads(one["scene.json"])
        assert rgb.shape[:2] == depth.shape == labels.shape
        assert {row["id"] for row in info["instances"]} == set(np.unique(labels)) - {0, IGNORE_LABEL}
        assert all(row["origin"] and 0 < row["confidence"] <= 1 for row in info["instances"])
    laid = [one for one in found if json.loads(one["scene.json"])["juxtaposed"]]
    assert any(row.get("juxtaposed") for one in laid for row in json.loads(one["scene.json"])["instances"])


def test_what_is_held_out_never_lies_in_a_taught_picture(fleet: Fleet, tmp_path: Path) -> None:
    deck = read_deck(fleet.objects, made(fleet))
    export_deck(fleet.objects, deck, tmp_path / "out", "folders")
    held = {one.sample for one in deck.part("held")}
    for path in (tmp_path / "out" / "train").glob("*/scene.json"):
        assert json.loads(path.read_text())["source"] not in held
    assert not any(json.loads(p.read_text())["juxtaposed"] for p in (tmp_path / "out" / "held").glob("*/scene.json"))


def test_folders_are_read_by_what_teaches_and_by_what_trains(fleet: Fleet, tmp_path: Path) -> None:
    deck = read_deck(fleet.objects, made(fleet))
    counts = export_deck(fleet.objects, deck, tmp_path / "out", "folders")
    frames = list(labelled_frames(tmp_path / "out" / "train"))
    assert len(frames) == counts["train"] and all(frame.names for frame in frames)
    dataset = PackedDataset(tmp_path / "out" / "train")
    assert list(dataset.pack())[-1] == counts["train"]


def label(number: int, origin: str, sure: float, box: tuple[int, int], kind: str = "carton") -> Label:
    from robin_fleet.annotation.prefill import runs

    mask = np.zeros((20, 40), dtype=bool)
    mask[5:15, box[0] : box[1]] = True
    return Label("s", number, kind, origin, sure, 40, 20, runs(mask))


def test_unsure_labels_are_ignored_pixels() -> None:
    rows = [
        label(1, PERSON, 1.0, (0, 10)),
        label(2, PSEUDO, 0.7, (10, 20)),
        label(3, PSEUDO, 0.95, (20, 30)),
        label(4, "pick", 1.0, (30, 40), "ignore"),
    ]
    image, known = label_image(rows, DeckConfig())
    assert [int(image[10, x]) for x in (5, 15, 25, 35)] == [1, IGNORE_LABEL, 2, IGNORE_LABEL]
    assert image[0, 0] == 0 and [one.origin for one in known.values()] == [PERSON, PSEUDO]
    checked, _ = label_image([rows[1]._replace(checked_by="Ana")], DeckConfig())
    assert int(checked[10, 15]) == 1


def test_a_deck_with_nothing_to_judge_by_is_refused(fleet: Fleet) -> None:
    one_pile = [row for row in rows(fleet) if row.station == "b1" and row.at_s < 100]
    with pytest.raises(RobinError) as told:
        make_deck(fleet.ledger, fleet.objects, "small", one_pile, "Ana", "internal", CONFIG)
    assert told.value.code is Code.DECK_EMPTY and "3 samples, 3 fit" in told.value.text


@pytest.mark.parametrize(("name", "code"), [("nobody", Code.DECK_UNKNOWN), ("first:77", Code.DECK_UNKNOWN)])
def test_unknown_decks_are_told(fleet: Fleet, name: str, code: Code) -> None:
    made(fleet)
    with pytest.raises(RobinError) as told:
        find_deck(fleet.ledger, name)
    assert told.value.code is code


def test_a_lost_label_or_manifest_is_told(fleet: Fleet, tmp_path: Path) -> None:
    row = made(fleet, "lost", CONFIG.model_copy(update={"least_proposal": 0.5}))
    deck = read_deck(fleet.objects, row)
    broken = deck.model_copy(update={"members": (deck.members[0].model_copy(update={"labels": "0" * 64 + ".json"}),)})
    with pytest.raises(RobinError) as told:
        export_deck(fleet.objects, broken, tmp_path / "out", "folders")
    assert told.value.code is Code.DECK_DAMAGED and not (tmp_path / "out").exists()
    assert [path.name for path in tmp_path.iterdir()] == []
    with pytest.raises(RobinError) as told:
        read_deck(fleet.objects, row._replace(manifest="1" * 64 + ".json"))
    assert told.value.code is Code.DECK_DAMAGED


def test_commands(fleet: Fleet, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert OFFERED == FORMATS and DARK.family.value == "environment"
    robin, common = Robin(capsys), ("--fleet", fleet.folder)
    settings = tmp_path / "deck.yaml"
    settings.write_text("held_share: 0.34\njuxtapose:\n  per_frame: 0\n")
    done = robin("fleet", "deck", "make", "told", *common, "--by", "Ana", "--config", settings)
    assert done.status == 0 and "told:1, 27 samples" in done.out and "3 taken in a fault of the station" in done.out
    done = robin("fleet", "deck", "show", "told", *common, "--json", tmp_path / "d.json")
    assert done.status == 0 and json.loads((tmp_path / "d.json").read_text())["deck_manifest"]["version"] == 1
    assert "told:1" in robin("fleet", "deck", "show", *common).out
    assert "0 added" in robin("fleet", "deck", "diff", "told", "told:1", *common).out
    done = robin("fleet", "deck", "export", "told", *common, "--out", tmp_path / "o", "--format", "webdataset")
    assert done.status == 0 and "held out" in done.out
    assert robin("fleet", "deck", "show", "nobody", *common).status == 2
    assert robin("fleet", "deck", "show", "told", *common, "--picture", tmp_path / "none.jpg").status == 2
    made(fleet)
    assert robin("fleet", "deck", "show", "first", *common, "--picture", tmp_path / "laid.jpg").status == 0
    assert cv2.imread(str(tmp_path / "laid.jpg")).shape[1] == 3 * 420
    assert robin("fleet", "deck", "make", "Bad Name", *common, "--by", "Ana").status == 2


def test_a_training_renews_its_deck_as_it_was_made(fleet: Fleet) -> None:
    first = made(fleet, "renewed")
    assert renewed(fleet, first) == first  # nothing new came in
    for pick, sample in enumerate(pile_samples(70)):
        book(fleet, sample, "site0", "b0", 1000.0 + pick, 200 + pick)
    second = renewed(fleet, first)
    deck = read_deck(fleet.objects, second)
    assert (second.version, deck.licence, deck.config) == (2, "internal", CONFIG)
    assert len(deck.members) == len(read_deck(fleet.objects, first).members) + 3


def test_a_training_that_was_stopped_goes_on_before_another_is_due(fleet: Fleet) -> None:
    deck = made(fleet, "stopped")
    begun = TrainingRow(
        "stopped-1-0",
        deck.deck,
        1,
        "base-0",
        "",
        RUNNING,
        "the first one",
        {"novelties": ["nov-0001"]},
        None,
        1e9,
        None,
    )
    with fleet.ledger.write() as connection:
        put_training(connection, begun)
    assert unfinished(fleet, "another") is None
    assert due(fleet, deck.deck, 1e12) == ("the first one", ("nov-0001",))
    with fleet.ledger.write() as connection:
        put_training(connection, begun._replace(state=ACCEPTED, ended_s=2e9))
    assert unfinished(fleet, deck.deck) is None and due(fleet, deck.deck, 1e12)[0] is None
