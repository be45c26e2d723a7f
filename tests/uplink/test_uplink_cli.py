"""The commands of both ends: a robot is enrolled, sends, is revoked; what is wrong is one line."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.cli_helpers import Robin
from helpers.fleet_server import free_port
from helpers.store_samples import small_sample

from edge_adapt.store.config import StoreConfig
from edge_adapt.store.store import SampleStore


@pytest.fixture
def robin(capsys: pytest.CaptureFixture[str]) -> Robin:
    return Robin(capsys)


@pytest.fixture
def endpoint(tmp_path: Path) -> Iterator[str]:
    """``robin fleet up`` on a free port, ended by Ctrl-C."""
    listen = f"tcp://127.0.0.1:{free_port()}"
    command = [sys.executable, "-m", "robin_cli.main", "fleet", "up", "--fleet", str(tmp_path / "fleet")]
    command += ["--listen", listen, "--json", str(tmp_path / "up.json")]
    with subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        assert server.stderr is not None
        assert "listening" in server.stderr.readline()
        yield listen
        server.send_signal(signal.SIGINT)
        out, err = server.communicate(timeout=60)
        assert server.returncode == 0, err
        assert "1 blobs" in out and "2 refused" in out, "the report; random bytes are no pictures"


def test_a_robot_from_its_token_to_the_end_of_its_key(
    robin: Robin, endpoint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ROBIN_FLEET", str(tmp_path / "fleet"))
    assert robin("fleet", "token", "--site", "lyon", "--station", "belt.1", "--json", tmp_path / "t.json").status == 0
    made = json.loads((tmp_path / "t.json").read_text())
    given = ("--token", made["token"], "--server-key", made["server_key"], "--uplink", tmp_path / "uplink")
    done = robin("uplink", "enrol", endpoint, *given, "--json", tmp_path / "e.json")
    assert done.status == 0, done.err
    robot = json.loads((tmp_path / "e.json").read_text())["robot"]
    assert robot.startswith("lyon-belt.1-")
    assert robin("uplink", "enrol", endpoint, *given[:4], "--uplink", tmp_path / "other").status == 1

    with SampleStore(tmp_path / "store", StoreConfig(least_free_mb=0)) as store:
        store.add(small_sample(1))
    folders = ("--store", tmp_path / "store", "--uplink", tmp_path / "uplink")
    done = robin("uplink", "run", "--once", *folders, "--json", tmp_path / "r.json")
    assert done.status == 0, done.err
    sent = json.loads((tmp_path / "r.json").read_text())
    assert sent["robot"] == robot and sent["blobs"] + sent["refused"] >= 1
    done = robin("uplink", "status", "--uplink", tmp_path / "uplink")
    assert done.status == 0 and robot in done.out

    assert robin("fleet", "keys", "--json", tmp_path / "k.json").status == 0
    keys = json.loads((tmp_path / "k.json").read_text())
    assert keys["server_key"] == made["server_key"] and [one["robot"] for one in keys["robots"]] == [robot]
    assert robin("fleet", "revoke", robot).status == 0
    assert robin("fleet", "revoke", "nobody").status == 2
    assert os.stat(tmp_path / "uplink" / "identity.json").st_mode & 0o777 == 0o600


def test_what_is_wrong_is_one_line(robin: Robin, tmp_path: Path) -> None:
    nowhere = tmp_path / "nowhere"
    done = robin("uplink", "run", "--uplink", nowhere, "--store", nowhere)
    assert done.status != 0 and "E802" in done.err and "robin uplink enrol" in done.err
    assert "E802" in robin("uplink", "status", "--uplink", nowhere).err
    done = robin("uplink", "enrol", "host", "--token", "A" * 40, "--server-key", "k", "--uplink", nowhere)
    assert done.status == 2 and "tcp://host:port" in done.err
    done = robin("uplink", "enrol", "tcp://h:1", "--token", "A" * 40, "--server-key", "k", "--uplink", nowhere)
    assert done.status == 2 and "40 characters" in done.err
    done = robin("fleet", "token", "--fleet", tmp_path, "--site", "../x", "--station", "s")
    assert done.status == 2 and "--site" in done.err
    assert "E821" in robin("fleet", "keys", "--fleet", nowhere).err
    done = robin("fleet", "up", "--fleet", tmp_path / "f", "--listen", "udp://x")
    assert done.status == 2 and "tcp://host:port" in done.err
