"""Drafts and labels: kept with every change, never overwritten by an older page, read by those who teach."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.annotate_samples import APART, HIGH, LOW, record_boxes
from helpers.unfamiliar_samples import RED, book, unfamiliar
from helpers.view_server import Answer, ViewServer, view_server
from numpy.typing import NDArray

from edge_adapt.annotations.read import labelled_frames
from edge_adapt.store.runs import decode_labels, encode_labels
from robin_fleet.folder import make_fleet, open_fleet
from robin_fleet.ledger.labels import Label, labels_of, replace_labels
from robin_perception.core.errors import Code
from robin_perception.core.image_folder import IGNORE_LABEL, load_scene_info
from robin_view.sources import Sources

KEY = "boxes-00000-000"


@pytest.fixture()
def server(tmp_path: Path) -> Iterator[ViewServer]:
    record_boxes(tmp_path / "run", 2)
    with view_server(Sources((tmp_path / "run",)), tmp_path, allow_changes=True) as running:
        assert running.view.archive.whole.wait(20)
        yield running


def draft(server: ViewServer, key: str = KEY) -> dict[str, Any]:
    values: dict[str, Any] = server.ask(f"/annotate/{key}/draft").json()
    return values


def counts(*places: tuple[slice, slice]) -> str:
    mask = np.zeros((240, 320), np.uint16)
    for place in places:
        mask[place] = 1
    return encode_labels(mask)[1]


def mask(number: int, *places: tuple[slice, slice], **told: Any) -> dict[str, Any]:
    return {"id": number, "class_name": "carton", "counts": counts(*places), **told}


def keep(server: ViewServer, values: dict[str, Any], key: str = KEY) -> Answer:
    return server.change(f"/annotate/{key}/draft", values, "PUT")


def test_what_the_model_saw_is_there_already(server: ViewServer) -> None:
    values = draft(server)
    assert values["version"] == 0
    (one,) = values["masks"]
    assert one["counts"] == counts(HIGH, LOW) and one["origin"] == "pseudo"
    assert one["class_name"] == "carton" and one["visible_fraction"] == 0.6 and one["confidence"] == 0.56


def test_a_draft_survives_and_has_its_name_in_the_audit(server: ViewServer, tmp_path: Path) -> None:
    values = draft(server)
    values["masks"] = [mask(1, HIGH, visible_fraction=0.9), mask(2, LOW)]
    assert keep(server, values).json() == {"version": 1}
    again = draft(server)
    assert [one["counts"] for one in again["masks"]] == [counts(HIGH), counts(LOW)]
    assert again["masks"][0]["visible_fraction"] == 0.9 and again["by"]
    line = json.loads((tmp_path / "audit.jsonl").read_text().splitlines()[-1])
    assert (line["action"], line["key"], line["version"], line["masks"]) == ("annotate", KEY, 1, 2)


def test_an_older_page_overwrites_nothing(server: ViewServer) -> None:
    first, second = draft(server), draft(server)
    first["masks"] = [mask(1, HIGH)]
    assert keep(server, first).status == 200
    refused = keep(server, second)
    assert refused.status == 409 and "ANNOTATION_STALE" in refused.text
    assert draft(server)["masks"][0]["counts"] == counts(HIGH)


@pytest.mark.parametrize(
    "wrong",
    [
        {"picture": "0" * 64},
        {"key": "boxes-00000-001"},
        {"width": 321},
        {"masks": [{"id": 1, "counts": "~~~"}]},
        {"masks": [mask(1, HIGH), mask(1, LOW)]},
        {"masks": [mask(0, HIGH)]},
        {"masks": [mask(1, HIGH, origin="god")]},
        {"surprise": 1},
    ],
)
def test_labels_that_do_not_fit_are_refused(server: ViewServer, wrong: dict[str, Any]) -> None:
    refused = keep(server, {**draft(server), **wrong})
    assert refused.status == 400 and "ANNOTATION_INVALID" in refused.text
    assert draft(server)["version"] == 0


def test_done_labels_are_read_by_those_who_teach(server: ViewServer, tmp_path: Path) -> None:
    values = draft(server)
    ignored = {"id": IGNORE_LABEL, "class_name": "ignore", "counts": counts((slice(0, 10), slice(0, 10)))}
    values["masks"] = [mask(1, HIGH), mask(7, LOW, class_name="strange bag", visible_fraction=0.5), ignored]
    keep(server, values)
    answer = server.change(f"/annotate/{KEY}/done", {"version": 1})
    assert answer.json() == {"next": "/annotate/boxes-00000-001"}
    folder = tmp_path / "run" / "annotations" / "labels"
    (frame,) = labelled_frames(folder)
    assert frame.names == {1: "carton", 2: "strange bag"} and frame.pile == "boxes-00000"
    assert (
        (frame.labels[HIGH] == 1).all() and (frame.labels[LOW] == 2).all() and (frame.labels[:10, :10] == 65535).all()
    )
    told = load_scene_info(folder / KEY)["instances"]
    assert told[1] == {"id": 7, "origin": "person", "confidence": 1.0, "kind": "strange bag", "visible_fraction": 0.5}
    assert draft(server)["done"] and [p.name for p in folder.iterdir()] == [KEY]


def test_done_is_of_the_version_that_was_seen(server: ViewServer) -> None:
    keep(server, {**draft(server), "masks": [mask(1, HIGH)]})
    refused = server.change(f"/annotate/{KEY}/done", {"version": 0})
    assert refused.status == 409 and not draft(server)["done"]


def test_a_run_that_began_anew_leaves_old_drafts_alone(server: ViewServer) -> None:
    keep(server, {**draft(server), "masks": [mask(1, HIGH)]})
    path = next(iter(server.view.sources.runs)) / "annotations" / "drafts" / f"{KEY}.json"
    path.write_text(path.read_text().replace(draft(server)["picture"], "0" * 64))
    assert draft(server)["version"] == 0


def shown(text: str) -> NDArray[np.bool_]:
    return decode_labels(240, 320, {1: text}) > 0


def iou(text: str, *places: tuple[slice, slice]) -> float:
    one, other = shown(text), shown(counts(*places))
    return float((one & other).sum() / (one | other).sum())


def test_the_server_cuts_masks(server: ViewServer) -> None:
    def pieces(**asked: Any) -> list[str]:
        answer = server.change(f"/annotate/{KEY}/cut", asked).json()
        return [piece["counts"] for piece in answer["pieces"]]

    merged = [{"id": 1, "counts": counts(HIGH, LOW)}]
    first, second = pieces(kind="split", ids=[1], clicks=[[70, 70], [200, 100]], masks=merged)
    assert iou(first, HIGH) > 0.97 and iou(second, LOW) > 0.97
    (added,) = pieces(kind="add", clicks=[[275, 200]], masks=merged)
    assert iou(added, APART) > 0.8
    halves = [{"id": 1, "counts": counts(HIGH)}, {"id": 2, "counts": counts(LOW)}]
    (joined,) = pieces(kind="join", ids=[1, 2], masks=halves)
    assert iou(joined, HIGH, LOW) > 0.97
    assert pieces(kind="split", ids=[9], clicks=[[1, 1]], masks=merged) == []


@pytest.mark.parametrize("wrong", [{"kind": "burn"}, {"kind": "split", "clicks": [[1]]}, {"kind": "split", "ids": "x"}])
def test_a_cut_that_is_none_is_one_line(server: ViewServer, wrong: dict[str, Any]) -> None:
    refused = server.change(f"/annotate/{KEY}/cut", wrong)
    assert refused.status == 400 and refused.text.count("\n") == 0


@pytest.mark.parametrize("key", ["nothing", "..%2f..%2fetc", "boxes-00000-000.json"])
def test_unknown_pictures_are_not_found(server: ViewServer, key: str) -> None:
    assert server.ask(f"/annotate/{key}").status == 404
    assert server.ask(f"/annotate/{key}/draft").status == 404


def test_names_of_goods_are_escaped(server: ViewServer) -> None:
    hostile = "</script><script>alert(1)</script>"
    assert keep(server, {**draft(server), "masks": [mask(1, HIGH, class_name=hostile)]}).status == 200
    text = server.ask(f"/annotate/{KEY}", headers={"accept": "text/html"}).text
    assert "<script>alert" not in text and "&lt;script&gt;alert" in text
    assert draft(server)["masks"][0]["class_name"] == hostile


def test_without_changes_nothing_is_written(tmp_path: Path) -> None:
    record_boxes(tmp_path / "run")
    with view_server(Sources((tmp_path / "run",)), tmp_path) as running:
        assert running.view.archive.whole.wait(20)
        values = draft(running)
        for path, body, method in (
            ("draft", values, "PUT"),
            ("done", {"version": 0}, "POST"),
            ("cut", {"kind": "look"}, "POST"),
        ):
            refused = running.change(f"/annotate/{KEY}/{path}", body, method)
            assert refused.status == 403 and "VIEW_READ_ONLY" in refused.text
        assert running.ask(f"/annotate/{KEY}").status == 200
    assert not (tmp_path / "run" / "annotations").exists() and not (tmp_path / "audit.jsonl").exists()


def test_changes_need_our_own_page(server: ViewServer) -> None:
    path, body = f"/annotate/{KEY}/draft", json.dumps(draft(server))
    own = {"origin": server.url, "content-type": "application/json"}
    assert server.ask(path, "PUT", body, own).status == 403  # without the page's word
    assert server.change(path, draft(server), "PUT", origin="http://evil.example").status == 403
    assert draft(server)["version"] == 0


def test_labels_of_the_fleet_go_into_its_ledger(tmp_path: Path) -> None:
    make_fleet(tmp_path / "fleet")
    sample = unfamiliar(RED, 1)
    with open_fleet(tmp_path / "fleet") as fleet:
        name = book(fleet, sample, "north", "belt-1", 1000.0)
    with view_server(Sources(fleet=tmp_path / "fleet"), tmp_path, allow_changes=True) as running:
        assert running.view.archive.whole.wait(20)
        key = f"north-belt-1.{sample.decision_id}"
        values = draft(running, key)
        with open_fleet(tmp_path / "fleet") as fleet, fleet.ledger.read() as connection:
            assert labels_of(connection, name) == ()  # looking writes nothing
        first = values["masks"]
        assert first and {one["origin"] for one in first} <= {"pseudo", "pick", "earlier"}
        parcel = next(one for one in first if one["class_name"] != "ignore")
        added = np.zeros((values["height"], values["width"]), np.uint16)
        added[:5, :9] = 1
        values["masks"] = [*first, {"id": 200, "class_name": "red film", "counts": encode_labels(added)[1]}]
        values["masks"] = [one for one in values["masks"] if one["class_name"] != "ignore"]
        assert keep(running, values, key).status == 200
        assert running.change(f"/annotate/{key}/done", {"version": 1}).json() == {"next": "/annotate"}
    with open_fleet(tmp_path / "fleet") as fleet, fleet.ledger.read() as connection:
        labels = labels_of(connection, name)
    assert {(one.class_name, one.origin) for one in labels} >= {("red film", "person")}
    kept = [one for one in labels if one.counts == parcel["counts"]]
    assert [one.origin for one in kept] == [parcel["origin"]] and all(one.checked_by for one in labels)


def test_labels_that_stand_in_the_ledger_are_what_is_shown(tmp_path: Path) -> None:
    make_fleet(tmp_path / "fleet")
    sample = unfamiliar(RED, 2)
    with open_fleet(tmp_path / "fleet") as fleet:
        name = book(fleet, sample, "north", "belt-1", 1000.0)
        height, width = sample.masks["height"], sample.masks["width"]
        drawn = np.zeros((height, width), np.uint16)
        drawn[20:60, 30:90] = 1
        label = Label(name, 1, "red film", "person", 1.0, width, height, encode_labels(drawn)[1], "Ana", 5.0)
        with fleet.ledger.write() as connection:
            replace_labels(connection, name, [label])
    with view_server(Sources(fleet=tmp_path / "fleet"), tmp_path) as running:
        assert running.view.archive.whole.wait(20)
        (one,) = draft(running, f"north-belt-1.{sample.decision_id}")["masks"]
    assert (one["class_name"], one["origin"], one["counts"]) == ("red film", "person", label.counts)


def test_codes_are_told(server: ViewServer) -> None:
    assert server.ask("/annotate/nothing/draft").text.startswith(f"E{int(Code.VIEW_UNKNOWN)} ")
