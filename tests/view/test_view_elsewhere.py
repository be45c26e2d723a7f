"""The page of an aggregator whose ledger and objects are on another machine."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers.view_fleet import make_view_fleet
from helpers.view_server import view_server

from robin_cli.commands.view import _settle_fleet
from robin_fleet.folder import CONFIG_FILE
from robin_perception.core.errors import Code, RobinError
from robin_view.sources import find_sources


def test_urls_of_ledger_and_objects_are_enough(tmp_path: Path) -> None:
    make_view_fleet(tmp_path)
    there, here = tmp_path / "fleet", tmp_path / "here"
    _settle_fleet(here, f"sqlite:///{there / 'ledger.sqlite'}", (there / "objects").as_uri())
    assert [path.name for path in here.iterdir()] == [CONFIG_FILE]
    with view_server(find_sources((), here), tmp_path) as server:
        assert server.view.archive.whole.wait(20) and len(server.view.archive.index) > 0
        assert "not yet a novelty" not in server.ask("/novelties", headers={"accept": "text/html"}).text
        name = server.view.archive.index.name(0)
        assert server.ask(f"/d/{name}", headers={"accept": "text/html"}).status == 200
        assert server.ask("/models", headers={"accept": "text/html"}).status == 200


def test_urls_need_a_folder_that_keeps_them() -> None:
    with pytest.raises(RobinError) as refused:
        _settle_fleet(None, "postgresql://robin@fleet/ledger", None)
    assert refused.value.code is Code.OPTION_INVALID and "--fleet DIR" in refused.value.text
