"""Unfamiliar goods over time: what is counted, what gets a name, what is kept, and what is held back."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from helpers.novelty_samples import frame_with, scene_of

from robin_perception.core import disk
from robin_perception.core.condition import Condition, Family, PickingEffect
from robin_perception.core.errors import Code
from robin_perception.core.frame import Frame
from robin_perception.core.scene import Scene
from robin_perception.novelty.store import STORE_FILE, NoveltyStore, require_store
from robin_perception.novelty.watch import HELD_FLAG, NoveltyWatch, WatchConfig, held_flags, sightings

RED, BLUE, GREEN = (200, 30, 40), (30, 40, 190), (40, 170, 60)
DARK = Condition(Code.FRAME_NONE, "dark", Family.ENVIRONMENT, 1, 0, "", 0, PickingEffect.LOOK_AGAIN, "dark")


def moment(colour: tuple[int, int, int], stamp_s: float, novelty: float = 2.0) -> tuple[Frame, Scene]:
    """One parcel of that colour, unfamiliar by default."""
    return frame_with(colour, (120, 120, 120), stamp_s=stamp_s), scene_of(1, novelty, stamp_s=stamp_s)


def observe(watch: NoveltyWatch, frame: Frame, scene: Scene) -> tuple[Condition, ...]:
    return watch.count(sightings(frame, scene), scene.stamp_s)


def hourly(watch: NoveltyWatch, colour: tuple[int, int, int], count: int, first_s: float = 0.0) -> list[Condition]:
    """Conditions of each of ``count`` sightings, an hour apart."""
    return [c for k in range(count) for c in observe(watch, *moment(colour, first_s + 3600.0 * k))]


def test_a_look_gets_a_name_when_it_has_come_three_times() -> None:
    watch = NoveltyWatch(WatchConfig())
    told = hourly(watch, RED, 4)
    assert [c.name for c in told] == ["unfamiliar", "unfamiliar", "novel-01", "novel-01"]
    assert [c.code for c in told] == [Code.GOODS_UNFAMILIAR] * 2 + [Code.GOODS_RECURRING] * 2
    assert all(c.family is Family.NOVELTY and c.instances == (1,) and c.value == 2.0 for c in told)
    assert watch.looks[0].count == 4


def test_looks_that_differ_are_counted_apart() -> None:
    watch = NoveltyWatch(WatchConfig())
    hourly(watch, RED, 3)
    told = hourly(watch, BLUE, 3, first_s=90_000.0)
    assert told[-1].name == "novel-02"
    assert [look.count for look in watch.looks] == [3, 3]


def test_a_parcel_that_stays_where_it_lies_is_one_sighting() -> None:
    watch = NoveltyWatch(WatchConfig())
    for k in range(50):
        observe(watch, *moment(RED, 0.2 * k))
    assert watch.looks[0].count == 1


def test_what_lies_there_after_the_goods_were_exchanged_is_another_sighting() -> None:
    watch = NoveltyWatch(WatchConfig())
    for _ in range(3):
        told = observe(watch, *moment(RED, 0.2))
        watch.exchanged()
    assert (watch.looks[0].count, told[0].name) == (3, "novel-01")


def test_familiar_and_unmeasured_parcels_are_not_counted() -> None:
    watch = NoveltyWatch(WatchConfig())
    for novelty in (0.9, float("nan")):
        assert observe(watch, *moment(RED, 0.0, novelty)) == ()
    assert watch.looks == ()


def test_nothing_is_counted_while_the_environment_is_not_as_it_should_be() -> None:
    watch = NoveltyWatch(WatchConfig())
    frame, scene = moment(RED, 0.0)
    held = replace(scene, conditions=(DARK,))
    assert observe(watch, frame, held) == ()
    assert watch.looks == ()
    assert (held_flags(held), held_flags(scene)) == ((HELD_FLAG,), ())


def test_since_is_the_first_scene_in_a_row_that_shows_it() -> None:
    watch = NoveltyWatch(WatchConfig())
    first, second = (observe(watch, *moment(RED, stamp_s))[0] for stamp_s in (5.0, 6.0))
    observe(watch, *moment(RED, 7.0, novelty=0.1))
    third = observe(watch, *moment(RED, 8.0))[0]
    assert (first.since_s, second.since_s, third.since_s) == (5.0, 5.0, 8.0)


def test_names_counts_and_pictures_survive_a_restart(tmp_path: Path) -> None:
    config = WatchConfig(folder=tmp_path / "goods")
    hourly(NoveltyWatch(config), RED, 3)
    watch = NoveltyWatch(config)
    told = observe(watch, *moment(RED, 50_000.0))
    assert (told[0].name, watch.looks[0].count) == ("novel-01", 4)
    look = watch.looks[0]
    pictures = [tmp_path / "goods" / look.key / name for name in look.pictures]
    assert len(pictures) == 4 and all(path.read_bytes()[:2] == b"\xff\xd8" for path in pictures)
    assert hourly(watch, BLUE, 3, first_s=90_000.0)[-1].name == "novel-02"


def test_a_clock_that_jumps_back_loses_nothing(tmp_path: Path) -> None:
    watch = NoveltyWatch(WatchConfig(folder=tmp_path))
    hourly(watch, RED, 3, first_s=1e6)
    assert observe(watch, *moment(RED, 10.0))[0].name == "novel-01"


def test_pictures_and_looks_are_bounded_and_what_has_a_name_stays(tmp_path: Path) -> None:
    watch = NoveltyWatch(WatchConfig(folder=tmp_path, most_looks=2, most_pictures=2))
    hourly(watch, RED, 5)
    hourly(watch, BLUE, 1, first_s=90_000.0)
    hourly(watch, GREEN, 1, first_s=190_000.0)
    assert [look.count for look in watch.looks] == [5, 1]
    folders = {path.name: sorted(p.name for p in path.iterdir()) for path in tmp_path.iterdir() if path.is_dir()}
    assert len(folders) == 2
    assert folders[watch.looks[0].key] == ["000001.jpg", "000005.jpg"]


@pytest.mark.parametrize("damage", ["{", "[]", '{"looks": [{"key": "../up"}], "next_key": 1, "next_name": 1}'])
def test_a_damaged_store_is_put_aside_and_told(tmp_path: Path, damage: str) -> None:
    (tmp_path / STORE_FILE).write_text(damage)
    watch = NoveltyWatch(WatchConfig(folder=tmp_path))
    assert watch.fault is not None and watch.fault.code is Code.NOVELTY_STORE_DAMAGED
    assert (tmp_path / "novelties.damaged.json").read_text() == damage
    observe(watch, *moment(RED, 0.0))
    assert watch.fault is None
    assert len(json.loads((tmp_path / STORE_FILE).read_text())["looks"]) == 1


def test_a_full_disk_is_told_and_counting_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    watch = NoveltyWatch(WatchConfig(folder=tmp_path))

    def full(path: Path, data: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(disk, "write_synced", full)
    hourly(watch, RED, 3)
    assert watch.fault is not None and watch.fault.code is Code.DISK_FULL
    assert watch.looks[0].name == "novel-01"
    monkeypatch.undo()
    hourly(watch, RED, 1, first_s=90_000.0)
    assert watch.fault is None
    assert NoveltyStore(tmp_path, 64, 8).looks[watch.looks[0].key].count == 4


def test_a_folder_without_a_store_is_a_numbered_reason(tmp_path: Path) -> None:
    with pytest.raises(Exception, match="E101"):
        require_store(tmp_path / STORE_FILE)
