"""The classes of a network come from its data sets, and go with it into checkpoint and bundle."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.training_scenes import KINDS, write_toy_dataset

from edge_adapt.training.data import PackedDataset, dataset_classes
from edge_adapt.training.export import export_bundle, random_bundle, random_network
from edge_adapt.training.network import SMALL_NETWORK, SegmentationNetwork
from edge_adapt.training.source import SceneSource
from edge_adapt.training.trainer import TrainConfig, Trainer, read_network, train
from edge_adapt.training.warm_start import start_from_bundle
from robin_perception.core.errors import Code, RobinError
from robin_perception.core.scene import CLASSES

SIX = (*CLASSES, "crate")


@pytest.fixture
def crates(tmp_path: Path) -> Path:
    data = write_toy_dataset(tmp_path / "crates", 2, boxes=6, kinds=(*KINDS, "crate"))
    (data / "dataset.json").write_text(json.dumps({"seed": 1, "classes": SIX}))
    return data


def config(data: Path, out: Path, steps: int = 1) -> TrainConfig:
    settings = {"steps": steps, "batch": 1, "threads": 1, "validation_scenes": 0, "network": SMALL_NETWORK}
    return TrainConfig.model_validate({"data": (data,), "validation_data": data, "out": out, **settings})


def quiet(_: str) -> None:
    return


def test_data_sets_name_the_classes_in_order(tmp_path: Path, crates: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "dataset.json").write_text('{"classes": ["pouch", "tube"]}')
    assert dataset_classes([crates]) == SIX
    assert dataset_classes([crates, other]) == (*SIX, "pouch")
    assert dataset_classes([tmp_path / "without"]) == CLASSES
    (other / "dataset.json").write_text('{"classes": "tube"}')
    with pytest.raises(RobinError, match="'classes' must be a list"):
        dataset_classes([other])


def test_a_sixth_class_is_trained_and_exported(tmp_path: Path, crates: Path) -> None:
    result = train(config(crates, tmp_path / "run"), quiet)
    network = read_network(result.checkpoint)
    bundle = export_bundle(network, tmp_path / "bundle", "six")
    assert bundle.manifest.classes == SIX == network.classes
    assert bundle.head["head.classes.weight"].shape[0] == 6
    labels = {
        int(c)
        for step in range(8)
        for c in SceneSource(config(crates, tmp_path).source(), SIX, quiet).batch(step).class_index
    }
    assert SIX.index("crate") in labels


def test_a_kind_that_is_no_class_is_refused_before_the_first_step(tmp_path: Path, crates: Path) -> None:
    (crates / "dataset.json").write_text(json.dumps({"seed": 1, "classes": CLASSES}))
    with pytest.raises(RobinError, match="'crate'") as caught:
        train(config(crates, tmp_path / "run"), quiet)
    assert caught.value.code is Code.INPUT_UNREADABLE and not (tmp_path / "run").exists()


def test_a_checkpoint_of_other_classes_does_not_resume(tmp_path: Path, crates: Path) -> None:
    train(config(crates, tmp_path / "run"), quiet)
    (crates / "dataset.json").write_text(json.dumps({"seed": 1, "classes": (*SIX, "pouch")}))
    with pytest.raises(RobinError, match="pouch") as caught:
        Trainer(config(crates, tmp_path / "run", steps=2), quiet)
    assert caught.value.code is Code.CONFIG_OUT_OF_RANGE


def test_a_start_from_a_bundle_keeps_the_classes_that_both_know(tmp_path: Path, crates: Path) -> None:
    random_bundle(tmp_path / "five", 3)
    known = random_network(3).head.layer("classes")
    classes = ("crate", *reversed(CLASSES))  # another order, a new one first
    network = SegmentationNetwork(SMALL_NETWORK, classes)
    fresh = network.head.layer("classes").weight.detach().clone()
    source = SceneSource(config(crates, tmp_path).source(), classes, quiet)
    start_from_bundle(network, tmp_path / "five", [source.batch(0).pictures])
    own = network.head.layer("classes")
    for name in CLASSES:
        torch.testing.assert_close(own.weight[classes.index(name)], known.weight[CLASSES.index(name)])
        torch.testing.assert_close(own.bias[classes.index(name)], known.bias[CLASSES.index(name)])
    torch.testing.assert_close(own.weight[0], fresh[0])


def test_a_packed_scene_of_a_former_release_is_read(tmp_path: Path) -> None:
    """Its index held a number of the class between id and visible fraction."""
    data = write_toy_dataset(tmp_path / "data", 1, boxes=5)
    packed = PackedDataset(data)
    assert list(packed.pack()) == [1]
    index = data / "packed/index.jsonl"
    entry = json.loads(index.read_text())
    rows = [[number, 3, visible, variant] for number, visible, variant in entry["instances"]]
    index.write_text(json.dumps({**entry, "instances": rows}) + "\n")
    packed.refresh()
    assert [[i.id, i.visible_fraction, i.variant] for i in packed.scene(0).instances] == entry["instances"]
    assert np.isin(packed.kinds, KINDS).all()
