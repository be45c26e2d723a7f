"""The process that sends is watched: it is started again, says what is wrong, and ends when told to."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest
from helpers.fleet_server import quick_config, running_server, until
from helpers.store_samples import small_sample

from edge_adapt.store.config import StoreConfig
from edge_adapt.store.store import SampleStore
from edge_adapt.uplink.child import UplinkChild
from robin_perception.core.errors import Code


def test_it_sends_is_killed_and_goes_on(tmp_path: Path) -> None:
    with SampleStore(tmp_path / "store", StoreConfig(least_free_mb=0)) as store:
        store.add(small_sample(1))
    with running_server(tmp_path) as fleet:
        child = UplinkChild(fleet.config(tmp_path / "store"))
        faults: list[Code] = []

        def look() -> None:
            faults.extend(fault.code for fault in child.look())
            time.sleep(0.02)

        until(lambda: "record" in fleet.ingest.kinds.values(), look, 3000)
        until(lambda: child.status().get("connected") is True, look, 3000)
        assert faults == [] and child.pid is not None
        os.kill(child.pid, signal.SIGKILL)
        until(lambda: child.restarts == 1 and child.status().get("connected") is True, look, 3000)
        assert set(faults) == {Code.UPLINK_ENDED}
        child.stop()
        assert child.pid is None


def test_a_robot_that_is_not_enrolled_is_told_so_and_tried_again(tmp_path: Path) -> None:
    child, faults = UplinkChild(quick_config(tmp_path / "store", tmp_path / "uplink")), set[Code]()

    def look() -> None:
        faults.update(fault.code for fault in child.look())
        time.sleep(0.02)

    until(lambda: child.restarts >= 2, look, 3000)
    child.stop()
    assert faults == {Code.UPLINK_NOT_ENROLLED}


def test_what_is_lost_is_told_once_it_grows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    child, status = UplinkChild(quick_config(tmp_path / "store", tmp_path / "uplink")), {"lost": 3, "fleet_lost": 0}
    monkeypatch.setattr(child, "status", lambda: status)
    monkeypatch.setattr(child, "_start", lambda: None)
    assert child.look() == [], "lost before this start"
    status |= {"lost": 4}
    assert [fault.code for fault in child.look()] == [Code.UPLINK_LOST] and child.look() == []
    status |= {"fleet_lost": 1, "text": "E802 UPLINK_NOT_ENROLLED: no key"}
    assert {fault.code for fault in child.look()} == {Code.UPLINK_FLEET_LOST, Code.UPLINK_NOT_ENROLLED}
