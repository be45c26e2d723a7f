"""Labels of other tools: each format says the same of one picture, and each fault is named by file and key."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from edge_adapt.annotations.label_studio import brush_mask
from edge_adapt.annotations.read import LabelledFrame, labelled_frames
from edge_adapt.store.runs import encode_labels
from robin_perception.core.errors import Code, RobinError

WIDTH, HEIGHT = 64, 48
BOX = (slice(10, 31), slice(20, 41))
"""Rows and columns of the parcel that all of them draw; outlines are drawn with their pixels."""
CORNERS = [(20, 10), (40, 10), (40, 30), (20, 30)]


def expected() -> NDArray[np.uint16]:
    labels = np.zeros((HEIGHT, WIDTH), dtype=np.uint16)
    labels[BOX] = 1
    return labels


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """A picture of another tool with its depth and camera."""
    (tmp_path / "depth").mkdir()
    (tmp_path / "images").mkdir()
    rng = np.random.default_rng(0)
    cv2.imwrite(str(tmp_path / "images" / "cell.jpg"), rng.integers(0, 255, (HEIGHT, WIDTH, 3)).astype(np.uint8))
    cv2.imwrite(str(tmp_path / "depth" / "cell.png"), rng.integers(1190, 1201, (HEIGHT, WIDTH)).astype(np.uint16))
    pose = [[1.0, 0, 0, 0.7], [0, -1.0, 0, 0], [0, 0, -1.0, 1.2], [0, 0, 0, 1]]
    camera = {"fx": 60.0, "fy": 60.0, "cx": 31.5, "cy": 23.5, "width": WIDTH, "height": HEIGHT, "T_base_camera": pose}
    (tmp_path / "camera.json").write_text(json.dumps(camera))
    return tmp_path


def coco(segmentation: Any, **changes: Any) -> dict[str, Any]:
    image = {"id": 7, "file_name": "cell.jpg", "width": WIDTH, "height": HEIGHT}
    annotation = {"id": 1, "image_id": 7, "category_id": 3, "segmentation": segmentation, "iscrowd": 0}
    return {"images": [image], "annotations": [annotation | changes], "categories": [{"id": 3, "name": "carton"}]}


def labelme(**changes: Any) -> dict[str, Any]:
    shape = {"label": "carton", "points": CORNERS, "shape_type": "polygon", "group_id": None} | changes
    return {"imagePath": "images/cell.jpg", "imageHeight": HEIGHT, "imageWidth": WIDTH, "shapes": [shape]}


def studio(kind: str, value: dict[str, Any], image: str = "/data/upload/1/0a1b2c3d-cell.jpg") -> list[dict[str, Any]]:
    region = {"type": kind, "original_width": WIDTH, "original_height": HEIGHT, "value": value}
    relation = {"type": "relation", "from_id": "a", "to_id": "b"}
    return [{"id": 1, "data": {"image": image}, "annotations": [{"result": [region, relation]}]}]


def counts() -> list[int]:
    flat = expected().T.ravel()
    edges = np.flatnonzero(np.diff(flat)) + 1
    return np.diff([0, *edges.tolist(), flat.size]).tolist()


def packed(mask: NDArray[np.bool_], repeated: bool = True) -> list[int]:
    """What Label Studio writes: runs of one value, or each value on its own."""
    values = np.repeat(mask.ravel().astype(np.uint8) * 255, 4)
    bits = f"{values.size:032b}{7:05b}" + "".join(f"{size - 1:04b}" for size in (3, 4, 8, 16))
    at = 0
    while at < values.size:
        end = at + 1
        if repeated:
            while end < values.size and values[end] == values[at] and end - at < 2**16:
                end += 1
            bits += f"1{3:02b}{end - at - 1:016b}{values[at]:08b}"
        else:
            end = min(values.size, at + 8)
            bits += f"0{0:02b}{end - at - 1:03b}" + "".join(f"{v:08b}" for v in values[at:end])
        at = end
    bits += "0" * (-len(bits) % 8)
    return [int(bits[i : i + 8], 2) for i in range(0, len(bits), 8)]


def mask_png() -> str:
    ok, data = cv2.imencode(".png", np.full((21, 21), 1, dtype=np.uint8))
    assert ok
    return base64.b64encode(data.tobytes()).decode()


PER_CENT = [(100 * x / WIDTH, 100 * y / HEIGHT) for x, y in CORNERS]
GOOD: dict[str, Callable[[], Any]] = {
    "coco outline": lambda: coco([[v for point in CORNERS for v in point]]),
    "coco text": lambda: coco({"size": [HEIGHT, WIDTH], "counts": encode_labels(expected())[1]}),
    "coco counts": lambda: coco({"size": [HEIGHT, WIDTH], "counts": counts()}),
    "labelme": labelme,
    "labelme rectangle": lambda: labelme(points=[(40, 30), (20, 10)], shape_type="rectangle"),
    "labelme mask": lambda: labelme(points=[(20, 10), (40, 30)], shape_type="mask", mask=mask_png()),
    "studio outline": lambda: studio("polygonlabels", {"points": PER_CENT, "polygonlabels": ["carton"]}),
    "studio brush": lambda: studio(
        "brushlabels", {"format": "rle", "rle": packed(expected() > 0), "brushlabels": ["carton"]}
    ),
    "studio local file": lambda: studio(
        "polygonlabels", {"points": PER_CENT, "polygonlabels": ["carton"]}, "/data/local-files/?d=images/cell.jpg"
    ),
}


def read(folder: Path, values: Any) -> list[LabelledFrame]:
    (folder / "labels.json").write_text(json.dumps(values))
    return list(labelled_frames(folder))


@pytest.mark.parametrize("name", GOOD)
def test_every_format_says_the_same(pictures: Path, name: str) -> None:
    found = read(pictures, GOOD[name]())
    assert len(found) == 1 and found[0].names == {1: "carton"}
    assert np.array_equal(found[0].labels, expected())
    assert 1.19 <= found[0].frame.depth.min() <= found[0].frame.depth.max() <= np.float32(1.2)


def test_runs_that_are_not_repeated_are_read() -> None:
    mask = np.random.default_rng(0).random((HEIGHT, WIDTH)) > 0.5
    assert np.array_equal(brush_mask(packed(mask, repeated=False), (WIDTH, HEIGHT), ""), mask)


def test_a_crowd_is_ignored_and_a_group_is_one_parcel(pictures: Path) -> None:
    crowd = read(pictures, coco([[v for point in CORNERS for v in point]], iscrowd=1))[0]
    assert crowd.names == {} and set(np.unique(crowd.labels)) == {0, 65535}
    values = labelme(group_id=4)
    other = {"label": "carton", "points": [(50, 40), (60, 40), (60, 45)], "shape_type": "polygon", "group_id": 4}
    values["shapes"].append(other)
    values["shapes"].append({**other, "group_id": None})
    grouped = read(pictures, values)[0]
    assert grouped.names == {1: "carton", 2: "carton"} and (grouped.labels[BOX] == 1).all()
    assert grouped.labels[41, 59] == 2, "the later one lies on top"


def test_own_folders_are_numbered_anew(pictures: Path) -> None:
    folder = pictures / "scene"
    folder.mkdir()
    labels = np.where(expected() > 0, 900, 0).astype(np.uint16)
    labels[0, 0], labels[47, 63] = 65535, 12
    for source, name in (("images/cell.jpg", "color.png"), ("depth/cell.png", "depth.png")):
        cv2.imwrite(str(folder / name), cv2.imread(str(pictures / source), cv2.IMREAD_UNCHANGED))
    cv2.imwrite(str(folder / "labels.png"), labels)
    (folder / "camera.json").write_text((pictures / "camera.json").read_text())
    (folder / "scene.json").write_text(json.dumps({"instances": [{"id": 900, "kind": "tube"}]}))
    found = next(labelled_frames(pictures))
    assert found.names == {1: "", 2: "tube"}
    assert found.labels[0, 0] == 65535 and found.labels[47, 63] == 1 and (found.labels[BOX] == 2).all()


BAD: dict[str, tuple[Callable[[], Any], str]] = {
    "no tool's": (lambda: {"frames": []}, "neither COCO"),
    "coco of no image": (lambda: coco([[0, 0, 9, 0, 9, 9]], image_id=8), "annotations.0: 'image_id' 8"),
    "coco odd outline": (lambda: coco([[0, 0, 9, 0, 9, 9, 9]]), "annotations.0.segmentation: an outline of 7 numbers"),
    "coco two points": (lambda: coco([[0, 0, 9, 0]]), "an outline of 2 points"),
    "coco far out": (lambda: coco([[0, 0, 9000, 0, 9, 9]]), "far outside of the 64x48"),
    "coco size": (lambda: coco({"size": [WIDTH, HEIGHT], "counts": [1]}), r"'size' \[64, 48\]"),
    "coco short": (lambda: coco({"size": [HEIGHT, WIDTH], "counts": [5, 6]}), "'counts' make 11 pixels of 3072"),
    "coco no runs": (lambda: coco({"size": [HEIGHT, WIDTH], "counts": "~~"}), "annotations.0.segmentation"),
    "coco no list": (lambda: {"images": 3, "annotations": []}, "'images'"),
    "labelme circle": (lambda: labelme(shape_type="circle", points=[(1, 1), (2, 2)]), "shapes.0: 'shape_type' circle"),
    "labelme no path": (lambda: {"shapes": []}, "'imagePath'"),
    "labelme other": (lambda: labelme() | {"imagePath": "../cell.jpg/x"}, "imagePath: no picture"),
    "labelme no png": (lambda: labelme(points=[(20, 10), (40, 30)], shape_type="mask", mask="AAAA"), "shapes.0.mask"),
    "labelme size": (lambda: labelme() | {"imageWidth": 65}, "says 65x48"),
    "studio boxes": (lambda: studio("rectanglelabels", {"x": 1}), "0.result.0: 'type' rectanglelabels"),
    "studio cut": (lambda: studio("brushlabels", {"format": "rle", "rle": [0, 0], "brushlabels": []}), "value.rle"),
    "studio size": (
        lambda: studio("brushlabels", {"format": "rle", "rle": packed(np.ones((9, 9), bool)), "brushlabels": []}),
        "holds 324 values",
    ),
    "studio nowhere": (lambda: studio("polygonlabels", {"points": PER_CENT}, "s3://b/x.jpg"), "0.data.image"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_fault_is_named_by_file_and_key(pictures: Path, name: str) -> None:
    make, text = BAD[name]
    with pytest.raises(RobinError, match=text) as caught:
        read(pictures, make())
    assert caught.value.code is Code.ANNOTATION_INVALID
    assert caught.value.text.startswith(str(pictures / "labels.json"))


def test_no_json_is_named(pictures: Path) -> None:
    (pictures / "labels.json").write_text("{")
    with pytest.raises(RobinError) as caught:
        list(labelled_frames(pictures))
    assert caught.value.code is Code.ANNOTATION_INVALID


@pytest.mark.parametrize(("gone", "text"), [("depth/cell.png", "no depth of"), ("camera.json", "no camera.json")])
def test_a_picture_needs_depth_and_camera(pictures: Path, gone: str, text: str) -> None:
    (pictures / gone).unlink()
    with pytest.raises(RobinError, match=text) as caught:
        read(pictures, labelme())
    assert caught.value.code is Code.ANNOTATION_INVALID


def test_nothing_labelled_is_told(tmp_path: Path) -> None:
    for place in (tmp_path, tmp_path / "none"):
        with pytest.raises(RobinError) as caught:
            list(labelled_frames(place))
        assert caught.value.code is Code.INPUT_MISSING
