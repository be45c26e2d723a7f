"""The regression bag: a few dozen simulated picks as the released bundle and planner decided them.

It is made anew by ``make regression-bag`` when bundle, planner or messages change on purpose.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from edge_adapt.bag.picture import save_difference
from edge_adapt.bag.replay import Replay, ReplayOptions
from robin_perception.bags.reader import BagReader

ROOT = Path(__file__).resolve().parents[2]
BAG = ROOT / "tests/data/regression"
MOST_BYTES = 8_000_000  # it lives in git


@pytest.mark.slow
def test_the_regression_bag_is_decided_as_before(tmp_path: Path) -> None:
    replay = Replay(BAG, ROOT / "models/base", ReplayOptions(tolerance="machine"))
    said = [*replay.report.changes]
    for plan in replay.run():
        if plan.differences:
            picture = save_difference(tmp_path, plan, replay.report.used.cell.tool)
            said += [f"{plan.name}: {difference}" for difference in plan.differences] + [f"picture: {picture}"]
    report = replay.report
    assert report.compared >= 36 and report.without_frame == 0 and report.warnings == []
    assert report.same, "\n".join([*said, "if that was meant: make regression-bag"])


def test_the_regression_bag_is_small_and_whole() -> None:
    assert sum(path.stat().st_size for path in BAG.iterdir()) <= MOST_BYTES
    reader = BagReader(BAG)
    topics = reader.topics()
    assert reader.warnings == [] and topics["/plan"][1] >= 36
