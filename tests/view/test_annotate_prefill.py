"""What labels begin with: labels of image folders, what a model sees in bare ones, and what picks tell in a store."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers.model_samples import registry_of
from helpers.stored_piles import fill, truth
from helpers.view_run import LABELLED
from helpers.view_server import ViewServer, view_server

from edge_adapt.annotations.read import labelled_frames
from edge_adapt.learn.see_data import gather
from robin_perception.core.image_folder import IGNORE_LABEL, load_labels
from robin_view.annotate.drafts import Draft, MaskEntry
from robin_view.annotate.prefill import PickTold, merged
from robin_view.sources import find_sources

HTML = {"accept": "text/html"}


@pytest.fixture
def frames(tmp_path: Path) -> Path:
    """One labelled image folder, one without labels, and one that is none."""
    data = tmp_path / "frames"
    first, second = sorted(path for path in LABELLED.iterdir() if path.is_dir())[:2]
    shutil.copytree(first, data / "labelled frame")
    shutil.copytree(second, data / "bare")
    for name in ("labels.png", "scene.json"):
        (data / "bare" / name).unlink(missing_ok=True)
    (data / "broken").mkdir()
    (data / "broken/color.png").write_bytes(b"no picture")
    return data


def opened(server: ViewServer, key: str) -> dict[str, object]:
    return dict(server.ask(f"/annotate/{key}/draft").json())


def test_image_folders_are_labelled_and_taught(frames: Path, tmp_path: Path) -> None:
    sources = find_sources([frames])
    assert sources.frames == (frames,) and sources.runs == ()
    with view_server(sources, tmp_path, allow_changes=True) as server:
        assert server.view.archive.whole.wait(20)
        assert len(server.view.archive.index) == 2 and "broken" in str(server.view.archive.faults)
        text = server.ask("/annotate", headers=HTML).text
        assert "labelled-frame" in text and "bare" in text
        assert server.ask("/d/bare", headers=HTML).status == 200
        draft = opened(server, "labelled-frame")
        ids = np.unique(load_labels(frames / "labelled frame"))
        assert {mask["id"] for mask in draft["masks"]} == set(ids[ids > 0].tolist())  # type: ignore[attr-defined]
        mask = next(one for one in draft["masks"] if one["id"] != IGNORE_LABEL)  # type: ignore[attr-defined]
        mask |= {"visible_fraction": 0.25, "class_name": "carton", "origin": "person"}
        saved = server.change("/annotate/labelled-frame/draft", draft, "PUT")
        assert saved.status == 200, saved.text
        done = server.change("/annotate/labelled-frame/done", {"version": 1})
        assert done.status == 200, done.text
    folder = frames / "annotations/labels"
    (taught,) = labelled_frames(folder)
    place = 1 + sorted(i for i in ids if 0 < i < IGNORE_LABEL).index(mask["id"])
    assert taught.visible[place] == 0.25
    gather([folder], (), tmp_path / "work", ("carton",))
    told = json.loads((tmp_path / "work/taught/000000/scene.json").read_text())["instances"]
    assert [one["visible_fraction"] for one in told if one["id"] == place] == [0.25]
    row = next(
        one
        for one in json.loads((folder / "labelled-frame/scene.json").read_text())["instances"]
        if one["id"] == mask["id"]
    )
    assert row["origin"] == "person" and row["kind"] == "carton"


def test_a_model_looks_at_pictures_that_nobody_labelled(frames: Path, tmp_path: Path) -> None:
    _, paths = registry_of(tmp_path / "robot", 0)
    with view_server(replace(find_sources([frames]), models=(paths[0],)), tmp_path) as server:
        assert server.view.archive.whole.wait(20)
        seen = opened(server, "bare")
        assert seen["masks"] and all(m["origin"] == "pseudo" for m in seen["masks"])  # type: ignore[attr-defined]
    with view_server(find_sources([frames]), tmp_path) as server:
        assert server.view.archive.whole.wait(20) and opened(server, "bare")["masks"] == []


def test_labels_of_picks_stand_for_the_proposals_they_cover() -> None:
    seen = np.zeros((20, 40), dtype=np.uint16)
    seen[2:10, 2:12], seen[2:10, 12:30], seen[12:18, 2:30] = 1, 2, 3
    entries = [MaskEntry(id=i, class_name=f"kind {i}", origin="pseudo", confidence=0.5, counts="") for i in (1, 2, 3)]
    told = np.zeros_like(seen)
    told[2:10, 2:16] = 1  # all of 1, and a little of 2
    labels, found = merged((seen, entries), PickTold(told, (("pick", 0.97),)))
    assert [(one.id, one.origin, one.confidence, one.class_name) for one in found] == [
        (2, "pseudo", 0.5, "kind 2"),
        (3, "pseudo", 0.5, "kind 3"),
        (4, "pick", 0.97, "kind 1"),
    ]
    assert (labels == 4).sum() == told.sum() and (labels == 2).sum() == 8 * 14 and not (labels == 1).any()


def test_pictures_of_a_store_begin_with_what_picks_tell(tmp_path: Path) -> None:
    fill(tmp_path / "store", 1)
    with view_server(find_sources([tmp_path / "store"]), tmp_path) as server:
        assert server.view.archive.wait(lambda: len(server.view.archive.index) == 3, 30)
        draft = Draft.model_validate(opened(server, "piles-00000-000"))
    assert [mask.origin for mask in draft.masks] == ["pick", "earlier", "earlier"]
    assert all(0.5 < mask.confidence <= 1 for mask in draft.masks)
    labels, true = draft.labels(), truth(0, 0)
    for number, mask in enumerate(draft.masks, 1):
        found, block = labels == mask.id, true == number
        assert (found & block).sum() > 0.9 * (found | block).sum()
