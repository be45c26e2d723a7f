"""Paths from outside lead to something below their folder, or nowhere."""

from __future__ import annotations

from pathlib import Path

import pytest

from robin_perception.core.errors import Code, RobinError
from robin_perception.core.ids import path_below


def test_what_lies_below_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "models" / "base").mkdir(parents=True)
    (tmp_path / "models" / "link").symlink_to(tmp_path / "models" / "base")
    root = tmp_path / "models"
    for path in (root / "base", root / "link", root / "not yet", root / "a" / ".." / "base"):
        assert path_below(root, str(path)) == path
    monkeypatch.chdir(tmp_path)
    assert path_below(Path("models"), "models/base") == Path("models/base")


@pytest.mark.parametrize(
    "path", ["", ".", "/", "/etc", "models", "models/../secret", "models/out", "models/loop", "a" * 5000, "a\0b"]
)
def test_what_leads_out_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "out").symlink_to("/etc")
    (tmp_path / "models" / "loop").symlink_to(tmp_path / "models" / "loop")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RobinError) as refused:
        path_below(Path("models"), path)
    assert refused.value.code is Code.PATH_REFUSED and "\n" not in str(refused.value)
