"""What the whole picture does not show is looked for in enlarged parts of it."""

from __future__ import annotations

import numpy as np
import pytest
from helpers.perception_graphs import colour_bundle, colour_frame

from robin_perception.core.frame import Frame
from robin_perception.core.scene import Instance
from robin_perception.engines import EngineConfig
from robin_perception.segmentation.closer_look import CloserLookConfig, joined
from robin_perception.segmentation.decode import Decoded
from robin_perception.segmentation.segmenter import Segmenter, SegmenterConfig, load_segmenter
from robin_perception.segmentation.view import View

HEIGHT, WIDTH = 384, 512
BELT_M = 1.2
ON_THE_BELT = CloserLookConfig(min_height_m=0.0)


@pytest.fixture(scope="module")
def segmenter(tmp_path_factory: pytest.TempPathFactory) -> Segmenter:
    bundle = colour_bundle(tmp_path_factory.mktemp("model") / "colours", 4)
    return load_segmenter(bundle.directory, engine_config=EngineConfig(intra_threads=1))


def lone(box: tuple[int, int, int, int], height_m: float = 0.05) -> Frame:
    """A parcel, too small for the network, at ``box`` (x0, y0, x1, y1), so high above the belt."""
    x0, y0, x1, y1 = box
    labels = np.zeros((HEIGHT, WIDTH), dtype=np.uint16)
    labels[y0:y1, x0:x1] = 1
    frame = colour_frame(labels, BELT_M)
    return frame.with_depth(np.where(labels > 0, BELT_M - height_m, BELT_M).astype(np.float32))


@pytest.mark.parametrize("corner", [(40, 48), (440, 48), (40, 300), (440, 300), (248, 188)])
def test_a_small_parcel_is_found_where_it_is(segmenter: Segmenter, corner: tuple[int, int]) -> None:
    x, y = corner
    frame = lone((x, y, x + 7, y + 8))
    off = SegmenterConfig(closer_look=CloserLookConfig(enabled=False))
    plain = Segmenter(segmenter.bundle, segmenter.engine, off).segment(frame)
    assert plain.instances == () and plain.flags == ("no_instances",)
    scene = segmenter.segment(frame)
    assert scene.flags == ("closer_look",) and "closer_look" in scene.timings_ms
    (parcel,) = scene.instances
    assert parcel.id == 1 and parcel.area_px == np.count_nonzero(scene.labels) == scene.crop(parcel).sum()
    ys, xs = np.nonzero(scene.labels)
    assert parcel.bbox == (xs.min(), ys.min(), xs.max() + 1, ys.max() + 1)
    assert np.allclose((xs.mean(), ys.mean()), (x + 3, y + 3.5), atol=1.5)
    assert 0.4 < parcel.area_px / 56 < 2.5


def test_the_engine_is_told_which_runs_are_of_parts(segmenter: Segmenter, monkeypatch: pytest.MonkeyPatch) -> None:
    """A supervised engine believes an empty answer about a part: that about the whole frame was looked into."""
    run, parts = segmenter.engine.run, []
    monkeypatch.setattr(segmenter.engine, "run_part", lambda inputs, outputs: parts.append(1) or run(inputs, outputs))
    assert segmenter.segment(lone((40, 48, 140, 148))).instances and parts == []
    assert segmenter.segment(lone((40, 48, 47, 56))).flags == ("closer_look",) and len(parts) == 4


def test_what_lies_flat_on_the_belt_is_its_pattern(segmenter: Segmenter) -> None:
    scene = segmenter.segment(lone((40, 48, 47, 56), height_m=0.003))
    assert scene.instances == () and scene.flags == ("no_instances",) and not scene.labels.any()


def test_a_frame_with_parcels_is_looked_at_once(segmenter: Segmenter) -> None:
    scene = segmenter.segment(lone((40, 48, 140, 148)))
    assert len(scene.instances) == 1 and scene.flags == () and "closer_look" not in scene.timings_ms


def test_the_network_gets_the_geometry_of_the_part(segmenter: Segmenter) -> None:
    """A point of the scene has the same ray through the whole frame and through a part of it."""
    frame = lone((440, 300, 447, 308))
    whole = segmenter.view(frame)
    part = whole.corners(CloserLookConfig().part)[3]
    assert (part.x, part.y, *part.box.frame_size) == (205, 154, 307, 230) and whole.whole and not part.whole
    for x, y in ((443.0, 304.0), (300.0, 200.0)):
        rays = []
        for view in (whole, part):
            u, v = view.box.to_network(np.array((x - view.x, y - view.y)))
            fx, fy, cx, cy = view.inputs["intrinsics"]
            rays.append(((u - cx) / fx, (v - cy) / fy))
        assert np.allclose(rays[0], rays[1], atol=1e-5)
    assert np.array_equal(whole.inputs["belt_plane"], part.inputs["belt_plane"])


def corners(frame: Frame, share: float = CloserLookConfig().part) -> tuple[View, ...]:
    return View.of(frame, (WIDTH, HEIGHT), 0.0).corners(share)


def test_the_parts_cover_the_frame() -> None:
    for size, share in (((640, 480), 0.5), ((641, 479), 0.6), ((5, 3), 0.9)):
        frame = colour_frame(np.zeros(size[::-1], dtype=np.uint16))
        seen = np.zeros((frame.height, frame.width), dtype=int)
        for part in corners(frame, share):
            seen[part.window] += 1
        assert seen.min() >= 1


def decoded(part: View, box: tuple[int, int, int, int], detection: float) -> Decoded:
    """One mask at ``box``, in pixels of the frame."""
    x0, y0, x1, y1 = box[0] - part.x, box[1] - part.y, box[2] - part.x, box[3] - part.y
    labels = np.zeros(part.box.frame_size[::-1], dtype=np.uint16)
    labels[y0:y1, x0:x1] = 1
    one = Instance(1, (x0, y0, x1, y1), (x1 - x0) * (y1 - y0), np.ones(5) / 5, detection, 0.9, 1.0, 0.5, np.ones(4) / 2)
    return Decoded(labels, (one,), (0,), truncated=False)


def found(*views: tuple[int, tuple[int, int, int, int], float]) -> list[tuple[tuple[int, int, int, int], float]]:
    frame = lone((0, 0, 1, 1))
    parts = corners(frame)
    both = joined([(parts[k], decoded(parts[k], box, detection)) for k, box, detection in views], ON_THE_BELT)
    assert [i.id for i in both.instances] == list(range(1, len(both.instances) + 1))
    assert [int((both.labels == i.id).sum()) for i in both.instances] == [i.area_px for i in both.instances]
    return [(i.bbox, i.detection) for i in both.instances]


def test_of_a_parcel_that_two_parts_show_the_surer_mask_stays() -> None:
    box = (220, 60, 250, 90)
    assert found((0, box, 0.7), (1, (221, 60, 251, 90), 0.9)) == [((221, 60, 251, 90), 0.9)]


def test_two_parcels_are_two_though_their_masks_touch_a_little() -> None:
    assert found((0, (220, 60, 250, 90), 0.9), (1, (248, 60, 280, 90), 0.8)) == [
        ((220, 60, 250, 90), 0.9),
        ((250, 60, 280, 90), 0.8),
    ]


def test_a_mask_that_a_part_cuts_is_left_to_another_part() -> None:
    first, second, *_ = corners(lone((0, 0, 1, 1)))
    edge = first.box.frame_size[0]
    cut = (edge - 20, 60, edge, 90)
    assert found((0, cut, 0.9), (1, (cut[0], 60, cut[2] + 30, 90), 0.8)) == [((cut[0], 60, cut[2] + 30, 90), 0.8)]
    assert found((1, (second.x, 60, second.x + 20, 90), 0.9)) == []
    assert found((0, (0, 0, 20, 30), 0.9)) == [((0, 0, 20, 30), 0.9)]  # at the edge of the picture nothing is missing


def test_a_mask_without_depth_is_no_parcel(segmenter: Segmenter) -> None:
    frame = lone((40, 48, 47, 56))
    depth = frame.depth.copy()
    depth[:100, :100] = 0
    assert segmenter.segment(frame.with_depth(depth)).instances == ()
