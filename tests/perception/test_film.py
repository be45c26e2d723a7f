"""Film that the depth camera looks through: what the film network tells becomes a face of each instance."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from edge_adapt.training.export import random_bundle, random_network
from edge_adapt.training.film import FilmNetwork
from edge_adapt.training.film_train import export_film
from robin_perception.core.errors import Code, RobinError
from robin_perception.core.frame import Frame
from robin_perception.core.scene import FILM_TERMS, Instance
from robin_perception.engines.testing.tiny_bundle import tiny_bundle
from robin_perception.model.bundle import FILM_FILE, Manifest, add_file, load_bundle
from robin_perception.model.model_card import card_text
from robin_perception.segmentation.decode import Decoded
from robin_perception.segmentation.film import FilmConfig, film_design, maybe_film, with_film
from robin_perception.segmentation.film_reader import FilmReader, film_reader
from robin_perception.segmentation.segmenter import SegmenterConfig, load_segmenter
from robin_perception.segmentation.view import View

HEIGHT_M, CAMERA_M = 0.06, 1.2
CONFIG = FilmConfig()


def frame_from_above(width: int = 640, height: int = 480) -> Frame:
    """A bare belt 1.2 m below a camera that looks straight down."""
    K = np.array([[500.0, 0, (width - 1) / 2], [0, 500.0, (height - 1) / 2], [0, 0, 1]])
    pose = np.array([[1.0, 0, 0, 0.6], [0, -1.0, 0, 0], [0, 0, -1.0, CAMERA_M], [0, 0, 0, 1]])
    rgb = np.full((height, width, 3), 90, np.uint8)
    return Frame(rgb, np.full((height, width), CAMERA_M, np.float32), K, pose, 0.0)


def instance(identity: int, bbox: tuple[int, int, int, int]) -> Instance:
    area = (bbox[2] - bbox[0]) * (bbox[3] - bbox[1])
    votes = np.array([0, 0, 0, 1, 0], dtype=np.float32)
    return Instance(identity, bbox, area, votes, 0.9, 0.9, 1.0, 0.5, np.zeros(16, dtype=np.float32))


def two_goods(frame: Frame) -> Decoded:
    boxes = ((100, 120, 260, 280), (340, 100, 500, 300))
    labels = np.zeros(frame.depth.shape, dtype=np.uint16)
    for number, (x0, y0, x1, y1) in enumerate(boxes, start=1):
        labels[y0:y1, x0:x1] = number
    return Decoded(labels, tuple(instance(k + 1, box) for k, box in enumerate(boxes)), (0, 1), False)


def told(height: NDArray[np.float32] | float = HEIGHT_M, odds: float = 0.9) -> NDArray[np.float32]:
    return np.stack((np.full((96, 128), height, np.float32), np.full((96, 128), odds, np.float32)))


def face_of(one: Instance, x: float, y: float) -> float:
    return float((film_design(np.array([x]), np.array([y]), one.bbox) @ np.array(one.film_depth))[0])


@pytest.mark.parametrize("scale", [1.0, 1.7])
def test_a_level_film_is_as_deep_as_it_is_high(scale: float) -> None:
    """Also where the network was shown the scene larger: it then tells larger heights."""
    frame = frame_from_above()
    view, goods = View.of(frame, (512, 384), 0.0, scale), two_goods(frame)
    found = with_film(goods, told(HEIGHT_M * scale), view, CONFIG, frozenset({1, 2})).instances
    for one in found:
        assert len(one.film_depth) == FILM_TERMS
        for x, y in ((one.bbox[0], one.bbox[1]), (one.bbox[2] - 1, one.bbox[3] - 1)):
            assert face_of(one, x, y) == pytest.approx(CAMERA_M - HEIGHT_M, abs=1e-4)


def test_a_slope_is_told_where_it_is() -> None:
    frame = frame_from_above()
    view, goods = View.of(frame, (512, 384), 0.0), two_goods(frame)
    ramp = np.broadcast_to(np.linspace(0.0, 0.128, 128, dtype=np.float32), (96, 128))
    one = with_film(goods, told(ramp), view, CONFIG, frozenset({1})).instances[0]
    for x in (120.0, 180.0, 240.0):
        height = 0.128 * ((x + 0.5) * 0.8 - 0.5 - 1.5) / 4 / 127
        assert face_of(one, x, 200.0) == pytest.approx(CAMERA_M - height, abs=1e-3)


def test_only_wanted_goods_that_the_network_finds_film_on_get_a_face() -> None:
    frame = frame_from_above()
    view, goods = View.of(frame, (512, 384), 0.0), two_goods(frame)
    found = with_film(goods, told(), view, CONFIG, frozenset({2})).instances
    assert not found[0].film_depth and found[1].film_depth
    doubtful = with_film(goods, told(odds=0.4), view, CONFIG, frozenset({1, 2})).instances
    assert not any(one.film_depth for one in doubtful)


@pytest.mark.parametrize("identity", [1, 2], ids=["with depth", "without"])
def test_film_on_a_part_of_other_goods_covers_them(identity: int) -> None:
    """A quarter of each mask shows film: a bag that lies there, or leans against it, has no mask of its own."""
    frame = frame_from_above()
    view, goods = View.of(frame, (512, 384), 0.0), two_goods(frame)
    film = told(odds=0.1)
    for x0, y0, x1, y1 in (one.bbox for one in goods.instances):
        film[1, y0 // 5 : y1 // 5, x0 // 5 : (3 * x0 + x1) // 20] = 0.9
    found = with_film(goods, film, view, CONFIG, frozenset({2})).instances[identity - 1]
    assert not found.film_depth and found.visible_fraction == pytest.approx(0.75, abs=0.05)
    whole = with_film(goods, told(odds=0.1), view, CONFIG, frozenset({2})).instances[identity - 1]
    assert whole.visible_fraction == 1.0


def test_goods_of_film_are_not_covered_by_it() -> None:
    frame = frame_from_above()
    view, goods = View.of(frame, (512, 384), 0.0), two_goods(frame)
    found = with_film(goods, told(), view, CONFIG, frozenset({2})).instances
    assert [one.visible_fraction for one in found] == [1.0, 1.0]


def test_goods_of_another_class_are_left_out_unless_the_bundle_does_not_know_poly_bags() -> None:
    frame = frame_from_above()
    goods = two_goods(frame)
    carton = replace(goods.instances[0], class_probabilities=np.array([0.95, 0, 0, 0.05, 0], dtype=np.float32))
    goods = replace(goods, instances=(carton, goods.instances[1]))
    unseen = View.of(frame.with_depth(np.zeros_like(frame.depth)), (512, 384), 0.0)
    assert maybe_film(goods, unseen, CONFIG) == frozenset({2})
    assert maybe_film(goods, unseen, FilmConfig(least_class=0)) == frozenset({1, 2})
    assert maybe_film(goods, unseen, CONFIG, ("box", "bottle", "jar", "bag", "can")) == frozenset({1, 2})


def test_a_face_behind_what_is_seen_is_left_out() -> None:
    """Film stands before what the camera sees through it."""
    frame = frame_from_above()
    view, goods = View.of(frame, (512, 384), 0.0), two_goods(frame)
    both = frozenset({1, 2})
    assert all(one.film_depth for one in with_film(goods, told(-0.015), view, CONFIG, both).instances)
    assert not any(one.film_depth for one in with_film(goods, told(-0.03), view, CONFIG, both).instances)
    unseen = View.of(frame.with_depth(np.zeros_like(frame.depth)), (512, 384), 0.0)
    assert all(one.film_depth for one in with_film(goods, told(-0.03), unseen, CONFIG, both).instances)


def test_goods_whose_depth_is_whole_keep_it() -> None:
    frame = frame_from_above()
    goods = two_goods(frame)
    assert maybe_film(goods, View.of(frame, (512, 384), 0.0), CONFIG) == frozenset()
    holes = frame.depth.copy()
    holes[120:150, 100:260] = 0  # a fifth of the first
    seen = View.of(frame.with_depth(holes), (512, 384), 0.0)
    assert maybe_film(goods, seen, CONFIG) == frozenset({1})
    assert maybe_film(goods, seen, FilmConfig(most_depth=0.7)) == frozenset()


def test_a_small_mask_is_left_as_it_is() -> None:
    frame = frame_from_above()
    labels = np.zeros(frame.depth.shape, dtype=np.uint16)
    labels[200:208, 200:208] = 1
    goods = Decoded(labels, (instance(1, (200, 200, 208, 208)),), (0,), False)
    view = View.of(frame, (512, 384), 0.0)
    assert not with_film(goods, told(), view, CONFIG, frozenset({1})).instances[0].film_depth


def film_graph(seed: int = 0) -> bytes:
    network = random_network(seed)
    return export_film(FilmNetwork(network.preprocess, network.trunk, network.config.pyramid4), {"seed": seed})


def film_bundle(folder: Path) -> Path:
    random_bundle(folder, 3)
    add_file(folder, FILM_FILE, film_graph())
    return folder


def test_a_bundle_without_a_film_network_has_none_and_that_is_no_fault(tmp_path: Path) -> None:
    tiny_bundle(tmp_path / "m")
    assert film_reader(load_bundle(tmp_path / "m")) is None
    segmenter = load_segmenter(tmp_path / "m", "onnxruntime")
    assert (segmenter.film, segmenter.film_off) == (None, None)


def test_the_film_network_of_a_bundle_reads_a_frame(tmp_path: Path) -> None:
    bundle = load_bundle(film_bundle(tmp_path / "m"))
    view = View.of(frame_from_above(), (512, 384), 0.0)
    reader = FilmReader(bundle)
    film = reader.read(view.inputs)
    assert reader.facts == {"seed": 0}
    assert film.shape == (2, 96, 128) and film.dtype == np.float32
    assert np.abs(film[0]).max() < 0.01  # an untrained one says what is seen, here a bare belt
    assert film[1].max() < 0.5


def test_a_film_network_changes_neither_the_bundles_name_nor_its_masks(tmp_path: Path) -> None:
    before = load_segmenter(random_bundle(tmp_path / "a", 3).directory, "onnxruntime")
    after = load_segmenter(film_bundle(tmp_path / "b"), "onnxruntime")
    frame = frame_from_above()
    assert before.model_id == after.model_id
    assert np.array_equal(before.segment(frame).labels, after.segment(frame).labels)


@pytest.mark.parametrize("data", [b"no graph", b""])
def test_a_damaged_film_network_is_off_and_says_so(tmp_path: Path, data: bytes) -> None:
    tiny_bundle(tmp_path / "m")
    add_file(tmp_path / "m", FILM_FILE, data)
    segmenter = load_segmenter(tmp_path / "m", "onnxruntime")
    assert segmenter.film is None and segmenter.film_off is not None
    assert segmenter.film_off.code is Code.FILM_NETWORK_INVALID
    segmenter.segment(frame_from_above())


def test_a_graph_that_reads_something_else_is_no_film_network(tmp_path: Path) -> None:
    bundle = tiny_bundle(tmp_path / "m")
    add_file(tmp_path / "m", FILM_FILE, bundle.network_path.read_bytes())
    with pytest.raises(RobinError, match="its inputs are") as caught:
        FilmReader(load_bundle(tmp_path / "m"))
    assert caught.value.code is Code.FILM_NETWORK_INVALID


def test_film_that_is_switched_off_is_not_read(tmp_path: Path) -> None:
    config = SegmenterConfig(film=FilmConfig(enabled=False))
    segmenter = load_segmenter(film_bundle(tmp_path / "m"), "onnxruntime", config)
    assert (segmenter.film, segmenter.film_off) == (None, None)
    segmenter.config = SegmenterConfig()
    assert segmenter.film is not None


class Spy:
    """A film network that says film everywhere, and counts."""

    def __init__(self) -> None:
        self.calls = 0

    def read(self, inputs: object) -> NDArray[np.float32]:
        self.calls += 1
        return told()


def test_film_is_read_only_where_goods_lack_depth(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    segmenter = load_segmenter(film_bundle(tmp_path / "m"), "onnxruntime")
    frame = frame_from_above()
    monkeypatch.setattr(segmenter, "_whole", lambda view, decoded: two_goods(frame))
    spy = Spy()
    monkeypatch.setattr(segmenter, "film", spy)
    scene = segmenter.segment(frame)
    assert spy.calls == 0 and "film" not in scene.timings_ms
    assert not any(one.film_depth for one in scene.instances)
    holes = frame.depth.copy()
    holes[120:280, 100:180] = 0
    scene = segmenter.segment(replace(frame, depth=holes))
    assert spy.calls == 1 and scene.timings_ms["film"] > 0
    assert [bool(one.film_depth) for one in scene.instances] == [True, False]


def test_a_film_network_that_fails_is_off_and_the_frame_is_told_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    segmenter = load_segmenter(film_bundle(tmp_path / "m"), "onnxruntime")
    frame = frame_from_above()
    monkeypatch.setattr(segmenter, "_whole", lambda view, decoded: two_goods(frame))

    class Broken:
        def read(self, inputs: object) -> NDArray[np.float32]:
            raise RobinError(Code.ENGINE_FAILED, "film network: out of memory")

    monkeypatch.setattr(segmenter, "film", Broken())
    scene = segmenter.segment(frame.with_depth(np.pad(frame.depth[:, 300:], ((0, 0), (300, 0)))))
    assert len(scene.instances) == 2 and not any(one.film_depth for one in scene.instances)
    assert segmenter.film is None and segmenter.film_off is not None
    assert segmenter.film_off.code is Code.ENGINE_FAILED


def test_the_card_tells_what_the_film_network_was_made_from() -> None:
    manifest = Manifest(name="base", files={}, input_height=384, input_width=512, max_instances=100, head=())
    facts = {"model": "base-00000000", "steps": 12, "scenes": 34, "seed": 5}
    told = "It began with the trunk of `base-00000000`: 34 simulated scenes, 12 steps, training seed 5."
    assert told in card_text(manifest, "base-00000000", [], "", facts)
    assert "film" not in card_text(manifest, "base-00000000", [], "")
    assert "not told simulated scenes" in card_text(manifest, "base-00000000", [], "", {})
