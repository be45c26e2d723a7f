"""Labels handed out and taken back: filled in from picks, whole in COCO and Label Studio, each with its origin."""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.cli_helpers import Robin
from helpers.stored_piles import pile_samples, truth
from helpers.unfamiliar_samples import book
from pycocotools import mask as coco_masks
from pycocotools.coco import COCO

from edge_adapt.annotations.label_studio import brush_mask
from edge_adapt.annotations.label_studio_write import packed
from edge_adapt.annotations.read import labelled_frames
from robin_cli.fleet.annotate import KINDS as OFFERED
from robin_fleet.annotation.exchange import KINDS, ensure_labels, hand_out, iou, take_back
from robin_fleet.annotation.prefill import IGNORED
from robin_fleet.folder import Fleet, make_fleet, open_fleet
from robin_fleet.ledger.labels import EARLIER, PERSON, PICK, PSEUDO, labels_of
from robin_fleet.ledger.samples import SampleFilter, SampleRow, find_samples
from robin_perception.core.errors import Code, RobinError

BRUSH = Path(__file__).with_name("brush.json")
"""A mask as Label Studio's own converter packs it (label-studio-sdk 2, ``brush.mask2rle``)."""


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    """One pile of three parcels that one robot took."""
    make_fleet(tmp_path / "fleet")
    with open_fleet(tmp_path / "fleet") as opened:
        for number, sample in enumerate(pile_samples(0)):
            book(opened, sample, "lyon", "b1", 10.0 * number, number + 1)
        yield opened


def rows(fleet: Fleet) -> list[SampleRow]:
    """In the order of the picks."""
    with fleet.ledger.read() as connection:
        return sorted(find_samples(connection, SampleFilter()), key=lambda row: row.seq)


def test_picks_fill_in_their_own_frame_and_those_before(fleet: Fleet) -> None:
    first, *_ = chosen = rows(fleet)
    labels = ensure_labels(fleet.ledger, fleet.objects, chosen)[first.sample]
    assert [one.origin for one in labels if one.class_name != IGNORED] == [PICK, EARLIER, EARLIER]
    seen = truth(0, 0)
    for number, label in enumerate((one for one in labels if one.class_name != IGNORED), 1):
        assert iou(label.mask(), seen == number) > 0.85 and 0 < label.confidence <= 1


def test_where_no_pick_tells_the_model_proposes(tmp_path: Path) -> None:
    make_fleet(tmp_path / "fleet")
    with open_fleet(tmp_path / "fleet") as fleet:
        book(fleet, next(pile_samples(0)), "lyon", "b1", 0.0)
        (row,) = rows(fleet)
        labels = ensure_labels(fleet.ledger, fleet.objects, [row])[row.sample]
    parcels = [one for one in labels if one.class_name != IGNORED]
    assert sorted(one.origin for one in parcels) == [PICK, PSEUDO, PSEUDO]
    assert {round(one.confidence, 2) for one in parcels if one.origin == PSEUDO} == {0.81}


def test_coco_is_whole_for_its_own_library(fleet: Fleet, tmp_path: Path) -> None:
    done = hand_out(fleet.ledger, fleet.objects, rows(fleet), tmp_path / "out", "coco")
    with contextlib.redirect_stdout(io.StringIO()):
        read = COCO(str(tmp_path / "out" / "annotations.json"))
    assert done.samples == len(read.getImgIds()) == 3 and done.labels == len(read.getAnnIds())
    for image in read.loadImgs(read.getImgIds()):
        with fleet.ledger.read() as connection:
            labels = labels_of(connection, image["sample"])
        found = read.loadAnns(read.getAnnIds(image["id"]))
        assert [one["origin"] for one in found] == [one.origin for one in labels]
        for annotation, label in zip(found, labels, strict=True):
            mask = read.annToMask(annotation) > 0
            assert np.array_equal(mask, label.mask())
            assert coco_masks.area(annotation["segmentation"]) == annotation["area"] == mask.sum()
            assert list(coco_masks.toBbox(annotation["segmentation"])) == annotation["bbox"]
    assert len(list(labelled_frames(tmp_path / "out" / "annotations.json"))) == 3  # robin adapt teach reads it


def coco_again(path: Path, change: Any) -> Path:
    """As a tool saves it that knows the format and no more: outlines of its own, no key of ours."""
    values = json.loads(path.read_text())
    for annotation in values["annotations"]:
        for key in ("origin", "confidence", "number"):
            del annotation[key]
    change(values)
    path.write_text(json.dumps(values))
    return path


def test_what_comes_back_unchanged_keeps_its_origin_and_the_rest_is_a_persons(fleet: Fleet, tmp_path: Path) -> None:
    first, *_ = chosen = rows(fleet)
    hand_out(fleet.ledger, fleet.objects, chosen, tmp_path / "out", "coco")
    with fleet.ledger.read() as connection:
        before = labels_of(connection, first.sample)

    def corrected(values: dict[str, Any]) -> None:
        image = next(one["id"] for one in values["images"] if one["sample"] == first.sample)
        mine = [one for one in values["annotations"] if one["image_id"] == image and not one["iscrowd"]]
        mine[0]["segmentation"] = [[20.0, 20, 90, 20, 90, 90, 20, 90]]
        values["annotations"].remove(mine[1])

    done = take_back(fleet.ledger, coco_again(tmp_path / "out" / "annotations.json", corrected), "Ana")
    with fleet.ledger.read() as connection:
        after = labels_of(connection, first.sample)
    assert len(after) == len(before) - 1 and done.samples == 3 and done.kept == done.labels - 1
    (drawn,) = [one for one in after if one.origin == PERSON]
    assert drawn.confidence == 1.0 and drawn.mask().sum() == 71 * 71
    kept = [one for one in after if one.origin != PERSON]
    assert {(one.origin, one.confidence) for one in kept} <= {(one.origin, one.confidence) for one in before}
    assert all(one.checked_by == "Ana" for one in after)


def test_label_studio_takes_predictions_and_gives_annotations(fleet: Fleet, tmp_path: Path) -> None:
    chosen = rows(fleet)
    hand_out(fleet.ledger, fleet.objects, chosen, tmp_path / "out", "label-studio")
    path = tmp_path / "out" / "tasks.json"
    tasks = json.loads(path.read_text())
    with fleet.ledger.read() as connection:
        before = {row.sample: labels_of(connection, row.sample) for row in chosen}
    for task in tasks:
        labels = before[task["data"]["sample"]]
        (prediction,) = task["predictions"]
        assert [r["meta"]["origin"] for r in prediction["result"]] == [one.origin for one in labels]
        assert all(r["from_name"] == "parcels" and 0 <= r["score"] <= 1 for r in prediction["result"])
        task["annotations"] = [{"id": 1, "result": prediction.pop("result")}]
    assert 'BrushLabels name="parcels" toName="picture"' in (tmp_path / "out" / "labels.xml").read_text()
    path.write_text(json.dumps(tasks))
    done = take_back(fleet.ledger, path, "Ana")
    assert done.samples == 3 and done.kept == done.labels == sum(map(len, before.values()))
    with fleet.ledger.read() as connection:
        for sample, labels in before.items():
            assert [(a.origin, a.confidence, a.counts) for a in labels_of(connection, sample)] == [
                (b.origin, b.confidence, b.counts) for b in labels
            ]


@pytest.mark.parametrize("seed", range(4))
def test_packed_strokes_are_read_as_they_were(seed: int) -> None:
    mask = np.random.default_rng(seed).random((37, 53)) < (0.0, 0.02, 0.5, 1.0)[seed]
    assert np.array_equal(brush_mask(packed(mask), (53, 37), "here"), mask)


def test_a_stroke_of_their_own_converter_is_read_and_ours_says_the_same() -> None:
    told = json.loads(BRUSH.read_text())
    height, width = told["height"], told["width"]
    mask = np.zeros((height, width), dtype=bool)
    for x0, y0, x1, y1 in told["boxes"]:
        mask[y0:y1, x0:x1] = True
    assert np.array_equal(brush_mask(told["rle"], (width, height), "theirs"), mask)
    assert np.array_equal(brush_mask(packed(mask), (width, height), "ours"), mask)


def other_size(values: dict[str, Any]) -> None:
    values["images"][0]["width"] = values["images"][0]["height"]
    for one in values["annotations"]:
        one["segmentation"] = [[1.0, 1, 9, 1, 9, 9]]


@pytest.mark.parametrize(
    ("change", "code"),
    [(other_size, Code.ANNOTATION_FOREIGN), (lambda v: v["annotations"].clear(), Code.ANNOTATION_INVALID)],
)
def test_what_is_not_ours_is_refused_and_nothing_is_taken(fleet: Fleet, tmp_path: Path, change, code: Code) -> None:  # type: ignore[no-untyped-def]
    chosen = rows(fleet)
    hand_out(fleet.ledger, fleet.objects, chosen, tmp_path / "out", "coco")
    with pytest.raises(RobinError) as told:
        take_back(fleet.ledger, coco_again(tmp_path / "out" / "annotations.json", change), "Ana")
    assert told.value.code is code
    with fleet.ledger.read() as connection:
        assert not any(one.checked_by for row in chosen for one in labels_of(connection, row.sample))


def test_a_picture_that_was_never_handed_out_is_refused(fleet: Fleet, tmp_path: Path) -> None:
    hand_out(fleet.ledger, fleet.objects, rows(fleet), tmp_path / "out", "coco")
    make_fleet(tmp_path / "other")
    with open_fleet(tmp_path / "other") as other, pytest.raises(RobinError) as told:
        take_back(other.ledger, tmp_path / "out" / "annotations.json", "Ana")
    assert told.value.code is Code.ANNOTATION_FOREIGN


def test_commands(fleet: Fleet, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert OFFERED == KINDS
    robin, common = Robin(capsys), ("--fleet", fleet.folder)
    done = robin("fleet", "annotate", "export", *common, "--out", tmp_path / "o", "--site", "lyon")
    assert done.status == 0 and "3 samples" in done.out
    done = robin("fleet", "annotate", "import", tmp_path / "o" / "annotations.json", *common, "--by", "Ana")
    assert done.status == 0 and "3 samples" in done.out
    assert robin("fleet", "annotate", "export", *common, "--out", tmp_path / "o").status == 2
    assert robin("fleet", "annotate", "export", *common, "--out", tmp_path / "p", "--kind", "voc").status == 2
