"""Releases over HTTP: robots fetch them there, and nothing else can be had."""

from __future__ import annotations

import http.client
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.cli_helpers import Robin
from helpers.release_samples import ROBOT, SITE, World, world

from edge_adapt.releases.client import ReleaseClient
from edge_adapt.releases.install import follow, running_release
from edge_adapt.releases.release import Assignment, Assignments
from robin_fleet.release import http as served
from robin_fleet.release.http import ReleaseHttp
from robin_perception.core.errors import Code, RobinError


@pytest.fixture
def made(tmp_path: Path) -> World:
    found = world(tmp_path)
    found.release("spring", bundle=found.bundles[1])
    return found


@pytest.fixture
def server(made: World) -> Iterator[ReleaseHttp]:
    found = ReleaseHttp("http://127.0.0.1:0", made.served)
    found.start()
    yield found
    found.close()


def answer(server: ReleaseHttp, path: str, method: str = "GET") -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    connection.putrequest(method, path, skip_host=True)
    connection.endheaders()
    reply = connection.getresponse()
    found = reply.status, reply.read()
    connection.close()
    return found


def test_a_robot_fetches_what_is_assigned(made: World, server: ReleaseHttp) -> None:
    made.repository.assign(SITE, Assignments(robots={ROBOT: Assignment(release="spring")}))
    client = ReleaseClient(made.robot, f"http://127.0.0.1:{server.port}")
    done = follow(client, made.registry, made.robot, SITE, ROBOT)
    assert done is not None and done.active and running_release(made.registry) == "spring"


def test_the_command_fetches_too_and_is_told_where_nobody_answers(
    made: World, server: ReleaseHttp, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    robin = Robin(capsys)
    common = ("--models", tmp_path / "m", "--model", made.bundles[0], "--releases", made.robot, "--release", "spring")
    done = robin("adapt", "fetch", "--url", f"http://127.0.0.1:{server.port}/", *common)
    assert done.status == 0 and "release spring: version 1" in done.out
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        failed = robin("adapt", "fetch", "--url", f"http://127.0.0.1:{free.getsockname()[1]}", *common)
    assert failed.status == 1 and "E871" in failed.err


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/metadata",
        "/metadata/",
        "/staged/root.json",
        "/metadata/../../release-keys/snapshot.pem",
        "/metadata/%2e%2e/%2e%2e/release-keys/snapshot.pem",
        "/metadata/..%2f..%2frelease-keys%2fsnapshot.pem",
        "/metadata/.hidden",
        "/metadata/timestamp.json%00",
        "/targets/link/snapshot.pem",
        "/metadata/link.json",
        "/metadata/pipe.json",
        "/metadata/" + "a" * 2000,
    ],
)
def test_nothing_else_is_served(made: World, server: ReleaseHttp, path: str) -> None:
    (made.served / "metadata" / ".hidden").write_text("no")
    (made.served / "metadata" / "link.json").symlink_to((made.repository.fleet / "release-keys") / "snapshot.pem")
    (made.served / "targets" / "link").symlink_to(made.repository.fleet / "release-keys")
    os.mkfifo(made.served / "metadata" / "pipe.json")
    assert answer(server, path)[0] == 404
    assert answer(server, "/metadata/timestamp.json")[0] == 200


def test_it_only_reads(made: World, server: ReleaseHttp) -> None:
    before = (made.served / "metadata" / "timestamp.json").read_bytes()
    for method in ("PUT", "POST", "DELETE"):
        assert answer(server, "/metadata/timestamp.json", method)[0] == 501
    status, body = answer(server, "/metadata/timestamp.json", "HEAD")
    assert (status, body) == (200, b"") and answer(server, "/metadata/timestamp.json") == (200, before)


def test_beyond_so_many_robots_others_are_turned_away(
    made: World, server: ReleaseHttp, monkeypatch: pytest.MonkeyPatch
) -> None:
    busy = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(served._AT_A_TIME)]
    for one in busy:
        one.sendall(b"GET /metadata/timestamp.json HTTP/1.0\r\n")  # and no end of the request
    with pytest.raises(RobinError) as told:
        ReleaseClient(made.robot, f"http://127.0.0.1:{server.port}").refresh()
    assert told.value.code is Code.RELEASE_UNREACHABLE
    for one in busy:
        one.sendall(b"\r\n")
        while one.recv(65_536):
            pass
        one.close()
    ReleaseClient(made.robot, f"http://127.0.0.1:{server.port}").refresh()


@pytest.mark.parametrize(
    ("listen", "code"),
    [("tcp://127.0.0.1:1", Code.OPTION_INVALID), ("http://127.0.0.1:99999", Code.OPTION_INVALID)],
)
def test_a_wrong_address(made: World, listen: str, code: Code) -> None:
    with pytest.raises(RobinError) as told:
        ReleaseHttp(listen, made.served)
    assert told.value.code is code


def test_an_address_in_use(made: World, server: ReleaseHttp) -> None:
    with pytest.raises(RobinError) as told:
        ReleaseHttp(f"http://127.0.0.1:{server.port}", made.served)
    assert told.value.code is Code.LISTEN_FAILED
