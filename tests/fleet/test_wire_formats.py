"""Robots and fleets of different releases understand each other, or say which is to be updated.

The older and the newer messages stand here as they were recorded: what this release makes of them must not change.
"""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import pytest
from pydantic import BaseModel

from edge_adapt.decision import Decision
from edge_adapt.releases.release import PartKind, parse_assignments, parse_release
from edge_adapt.store.sample import SampleRecord
from edge_adapt.uplink.protocol import Have, Kind, Message, Offer, Refused, Unknown, pack, parse
from robin_fleet.decks.manifest import Manifest
from robin_fleet.metrics.reports import parse_report
from robin_fleet.server.config import ServerConfig
from robin_fleet.server.desk import Desk
from robin_fleet.server.partials import Partials
from robin_perception.core.errors import Code, RobinError
from robin_perception.core.wire import known_fields

NAME = "a" * 64
ASSIGNMENTS_OLD = b'{"format": "robin-assignments-1", "robots": {"cell-7": {"release": "spring", "use": "try"}}}'
ASSIGNMENTS_NEW = (
    b'{"format": "robin-assignments-1", "until_s": 9, "robots": {"cell-7": {"release": "spring", "use": "try", '
    b'"rollout": "r0001", "trial": "night-shift", "picks": 400}}, "back": ["winter"]}'
)
RELEASE_NEW: dict[str, Any] = {
    "format": "robin-release-1",
    "name": "spring",
    "signed_off_by": "Ana",
    "parts": [
        {
            "kind": "ranker",
            "version": "0123abcd",
            "made_with": "a fit of summer",
            "files": {"ranker.json": {"sha256": NAME, "size_bytes": 10, "packed": False}},
        }
    ],
}
RECORD_NEW: dict[str, Any] = {
    "format": 1, "seq": 3, "share": "core", "name": "carton", "result": "clean", "block": 0, "figure": 0.5,
    "threshold": 1.0, "seen": 3, "at_s": 1.0, "decision": {"decision_id": "d-3", "mood": "good"}, "weather": "rain",
}  # fmt: skip
DECK_NEW: dict[str, Any] = {
    "format": "robin-deck-1", "deck": "goods", "version": 2, "licence": "", "origin": "north", "made_on": "a Monday",
    "config": {"held_share": 0.3, "held_moons": 2, "juxtapose": {"seed": 5, "glue": 1.0}},
    "held_stations": [], "held_after_s": {}, "strata": {"clean/carton": {"train": 1, "held": 0, "share": 1.0, "x": 1}},
    "left_out": {}, "members": [],
}  # fmt: skip
REPORT_NEW: dict[str, Any] = {"format": 1, "source": "uplink", "at_s": 1.0, "values": {"sent_mb": 2.5}, "unit": "MB"}


def as_bytes(values: dict[str, Any]) -> bytes:
    return json.dumps(values).encode()


def test_an_older_assignment_is_one_without_a_trial() -> None:
    found = parse_assignments(ASSIGNMENTS_OLD, "old").robots["cell-7"]
    assert (found.release, found.use, found.rollout, found.trial) == ("spring", "try", "", "")


def test_what_a_newer_minor_version_adds_is_ignored() -> None:
    assignments = parse_assignments(ASSIGNMENTS_NEW, "new")
    assert assignments.robots["cell-7"].rollout == "r0001" and assignments.back == ("winter",)
    assert parse_release(as_bytes(RELEASE_NEW), "new").part(PartKind.RANKER) is not None
    assert SampleRecord.parse(as_bytes(RECORD_NEW), "new").decision["mood"] == "good"
    manifest = Manifest.parse(as_bytes(DECK_NEW), "new")
    assert (manifest.config.held_share, manifest.config.juxtapose.seed) == (0.3, 5)
    assert parse_report(as_bytes(REPORT_NEW), "new").values == {"sent_mb": 2.5}


@pytest.mark.parametrize(
    ("parser", "values", "newer", "code"),
    [
        (parse_assignments, json.loads(ASSIGNMENTS_NEW), "robin-assignments-2", Code.RELEASE_INCOMPATIBLE),
        (parse_release, RELEASE_NEW, "robin-release-12", Code.RELEASE_INCOMPATIBLE),
        (SampleRecord.parse, RECORD_NEW, 2, Code.FORMAT_NEWER),
        (Manifest.parse, DECK_NEW, "robin-deck-2", Code.FORMAT_NEWER),
        (parse_report, REPORT_NEW, 2, Code.FORMAT_NEWER),
    ],
)
def test_a_newer_major_version_is_refused_with_what_to_do(parser: Any, values: Any, newer: Any, code: Code) -> None:
    with pytest.raises(RobinError) as told:
        parser(as_bytes({**values, "format": newer}), "it")
    assert told.value.code is code and "update" in told.value.text
    with pytest.raises(RobinError) as told:  # what is no version at all is a fault, not news
        parser(as_bytes({**values, "format": "something"}), "it")
    assert told.value.code not in (Code.FORMAT_NEWER, Code.RELEASE_INCOMPATIBLE)


def test_a_decision_with_more_than_is_known_is_read() -> None:
    class Settings(BaseModel, extra="forbid"):
        a: int
        more: tuple[Settings, ...] = ()
        one: Settings | None = None

    newer = {"a": 1, "b": 2, "more": [{"a": 3, "c": 4}], "one": {"a": 5, "d": 6}}
    assert Settings.model_validate(known_fields(Settings, newer)).more[0].a == 3
    assert known_fields(Decision, {"decision_id": "d-1", "moon": "full"}) == {"decision_id": "d-1"}


def test_messages_may_grow_behind_what_is_known() -> None:
    offer = bytes(pack(Offer(7, NAME, 5, Kind.FILE, 3))[0])
    assert parse([offer + b"\0" + b"tomorrow"]) == Offer(7, NAME, 5, Kind.FILE, 3)
    assert parse([bytes(pack(Have(2))[0]) + b"more"]) == Have(2)
    assert parse([b"\x01\x63" + (9).to_bytes(4, "big") + b"?"]) == Unknown(9)
    with pytest.raises(RobinError, match="name of a blob"):
        parse([offer + b"tomorrow"])


def test_a_refusal_is_read_from_any_version_and_nothing_else_is() -> None:
    refusal = bytes(pack(Refused(9, 812, True, "update"))[0])
    assert parse([b"\x02" + refusal[1:]]) == Refused(9, 812, True, "update")
    with pytest.raises(RobinError) as told:
        parse([b"\x02" + bytes(pack(Have(1))[0])[1:]])
    assert told.value.code is Code.FORMAT_NEWER and "protocol 2" in told.value.text


def test_a_robot_that_is_ahead_of_its_fleet_is_told_so(tmp_path: Any) -> None:
    said: list[Message] = []
    partials = Partials(tmp_path / "incoming", 1_000_000)
    desk = Desk(ServerConfig(), partials, lambda peer, message: said.append(message), lambda work: None, lambda: 0.0)
    offer = bytes(pack(Offer(7, NAME, 5, Kind.FILE, 3))[0])
    desk.receive(b"peer", "robot", [b"\x02" + offer[1:]])
    desk.receive(b"peer", "robot", [offer[:14] + b"\x09" + offer[15:]])
    desk.receive(b"peer", "robot", [b"\x01\x63" + (9).to_bytes(4, "big")])
    assert [(one.ticket, one.code, one.again) for one in said if isinstance(one, Refused)] == [
        (7, Code.FORMAT_NEWER, True),
        (7, Code.FORMAT_NEWER, False),
    ]
    assert desk.counts == Counter(messages=3, newer=2, unknown_kind=1)
