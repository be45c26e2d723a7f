"""Training that goes on from a bundle: the same numbers as the bundle, and trainable batch statistics."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from helpers.training_scenes import write_toy_dataset
from test_training_trainer import _config

from edge_adapt.training.export import random_bundle, random_network
from edge_adapt.training.network import NetworkConfig, SegmentationNetwork
from edge_adapt.training.source import SceneSource
from edge_adapt.training.trainer import Trainer, train
from edge_adapt.training.warm_start import start_from_bundle
from robin_cli.commands.provenance import continued
from robin_perception.core.errors import Code, RobinError
from robin_perception.core.scene import CLASSES
from robin_perception.model.bundle import Provenance


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_toy_dataset(tmp_path_factory.mktemp("toy") / "data", 2, boxes=5)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bundle") / "random"
    random_bundle(folder, 3)
    return folder


def _dense(network: SegmentationNetwork, source: SceneSource) -> tuple[torch.Tensor, ...]:
    batch = source.batch(1)
    with torch.no_grad():
        return network.features(batch.rgb, batch.depth, batch.intrinsics, batch.belt_plane)


def test_the_network_computes_what_the_bundle_does(dataset: Path, bundle: Path, tmp_path: Path) -> None:
    config = _config(dataset, tmp_path)
    source = SceneSource(config.source(), CLASSES, lambda line: None)
    network = SegmentationNetwork(config.network)
    before = _dense(network.eval(), source)
    start_from_bundle(network, bundle, [source.batch(7).pictures])
    known = random_network(3)  # the network that the bundle was exported from
    for own, other, other_weights in zip(_dense(network, source), _dense(known, source), before, strict=True):
        torch.testing.assert_close(own, other, rtol=1e-3, atol=1e-4)
        assert not torch.allclose(own, other_weights, rtol=0.1)
    for name, value in known.head.state_dict().items():
        torch.testing.assert_close(network.head.state_dict()[name], value)


def test_batch_statistics_are_those_of_the_data(dataset: Path, bundle: Path, tmp_path: Path) -> None:
    """In training mode a batch is normed by itself: on the batch the statistics came from, nothing changes."""
    config = _config(dataset, tmp_path)
    source = SceneSource(config.source(), CLASSES, lambda line: None)
    network = SegmentationNetwork(config.network)
    start_from_bundle(network, bundle, [source.batch(1).pictures])
    still = _dense(network.eval(), source)
    for own, other in zip(_dense(network.train(), source), still, strict=True):
        torch.testing.assert_close(own, other, rtol=1e-2, atol=1e-2)


def test_a_run_starts_from_the_bundle_once(dataset: Path, bundle: Path, tmp_path: Path) -> None:
    lines: list[str] = []
    config = _config(dataset, tmp_path, steps=2, start_from=bundle, start_batches=1)
    train(config, lines.append)
    assert sum("starting from random-" in line for line in lines) == 1
    again = Trainer(config.model_copy(update={"steps": 3}), lines.append)
    again.run()
    assert sum("starting from" in line for line in lines) == 1, "a checkpoint goes before the bundle"
    assert again.started_from is not None and again.started_from["model"].startswith("random-")


def test_a_bundle_of_another_shape_is_named(dataset: Path, bundle: Path, tmp_path: Path) -> None:
    config = _config(dataset, tmp_path, network=NetworkConfig(), start_from=bundle, start_batches=1)
    with pytest.raises(RobinError, match="another shape") as caught:
        train(config, lambda line: None)
    assert caught.value.code is Code.MODEL_TENSOR_MISSING


def test_scenes_of_a_data_set_that_both_trainings_saw_count_once() -> None:
    before = Provenance(
        seed=1, scenes=500, steps=40, data="a (seed 1), b (seed 2)", excluded=("unseen",), notes="first"
    )
    own = Provenance(seed=2, scenes=330, steps=9, excluded=("unseen",), notes="second")
    counts = {"b (seed 2)": 300, "c (seed 3)": 30}
    both = continued(own, counts, {"model": "base-1", **before.model_dump(mode="json")})
    assert (both.scenes, both.steps) == (530, 49)
    assert both.data == "a (seed 1), b (seed 2), c (seed 3)"
    assert both.notes == "second, from base-1 on, which was first"
