"""Keys of a repository are exchanged while robots go on."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from helpers.cli_helpers import Robin
from helpers.release_samples import ROBOT, SITE, World, world

from edge_adapt.releases.install import follow, running_release
from edge_adapt.releases.release import Assignment, Assignments
from robin_fleet.release.keys import read_key
from robin_perception.core.errors import Code, RobinError


@pytest.fixture
def made(tmp_path: Path) -> World:
    found = world(tmp_path)
    found.release("spring", bundle=found.bundles[1])
    found.client().refresh()  # the robot has seen it before
    return found


def goes_on(made: World) -> None:
    """The robot that trusts the first root does what is assigned now."""
    made.repository.assign(SITE, Assignments(robots={ROBOT: Assignment(release="spring")}))
    follow(made.client(), made.registry, made.robot, SITE, ROBOT)
    assert running_release(made.registry) == "spring"


def test_a_root_key_is_replaced_by_the_signatures_of_the_old_ones_and_the_new(made: World, tmp_path: Path) -> None:
    lost = read_key(made.keys / "root-3.pem").public_key.keyid
    new = made.repository.exchange("root", tmp_path / "new", lost)
    (made.keys / "root-3.pem").unlink()
    assert lost in made.repository.keys_of("root")
    (waits,) = made.repository.sign(tmp_path / "new")
    assert not waits.complete and waits.signed == 0  # the old ones have not said so
    (done,) = made.repository.sign(made.keys)
    assert done.complete and new in made.repository.keys_of("root") and lost not in made.repository.keys_of("root")
    goes_on(made)


def test_what_was_dropped_counts_no_more(made: World, tmp_path: Path) -> None:
    stolen = made.keys / "root-1.pem"
    made.repository.exchange("root", tmp_path / "new", read_key(stolen).public_key.keyid)
    made.repository.sign(made.keys)
    made.repository.sign(tmp_path / "new")
    shutil.copy(stolen, tmp_path / "root-1.pem")
    made.repository.renew("root")
    with pytest.raises(RobinError):
        made.repository.sign(tmp_path / "nothing")
    (tmp_path / "thief").mkdir()
    shutil.copy(stolen, tmp_path / "thief" / "root-1.pem")
    (waits,) = made.repository.sign(tmp_path / "thief")
    assert not waits.complete and waits.signed == 0


@pytest.mark.parametrize("role", ["snapshot", "timestamp", f"site-{SITE}"])
def test_a_key_that_lies_here_is_replaced(made: World, role: str) -> None:
    place = made.repository.fleet / "release-keys" / f"{role}.pem"
    old = place.read_bytes()
    made.repository.exchange(role)
    made.repository.refresh()
    goes_on(made)  # by the old key, as long as nobody has signed
    assert place.read_bytes() == old
    made.repository.sign(made.keys)
    assert place.read_bytes() != old and not list(place.parent.glob("*.next.pem"))
    goes_on(made)
    place.write_bytes(old)
    made.repository.assign(SITE, Assignments(back=("spring",)))
    with pytest.raises(RobinError) as told:
        client = made.client()
        client.refresh()
        client.assignments(SITE)
    assert told.value.code in (Code.RELEASE_UNSIGNED, Code.RELEASE_TAMPERED)


def test_the_key_of_targets_is_replaced(made: World, tmp_path: Path) -> None:
    old = read_key(made.keys / "targets.pem").public_key.keyid
    made.repository.exchange("targets", tmp_path / "new")
    made.repository.sign(made.keys)
    done = made.repository.sign(tmp_path / "new")
    assert all(one.complete for one in done) and made.repository.waiting() == []
    assert old not in made.repository.keys_of("targets")
    goes_on(made)


@pytest.mark.parametrize(
    ("role", "folder", "drop", "code"),
    [
        ("root", None, "", Code.RELEASE_KEY_INVALID),
        ("snapshot", "new", "", Code.RELEASE_KEY_INVALID),
        ("root", "fleet/keys", "", Code.RELEASE_KEY_INVALID),
        ("root", "new", "0" * 64, Code.RELEASE_UNKNOWN),
        ("site-nowhere", None, "", Code.RELEASE_UNKNOWN),
    ],
)
def test_what_cannot_be(made: World, tmp_path: Path, role: str, folder: str | None, drop: str, code: Code) -> None:
    with pytest.raises(RobinError) as told:
        made.repository.exchange(role, None if folder is None else tmp_path / folder, drop)
    assert told.value.code is code and made.repository.waiting() == []


def test_by_command(made: World, capsys: pytest.CaptureFixture[str]) -> None:
    robin, common = Robin(capsys), ("--fleet", made.repository.fleet)
    told = robin("fleet", "release", "key", SITE, *common)
    assert told.status == 0 and f"site-{SITE}: new key" in told.out and "targets" in told.out
    assert robin("fleet", "release", "sign", "--keys", made.keys, *common).status == 0
    assert "keys of root: " in robin("fleet", "release", "list", *common).out
    goes_on(made)
