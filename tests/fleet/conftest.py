"""An ingest over SQLite and a folder, with one enrolled robot."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.fleet_ingest import Clock

from robin_fleet.ingest.ingest import Ingest
from robin_fleet.ledger import robots
from robin_fleet.ledger.core import Ledger, open_ledger
from robin_fleet.objects.own_folder import FolderObjects


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with open_ledger(f"sqlite:///{tmp_path}/l.sqlite") as opened:
        with opened.write() as connection:
            robots.enrol(connection, "r1", "lyon", "", "key1", 1.0)
        yield opened


@pytest.fixture
def objects(tmp_path: Path) -> FolderObjects:
    return FolderObjects(tmp_path / "objects")


@pytest.fixture
def ingest(ledger: Ledger, objects: FolderObjects) -> Ingest:
    return Ingest(ledger, objects, clock=Clock())
