"""Unfamiliar goods in a node: conditions in the scene, what is held back, and why novelty is off."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("diagnostic_msgs")
pytest.importorskip("rclpy")

from helpers.novelty_samples import frame_with, scene_of, statistics

from robin_perception.core.condition import Condition, Family, PickingEffect
from robin_perception.core.errors import Code
from robin_perception.engines.testing.tiny_bundle import tiny_bundle
from robin_perception.model.bundle import FILM_FILE, NETWORK_FILE, NOVELTY_FILE, add_file
from robin_perception.nodes.goods_watch import GoodsWatch
from robin_perception.novelty.store import STORE_FILE
from robin_perception.novelty.watch import HELD_FLAG, WatchConfig
from robin_perception.segmentation.segmenter import load_segmenter

DARK = Condition(Code.LIGHT_LOW, "dark", Family.ENVIRONMENT, 1, 0, "", 0, PickingEffect.SLOW_DOWN, "dark")
FRAME = frame_with((200, 30, 40), (120, 120, 120))


class _Node:
    def __init__(self) -> None:
        self.reported: list[tuple[Code, bool]] = []

    def report(self, code: Code, text: str, warning: bool = False, lasting: bool = False) -> None:
        assert warning
        self.reported.append((code, lasting))


def watch_of(node: Any, folder: Path, config: WatchConfig | None = None, known: bool = True) -> tuple[GoodsWatch, Any]:
    bundle = tiny_bundle(folder / "m")
    if known:
        add_file(folder / "m", NOVELTY_FILE, statistics(bundle.manifest.files[NETWORK_FILE]).to_bytes())
    segmenter = load_segmenter(folder / "m", "onnxruntime")
    return GoodsWatch(node, config or WatchConfig(), segmenter), segmenter


def test_unfamiliar_goods_are_a_condition_beside_those_that_stand(tmp_path: Path) -> None:
    watch, segmenter = watch_of(_Node(), tmp_path)
    scene = watch.look(FRAME, scene_of(1, 2.0))
    assert [condition.code for condition in scene.conditions] == [Code.GOODS_UNFAMILIAR]
    assert scene.flags == ()
    assert watch.values(segmenter) == {"novelty": "limit the bundle's, 2.0% of known goods", "novelty_recurring": "0"}


def test_they_are_held_back_and_flagged_while_the_light_fails(tmp_path: Path) -> None:
    watch, _ = watch_of(_Node(), tmp_path)
    scene = watch.look(FRAME, replace(scene_of(1, 2.0), conditions=(DARK,)))
    assert (scene.conditions, scene.flags) == ((DARK,), (HELD_FLAG,))
    assert watch.look(FRAME, replace(scene_of(1, 0.5), conditions=(DARK,))).flags == ()


def test_a_bundle_without_statistics_says_so_and_is_no_fault(tmp_path: Path) -> None:
    node = _Node()
    watch, segmenter = watch_of(node, tmp_path, known=False)
    watch.tell_off(segmenter)
    assert node.reported == []
    assert watch.values(segmenter)["novelty"].startswith("off: E161")


def test_statistics_that_do_not_fit_are_a_warning_that_lasts(tmp_path: Path) -> None:
    node = _Node()
    watch, _ = watch_of(node, tmp_path)
    add_file(tmp_path / "m", NOVELTY_FILE, statistics("0" * 64).to_bytes())
    segmenter = load_segmenter(tmp_path / "m", "onnxruntime")
    watch.tell_off(segmenter)
    assert node.reported == [(Code.NOVELTY_STATISTICS_MISMATCH, True)]
    assert watch.values(segmenter)["novelty"].startswith("off: E162")


def test_a_damaged_film_network_is_a_warning_that_lasts(tmp_path: Path) -> None:
    node = _Node()
    watch, _ = watch_of(node, tmp_path)
    add_file(tmp_path / "m", FILM_FILE, b"no graph")
    watch.tell_off(load_segmenter(tmp_path / "m", "onnxruntime"))
    assert node.reported == [(Code.FILM_NETWORK_INVALID, True)]


def test_a_damaged_store_is_told_once(tmp_path: Path) -> None:
    node = _Node()
    (tmp_path / STORE_FILE).write_text("{")
    watch, _ = watch_of(node, tmp_path, WatchConfig(folder=tmp_path))
    for _ in range(3):
        watch.look(FRAME, scene_of(0))
    assert node.reported == [(Code.NOVELTY_STORE_DAMAGED, False)]
