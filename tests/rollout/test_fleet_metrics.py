"""Metrics in the ledger and for Prometheus; alert rules and the dashboard by their own tools."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import urllib.request
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
import yaml
from helpers.decision_samples import sample_decision, sample_frame, sample_scene
from helpers.fleet_servers import LEDGERS, ledger_server, new_ledger_url
from helpers.release_samples import world
from prometheus_client import start_http_server
from prometheus_client.parser import text_string_to_metric_families

from edge_adapt.store.blobs import blob_name
from robin_fleet.ingest.ingest import Answer, Ingest
from robin_fleet.ledger import rollouts as book
from robin_fleet.ledger.core import Ledger, open_ledger
from robin_fleet.ledger.metrics import DAY_S, add_fact, add_values, facts_since, latest_values, series, thin
from robin_fleet.ledger.robots import enrol
from robin_fleet.metrics.exposition import FLEET, FleetCollector, exposed, registry_of
from robin_fleet.metrics.reports import facts_of, handlers, parse_report
from robin_fleet.metrics.sheet import Tile, sheet_png, tiles
from robin_fleet.objects import open_objects
from robin_fleet.release.repository import ReleaseRepository
from robin_fleet.rollout.plan import RobotFacts, RolloutPlan
from robin_fleet.rollout.state import started
from robin_fleet.server.figures import write_figures
from robin_perception.core.bounded_arrays import decode_image
from robin_perception.core.errors import Code, RobinError

NOW_S = 2_000_000_000.0
DATA = Path(__file__).parents[1] / "data"


@pytest.fixture(params=LEDGERS)
def ledger(request: pytest.FixtureRequest) -> Iterator[Ledger]:
    with ledger_server(request.param) as place, open_ledger(new_ledger_url(place, "metrics")) as opened:
        yield opened


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Ledger]:
    with open_ledger(f"sqlite:///{tmp_path}/ledger.sqlite") as opened:
        with opened.write() as connection:
            for robot in ("a", "b"):
                assert enrol(connection, robot, "north", "belt", robot * 40, 0.0)
        yield opened


def test_metrics_are_thinned_out_with_age(ledger: Ledger) -> None:
    with ledger.write() as connection:
        for minutes in range(0, 100 * 1440, 240):
            add_values(connection, "a", NOW_S - 60.0 * minutes, {"robin_x_sent": 1e6 - minutes})
        thin(connection, NOW_S)
    with ledger.read() as connection:
        found = series(connection, "robin_x_sent", 0.0, "a")
    ages = [(NOW_S - one.at_s) / DAY_S for one in found]
    assert sum(age < 2 for age in ages) == 12  # all of them
    assert sum(2 <= age <= 60 for age in ages) == pytest.approx(58 * 6, abs=2)  # one each four hours fits one an hour
    assert sum(age > 60 for age in ages) == pytest.approx(40, abs=2)  # one a day
    assert [one.value for one in found] == sorted(one.value for one in found)
    with ledger.write() as connection:
        assert thin(connection, NOW_S) == 0
        assert [one.value for one in latest_values(connection, 0.0)] == [1e6]


def test_counts_of_picks_stay_when_days_are_merged(ledger: Ledger) -> None:
    with ledger.write() as connection:
        for hour in range(24 * 40):
            book.count_pick(connection, "a", "m", NOW_S - 3600.0 * hour, hour % 3 > 0)
        before = book.totals(connection)
        rows = len(book.counted(connection, 0, NOW_S + 1))
        thin(connection, NOW_S)
        thin(connection, NOW_S)
        assert book.totals(connection) == before
        assert len(book.counted(connection, 0, NOW_S + 1)) < rows - 200


def test_reports_are_booked_once_and_bad_ones_refused(small: Ledger, tmp_path: Path) -> None:
    ingest = Ingest(small, open_objects((tmp_path / "objects").as_uri()), handlers(), clock=lambda: NOW_S)
    report = {"format": 1, "source": "uplink", "at_s": NOW_S + 1e6, "values": {"sent_mb": 2.5, "code": 0}}
    for values, answer in (
        (report, Answer.STORED),
        (report, Answer.HAVE),
        ({**report, "values": {"sent-mb": 1}}, Answer.QUARANTINED),
        ({**report, "source": "fleet"}, Answer.QUARANTINED),
        ({**report, "values": {f"v{n}": 1 for n in range(400)}}, Answer.QUARANTINED),
        ({**report, "format": 2}, Answer.QUARANTINED),
    ):
        data = json.dumps(values).encode()
        assert ingest.blob("a", blob_name(data, ".json"), "metrics", data).answer is answer
    with small.read() as connection:
        found = latest_values(connection, 0.0)
    assert {(one.name, one.value, one.at_s) for one in found} == {
        ("robin_uplink_sent_mb", 2.5, NOW_S),
        ("robin_uplink_code", 0.0, NOW_S),
    }
    with pytest.raises(RobinError) as refused:
        parse_report(b'{"source": "x", "at_s": 1, "values": {"a": NaN}}', "r")
    assert refused.value.code is Code.METRICS_INVALID


def test_facts_of_a_pick_tell_scene_parcel_and_time() -> None:
    frame = sample_frame(np.random.default_rng(0))
    facts = facts_of(sample_decision(0, "clean", frame, sample_scene(frame)), 3600.0 * 5)
    assert facts["parcels"] == 2 and facts["hour"] == 5 and facts["result"] == "clean" and facts["goods"]
    assert facts["cups"] > 0 and facts["ms_network"] == 20.0 and facts["conditions"] == "none"


def fleet_of(small: Ledger, folder: Path) -> FleetCollector:
    made = world(folder)
    with small.write() as connection:
        add_values(connection, "a", made.clock.now_s, {"robin_uplink_reports_waiting": 3.0, "robin_uplink_code": 0.0})
        add_values(connection, "stranger", made.clock.now_s, {"robin_uplink_code": 1.0})
        for clean in (True, True, False):
            book.count_pick(connection, "a", "m", made.clock.now_s, clean)
        robots = [RobotFacts(name, "north/belt") for name in ("a", "b")]
        book.put(connection, started("r1", "new", "m2", "", RolloutPlan(), robots, 0.0), 0.0)
    write_figures(folder, {"stored": 7, "revoked": 1, "E830": 2}, made.clock.now_s)
    return FleetCollector(small, ReleaseRepository(made.repository.fleet), made.clock, folder)


def test_prometheus_reads_what_the_ledger_holds(small: Ledger, tmp_path: Path) -> None:
    text = exposed(fleet_of(small, tmp_path)).decode()
    families = {one.name: one for one in text_string_to_metric_families(text)}
    assert set(families) >= set(FLEET) - {"robin_fleet_quarantined"}
    own = {"robot": "a", "site": "north", "station": "belt"}
    (waiting,) = families["robin_uplink_reports_waiting"].samples
    assert waiting.labels == own and waiting.value == 3.0
    (code,) = families["robin_uplink_code"].samples  # not of a robot that nobody enrolled
    assert code.labels == own
    (failed,) = families["robin_fleet_picks_failed"].samples
    assert failed.name == "robin_fleet_picks_failed_total" and failed.value == 1.0
    assert {s.labels["role"] for s in families["robin_fleet_release_expires_seconds"].samples} >= {"root", "timestamp"}


def test_counts_of_the_server_are_told_also_while_the_ledger_is_away(
    small: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def shown(name: str) -> dict[str, float]:
        text = exposed(collector).decode()
        samples = next((one.samples for one in text_string_to_metric_families(text) if one.name == name), [])
        return {one.labels.get("figure", ""): one.value for one in samples}

    def away() -> None:
        raise RobinError(Code.LEDGER_UNREACHABLE, "no answer")

    collector = fleet_of(small, tmp_path)
    assert shown("robin_fleet_ledger_code") == {"": 0.0} and shown("robin_fleet_picks")
    monkeypatch.setattr(small, "read", away)
    assert shown("robin_fleet_ledger_code") == {"": float(Code.LEDGER_UNREACHABLE)} and not shown("robin_fleet_picks")
    assert shown("robin_fleet_server") == {"stored": 7.0, "revoked": 1.0, "E830": 2.0}
    (tmp_path / "server.json").write_text("{")
    assert shown("robin_fleet_server") == {}


def test_the_endpoint_serves_them_on_this_machine(small: Ledger, tmp_path: Path) -> None:
    server, thread = start_http_server(0, addr="127.0.0.1", registry=registry_of(fleet_of(small, tmp_path)))
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{server.server_port}/metrics", timeout=30) as answer:
            assert b"robin_fleet_picks_total" in answer.read()
    finally:
        server.shutdown()
        thread.join()


def known_names() -> set[str]:
    """Names of series that exist: of the fleet, and what an uplink reports."""
    text = json.dumps(sorted(FLEET))
    names = {name for name in re.findall(r"robin_\w+", text)}
    return names | {f"{name}_total" for name in names}


def queries() -> dict[str, str]:
    room = files("robin_fleet.metrics")
    dashboard = json.loads((room / "dashboard.json").read_text())
    rules = yaml.safe_load((room / "alerts.yaml").read_text())
    found = {f"alert {r['alert']}": r["expr"] for group in rules["groups"] for r in group["rules"]}
    found |= {f"panel {p['title']} {t['refId']}": t["expr"] for p in dashboard["panels"] for t in p["targets"]}
    found |= {v["name"]: v["query"] for v in dashboard["templating"]["list"] if v["type"] == "query"}
    return found


def test_dashboard_and_alerts_ask_for_names_that_exist() -> None:
    found = queries()
    assert len(found) >= 14
    for where, query in found.items():
        names = set(re.findall(r"robin_\w+", query))
        assert names, where
        fleet = {name for name in names if name.startswith("robin_fleet_")}
        assert fleet <= known_names(), where
        assert {name for name in names - fleet if not name.startswith("robin_uplink_")} == set(), where


def promtool(*words: str, folder: Path) -> str:
    found = shutil.which("promtool")
    if found is None:
        pytest.skip("promtool is not installed: sh scripts/promtool.sh")
    done = subprocess.run([found, *words], cwd=folder, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_alert_rules_hold_in_promtool(tmp_path: Path) -> None:
    shutil.copy(str(files("robin_fleet.metrics") / "alerts.yaml"), tmp_path)
    shutil.copy(DATA / "alerts_test.yaml", tmp_path)
    assert "6 rules found" in promtool("check", "rules", "alerts.yaml", folder=tmp_path)
    promtool("test", "rules", "alerts_test.yaml", folder=tmp_path)


def test_queries_of_the_dashboard_parse(tmp_path: Path) -> None:
    """Each as a recording rule, which promtool parses."""
    expressions = [q.replace("$site", ".*") for where, q in queries().items() if where.startswith("panel")]
    rules = [{"record": f"panel:{n}", "expr": query} for n, query in enumerate(expressions)]
    (tmp_path / "panels.yaml").write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}))
    promtool("check", "rules", "panels.yaml", folder=tmp_path)


def test_the_sheet_shows_pictures_and_names_those_that_are_gone(small: Ledger, tmp_path: Path) -> None:
    from helpers.fleet_samples import packed, tiny_sample

    objects = open_objects((tmp_path / "objects").as_uri())
    ingest = Ingest(small, objects, handlers())
    record, blobs = packed(tiny_sample(1))
    for name, data in blobs.items():
        kind = "record" if name == record else "file"
        assert ingest.blob("a", name, kind, data).answer is Answer.STORED
    with small.write() as connection:
        for decision in ("d000009", "d000001"):
            add_fact(connection, "a", decision, 1.0, False, {"result": "clean", "latency_ms": 50.0})
        found = tiles(connection, objects, facts_since(connection, 0.0, 10), "latency_ms", 2)
    assert [tile.rgb is not None for tile in found] == [True, False]
    assert found[0].lines == ("a latency_ms 50", "d000001")
    sheet = decode_image(sheet_png([found, [Tile(None, ("b", "c"))]]), "sheet")
    assert sheet.shape == (2 * 214, 2 * 240, 3)
