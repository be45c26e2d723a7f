"""Bundles of a stranger: a manifest, weights and a graph that are bounded before an engine gets them."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from helpers.perception_graphs import colour_bundle, graph_of
from onnx import TensorProto, helper, numpy_helper

from robin_perception.core.errors import Code, RobinError
from robin_perception.model.bundle import HEAD_FILE, MANIFEST_FILE, NETWORK_FILE, load_bundle
from robin_perception.model.graph_bounds import MOST_NODES, refuse_unbounded

Change = Callable[[dict[str, Any]], object]


def refused(call: Callable[..., object], *arguments: object) -> RobinError:
    with pytest.raises(RobinError) as found:
        call(*arguments)
    assert "\n" not in str(found.value) and len(str(found.value)) < 1300
    return found.value


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return colour_bundle(tmp_path / "colours").directory


def change_manifest(bundle: Path, change: Change) -> None:
    values = json.loads((bundle / MANIFEST_FILE).read_text())
    change(values)
    (bundle / MANIFEST_FILE).write_text(json.dumps(values))


MANIFESTS: dict[str, Change] = {
    "empty table": lambda m: m["calibration"]["detection"].update(x=[], y=[]),
    "two lengths": lambda m: m["calibration"]["mask_quality"].update(x=[0, 1, 2], y=[0, 1]),
    "falling table": lambda m: m["calibration"]["visible_fraction"].update(x=[1, 0], y=[0, 1]),
    "scores above one": lambda m: m["calibration"]["detection"].update(x=[0, 1], y=[0, 9]),
    "long table": lambda m: m["calibration"]["detection"].update(x=[0.0] * 5000, y=[0.0] * 5000),
    "gigantic shift": lambda m: m["calibration"].update(mask_shift_px=[1e9, 0]),
    "gigantic input": lambda m: m.update(input_height=10**9),
    "endless number": lambda m: m.update(max_instances=10**4000),
    "many files": lambda m: m["files"].update({f"f{i}": "0" * 64 for i in range(100)}),
    "file outside": lambda m: m["files"].update({"../secret": "0" * 64}),
    "many heads": lambda m: m.update(head=[{"name": "h", "shape": [1]}] * 1000),
    "shape without end": lambda m: m["head"][0].update(shape=[1] * 100),
    "name that leaves": lambda m: m.update(name=".."),
}


@pytest.mark.parametrize("name", MANIFESTS)
def test_manifests_that_cannot_be_are_refused(bundle: Path, name: str) -> None:
    change_manifest(bundle, MANIFESTS[name])
    assert refused(load_bundle, bundle).code is Code.MODEL_MANIFEST_INVALID


@pytest.mark.parametrize("content", [b"[" * 100_000, b'{"a":' * 5000, b"\xff\xfe", b'"\\ud800"', b"1" * 5000])
def test_manifests_that_nest_are_refused(bundle: Path, content: bytes) -> None:
    (bundle / MANIFEST_FILE).write_bytes(content)
    assert refused(load_bundle, bundle).code is Code.MODEL_MANIFEST_INVALID


@pytest.mark.parametrize("name", [MANIFEST_FILE, NETWORK_FILE, HEAD_FILE])
def test_files_that_are_no_plain_ones_or_too_large_are_refused(bundle: Path, name: str) -> None:
    path = bundle / name
    path.unlink()
    os.mkfifo(path)
    refused(load_bundle, bundle)
    path.unlink()
    path.symlink_to("/dev/zero")
    refused(load_bundle, bundle)
    path.unlink()
    with path.open("wb") as stream:
        stream.truncate(300_000_000)
    assert "bytes" in refused(load_bundle, bundle).text


def replace_file(bundle: Path, name: str, data: bytes) -> None:
    """With its hash told in the manifest, as the one who made it would."""
    (bundle / name).write_bytes(data)
    change_manifest(bundle, lambda m: m["files"].update({name: hashlib.sha256(data).hexdigest()}))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        (1 << 60).to_bytes(8, "little") + b"{}",
        b"\x10\x00\x00\x00\x00\x00\x00\x00" + b"[" * 16,
        b"\x40\x00\x00\x00\x00\x00\x00\x00"
        + b'{"a":{"dtype":"F32","shape":[9999999999],"data_offsets":[0,4]}}'.ljust(64)
        + bytes(4),
    ],
)
def test_weights_that_claim_what_is_not_there_are_refused(bundle: Path, data: bytes) -> None:
    replace_file(bundle, HEAD_FILE, data)
    assert refused(load_bundle, bundle).code is Code.MODEL_TENSOR_MISSING


def with_node(bundle: Path, *nodes: onnx.NodeProto, weights: dict[str, Any] | None = None) -> None:
    """The bundle's graph, whose hash is told, with something more in it."""
    model = onnx.load_model_from_string((bundle / NETWORK_FILE).read_bytes())
    model.graph.node.extend(nodes)
    model.graph.initializer.extend(numpy_helper.from_array(np.asarray(v), name) for name, v in (weights or {}).items())
    replace_file(bundle, NETWORK_FILE, model.SerializeToString())


def outside_constant() -> onnx.NodeProto:
    tensor = TensorProto(name="secret", data_type=TensorProto.UINT8, dims=[10], data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value="/etc/hostname")
    return helper.make_node("Constant", [], ["more"], value=tensor)


def endless_loop() -> onnx.NodeProto:
    body = helper.make_graph(
        [helper.make_node("Identity", ["goes_on"], ["still"]), helper.make_node("Identity", ["v"], ["w"])],
        "body",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            helper.make_tensor_value_info("goes_on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("v", TensorProto.FLOAT, None),
        ],
        [
            helper.make_tensor_value_info("still", TensorProto.BOOL, []),
            helper.make_tensor_value_info("w", TensorProto.FLOAT, None),
        ],
    )
    return helper.make_node("Loop", ["", "", "belt_plane"], ["more"], body=body)


def test_a_constant_outside_the_file_is_refused(bundle: Path) -> None:
    with_node(bundle, outside_constant())
    found = refused(load_bundle, bundle)
    assert found.code is Code.MODEL_MANIFEST_INVALID and "outside the file" in found.text


def test_loops_and_foreign_operators_are_refused(bundle: Path) -> None:
    network = (bundle / NETWORK_FILE).read_bytes()
    for node in (endless_loop(), helper.make_node("Anything", ["rgb"], ["more"], domain="com.example")):
        replace_file(bundle, NETWORK_FILE, network)
        with_node(bundle, node)
        assert "not one of the operators" in refused(load_bundle, bundle).text


def test_a_graph_of_very_many_nodes_is_refused(bundle: Path) -> None:
    with_node(bundle, *(helper.make_node("Neg", ["belt_plane"], [f"n{i}"]) for i in range(MOST_NODES)))
    assert "nodes" in refused(load_bundle, bundle).text


@pytest.mark.parametrize(
    ("nodes", "weights", "said"),
    [
        ([("ConstantOfShape", ["s"], {})], {"s": np.array([1 << 20, 1 << 20])}, "values"),
        ([("Expand", ["x", "s"], {})], {"s": np.array([1 << 22, 4, 4])}, "values"),
        ([("Tile", ["x", "s"], {})], {"s": np.array([1 << 20, 16])}, "values"),
        ([("Pad", ["x", "s"], {})], {"s": np.array([0, 0, 1 << 30, 0])}, "values"),
        (
            [("MatMul", ["w", "w"], {}), ("MatMul", ["w", "w"], {})],
            {"w": np.zeros((3000, 3000), np.float32)},
            "multiplications",
        ),
        ([("Reshape", ["x", "s"], {})], {"s": np.array([-7, 3])}, "shape"),
        ([("Relu", ["nowhere"], {})], {}, ""),
    ],
)
def test_graphs_that_grow_are_refused_without_running_them(
    nodes: list[tuple[str, list[str], dict[str, Any]]], weights: dict[str, Any], said: str
) -> None:
    made = [
        helper.make_node(kind, inputs, ["y" if i == 0 else f"y{i}"], **attributes)
        for i, (kind, inputs, attributes) in enumerate(nodes)
    ]
    found = refused(refuse_unbounded, graph_of(made, weights, [4, 4]), "graph")
    assert found.code is Code.MODEL_MANIFEST_INVALID and said in found.text


def test_a_shape_that_depends_on_the_picture_is_refused() -> None:
    made = [
        helper.make_node("Cast", ["x"], ["s"], to=TensorProto.INT64),
        helper.make_node("Expand", ["one", "s"], ["y"]),
    ]
    found = refused(refuse_unbounded, graph_of(made, {"one": np.ones(1, np.float32)}, [2]), "graph")
    assert "static shape" in found.text


def test_bundles_of_the_product_pass(bundle: Path) -> None:
    assert load_bundle(bundle).manifest.name == "colours"
    assert load_bundle(Path(__file__).resolve().parents[2] / "models" / "base").manifest.name
