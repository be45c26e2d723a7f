"""The newest picture of the camera: written beside the pick path, shown on the live page, gone when the cell is."""

from __future__ import annotations

import http.client
import json
import threading
from pathlib import Path

import cv2
import numpy as np
import pytest
from helpers.view_server import view_server

from edge_adapt.live_picture import PICTURE, LivePicture, LiveReader, drawn
from robin_view.sources import Sources, find_sources

GREY = np.full((90, 1280, 3), 90, dtype=np.uint8)


def shown(folder: Path, stamp: int = 0) -> int:
    """Waits for a picture of another stamp."""
    reader, waited = LiveReader(folder), threading.Event()
    for _ in range(400):
        if (now := reader.stamp()) not in (0, stamp):
            return now
        waited.wait(0.05)
    raise AssertionError("no picture came")


def test_masks_are_drawn_on_a_small_picture() -> None:
    labels = np.zeros(GREY.shape[:2], dtype=np.uint16)
    labels[20:70, 100:600] = 3
    plain, masked = (
        cv2.imdecode(np.frombuffer(drawn(GREY, which), np.uint8), cv2.IMREAD_COLOR) for which in (None, labels)
    )
    assert plain is not None and masked is not None and plain.shape == masked.shape == (45, 640, 3)
    changed = np.abs(plain.astype(int) - masked).max(axis=2) > 12
    assert changed[15:30, 60:290].all() and not changed[:, 320:].any()


def test_the_newest_picture_is_there_while_the_cell_is(tmp_path: Path) -> None:
    picture = LivePicture(tmp_path / "live", rate_hz=1000)
    picture.offer(GREY)
    first = shown(tmp_path / "live")
    picture.offer(GREY // 2)
    shown(tmp_path / "live", first)
    assert LiveReader(tmp_path / "live").read() == drawn(GREY // 2, None)
    picture.close()
    picture.offer(GREY)
    assert not (tmp_path / "live").exists() and LiveReader(tmp_path / "live").stamp() == 0


def test_what_comes_too_quickly_is_passed_over_and_the_last_is_shown(tmp_path: Path) -> None:
    picture = LivePicture(tmp_path, rate_hz=2)
    picture.offer(GREY)
    first = shown(tmp_path)
    for level in range(50):
        picture.offer(np.full_like(GREY, level))
    shown(tmp_path, first)
    assert LiveReader(tmp_path).read() == drawn(np.full_like(GREY, 49), None)
    picture.close()


def test_one_cell_of_several_is_shown(tmp_path: Path) -> None:
    one, other = LivePicture(tmp_path), LivePicture(tmp_path)
    other.offer(GREY // 2)
    other.close()
    one.offer(GREY)
    shown(tmp_path)
    assert LiveReader(tmp_path).read() == drawn(GREY, None)
    one.close()


def test_a_disk_that_fails_costs_the_picture_alone(tmp_path: Path) -> None:
    (tmp_path / "live").write_text("in the way")
    picture = LivePicture(tmp_path / "live")
    picture.offer(GREY)
    picture.close()
    assert (tmp_path / "live").read_text() == "in the way"


def test_the_page_follows_the_camera(tmp_path: Path) -> None:
    live = tmp_path / "live"
    picture = LivePicture(live)
    with view_server(find_sources([tmp_path]), tmp_path) as server:
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
        connection.request("GET", "/live/events")
        events = connection.getresponse()
        picture.offer(GREY)
        while not (line := events.readline()).startswith(b"event: look"):
            assert line
        told = json.loads(events.readline().removeprefix(b"data: "))
        assert told["stamp"] == str(LiveReader(live).stamp())
        answer = server.ask(f"/live/picture?{told['stamp']}")
        assert answer.body == (live / PICTURE).read_bytes() and answer.headers["content-type"] == "image/jpeg"
        assert answer.headers["cache-control"] == "no-store"
        picture.close()
        assert server.ask("/live/picture").status == 404
        connection.close()


@pytest.mark.parametrize("sources", [Sources(), Sources(live=Path("nowhere"))])
def test_without_a_camera_there_is_no_picture(sources: Sources, tmp_path: Path) -> None:
    with view_server(sources, tmp_path) as server:
        assert server.ask("/live/picture").status == 404
