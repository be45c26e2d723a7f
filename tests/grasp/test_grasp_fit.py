"""The planner's fit file: read whole or not at all, named in records, and what earlier releases recorded."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from helpers.planner_fits import with_fit
from pydantic import BaseModel

from edge_adapt.bag.pipeline import PipelineRecord, changes_from, parse_pipeline
from robin_grasp.planner.config import PlannerConfig, RankConfig
from robin_grasp.planner.fit import SHIPPED_FIT, load_fit, shipped_fit
from robin_grasp.planner.former_config import FORMER_CLASSES
from robin_perception.core.config import config_digest, load_config
from robin_perception.core.errors import Code, RobinError


def written(path: Path, values: dict[str, Any]) -> Path:
    path.write_text(yaml.safe_dump(values))
    return path


@pytest.fixture
def values() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load(SHIPPED_FIT.read_text())
    return loaded


def test_every_figure_has_a_provenance(values: dict[str, Any]) -> None:
    named = {name for source in shipped_fit().provenance for name in source.figures}
    sections = set(values) - {"version", "name", "provenance"}
    assert sections <= named
    for name in named - sections:
        section, key = name.split(".")
        assert key in values[section], name


def test_a_fit_file_is_whole_or_refused(tmp_path: Path, values: dict[str, Any]) -> None:
    del values["rank"]["odds_power"]
    with pytest.raises(RobinError, match=r"fit\.yaml: 'rank\.odds_power': Field required") as lacking:
        load_fit(written(tmp_path / "fit.yaml", values))
    assert lacking.value.code is Code.CONFIG_OUT_OF_RANGE
    values["rank"] |= {"odds_power": 0.07, "odds_powder": 1.0}
    with pytest.raises(RobinError, match=r"unknown key 'rank\.odds_powder'") as unknown:
        load_fit(written(tmp_path / "fit.yaml", values))
    assert unknown.value.code is Code.CONFIG_UNKNOWN_KEY
    del values["rank"]["odds_powder"]
    values["version"] = 2
    with pytest.raises(RobinError, match=r"'version'"):
        load_fit(written(tmp_path / "fit.yaml", values))


def test_a_configuration_names_its_fit_from_its_own_folder(tmp_path: Path, values: dict[str, Any]) -> None:
    values["rank"]["odds_power"] = 0.5
    written(tmp_path / "mine.yaml", values)
    named = load_config(PlannerConfig, written(tmp_path / "planner.yaml", {"fit": "mine.yaml"}))
    assert named.fit.rank.odds_power == 0.5 and named.rank == RankConfig()
    assert named.fit.digest != shipped_fit().digest
    with pytest.raises(RobinError, match=r"none\.yaml: no such file"):
        load_config(PlannerConfig, written(tmp_path / "planner.yaml", {"fit": "none.yaml"}))


def test_a_fitted_figure_is_no_setting(tmp_path: Path) -> None:
    with pytest.raises(RobinError, match=r"unknown key 'rank\.odds_power'"):
        load_config(PlannerConfig, written(tmp_path / "planner.yaml", {"rank": {"odds_power": 0.1}}))


def test_the_fit_is_in_the_digest_of_a_record_and_in_a_bag() -> None:
    other = with_fit(rank={"odds_power": 0.1})
    assert config_digest(other) != config_digest(PlannerConfig())
    text = PipelineRecord(planner_config=other).model_dump_json()
    assert json.loads(text)["planner_config"]["fit"]["name"] == shipped_fit().name
    assert parse_pipeline(text, Path("a.mcap")).planner_config == other
    told = changes_from(PipelineRecord(), PipelineRecord(planner_config=other))
    assert told[0] == "planner_config: not the recorded one"
    assert told[1].startswith(f"planner's fit: recorded {shipped_fit().name} {shipped_fit().digest}, replayed ")
    assert changes_from(PipelineRecord(), PipelineRecord()) == []


def former(**sections: dict[str, Any]) -> str:
    """A pipeline as an earlier release recorded it."""
    return json.dumps({"version": 1, "planner": "geometric", "planner_config": sections})


def test_a_record_of_an_earlier_release_is_split_into_settings_and_fit() -> None:
    recorded = former(
        surface={"least_inverse_depth_noise_pm": 0.0007, "slope_noise": 1.0},
        seal={"least_probability": 0.4, "base_logit": [4.0, 4.5, 4.0, 3.5, 3.0]},
        multi={"ragged_merged": 2.0},
        rank={"least_clean": 0.8, "odds_power": 0.1, "standing_cost": 19.0},
    )
    found = parse_pipeline(recorded, Path("a.mcap")).planner_config
    assert (found.seal.least_probability, found.rank.least_clean) == (0.4, 0.8)
    fit = found.fit
    assert (fit.rank.odds_power, fit.rank.edge_on_cost, fit.multi.background_merged) == (0.1, 19.0, 2.0)
    assert fit.surface.least_inverse_depth_noise_per_m == 0.0007
    assert [fit.classes[name].seal_logit for name in FORMER_CLASSES] == [4.0, 4.5, 4.0, 3.5, 3.0]
    assert fit.name != shipped_fit().name
    back = PipelineRecord(planner_config=found).model_dump_json()
    assert parse_pipeline(back, Path("b.mcap")).planner_config == found


def test_what_an_earlier_release_had_by_default_is_the_shipped_fit() -> None:
    recorded = json.loads(former(rank={"odds_power": 0.07}, seal={"tilt_free": 0.5}))
    recorded["planner_config"]["cup_health"] = [1.0] * 8
    found = parse_pipeline(json.dumps(recorded), Path("a.mcap")).planner_config
    assert found == PlannerConfig() and found.fit.name == shipped_fit().name


def test_a_recorded_fit_works_as_it_did_before_a_figure_came() -> None:
    recorded = json.loads(PipelineRecord(planner_config=PlannerConfig()).model_dump_json())
    del recorded["planner_config"]["fit"]["rank"]["film_cost"]
    found = parse_pipeline(json.dumps(recorded), Path("a.mcap")).planner_config
    assert found.fit.rank.film_cost == 0.0 and found.fit.rank.cup_cost == shipped_fit().rank.cup_cost
    del recorded["planner_config"]["fit"]["rank"]["cup_cost"]
    with pytest.raises(RobinError, match="cup_cost"):
        parse_pipeline(json.dumps(recorded), Path("a.mcap"))


@pytest.mark.parametrize(
    ("section", "key"),
    [({"rank": {"odd_power": 0.1}}, "rank.odd_power"), ({"seal": {"base_logit": 4.0}}, "seal.base_logit"),
     ({"seal": {"base_logit": [4.0]}}, "planner_config"), ({"fit": "/etc/hostname"}, "figures themselves"),
     ({"rank": 3}, "rank"), ({"rank": {"odds_power": 7.0}}, "odds_power")],
)  # fmt: skip
def test_a_record_that_is_none_is_refused(section: dict[str, Any], key: str) -> None:
    with pytest.raises(RobinError, match=key) as refused:
        parse_pipeline(former(**section), Path("a.mcap"))
    assert refused.value.code is Code.BAG_INVALID


def settings(config: BaseModel, before: str = "") -> dict[str, Any]:
    """Every key of the settings with its default, dotted; without the fit."""
    found: dict[str, Any] = {}
    for key in type(config).model_fields:
        value = getattr(config, key)
        if key != "fit":
            found |= settings(value, f"{before}{key}.") if isinstance(value, BaseModel) else {before + key: value}
    return found


def test_the_page_lists_every_setting_with_its_default() -> None:
    page = (Path(__file__).parents[2] / "docs/planner.md").read_text()
    rows = dict(re.findall(r"^\| `([\w.]+)` \| ([^|]+) \|", page.split("## Settings")[1].split("## ")[0], re.MULTILINE))
    told = {key: yaml.safe_load(value) for key, value in rows.items() if key not in ("fit", "cup_health")}
    assert told == {key: value for key, value in settings(PlannerConfig()).items() if key != "cup_health"}
