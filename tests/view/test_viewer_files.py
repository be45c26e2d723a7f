"""Files for other viewers against the viewers' own words: Foxglove's types, RViz's classes, Rerun's checks."""

from __future__ import annotations

import dataclasses
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from helpers.view_run import record_run

TESTS = Path(__file__).resolve().parents[1]
CONFIG = TESTS.parent / "launch/robin_bringup/config"
OUR_OWN = {"foxglovePanelTitle"}  # every panel has it


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("exported") / "run"
    record_run(folder, 2)
    return folder


def words(kind: type[Any]) -> set[str]:
    """The keys that Foxglove's own class of a configuration knows."""
    needed = [f.name for f in dataclasses.fields(kind) if f.default is f.default_factory is dataclasses.MISSING]
    return set(kind(**dict.fromkeys(needed))._to_dict())


def test_foxglove_knows_every_panel_and_setting_of_the_layout() -> None:
    known = pytest.importorskip("foxglove.layouts", reason="foxglove-sdk is not installed")
    panels = {  # by their names in layout files
        "3D": known.ThreeDeeConfig,
        "Image": known.ImageConfig,
        "RawMessages": known.RawMessagesConfig,
        "Table": known.TableConfig,
        "DiagnosticSummary": known.DiagnosticsSummaryConfig,
        "Plot": known.PlotConfig,
    }
    inside = {
        "imageMode": known.ImageModeConfig,
        "cameraState": known.ThreeDeeCameraState,
        "scene": known.BaseRendererSceneSettings,
        "/points": known.BaseRendererPointCloudTopicSettings,
        "grid": known.BaseRendererGridLayerSettings,
    }
    layout = json.loads((CONFIG / "foxglove_layout.json").read_text())
    for name, config in layout["configById"].items():
        assert set(config) - words(panels[name.split("!")[0]]) - OUR_OWN == set(), name
        parts = {**config, **config.get("topics", {}), **config.get("layers", {})}
        for key, kind in inside.items():
            assert set(parts.get(key, {})) - words(kind) == set(), f"{name}: {key}"
        for series in config.get("paths", ()):
            assert set(series) <= words(known.PlotSeries), name
    assert placed(layout["layout"]) == sorted(layout["configById"]), "each panel stands somewhere, once"


def placed(node: Any) -> list[str]:
    if isinstance(node, str):
        return [node]
    assert node["direction"] in ("row", "column") and 0 < node.get("splitPercentage", 50) < 100
    return sorted(placed(node["first"]) + placed(node["second"]))


def test_rviz_knows_every_class_and_property() -> None:
    known = yaml.safe_load((TESTS / "data/viewers/rviz.yaml").read_text())
    told = yaml.safe_load((CONFIG / "robin.rviz").read_text())
    manager = told["Visualization Manager"]
    assert {panel["Class"] for panel in told["Panels"]} <= set(known["panels"])
    assert {tool["Class"] for tool in manager["Tools"]} <= set(known["tools"])
    assert manager["Transformation"]["Current"]["Class"] in known["transformers"]
    view = manager["Views"]["Current"]
    assert set(view) <= {"Class", "Name", *known["views"][view["Class"]]}
    for display in manager["Displays"]:
        assert set(display) <= {*known["of_every_display"], *known["displays"][display["Class"]]}, display["Name"]
        if isinstance(topic := display.get("Topic"), dict):
            assert set(topic) <= set(known["topic"])
            assert all(topic[policy] in allowed for policy, allowed in known["policies"].items()), display["Name"]


def test_each_message_of_the_foxglove_file_fits_its_schema(run: Path, tmp_path: Path) -> None:
    pytest.importorskip("foxglove", reason="foxglove-sdk is not installed")
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
    from mcap.reader import make_reader

    from robin_view.exports.foxglove_file import write_foxglove

    path, kinds = tmp_path / "run.mcap", dict[str, Any]()
    write_foxglove(run, path)
    with path.open("rb") as stream:
        for schema, channel, message in make_reader(stream, validate_crcs=True).iter_messages():
            if channel.message_encoding == "json":
                told = json.loads(message.data)
                assert schema is not None and schema.encoding == "jsonschema" and schema.data, channel.topic
                named = set(json.loads(schema.data)["properties"])
                assert named and (named == set(told) or (channel.topic == "/decision" and named < set(told)))
                kinds[channel.topic] = schema
                continue
            assert schema is not None and channel.message_encoding == schema.encoding == "protobuf"
            if schema.name not in kinds:
                pool = descriptor_pool.DescriptorPool()
                for file in descriptor_pb2.FileDescriptorSet.FromString(schema.data).file:
                    pool.Add(file)
                kinds[schema.name] = message_factory.GetMessageClass(pool.FindMessageTypeByName(schema.name))
            seen = kinds[schema.name].FromString(message.data)
            if schema.name == "foxglove.RawImage":
                assert len(seen.data) == seen.step * seen.height
            if schema.name == "foxglove.PointCloud":
                assert len(seen.data) % seen.point_stride == 0 and len(seen.data) > 1000 * seen.point_stride
    assert {"foxglove.PointCloud", "foxglove.SceneUpdate", "foxglove.CameraCalibration", "/traces", "/decision"} <= set(
        kinds
    )


def test_rerun_verifies_its_file(run: Path, tmp_path: Path) -> None:
    pytest.importorskip("rerun", reason="rerun-sdk is not installed")
    from robin_view.exports.rerun_file import write_rerun

    write_rerun(run, tmp_path / "run.rrd")
    command = shutil.which("rerun", path=str(Path(sys.executable).parent)) or shutil.which("rerun")
    if command is None:
        pytest.skip("the command rerun is not installed")
    done = subprocess.run(
        [command, "rrd", "verify", str(tmp_path / "run.rrd")], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
