"""A robot's store goes to the fleet: whole, once, in the right order, through whatever happens on the way."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.fleet_server import MemoryIngest, quick_config, running_server, until
from helpers.store_samples import small_sample

from edge_adapt.store.acks import Ack, AckLog, Word
from edge_adapt.store.blobs import blob_name
from edge_adapt.store.config import StoreConfig
from edge_adapt.store.store import SampleStore, StoreReader
from edge_adapt.uplink.client import UplinkClient, read_status
from edge_adapt.uplink.config import UplinkConfig
from edge_adapt.uplink.identity import load_identity
from edge_adapt.uplink.reports import Outbox
from edge_adapt.uplink.samples import Turns
from robin_perception.core.errors import Code, RobinError

ROOMY = StoreConfig(least_free_mb=0, core_per_stratum=0, grace_h=1.0)


def filled(folder: Path, count: int, size: int = 3000) -> set[str]:
    """Names of all blobs."""
    with SampleStore(folder, ROOMY) as store:
        for number in range(count):
            result = ("clean", "miss")[number % 2]
            store.add(small_sample(number, size, result=result, novel=number % 5 == 4))
        return {name for name, _ in store.index.blobs()}


def client_of(config: UplinkConfig, **more: object) -> UplinkClient:
    return UplinkClient(config, load_identity(config.folder), **more)  # type: ignore[arg-type]


def sent(config: UplinkConfig, **more: object) -> UplinkClient:
    """A client that has sent everything, closed."""
    client = client_of(config, **more)
    until(lambda: client.is_idle, client.step)
    client.close()
    return client


def samples_of(ingest: MemoryIngest) -> set[str]:
    return {name for name, kind in ingest.kinds.items() if kind in ("file", "record")}


def test_everything_arrives_once_with_records_behind_their_files(tmp_path: Path) -> None:
    names = filled(tmp_path / "store", 20, 700_000)
    with running_server(tmp_path) as fleet:
        sent(fleet.config(tmp_path / "store"))
    assert samples_of(fleet.ingest) == names and max(fleet.ingest.calls.values()) == 1
    with StoreReader(tmp_path / "store") as reader:
        for sample in reader.pending():
            places = [fleet.ingest.order.index(name) for name, _ in sample.blobs]
            assert max(places) == fleet.ingest.order.index(sample.record)
    with SampleStore(tmp_path / "store") as store:
        assert store.pending() == []
    figures = fleet.server.figures()
    assert figures["credit_bytes"] == 0 and figures["partial_bytes"] == 0


def test_what_was_acknowledged_is_not_offered_again_after_a_restart(tmp_path: Path) -> None:
    filled(tmp_path / "store", 10)
    with running_server(tmp_path) as fleet:
        config = fleet.config(tmp_path / "store")
        sent(config)
        again = sent(config)  # the store's writer has taken nothing over yet
        assert again.counts["had"] == 0 and fleet.server.figures().get("had", 0) == 0


def test_it_goes_on_after_the_server_was_away(tmp_path: Path) -> None:
    names, ingest = filled(tmp_path / "store", 12, 900_000), MemoryIngest()
    with running_server(tmp_path, ingest=ingest) as fleet:
        port = int(fleet.endpoint.rpartition(":")[2])
        config = fleet.config(tmp_path / "store", rate_mbit=200.0)
        client = client_of(config)
        until(lambda: len(samples_of(ingest)) > 3, client.step)
    until(lambda: client.failure is not None, client.step)
    assert client.failure is not None and client.failure.code is Code.UPLINK_UNREACHABLE
    for _ in range(3):
        client.step()
    with running_server(tmp_path, ingest=ingest, port=port) as fleet:
        until(lambda: client.is_idle, client.step)
    client.close()
    assert samples_of(ingest) == names
    assert {name: ingest.calls[name] for name in names} == dict.fromkeys(names, 1)
    assert client.counts["resets"] > 0 and client.counts["connections"] == 2


def test_a_fleet_that_is_not_there_is_waited_for(tmp_path: Path) -> None:
    filled(tmp_path / "store", 2)
    with running_server(tmp_path) as fleet:
        config = fleet.config(tmp_path / "store")
    client = client_of(config)
    until(lambda: client.counts["resets"] > 3, client.step)
    status = client.status()
    assert (status["code"], status["connected"]) == (int(Code.UPLINK_UNREACHABLE), False)
    client.close()


def test_reports_go_first_then_what_failed_or_is_unfamiliar(tmp_path: Path) -> None:
    filled(tmp_path / "store", 60, 200)
    decisions = tmp_path / "decisions"
    decisions.mkdir()
    lines = [json.dumps({"decision_id": f"d{number}"}) for number in range(70)]
    (decisions / "decisions.jsonl").write_text("\n".join(lines) + "\n" + '{"decision_id": "torn')
    with running_server(tmp_path) as fleet:
        config = fleet.config(tmp_path / "store", decisions=decisions, transfers=1)
        Outbox(config.folder, 10**6).put(b'{"format": 1}')
        sent(config)
        kinds = [fleet.ingest.kinds[name] for name in fleet.ingest.order]
        assert kinds[:2] == ["metrics", "metrics"] and kinds[2:72] == ["decision"] * 70
        assert {blob_name(line.encode(), ".json") for line in lines} < set(fleet.ingest.blobs_kept)
        records = [
            json.loads(fleet.ingest.blobs_kept[n]) for n in fleet.ingest.order if fleet.ingest.kinds[n] == "record"
        ]
        shares = [record["share"] for record in records]
        assert shares[:8].count("novelty") + shares[:8].count("failure") == 7, "the rest does not starve"
        with (decisions / "decisions.jsonl").open("a") as stream:
            stream.write(' whole"}\n')
        assert sent(config).counts["had"] == 0
        assert len(fleet.ingest.order) == len(kinds) + 2, "one decision and one report more"


def test_no_share_waits_forever() -> None:
    turns, taken = Turns({"urgent": 8, "bulk": 1}), []
    for _ in range(90):
        taken.append(turns.order(["urgent", "bulk"])[0])
        turns.taken(taken[-1], ["urgent", "bulk"])
    assert taken[0] == "urgent" and taken.count("bulk") == 10
    assert turns.order(["bulk"]) == ["bulk"]


def test_what_the_fleet_has_lost_is_sent_again_before_it_counts_as_safe(tmp_path: Path) -> None:
    store, now = tmp_path / "store", [1e9]
    names = filled(store, 4)
    with running_server(tmp_path) as fleet:
        config = fleet.config(store, check_s=0.1)
        sent(config)
        with SampleStore(store, clock=lambda: now[0]) as writer:
            assert writer.pending() == []
            lost = writer.index.samples()
            record = next(iter(lost)).record
        sent(config, wall=lambda: now[0] + 1800)
        assert not any(ack.word is Word.CHECKED for ack in AckLog(store))
        del fleet.ingest.blobs_kept[record]
        client = sent(config, wall=lambda: now[0] + 3700)
        assert samples_of(fleet.ingest) == names and fleet.ingest.calls[record] == 2
        acks = list(AckLog(store))
        assert sum(ack.word is Word.CHECKED for ack in acks) == 3 and Ack(Word.CHECKED, record) not in acks
        assert client.status()["fleet_lost"] == 1
        with SampleStore(store, clock=lambda: now[0] + 4000) as writer:
            assert len(writer.unchecked(now[0] + 8000)) == 1


def test_what_is_damaged_is_refused_once_and_told(tmp_path: Path) -> None:
    store = tmp_path / "store"
    filled(store, 3)
    with StoreReader(store) as reader:
        victim = reader.pending()[0]
        path = reader.blobs.path(victim.blobs[0][0])
    path.write_bytes(b"x" * path.stat().st_size)
    with running_server(tmp_path) as fleet:
        client = sent(fleet.config(store))
        assert client.status()["code"] == Code.UPLINK_REFUSED and client.status()["refused"] == 1
        assert len(fleet.ingest.quarantine) == 1 and victim.record not in fleet.ingest.blobs_kept
        path.unlink()
        Path(store / "blobs").chmod(0o755)
    with SampleStore(store) as writer:
        assert [p.seq for p in writer.pending()] == [victim.seq]


def test_what_had_to_go_is_reported_upward(tmp_path: Path) -> None:
    store = tmp_path / "store"
    filled(store, 6)
    with SampleStore(store, ROOMY.model_copy(update={"budget_mb": 0.01})) as writer:
        while writer.evict_step() is not None:
            pass
        lost = sum(row.lost for row in writer.strata())
    with running_server(tmp_path) as fleet:
        sent(fleet.config(store))
        reports = [
            json.loads(fleet.ingest.blobs_kept[name]) for name, k in fleet.ingest.kinds.items() if k == "metrics"
        ]
    assert lost > 0 and reports[0]["values"]["store_lost"] == lost


def test_a_fleet_without_room_is_asked_again_later(tmp_path: Path) -> None:
    names = filled(tmp_path / "store", 5)
    with running_server(tmp_path) as fleet:
        fleet.ingest.failing = RobinError(Code.DISK_FULL, "no room")
        client = client_of(fleet.config(tmp_path / "store"))
        until(lambda: client.counts["put_off"] > 4, client.step)
        assert fleet.ingest.blobs_kept == {} and not len(AckLog(tmp_path / "store"))
        fleet.ingest.failing = None
        until(lambda: client.is_idle, client.step)
        client.close()
        assert samples_of(fleet.ingest) == names


def test_a_full_disk_on_the_robot_costs_an_answer_and_no_sample(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = filled(tmp_path / "store", 5)
    with running_server(tmp_path) as fleet:
        client = client_of(fleet.config(tmp_path / "store"))
        with monkeypatch.context() as patch:

            def full(self: AckLog, acks: object) -> None:
                raise RobinError(Code.DISK_FULL, "no room")

            patch.setattr(AckLog, "add", full)
            until(lambda: samples_of(fleet.ingest) == names and client.status()["code"] == 501, client.step)
        until(lambda: client.is_idle, client.step)
        client.close()
    assert {ack.name for ack in AckLog(tmp_path / "store")} == names


def test_reports_that_wait_have_a_limit(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path, 1000)
    for number in range(30):
        outbox.put(b"x" * 98 + b"%02d" % number)
    assert len(outbox.names()) == 10 and outbox.dropped == 20
    assert (outbox.folder / outbox.names()[0]).read_bytes().endswith(b"20")
    with pytest.raises(RobinError) as refused:
        outbox.put(b"x" * 2000)
    assert refused.value.code is Code.OUTBOX_FULL


def test_there_is_no_store_yet(tmp_path: Path) -> None:
    with running_server(tmp_path) as fleet:
        config = fleet.config(tmp_path / "later")
        client = client_of(config)
        until(lambda: client.status()["code"] == int(Code.STORE_MISSING), client.step)
        names = filled(tmp_path / "later", 2)
        until(lambda: samples_of(fleet.ingest) == names, client.step)
        client.close()
    status = read_status(config.folder)
    assert status is not None and status["robot"] == "robot"


def test_it_is_quick_to_load_and_needs_no_pictures_or_networks() -> None:
    code = (
        "import sys, edge_adapt.uplink.run\n"
        "print([m for m in ('torch', 'cv2', 'onnxruntime', 'scipy', 'rclpy', 'robin_fleet') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "[]"


def test_another_process_sends_from_that_folder(tmp_path: Path) -> None:
    from edge_adapt.uplink.run import own_folder, run

    config = quick_config(tmp_path / "store", tmp_path / "uplink")
    with own_folder(config), pytest.raises(RobinError) as refused:
        run(config, lambda: True)
    assert refused.value.code is Code.UPLINK_BUSY
    with pytest.raises(RobinError) as refused:
        run(config, lambda: True)
    assert refused.value.code is Code.UPLINK_NOT_ENROLLED


def test_files_that_the_fleet_lost_before_their_record_came_are_sent_again(tmp_path: Path) -> None:
    store = tmp_path / "store"
    names = filled(store, 1)
    with running_server(tmp_path) as fleet:
        client = client_of(fleet.config(store))
        with StoreReader(store) as reader:
            files = [name for name, _ in reader.pending()[0].blobs[:-1]]
        AckLog(store).add(Ack(Word.STORED, name) for name in files)
        client.close()
        client = client_of(fleet.config(store))

        def step() -> None:
            client.step()
            with SampleStore(store) as writer:
                writer.evict_step()

        until(lambda: samples_of(fleet.ingest) == names, step)
        client.close()
