"""Typed configurations as ROS parameters, and the reference that is made from them. Needs no ROS."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Literal

import pytest
from pydantic import Field

from robin_perception.core.code_texts import CODE_TEXTS
from robin_perception.core.config import StrictConfig
from robin_perception.core.counters import Counters
from robin_perception.core.errors import Code, RobinError
from robin_perception.node_config import CameraNodeConfig, NodeConfig, node_configs
from robin_perception.node_parameters import DYNAMIC, config_from_flat, flatten, parameter_specs
from robin_perception.parameter_reference import parameter_reference

REFERENCE = Path(__file__).resolve().parents[2] / "docs/ros-parameters.md"


class Section(StrictConfig):
    share: float | None = Field(None, ge=0, le=1, description="Of what is there.")
    names: tuple[str, ...] = ("a",)


class Example(NodeConfig):
    model: Path | None = Field(None, description="Where it is.")
    rate_hz: float = Field(5.0, gt=0, le=60, description="How often.", json_schema_extra=DYNAMIC)
    mode: Literal["fast", "slow"] = "fast"
    cups: int = Field(8, ge=1, le=8)
    xyz_m: tuple[float, float, float] = (0.0, 0.0, 1.0)
    section: Section = Field(Section(), json_schema_extra=DYNAMIC)


def test_fields_become_flat_parameters_with_ranges_and_texts() -> None:
    specs = parameter_specs(Example)
    rate, share = specs["rate_hz"], specs["section.share"]
    assert (rate.kind, rate.low, rate.high, rate.update) == ("double", 0, 60, "always")
    assert rate.constraints == "above 0"
    assert (share.description, share.update, share.optional) == ("Of what is there.", "always", True)
    assert specs["mode"].choices == ("fast", "slow")
    assert specs["xyz_m"].length == 3
    assert specs["model"].description == "Where it is."
    assert specs["autostart"].update == "start"
    assert specs["cups"].update == "unconfigured"


@pytest.mark.parametrize("cls", [*node_configs().values(), Example])
def test_flat_values_and_back_change_nothing(cls: type[NodeConfig]) -> None:
    assert config_from_flat(cls, flatten(cls()), "test") == cls()


def test_unset_is_nan_or_empty_and_comes_back_as_none() -> None:
    flat = flatten(Example())
    assert flat["model"] == "" and math.isnan(flat["section.share"])  # type: ignore[arg-type]
    config = config_from_flat(Example, {**flat, "section.share": 0.5, "model": "m"}, "test")
    assert (config.section.share, config.model) == (0.5, Path("m"))


@pytest.mark.parametrize(
    ("values", "code", "named"),
    [
        ({"rate_hz": 0.0}, Code.CONFIG_OUT_OF_RANGE, "rate_hz"),
        ({"mode": "medium"}, Code.CONFIG_OUT_OF_RANGE, "mode"),
        ({"xyz_m": [1.0, 2.0]}, Code.CONFIG_OUT_OF_RANGE, "xyz_m"),
        ({"rate_hz": math.nan}, Code.CONFIG_OUT_OF_RANGE, "rate_hz"),
        ({"section.shear": 1.0}, Code.CONFIG_UNKNOWN_KEY, "section.shear"),
    ],
)
def test_bad_values_are_refused_by_name(values: dict[str, object], code: Code, named: str) -> None:
    with pytest.raises(RobinError) as caught:
        config_from_flat(Example, values, "test")
    assert caught.value.code == code
    assert f"'{named}" in caught.value.text


def test_reference_in_the_docs_is_the_one_that_the_configurations_make() -> None:
    assert REFERENCE.read_text() == parameter_reference(node_configs()), (
        "run: robin ros params --out docs/ros-parameters.md"
    )


def test_every_parameter_is_in_the_reference_under_its_node() -> None:
    text = parameter_reference({"camera": CameraNodeConfig})
    for name in parameter_specs(CameraNodeConfig):
        assert f"| `{name}` |" in text


@pytest.mark.parametrize(("node", "cls"), node_configs().items())
def test_no_parameter_lacks_its_help(node: str, cls: type[NodeConfig]) -> None:
    assert [name for name, spec in parameter_specs(cls).items() if not spec.description] == []


def test_every_code_has_a_text() -> None:
    assert [code.name for code in Code if code not in CODE_TEXTS] == []


def test_counters_tell_rates_percentiles_drops_and_faults() -> None:
    now = 100.0
    counters = Counters(window_s=10.0, clock=lambda: now)
    for _ in range(20):
        now += 0.5
        counters.count("frames")
        counters.latency("segment", now - 100.0)
    counters.drop("busy", 3)
    counters.fault(Code.FRAME_UNPAIRED, "first", warning=True)
    counters.fault(Code.ENGINE_FAILED, "broken")
    counters.fault(Code.FRAME_UNPAIRED, "second", warning=True)
    shown = counters.values()
    assert shown["frames"] == "20" and shown["frames.rate_hz"] == "2.00" and shown["dropped.busy"] == "3"
    assert shown["segment.p50_ms"] == "5.2" and shown["segment.p95_ms"] == "9.5"
    assert shown["fault.E118_FRAME_UNPAIRED"] == "2 (second)"
    gravest = counters.recent_fault(5.0)
    assert gravest is not None and gravest.code == Code.ENGINE_FAILED  # an error before a later warning
    now += 6
    assert counters.recent_fault(5.0) is None
