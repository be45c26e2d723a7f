"""The RViz configuration and the Foxglove layout name topics and frames that the cell has."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from robin_bringup.security_policy import rights_of
from robin_bringup.stations import STATIONS, StationOptions, managed_nodes
from robin_perception.bags.frames import BASE_FRAME

CONFIG = Path(__file__).resolve().parents[2] / "launch" / "robin_bringup" / "config"
OF_RVIZ = {"Value", "Color Image Topic", "Depth Map Topic"}
OF_FOXGLOVE = {"imageTopic", "calibrationTopic", "topicPath", "topicToRender", "value"}


def published() -> set[str]:
    """Full names of what the nodes of a station without a namespace publish."""
    names: set[str] = set()
    for station in STATIONS.values():
        options = StationOptions()
        for node in managed_nodes(station, options):
            names |= set(rights_of(node, station, options).publish)
    return {name if name.startswith("/") else f"/{name}" for name in names if "~" not in name}


def named(values: Any, keys: set[str]) -> Iterator[str]:
    """Every topic below ``keys``, and every key that is one."""
    if isinstance(values, dict):
        for key, value in values.items():
            if str(key).startswith("/"):
                yield key
            if key in keys and isinstance(value, str) and value.startswith("/"):
                yield re.split(r"[.\[]", value)[0]
            yield from named(value, keys)
    elif isinstance(values, list):
        for value in values:
            yield from named(value, keys)


def test_rviz_shows_topics_that_nodes_publish() -> None:
    shown = yaml.safe_load((CONFIG / "robin.rviz").read_text())["Visualization Manager"]
    topics = set(named(shown["Displays"], OF_RVIZ))
    assert topics <= published()
    assert {"/grasps", "/overlay"} < topics and len(topics) == 4
    assert shown["Global Options"]["Fixed Frame"] == BASE_FRAME


def test_foxglove_shows_topics_that_nodes_publish_or_an_export_holds() -> None:
    layout = json.loads((CONFIG / "foxglove_layout.json").read_text())
    topics = set(named(layout["configById"], OF_FOXGLOVE))
    only_exported = {"/points", "/traces"}  # robin_view.exports.foxglove_file; its test compares
    assert topics - only_exported <= published()
    assert {"/grasps", "/plan", "/decision", "/diagnostics", "/cup_health", "/help", *only_exported} < topics


def test_every_panel_of_the_layout_is_shown_once() -> None:
    layout = json.loads((CONFIG / "foxglove_layout.json").read_text())

    def leaves(part: Any) -> Iterator[str]:
        if isinstance(part, str):
            yield part
        else:
            yield from (*leaves(part["first"]), *leaves(part["second"]))

    assert sorted(leaves(layout["layout"])) == sorted(layout["configById"])


def test_both_are_installed_with_the_package() -> None:
    setup = (CONFIG.parents[1] / "setup.py").read_text()
    assert "/config/*" in setup and "**/*.rviz" in setup and "**/*.json" in setup
