"""Releases from the aggregator to a robot's registry, and every way in which a repository may lie."""

from __future__ import annotations

import functools
import itertools
import json
import shutil
import stat
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from helpers.model_samples import model_of, running
from helpers.release_samples import DAY_S, ROBOT, SITE, Meddled, World, saved, world
from tuf.api.metadata import Metadata

from edge_adapt.releases.client import ROOT_FILE, ReleaseClient, trust
from edge_adapt.releases.install import follow, running_release, take
from edge_adapt.releases.release import Assignment, Assignments, PartKind
from robin_fleet.release.parts import Given, gather
from robin_fleet.release.repository import ReleaseRepository
from robin_perception.core.errors import Code, RobinError


@pytest.fixture
def made(tmp_path: Path) -> World:
    """Release "one" is published, and the robot runs it; "two" is signed and assigned."""
    it = world(tmp_path)
    it.release("one", bundle=it.bundles[1])
    it.repository.assign(SITE, Assignments(robots={ROBOT: Assignment(release="one")}))
    assert follow(it.client(), it.registry, it.robot, SITE, ROBOT) is not None
    return it


def second(made: World) -> None:
    made.release("two", bundle=made.bundles[2])
    made.repository.assign(SITE, Assignments(robots={ROBOT: Assignment(release="two")}))


def followed(made: World, fetcher: Meddled | None = None) -> None:
    follow(made.client(fetcher), made.registry, made.robot, SITE, ROBOT)


def test_a_robot_runs_what_is_assigned_to_it(made: World) -> None:
    assert running(made.registry) == model_of(made.bundles[1])
    assert follow(made.client(), made.registry, made.robot, SITE, ROBOT) is None
    second(made)
    done = follow(made.client(), made.registry, made.robot, SITE, ROBOT)
    assert done is not None and done.active and done.version == 2
    assert running(made.registry) == model_of(made.bundles[2])
    entry = [e for e in made.registry.story().entries if e.event == "added"][-1]
    assert entry.by == "release" and entry.data["source"] == "release" and entry.data["release"] == "two"


def test_only_files_of_the_newest_release_stay_beside_the_registry(made: World) -> None:
    def cached() -> set[str]:
        return {path.name for path in (made.robot / "targets").glob("parts*")}

    before = cached()
    second(made)
    followed(made)
    assert len(cached()) == len(before) and cached() != before


def test_a_robot_fetches_over_http(made: World) -> None:
    second(made)
    handler = functools.partial(SimpleHTTPRequestHandler, directory=str(made.served))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            client = ReleaseClient(made.robot, f"http://127.0.0.1:{server.server_port}")
            done = follow(client, made.registry, made.robot, SITE, ROBOT)
            assert done is not None and done.release == "two" and done.active
        finally:
            server.shutdown()
            thread.join()
    with pytest.raises(RobinError) as refused:
        follow(ReleaseClient(made.robot, "http://127.0.0.1:9"), made.registry, made.robot, SITE, ROBOT)
    assert refused.value.code is Code.RELEASE_UNREACHABLE


def test_a_release_for_trial_is_added_and_does_not_run(made: World) -> None:
    made.release("two", bundle=made.bundles[2])
    made.repository.assign(SITE, Assignments(robots={ROBOT: Assignment(release="two", use="try")}))
    done = follow(made.client(), made.registry, made.robot, SITE, ROBOT)
    assert done is not None and done.version == 2 and not done.active
    assert running(made.registry) == model_of(made.bundles[1])


def test_a_stopped_release_is_gone_back_from_and_stays_away(made: World) -> None:
    second(made)
    followed(made)
    made.repository.assign(SITE, Assignments(back=("two",)))
    done = follow(made.client(), made.registry, made.robot, SITE, ROBOT)
    assert done is not None and done.back and running(made.registry) == model_of(made.bundles[1])
    made.repository.assign(SITE, Assignments(robots={ROBOT: Assignment(release="two")}))
    with pytest.raises(RobinError) as refused:
        followed(made)
    assert refused.value.code is Code.MODEL_PICKS_WORSE and running_release(made.registry) == "one"


def test_a_pinned_version_stays(made: World) -> None:
    second(made)
    made.registry.pin("a person", "inventory")
    with pytest.raises(RobinError) as refused:
        followed(made)
    assert refused.value.code is Code.VERSION_PINNED and running(made.registry) == model_of(made.bundles[1])


def test_parts_are_upgraded_one_by_one(made: World) -> None:
    made.release("head-only", head=made.bundles[2])
    done = take(made.client(), made.registry, made.robot, Assignment(release="head-only"))
    assert list(done.parts) == ["head"] and running(made.registry) == model_of(made.bundles[2])


def test_what_is_no_model_is_kept_beside(made: World, tmp_path: Path) -> None:
    settings = tmp_path / "planner.json"
    settings.write_text('{"candidates": 40}')
    made.release("settings", configuration=settings)
    done = take(made.client(), made.registry, made.robot, Assignment(release="settings"))
    place = made.robot / "parts" / "configuration"
    assert done.version is None
    kept = place / (place / "current").read_text() / "configuration.json"
    assert json.loads(kept.read_text()) == {"candidates": 40}


def test_a_part_for_another_trunk_is_refused(made: World) -> None:
    release, files = gather("odd", Given(head=made.bundles[2]))
    head = release.parts[0].model_copy(update={"trunk": "0" * 64, "version": "odd"})
    files = {f"{head.folder}/{path.rsplit('/', 1)[1]}": data for path, data in files.items()}
    made.repository.add(release.model_copy(update={"parts": (head,)}), files)
    made.repository.sign(made.keys)
    with pytest.raises(RobinError) as refused:
        take(made.client(), made.registry, made.robot, Assignment(release="odd"))
    assert refused.value.code is Code.RELEASE_INCOMPATIBLE and "upgrade the trunk first" in refused.value.text


def test_a_new_trunk_leaves_out_what_was_made_for_the_old_one(made: World) -> None:
    base, _ = gather("base", Given(head=made.bundles[1]))
    release, _ = gather("next", Given(bundle=made.bundles[2], base=base))
    assert [part.kind for part in release.parts] == [PartKind.TRUNK]


def test_a_version_of_a_part_never_changes(made: World) -> None:
    release, files = gather("one", Given(bundle=made.bundles[2]))
    with pytest.raises(RobinError) as refused:
        made.repository.add(release, files)
    assert refused.value.code is Code.RELEASE_INVALID


def test_code_is_no_part(made: World, tmp_path: Path) -> None:
    source = tmp_path / "settings.py"
    source.write_text("print(1)")
    with pytest.raises(RobinError) as refused:
        gather("code", Given(configuration=source))
    assert refused.value.code is Code.CONFIG_UNREADABLE


# What lies. Each prepares (repository, server) after which the robot must refuse, and keep what runs.


def tampered_file(made: World) -> Meddled:
    def meddle(url: str, content: bytes) -> Iterator[bytes] | None:
        return iter([content[:-1] + bytes([content[-1] ^ 1])]) if "/targets/parts/" in url else None

    return Meddled(meddle)


def tampered_word(made: World) -> Meddled:
    def meddle(url: str, content: bytes) -> Iterator[bytes] | None:
        return iter([content.replace(b'"version":', b'"version":1')]) if "timestamp" in url else None

    return Meddled(meddle)


def rolled_back(made: World) -> None:
    old = saved(made)
    made.release("three", bundle=made.bundles[2])
    made.client().refresh()
    shutil.rmtree(made.served)
    shutil.copytree(old, made.served)


def mixed_snapshot(made: World) -> None:
    newest = sorted(made.served.glob("metadata/*.snapshot.json"), key=lambda p: int(p.name.split(".")[0]))
    newest[-1].write_bytes(newest[-2].read_bytes())


def mixed_targets(made: World) -> None:
    newest = sorted(made.served.glob("metadata/*.targets.json"), key=lambda p: int(p.name.split(".")[0]))
    newest[-1].write_bytes(newest[-2].read_bytes())


def endless_word(made: World) -> Meddled:
    return Meddled(lambda url, _: itertools.repeat(b"x" * 1000) if "timestamp" in url else None)


def endless_file(made: World) -> Meddled:
    return Meddled(lambda url, _: itertools.repeat(b"x" * 1000) if "/targets/" in url else None)


def too_few_keys(made: World) -> None:
    few = made.folder / "one-key"
    few.mkdir()
    shutil.copy(made.keys / "root-1.pem", few)
    made.repository.renew("root")
    assert [(s.signed, s.threshold, s.complete) for s in made.repository.sign(few)] == [(1, 2, False)]
    shutil.copy(made.served / "staged" / "root.json", made.served / "metadata" / "2.root.json")


def another_root(made: World) -> None:
    other = ReleaseRepository(made.folder / "other", made.clock)
    other.init(made.folder / "other-keys", (SITE,))
    other.renew("root")
    other.sign(made.folder / "other-keys")
    shutil.copy(other.metadata / "2.root.json", made.served / "metadata")


def gone(made: World) -> None:
    (made.served / "metadata" / "timestamp.json").unlink()


@pytest.mark.parametrize(
    ("lie", "code"),
    [
        (tampered_file, Code.RELEASE_TAMPERED),
        (tampered_word, Code.RELEASE_TAMPERED),
        (rolled_back, Code.RELEASE_ROLLED_BACK),
        (mixed_snapshot, Code.RELEASE_MIXED),
        (mixed_targets, Code.RELEASE_MIXED),
        (endless_word, Code.RELEASE_ENDLESS),
        (endless_file, Code.RELEASE_ENDLESS),
        (too_few_keys, Code.RELEASE_UNSIGNED),
        (another_root, Code.RELEASE_UNSIGNED),
        (gone, Code.RELEASE_UNREACHABLE),
    ],
    ids=lambda value: getattr(value, "__name__", None) or value.name,
)
def test_a_lie_is_refused_and_what_runs_goes_on(made: World, lie: object, code: Code) -> None:
    second(made)
    server = lie(made)  # type: ignore[operator]
    before = made.registry.state()
    with pytest.raises(RobinError) as refused:
        followed(made, server)
    assert refused.value.code is code
    assert made.registry.state() == before and running(made.registry) == model_of(made.bundles[1])
    if server is not None:
        assert server.sent < 2_000_000


@pytest.mark.parametrize(
    ("days_ago", "refreshed", "what"), [(3, False, "timestamp"), (400, True, "root")], ids=["frozen", "expired root"]
)
def test_a_word_that_is_out_of_date_is_refused(tmp_path: Path, days_ago: float, refreshed: bool, what: str) -> None:
    it = world(tmp_path, days_ago=days_ago)
    if refreshed:
        it.clock.now_s += days_ago * DAY_S
        it.repository.refresh()
    with pytest.raises(RobinError) as refused:
        followed(it)
    assert refused.value.code is Code.RELEASE_EXPIRED and what in refused.value.text
    assert running(it.registry) == model_of(it.bundles[0])


def test_a_frozen_repository_is_fresh_again_after_refresh(tmp_path: Path) -> None:
    it = world(tmp_path, days_ago=3)
    it.clock.now_s += 3 * DAY_S
    it.repository.refresh()
    it.client().refresh()


def test_a_site_cannot_name_files_of_releases(made: World) -> None:
    """Whoever holds the aggregator's own keys can say who runs what, and nothing about what a release is."""
    path = max(made.served.glob("metadata/*.site-north.json"), key=lambda p: int(p.name.split(".")[0]))
    signed = Metadata.from_file(str(path)).signed
    targets = Metadata.from_file(str(max(made.served.glob("metadata/*.targets.json")))).signed
    signed.targets |= {p.replace("one", "forged"): t for p, t in targets.targets.items()}  # type: ignore[attr-defined]
    signed.version += 1
    made.repository._signed_here("site-north", signed)  # type: ignore[arg-type]
    made.repository.refresh()
    client = made.client()
    client.refresh()
    with pytest.raises(RobinError) as refused:
        client.release("forged")
    assert refused.value.code is Code.RELEASE_UNKNOWN


def test_updates_cannot_replace_the_trusted_root(made: World) -> None:
    trusted = made.robot / ROOT_FILE
    before = trusted.read_bytes()
    made.repository.renew("root")
    assert all(one.complete for one in made.repository.sign(made.keys))
    made.client().refresh()
    assert trusted.read_bytes() == before and stat.S_IMODE(trusted.stat().st_mode) == 0o444
    assert (made.robot / "metadata" / "root_history" / "2.root.json").exists()
    with pytest.raises(RobinError) as refused:
        trust(made.robot, b"{}")
    assert refused.value.code is Code.RELEASE_ROOT_INVALID


def test_a_root_that_was_slipped_into_the_metadata_is_not_believed(made: World) -> None:
    """Trust begins with the file of enrolment each time, whatever lies where updates are written."""
    other = ReleaseRepository(made.folder / "other", made.clock)
    root = other.init(made.folder / "other-keys", (SITE,))
    metadata = made.robot / "metadata"
    shutil.rmtree(metadata)
    (metadata / "root_history").mkdir(parents=True)
    (metadata / "root_history" / "1.root.json").write_bytes(root)
    (metadata / "root.json").write_bytes(root)
    with pytest.raises(RobinError) as refused:
        ReleaseClient(made.robot, str(other.folder)).refresh()
    assert refused.value.code is Code.RELEASE_TAMPERED


def test_root_keys_lie_outside_the_fleet_and_all_keys_are_private(made: World, tmp_path: Path) -> None:
    with pytest.raises(RobinError) as refused:
        ReleaseRepository(tmp_path / "f2").init(tmp_path / "f2" / "keys", ())
    assert refused.value.code is Code.RELEASE_KEY_INVALID
    keys = [*made.keys.glob("*.pem"), *made.repository.fleet.rglob("*.pem")]
    assert len(keys) == 7 and all(stat.S_IMODE(path.stat().st_mode) == 0o600 for path in keys)
    (made.keys / "targets.pem").chmod(0o644)
    with pytest.raises(RobinError) as refused:
        made.repository.sign(made.keys)
    assert refused.value.code is Code.RELEASE_KEY_INVALID


def test_root_needs_its_threshold_of_keys_from_different_places(made: World) -> None:
    for number in (1, 2):
        (made.folder / f"stick-{number}").mkdir()
        shutil.move(made.keys / f"root-{number}.pem", made.folder / f"stick-{number}")
    made.repository.renew("root")
    assert not made.repository.sign(made.folder / "stick-1")[0].complete
    assert [one.role for one in made.repository.waiting()] == ["root"]
    assert made.repository.sign(made.folder / "stick-2")[0].complete
    assert made.repository.waiting() == [] and (made.repository.metadata / "2.root.json").exists()
    made.client().refresh()


def test_a_site_that_comes_later(made: World) -> None:
    with pytest.raises(RobinError) as refused:
        made.repository.assign("south", Assignments())
    assert refused.value.code is Code.RELEASE_UNKNOWN
    made.repository.add_site("south")
    made.repository.sign(made.keys)
    made.repository.assign("south", Assignments(robots={"cell-9": Assignment(release="one")}))
    client = made.client()
    client.refresh()
    assert list(client.assignments("south").robots) == ["cell-9"]
