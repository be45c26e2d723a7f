"""``robin adapt status|explain|rollback|pin|unpin``."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from helpers.cli_helpers import Robin
from helpers.model_samples import WHO, judged_scenes, model_of, registry_of

from edge_adapt.models.gate import Compared, GateConfig, judge_candidate
from edge_adapt.models.registry import ModelRegistry


@pytest.fixture
def robin(capsys: pytest.CaptureFixture[str]) -> Robin:
    return Robin(capsys)


@pytest.fixture
def registry(tmp_path: Path) -> ModelRegistry:
    """Version 1 ran, 2 runs, a third candidate was refused."""
    made, paths = registry_of(tmp_path, 2)
    core, config = judged_scenes(5, 40, missed=0.1), GateConfig(replicates=100)
    for number, missed in enumerate((0.2, 0.1, 0.5), 1):
        site = Compared(judged_scenes(1, 8, missed=0.4), judged_scenes(1, 8, missed=missed))
        verdict = judge_candidate(site, Compared(core, core), None, np.random.default_rng(0), config)
        told = {"gate": verdict.to_json(), "learned": {"frames": 8, "changed": 0.12}}
        if verdict.accepted:
            made.activate(made.add(paths[number], WHO, verdict.text, told), WHO, f"lesson {number}")
        else:
            made.refuse(WHO, verdict.text, told)
    return made


def asked(robin: Robin, registry: ModelRegistry, *words: str | Path) -> dict[str, object]:
    """The command's JSON."""
    out = registry.folder.parent / "told.json"
    done = robin("adapt", *words, "--models", registry.folder, "--model", registry.factory, "--json", out)
    assert done.status == 0, done.err
    return {**json.loads(out.read_text()), "printed": done.out}


def test_status_tells_what_runs_since_when_and_why(robin: Robin, registry: ModelRegistry) -> None:
    told = asked(robin, registry, "status")
    assert (told["version"], told["pinned"], told["earlier"], told["problem"]) == (2, False, [1, 0], None)
    assert (told["by"], told["why"]) == (WHO, "lesson 2")
    assert told["model_id"] == model_of(registry.path(2))
    assert [line["event"] for line in told["latest"]] == ["refused", "active", "added", "active", "added"]  # type: ignore[attr-defined]
    assert "version 2 runs" in str(told["printed"])


def test_explain_shows_each_check_and_what_was_learned(robin: Robin, registry: ModelRegistry) -> None:
    newest = asked(robin, registry, "explain")
    assert (newest["version"], newest["event"]) == (None, "refused")
    assert newest["gate"]["accepted"] is False  # type: ignore[index]
    assert "FAILED" in str(newest["printed"])
    assert "site gain" in str(newest["printed"])
    first = asked(robin, registry, "explain", "1")
    assert (first["version"], first["learned"]) == (1, {"frames": 8, "changed": 0.12})
    assert "FAILED" not in str(first["printed"])


def test_rollback_pin_and_unpin(robin: Robin, registry: ModelRegistry) -> None:
    assert asked(robin, registry, "rollback", "--why", "it drops bags")["version"] == 1
    assert registry.story().entries[-1].why == "it drops bags"
    told = asked(robin, registry, "pin", "0")
    assert (told["version"], told["pinned"]) == (0, True)
    refused = robin("adapt", "rollback", "--models", registry.folder, "--model", registry.factory)
    assert (refused.status, "E735" in refused.err) == (1, True)
    assert asked(robin, registry, "unpin")["pinned"] is False


def test_a_damaged_version_is_told(robin: Robin, registry: ModelRegistry) -> None:
    (registry.path(2) / "head.safetensors").write_bytes(b"")
    told = asked(robin, registry, "status")
    assert told["version"] == 1
    assert "E734" in str(told["problem"])


@pytest.mark.parametrize(
    ("words", "status", "code"),
    [(("explain", "9"), 2, "E733"), (("pin", "9"), 2, "E733"), (("status", "--models", "nowhere"), 2, "E101")],
)
def test_what_is_not_there_is_one_numbered_line(
    robin: Robin, registry: ModelRegistry, words: tuple[str, ...], status: int, code: str
) -> None:
    folder = () if "--models" in words else ("--models", registry.folder)
    done = robin("adapt", *words, *folder, "--model", registry.factory)
    assert (done.status, code in done.err, done.err.count("\n")) == (status, True, 1), done.err


def test_an_empty_folder_of_versions_runs_the_factory(robin: Robin, registry: ModelRegistry, tmp_path: Path) -> None:
    empty = ModelRegistry(tmp_path / "empty", registry.factory)
    empty.folder.mkdir()
    told = asked(robin, empty, "status")
    assert (told["version"], told["latest"]) == (0, [])
