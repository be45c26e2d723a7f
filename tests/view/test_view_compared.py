"""Before and after a version of the model, on the robot's latest frames."""

from __future__ import annotations

from pathlib import Path

from helpers.model_samples import registry_of
from helpers.view_run import record_run
from helpers.view_server import view_server

from robin_view.sources import Sources

HTML = {"accept": "text/html"}


def test_the_latest_frames_before_and_after_a_version(tmp_path: Path) -> None:
    run = tmp_path / "run"
    records = record_run(run, 4)
    (run / records[2].images["color"]).unlink()  # its picture was removed since
    registry, paths = registry_of(tmp_path / "robot", 3)
    for path in paths[1:]:
        registry.add(path, "a lesson", "learned")
    sources = Sources((run,), versions=tmp_path / "robot" / "models", models=(paths[0],))
    with view_server(sources, tmp_path) as server:
        assert server.view.archive.wait(lambda: len(server.view.archive.index) == 4, 20)
        first = server.ask("/models/version/1/compared", headers=HTML).text
        assert first.count("the factory&#39;s: ") == 3 and first.count("version 1: ") == 3
        assert [records[2].decision_id in first, records[3].decision_id in first] == [False, True]
        later = server.ask("/models/version/2/compared", headers=HTML).text
        assert later.count("version 1: ") == later.count("version 2: ") == 3 and later.count("<svg") == 6
        assert server.ask("/models/version/7/compared", headers=HTML).status == 404


def test_without_frames_that_is_said(tmp_path: Path) -> None:
    registry, paths = registry_of(tmp_path / "robot", 1)
    registry.add(paths[1], "a lesson", "learned")
    sources = Sources((tmp_path,), versions=tmp_path / "robot" / "models", models=(paths[0],))
    with view_server(sources, tmp_path) as server:
        assert "No frame" in server.ask("/models/version/1/compared", headers=HTML).text
