"""A robot's store goes to the fleet: whole, once, in the right order, through whatever happens on the way."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from helpers.fleet_server import MemoryIngest, quick_config, running_server, until
from helpers.store_samples import SMALL, small_sample

from edge_adapt.store.config import StoreConfig
from edge_adapt.store.store import SampleStore, StoreReader
from edge_adapt.uplink.client import UplinkClient, read_status
from edge_adapt.uplink.identity import load_identity
from robin_perception.core.errors import Code, RobinError

ROOMY = StoreConfig(least_free_mb=0, core_per_stratum=0)


def filled(folder: Path, count: int, size: int = 3000) -> set[str]:
    """Names of all blobs."""
    with SampleStore(folder, ROOMY) as store:
        for number in range(count):
            result = ("clean", "miss")[number % 2]
            store.add(small_sample(number, size, result=result, novel=number % 5 == 4))
        return {name for name, _ in store.index.blobs()}


def client_of(config) -> UplinkClient:  # type: ignore[no-untyped-def]
    return UplinkClient(config, load_identity(config.folder))


def test_everything_arrives_once_with_records_behind_their_files(tmp_path: Path) -> None:
    names = filled(tmp_path / "store", 20, 700_000)
    with running_server(tmp_path) as fleet:
        client = client_of(fleet.config(tmp_path / "store"))
        until(lambda: client.is_idle, client.step)
        client.close()
    got = {name for name, kind in fleet.ingest.kinds.items() if kind in ("file", "record")}
    assert got == names and max(fleet.ingest.calls.values()) == 1
    with StoreReader(tmp_path / "store") as reader:
        for sample in reader.pending():
            places = [fleet.ingest.order.index(name) for name, _ in sample.blobs]
            assert max(places) == fleet.ingest.order.index(sample.record)
    with SampleStore(tmp_path / "store") as store:
        assert store.pending() == []
    assert fleet.server.figures()["credit_bytes"] == 0
