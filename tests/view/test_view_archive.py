"""The index of decisions: what it finds, how it follows files that grow, what it does with what is no record."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers.decision_samples import record_samples
from helpers.fleet_samples import incoming, packed, whole_sample
from helpers.pick_samples import record_told
from helpers.stored_piles import fill

from edge_adapt.decision import Decision
from edge_adapt.decision_store import read_decisions
from robin_fleet.folder import make_fleet, open_fleet
from robin_fleet.ingest.ingest import Ingest
from robin_fleet.ledger import robots
from robin_perception.core.errors import Code, RobinError
from robin_view.archive.archive import Archive
from robin_view.archive.facts import facts_of
from robin_view.archive.index import Query
from robin_view.sources import Sources


def opened(sources: Sources) -> Archive:
    archive = Archive(sources)
    while archive.step():
        pass
    return archive


def ids(archive: Archive, query: Query) -> list[str]:
    return archive.index.names(archive.index.find(query).rows)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    record_samples(folder, ("clean", "miss", "infeasible", "multi", "clean"))
    return folder


@pytest.fixture
def archive(run: Path) -> Archive:
    return opened(Sources((run,)))


def test_facts_agree_with_the_record(run: Path) -> None:
    for line in (run / "decisions.jsonl").read_bytes().splitlines():
        decision, facts = Decision.model_validate_json(line), facts_of(line, "line")
        assert facts.decision_id == decision.decision_id and facts.words["result"] == decision.result
        assert facts.code == decision.code and facts.words["model"] == decision.model_id
        chosen = decision.chosen
        assert chosen is None or facts.figures["score"] == chosen.score
        assert facts.figures["parcels"] == len(decision.instances)


def test_words_codes_and_ranges_choose(archive: Archive) -> None:
    assert len(archive.index) == 5
    assert [i[-3:] for i in ids(archive, Query({"result": ("miss", "multi")}, order="oldest"))] == ["001", "003"]
    assert [i[-3:] for i in ids(archive, Query(codes=(Code.NO_GRASP,)))] == ["002"]
    assert len(ids(archive, Query(ranges={"score": (0.9, None)}))) == 4  # the infeasible one has no score
    assert ids(archive, Query(ranges={"score": (None, 0.9)})) == []
    assert [i[-3:] for i in ids(archive, Query(ranges={"frame_to_plan_ms": (42, 43)}, order="oldest"))] == [
        "002",
        "003",
    ]
    assert len(ids(archive, Query(since_s=0.0))) == 5 and ids(archive, Query(until_s=0.0)) == []


def test_facets_count_what_the_other_conditions_leave(archive: Archive) -> None:
    found = archive.index.find(Query({"result": ("miss",)}))
    assert found.facets["result"] == {"clean": 2, "miss": 1, "infeasible": 1, "multi": 1}
    assert found.facets["class"] == {"flat_mailer": 1} and found.of == 5
    assert found.facets["tag"] == {"arrangement_flush": 1}


def test_text_is_found_wherever_it_stands(tmp_path: Path) -> None:
    decision = record_told(tmp_path)
    archive = opened(Sources((tmp_path,)))
    for text in ("Same Picture", "put back once", "eve", decision.decision_id, "the same picture 4 of 4"):
        assert ids(archive, Query(text=text)) == [decision.decision_id], text
    assert ids(archive, Query(text="same nowhere")) == []


def test_orders(archive: Archive) -> None:
    newest = ids(archive, Query())
    assert ids(archive, Query(order="oldest")) == newest[::-1]
    by = [
        archive.index.line(int(row))["frame_to_plan_ms"]
        for row in archive.index.find(Query(order="most frame_to_plan_ms")).rows
    ]
    assert by == sorted(by, reverse=True)
    assert ids(archive, Query(order="least score"))[-1].endswith("002")  # without a score at the end


def test_a_file_that_grows_and_a_run_that_begins_anew(tmp_path: Path) -> None:
    record_samples(tmp_path / "all", ("clean", "miss", "drop"))
    lines = (tmp_path / "all/decisions.jsonl").read_bytes().splitlines(keepends=True)
    folder = tmp_path / "run"
    folder.mkdir()
    archive = opened(Sources((folder,)))
    path = folder / "decisions.jsonl"
    path.write_bytes(lines[0] + lines[1][:50])  # the second is being written
    assert archive.step() == 1 and len(archive.index) == 1
    path.write_bytes(lines[0] + lines[1])
    archive.step()
    assert len(archive.index) == 2 and archive.faults == []
    path.write_bytes(lines[2])
    archive.step()
    archive.step()
    assert len(archive.index) == 1 and archive.index.row("sample-run-00000-000") is None
    assert archive.evidence("sample-run-00000-002").decision.result == "drop"


def test_what_is_no_record_is_told_and_left_out(tmp_path: Path) -> None:
    record_samples(tmp_path, ("clean",))
    path = tmp_path / "decisions.jsonl"
    good = json.loads(path.read_text())
    bad = [b"nothing", b'{"decision_id": "../../etc"}', json.dumps({**good, "decision_id": "a/../b"}).encode()]
    path.write_bytes(path.read_bytes() + b"\n".join(bad) + b"\n")
    archive = opened(Sources((tmp_path,)))
    assert len(archive.index) == 1 and len(archive.faults) == 3
    assert all("E502" in fault for fault in archive.faults)


def test_ids_are_looked_up_and_never_a_path(archive: Archive) -> None:
    for wrong in ("../../etc/passwd", "..", "nowhere", "a" * 300, "sample-run-00000-000/"):
        with pytest.raises(RobinError) as caught:
            archive.evidence(wrong)
        assert caught.value.code in (Code.ID_INVALID, Code.VIEW_UNKNOWN)


def test_a_store_and_its_evidence(tmp_path: Path) -> None:
    fill(tmp_path / "store", 1)
    archive = opened(Sources(store=tmp_path / "store"))
    assert len(archive.index) == 3
    evidence = archive.evidence("piles-00000-001")
    labels, rgb, depth = evidence.labels(), evidence.rgb("color"), evidence.depth_m("depth")
    assert labels is not None and rgb is not None and depth is not None and depth.shape == labels.shape
    assert evidence.has("after") and not evidence.has("load") and evidence.rgb("nothing") is None


def test_of_a_decision_in_two_places_the_one_with_pictures_counts(tmp_path: Path) -> None:
    fill(tmp_path / "store", 1)
    bare = tmp_path / "run"
    bare.mkdir()
    with Archive(Sources(store=tmp_path / "store")) as archive:
        assert archive.wait(lambda: len(archive.index) == 3, 20)
        told = [archive.evidence(f"piles-00000-{i:03d}").decision for i in range(3)]
    lines = [d.model_copy(update={"images": {}}).model_dump_json() for d in told]
    (bare / "decisions.jsonl").write_text("".join(f"{line}\n" for line in lines))
    archive = opened(Sources((bare,), store=tmp_path / "store"))
    assert len(archive.index) == 3 and archive.index.find(Query()).of == 3
    assert archive.evidence("piles-00000-002").has("color")


def test_many_rows_keep_their_place(run: Path) -> None:
    """Beyond what the columns begin with."""
    archive = opened(Sources((run,)))
    line = (run / "decisions.jsonl").read_bytes().splitlines()[0]
    facts, place = facts_of(line, "line"), archive.index.place(0)
    for i in range(3000):
        figures = {**facts.figures, "score": i / 3000}
        archive.index.add(replace(facts, decision_id=f"other-{i}", text=f"other-{i}", figures=figures), place)
    found = archive.index.find(Query(text="other-2999"))
    assert archive.index.names(found.rows) == ["other-2999"]
    best = archive.index.find(Query(order="most score", ranges={"score": (0.999, None)})).rows
    assert archive.index.names(best) == ["other-2999", "other-2998", "other-2997"]
    assert archive.index.row("other-1500") is not None and np.all(np.diff(archive.index.latest(10)) < 0)
    assert len(read_decisions(run).decisions) == 5


def test_the_samples_of_many_robots(tmp_path: Path) -> None:
    make_fleet(tmp_path)
    with open_fleet(tmp_path) as fleet:
        with fleet.ledger.write() as connection:
            for robot in ("r1", "r2"):
                robots.enrol(connection, robot, "lyon", "", f"key-{robot}", 1.0)
        archive = Archive(Sources(fleet=tmp_path), fleet)
        ingest = Ingest(fleet.ledger, fleet.objects)
        for pick, robot in enumerate(("r1", "r2", "r1")):
            _, blobs = packed(whole_sample(pick, "miss", pick), seq=pick + 1)
            ingest.blobs(incoming(blobs, robot))
            assert archive.step() == 1  # each as soon as it is booked, and once
        assert archive.step() == 0 and archive.faults == []
        assert archive.index.find(Query()).facets["station"] == {"lyon/belt-1": 3}
        _, again = packed(whole_sample(0, "drop", 0), seq=1)  # a run of another robot that has the same name
        ingest.blobs(incoming(again, "r2"))
        assert archive.step() == 1 and len(archive.index) == 4
        assert archive.evidence("r1.sample-run-00000-000").decision.result == "miss"
        assert archive.evidence("r2.sample-run-00000-000").decision.result == "drop"
        evidence = archive.evidence("r2.sample-run-00000-001")
        assert evidence.decision.result == "miss" and evidence.labels() is not None and evidence.has("color")
