"""Bundles: written atomically, verified completely, and every kind of damage named."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import numpy as np
import onnx
import pytest
from helpers.perception_graphs import colour_bundle, colour_network
from safetensors.numpy import load_file, save_file

from robin_perception.core.errors import Code, RobinError
from robin_perception.model.bundle import (
    HEAD_FILE,
    MANIFEST_FILE,
    NETWORK_FILE,
    CalibrationTables,
    IsotonicTable,
    Provenance,
    load_bundle,
    update_manifest,
    write_bundle,
)

HEAD = {"head.detect.weight": np.ones(6, dtype=np.float32)}


@pytest.fixture
def model(tmp_path: Path) -> Path:
    colour_bundle(tmp_path / "colours", 6)
    return tmp_path / "colours"


def failure(model: Path) -> RobinError:
    with pytest.raises(RobinError) as caught:
        load_bundle(model)
    return caught.value


def rehash(model: Path, file: str) -> None:
    """Make the manifest agree with a changed file, so that the check behind the hash is reached."""
    import hashlib

    path = model / MANIFEST_FILE
    values = json.loads(path.read_text())
    values["files"][file] = hashlib.sha256((model / file).read_bytes()).hexdigest()
    path.write_text(json.dumps(values))


def test_a_bundle_is_read_as_written(tmp_path: Path) -> None:
    tables = CalibrationTables(detection=IsotonicTable(x=(0.1, 0.9), y=(0.0, 1.0)), class_temperature=1.5)
    provenance = Provenance(seed=3, scenes=100, excluded=("poly_bag/black", "poly_bag/clear"))
    written = write_bundle(
        tmp_path / "m", colour_network(6), HEAD, name="m", max_instances=6, calibration=tables, provenance=provenance
    )
    again = load_bundle(tmp_path / "m")
    assert again.manifest == written.manifest and again.manifest.calibration == tables
    assert again.manifest.provenance.excluded == ("poly_bag/black", "poly_bag/clear")
    assert np.array_equal(again.head["head.detect.weight"], HEAD["head.detect.weight"])
    assert again.model_id == written.model_id and again.model_id.startswith("m-")
    assert sorted(p.name for p in (tmp_path / "m").iterdir()) == sorted(
        ["CARD.md", HEAD_FILE, MANIFEST_FILE, NETWORK_FILE]
    )
    assert [p.name for p in tmp_path.iterdir()] == ["m"]


@pytest.mark.parametrize("file", [NETWORK_FILE, HEAD_FILE])
@pytest.mark.parametrize("where", [0.1, 0.5, 0.99])
def test_one_flipped_bit_is_found(model: Path, file: str, where: float) -> None:
    data = bytearray((model / file).read_bytes())
    data[int(where * len(data))] ^= 1
    (model / file).write_bytes(bytes(data))
    error = failure(model)
    assert error.code == Code.MODEL_HASH_MISMATCH and file in error.text


@pytest.mark.parametrize("file", [NETWORK_FILE, HEAD_FILE, MANIFEST_FILE])
def test_a_missing_file_is_named(model: Path, file: str) -> None:
    (model / file).unlink()
    error = failure(model)
    assert error.code == Code.MODEL_MISSING and file in error.text


def test_a_missing_bundle_is_named(tmp_path: Path) -> None:
    assert failure(tmp_path / "none").code == Code.MODEL_MISSING


@pytest.mark.parametrize(
    "tensors",
    [
        {},
        {"head.detect.weight": np.ones(5, dtype=np.float32)},
        {"head.detect.weight": np.ones(6, dtype=np.float64)},
        {"head.detect.weight": np.full(6, np.nan, dtype=np.float32)},
        {"head.detect.weight": np.ones(6, dtype=np.float32), "head.more": np.ones(1, dtype=np.float32)},
    ],
)
def test_head_tensors_that_do_not_fit_are_named(model: Path, tensors: dict[str, np.ndarray]) -> None:
    save_file(tensors, model / HEAD_FILE)
    rehash(model, HEAD_FILE)
    error = failure(model)
    assert error.code == Code.MODEL_TENSOR_MISSING and "head." in error.text and HEAD_FILE in error.text


def test_a_head_that_is_no_safetensors_file(model: Path) -> None:
    (model / HEAD_FILE).write_bytes(b"pickle me")
    rehash(model, HEAD_FILE)
    assert failure(model).code == Code.MODEL_TENSOR_MISSING


def test_a_network_that_is_no_onnx_file(model: Path) -> None:
    (model / NETWORK_FILE).write_bytes(b"\xff\x00 nonsense")
    rehash(model, NETWORK_FILE)
    error = failure(model)
    assert error.code == Code.MODEL_TENSOR_MISSING and NETWORK_FILE in error.text


@pytest.mark.parametrize("name", ["head.detect.weight", "belt_plane"])
def test_a_graph_without_an_input_is_named(model: Path, name: str) -> None:
    graph = onnx.load(model / NETWORK_FILE)
    kept = [i for i in graph.graph.input if i.name != name]
    del graph.graph.input[:]
    graph.graph.input.extend(kept)
    onnx.save(graph, model / NETWORK_FILE)
    rehash(model, NETWORK_FILE)
    error = failure(model)
    assert error.code == Code.MODEL_TENSOR_MISSING and name in error.text


def test_a_graph_without_an_output_is_named(model: Path) -> None:
    graph = onnx.load(model / NETWORK_FILE)
    kept = [o for o in graph.graph.output if o.name != "boundary"]
    del graph.graph.output[:]
    graph.graph.output.extend(kept)
    onnx.save(graph, model / NETWORK_FILE)
    rehash(model, NETWORK_FILE)
    assert "boundary" in failure(model).text


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"format": 2}, "format"),
        ({"colour": "red"}, "colour"),
        ({"max_instances": -1}, "max_instances"),
        ({"files": {}}, NETWORK_FILE),
        ({"files": {"../../etc/passwd": "0", NETWORK_FILE: "0", HEAD_FILE: "0"}}, "passwd"),
        ({"classes": ["cat", "dog"]}, "classes"),
        ({"thresholds": {"detection": 3}}, "thresholds.detection"),
    ],
)
def test_a_manifest_that_does_not_fit_names_the_key(model: Path, change: dict[str, object], named: str) -> None:
    path = model / MANIFEST_FILE
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    error = failure(model)
    assert error.code == Code.MODEL_MANIFEST_INVALID and named in error.text


def test_a_manifest_that_is_no_json(model: Path) -> None:
    (model / MANIFEST_FILE).write_text("{")
    assert failure(model).code == Code.MODEL_MANIFEST_INVALID


def test_update_keeps_the_rest_and_the_id(model: Path) -> None:
    before = load_bundle(model)
    update_manifest(model, scores={"held_out": {"ap50": 0.9}})
    after = load_bundle(model)
    assert after.manifest.scores == {"held_out": {"ap50": 0.9}} and after.model_id == before.model_id
    assert after.manifest.files == before.manifest.files


def test_the_id_follows_the_head(model: Path) -> None:
    first = load_bundle(model)
    other = write_bundle(
        model, colour_network(6), {"head.detect.weight": np.full(6, 2, np.float32)}, name="colours", max_instances=6
    )
    assert other.model_id != first.model_id
    assert float(load_file(model / HEAD_FILE)["head.detect.weight"][0]) == 2.0


def test_a_full_disk_leaves_the_old_bundle(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = load_bundle(model)

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(RobinError) as caught:
        write_bundle(model, colour_network(4), HEAD, name="colours")
    assert caught.value.code == Code.DISK_FULL
    with pytest.raises(RobinError):
        update_manifest(model, scores={"x": {}})
    monkeypatch.undo()
    assert load_bundle(model).manifest == before.manifest
    assert [p.name for p in model.parent.iterdir()] == ["colours"]
    assert not list(model.glob("*.tmp"))


def test_a_folder_that_is_no_bundle_is_not_replaced(tmp_path: Path) -> None:
    """``robin export --out models`` must not delete the bundles in it."""
    models = tmp_path / "models"
    colour_bundle(models / "base", 6)
    with pytest.raises(RobinError, match="models") as caught:
        write_bundle(models, colour_network(6), HEAD, name="new", max_instances=6)
    assert caught.value.code == Code.OPTION_INVALID
    load_bundle(models / "base")
    (tmp_path / "file").write_text("mine")
    for out in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(RobinError, match="file"):
            write_bundle(out, colour_network(6), HEAD, name="new", max_instances=6)
    assert (tmp_path / "file").read_text() == "mine"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "models"]
    (tmp_path / "empty").mkdir()
    write_bundle(tmp_path / "empty", colour_network(6), HEAD, name="new", max_instances=6)
