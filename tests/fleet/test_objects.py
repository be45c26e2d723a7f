"""One contract for all object stores."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import obstore
import pytest
from helpers import fleet_power
from helpers.fleet_stores import KEYS, STORES, careless_s3, object_store, with_prefix

from edge_adapt.store.blobs import blob_name
from robin_cli.bench.cut_disk import cuts_unavailable
from robin_fleet.objects import open_objects
from robin_fleet.objects.interface import Objects
from robin_fleet.objects.own_folder import FolderObjects
from robin_fleet.objects.s3 import S3Objects
from robin_perception.core.errors import Code, RobinError

NUMBERS = itertools.count()


@pytest.fixture(scope="module", params=STORES)
def place(request: pytest.FixtureRequest) -> Iterator[str]:
    with object_store(request.param) as found:
        yield found


@pytest.fixture
def url(place: str) -> str:
    return with_prefix(place, f"robin/{next(NUMBERS)}")


@pytest.fixture
def objects(url: str) -> Objects:
    return open_objects(url)


def refused(code: Code) -> pytest.RaisesExc[RobinError]:
    return pytest.RaisesExc(RobinError, check=lambda exc: exc.code is code)


def blob(number: int, size: int = 1000) -> tuple[str, bytes]:
    data = np.random.default_rng(number).bytes(size)
    return blob_name(data, ".png"), data


def damage(objects: Objects, name: str, data: bytes) -> None:
    """What a disk, or a power cut, did to a blob."""
    if isinstance(objects, FolderObjects):
        (objects.folder / "blobs" / name[:2] / name[2:4] / name).write_bytes(data)
    else:
        assert isinstance(objects, S3Objects)
        obstore.put(objects._store, f"blobs/{name}", data)


def test_a_blob_is_there_once(objects: Objects) -> None:
    name, data = blob(1)
    assert objects.size(name) is None
    assert objects.put(name, data) is True
    assert objects.put(name, data) is False
    assert (objects.get(name), objects.size(name)) == (data, 1000)
    assert list(objects.names()) == [name]
    assert objects.remove(name) is True and objects.remove(name) is False
    assert objects.size(name) is None and list(objects.names()) == []


def test_a_large_blob_and_an_empty_one(objects: Objects) -> None:
    for name, data in (blob(2, 12_000_000), (blob_name(b""), b"")):
        objects.put(name, data)
        assert objects.get(name) == data and objects.size(name) == len(data)


def test_many_at_once(objects: Objects) -> None:
    blobs = dict(blob(number) for number in range(10, 60))
    objects.put_all({**blobs, "decks/d1/a.json": b"{}"})
    objects.put_all(dict(itertools.islice(blobs.items(), 5)))
    objects.put_all({})
    assert set(objects.names()) == {*blobs, "decks/d1/a.json"}
    assert all(objects.get(name) == data for name, data in blobs.items())


def test_keys_of_an_area_never_change(objects: Objects) -> None:
    assert objects.put("decks/d-1/manifest.json", b"one")
    assert objects.put("decks/d-1/manifest.json", b"one") is False
    with refused(Code.OBJECT_TAKEN):
        objects.put("decks/d-1/manifest.json", b"two")
    with refused(Code.OBJECT_TAKEN):
        objects.put_all({"decks/d-1/manifest.json": b"two"})
    assert objects.get("decks/d-1/manifest.json") == b"one"
    objects.put("decks/d-1", b"beside what looks like its folder")
    objects.put("releases/root.json", b"three")
    assert set(objects.names("decks/")) == {"decks/d-1/manifest.json", "decks/d-1"}
    assert set(objects.names("decks/d-1/")) == {"decks/d-1/manifest.json"}
    assert objects.remove("decks/d-1") and objects.get("decks/d-1/manifest.json") == b"one"


@pytest.mark.parametrize(
    "name", ["", "x", "../x", "a/../b", "/a/b", "a//b", "A/b", "a/b\0", "a/.b", "a/b/", "a/" + "b" * 200]
)
def test_other_names_are_refused(objects: Objects, name: str) -> None:
    for call in (
        lambda: objects.put(name, b"x"),
        lambda: objects.put_all({name: b"x"}),
        lambda: objects.get(name),
        lambda: objects.size(name),
        lambda: objects.remove(name),
    ):
        with refused(Code.BLOB_REFUSED):
            call()


def test_a_blob_that_is_not_its_name_is_refused(objects: Objects) -> None:
    name, data = blob(3)
    for call in (lambda: objects.put(name, data[:-1]), lambda: objects.put_all({name: b""})):
        with refused(Code.BLOB_REFUSED):
            call()
    assert list(objects.names()) == []


@pytest.mark.parametrize("harm", ["torn", "flipped", "empty"])
def test_what_was_damaged_is_found_and_put_right(objects: Objects, harm: str) -> None:
    name, data = blob(4)
    objects.put(name, data)
    damage(objects, name, {"torn": data[:10], "flipped": data[:-1] + b"?", "empty": b""}[harm])
    with refused(Code.OBJECT_DAMAGED):
        objects.get(name)
    objects.put(name, data)
    assert objects.get(name) == data


def test_what_is_not_there(objects: Objects) -> None:
    for name in (blob(5)[0], "decks/none.json"):
        with refused(Code.OBJECT_MISSING):
            objects.get(name)


def test_one_of_many_writers_makes_a_key(objects: Objects, url: str) -> None:
    """Each with other content: one wins, the others are told, and the content is the winner's."""
    won: list[bytes] = []
    told: list[Code] = []

    def put(number: int) -> None:
        data = f"writer {number}".encode()
        try:
            open_objects(url).put("decks/d2/manifest.json", data)
            won.append(data)
        except RobinError as exc:
            told.append(exc.code)

    threads = [threading.Thread(target=put, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert won == [objects.get("decks/d2/manifest.json")]
    assert told == [Code.OBJECT_TAKEN] * 5


def test_writers_of_the_same_blobs_do_not_hinder_each_other(objects: Objects, url: str) -> None:
    blobs = dict(blob(number) for number in range(100, 130))
    code = (
        "import sys; from robin_fleet.objects import open_objects; import numpy as np\n"
        "from edge_adapt.store.blobs import blob_name\n"
        "objects = open_objects(sys.argv[1])\n"
        "for number in range(100, 130):\n"
        "    data = np.random.default_rng(number).bytes(1000)\n"
        "    objects.put(blob_name(data, '.png'), data)\n"
    )
    other = subprocess.Popen([sys.executable, "-c", code, url])
    faults: list[BaseException] = []

    def put() -> None:
        try:
            for name, data in blobs.items():
                objects.put(name, data)
        except BaseException as exc:
            faults.append(exc)

    threads = [threading.Thread(target=put) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert faults == [] and other.wait(60) == 0
    assert all(objects.get(name) == data for name, data in blobs.items())


def test_what_a_crash_left_is_removed_when_nobody_writes(tmp_path: Path) -> None:
    first = FolderObjects(tmp_path)
    half = tmp_path / "incoming" / "half"
    half.write_bytes(b"x")
    second = FolderObjects(tmp_path)
    assert half.exists()  # the first one may be writing it
    first.close()
    second.close()
    FolderObjects(tmp_path).close()
    assert not half.exists()


def test_an_endpoint_that_overwrites_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)
    with careless_s3() as url, refused(Code.OBJECTS_UNFIT):
        open_objects(url)


@pytest.mark.parametrize("url", ["", "http://x", "file://host/x", "s3:///x", "s3://fleet?end=x", "/var/x"])
def test_other_stores_are_refused(url: str) -> None:
    with refused(Code.OPTION_INVALID):
        open_objects(url)


def test_an_endpoint_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)
    with refused(Code.OBJECTS_UNREACHABLE):
        open_objects("s3://fleet?endpoint=http://127.0.0.1:1")


def test_wrong_keys_are_refused(place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if "endpoint" not in place:
        pytest.skip("a folder has no keys")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "another")
    try:
        open_objects(with_prefix(place, "wrong"))
    except RobinError as exc:
        assert exc.code is Code.OBJECTS_UNREACHABLE and "another" not in str(exc)
    else:
        assert ":" in place  # moto takes any keys


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with refused(Code.OBJECTS_UNREACHABLE):
        FolderObjects(tmp_path / "file" / "objects")


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["careful", "careless"])
def test_many_objects_survive_a_power_cut(kind: str) -> None:
    """Real cuts; without syncs they must show."""
    if reason := cuts_unavailable():
        pytest.skip(f"no power can be cut here: {reason}")
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as folder:
        command = [sys.executable, fleet_power.__file__, folder, "6", kind]
        done = subprocess.run(command, capture_output=True, text=True, timeout=200, check=True)
    counts = json.loads(done.stdout)
    assert counts["acknowledged"] > 100
    assert (counts["missing"] > 0) == (kind == "careless"), counts
