"""Colour and depth find each other by stamp, and nothing else ever comes out."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from robin_perception.core.errors import Code
from robin_perception.nodes.pairing import FramePairer

OPTICAL = "camera_color_optical_frame"


@dataclass
class Stamp:
    sec: int
    nanosec: int


@dataclass
class Header:
    stamp: Stamp
    frame_id: str = OPTICAL


@dataclass
class Message:
    """What the pairing reads of sensor_msgs Image and CameraInfo."""

    header: Header
    encoding: str = ""
    width: int = 64
    height: int = 48


@dataclass
class Bench:
    """A pairer and what it reported."""

    tolerance_s: float = 0.005
    reported: list[tuple[Code, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.pairer = FramePairer(self.tolerance_s, lambda code, text, cause: self.reported.append((code, cause)))

    def info(self, **changes: Any) -> None:
        self.pairer.info(message(0.0, **changes))

    def color(self, at_ms: float, **changes: Any) -> Any:
        return self.pairer.color(message(at_ms, **{"encoding": "rgb8", **changes}))

    def depth(self, at_ms: float, **changes: Any) -> Any:
        return self.pairer.depth(message(at_ms, **{"encoding": "16UC1", **changes}))

    @property
    def causes(self) -> list[str]:
        return [cause for _, cause in self.reported]


def message(at_ms: float, frame_id: str = OPTICAL, **changes: Any) -> Message:
    ns = round((10_000 + at_ms) * 1e6)
    return Message(Header(Stamp(ns // 10**9, ns % 10**9), frame_id), **changes)


@pytest.fixture
def bench() -> Bench:
    made = Bench()
    made.info()
    return made


def test_either_may_come_first_and_stamps_may_differ_by_the_tolerance(bench: Bench) -> None:
    assert bench.color(0) is None
    assert bench.depth(5) is not None
    assert bench.depth(33) is None
    pair = bench.color(31)
    assert pair is not None and pair.color.encoding == "rgb8" and pair.depth.encoding == "16UC1"
    assert bench.reported == []


def test_beyond_the_tolerance_they_do_not_belong_together(bench: Bench) -> None:
    assert bench.color(0) is None
    assert bench.depth(5.001) is None


def test_colour_without_depth_is_counted_when_a_later_pair_is_made(bench: Bench) -> None:
    for at in (0, 33, 66):
        assert bench.color(at) is None
    assert bench.depth(66) is not None
    assert bench.reported == [(Code.FRAME_UNPAIRED, "color_without_depth")] * 2


@pytest.mark.parametrize("stream", ["color", "depth"])
def test_one_stream_alone_is_counted_and_bounded(bench: Bench, stream: str) -> None:
    other = "depth" if stream == "color" else "color"
    for i in range(50):
        assert getattr(bench, stream)(33 * i) is None
    assert bench.causes == [f"{stream}_without_{other}"] * 42  # eight may still find their partner
    assert getattr(bench, other)(33 * 49) is not None


def test_a_stamp_that_jumps_back_never_meets_a_moment_from_before(bench: Bench) -> None:
    assert bench.color(1000) is None
    assert bench.color(0) is None  # started anew
    assert bench.depth(1000) is None  # of before; its colour must be gone
    assert bench.reported == [(Code.STAMP_JUMPED_BACK, "stamp_jumped_back")]
    assert bench.depth(33) is None  # depth jumps back too
    assert bench.color(66) is None
    assert bench.depth(66) is not None


def test_the_same_message_twice_makes_one_pair(bench: Bench) -> None:
    assert bench.color(0) is None
    assert bench.depth(0) is not None
    assert bench.color(0) is None
    assert bench.causes == ["duplicate"]


@pytest.mark.parametrize(
    ("color", "depth", "info", "code", "cause"),
    [
        ({"encoding": "mono8"}, {}, {}, Code.INPUT_ENCODING_MISMATCH, "encoding"),
        ({}, {"encoding": "rgb8"}, {}, Code.INPUT_ENCODING_MISMATCH, "encoding"),
    ],
)
def test_an_encoding_that_is_not_understood_is_refused_with_its_number(
    color: dict[str, Any], depth: dict[str, Any], info: dict[str, Any], code: Code, cause: str
) -> None:
    bench = Bench()
    bench.info(**info)
    assert bench.color(0, **color) is None
    assert bench.depth(0, **depth) is None
    assert bench.reported == [(code, cause)]


def test_without_camera_info_there_is_no_pair() -> None:
    bench = Bench()
    bench.color(0)
    assert bench.depth(0) is None
    assert bench.reported == [(Code.CAMERA_INFO_MISSING, "no_camera_info")]
    bench.info()
    bench.color(33)
    assert bench.depth(33) is not None


@settings(deadline=None, max_examples=200)
@given(st.lists(st.tuples(st.sampled_from(["color", "depth"]), st.integers(0, 400)), max_size=60))
def test_whatever_comes_pairs_are_within_tolerance_and_every_message_is_used_once(
    events: list[tuple[str, int]],
) -> None:
    bench = Bench()
    bench.info()
    seen: set[int] = set()
    pairs = []
    for stream, at in events:
        pair = getattr(bench, stream)(at)
        if pair is not None:
            pairs.append(pair)
            assert abs(_ms(pair.color) - _ms(pair.depth)) <= 5
            assert not {id(pair.color), id(pair.depth)} & seen
            seen |= {id(pair.color), id(pair.depth)}
    assert len(events) >= 2 * len(pairs) + len(bench.reported)


def _ms(found: Message) -> float:
    return found.header.stamp.sec * 1e3 + found.header.stamp.nanosec / 1e6
