"""The training loop: it learns, it resumes, it stops when asked, it names bad data."""

from __future__ import annotations

import itertools
import json
import resource
import signal
from pathlib import Path

import pytest
import torch
from helpers.training_scenes import write_toy_dataset
from pydantic import ValidationError

from edge_adapt.training.augment import NO_AUGMENTATION
from edge_adapt.training.checkpoint import load_module
from edge_adapt.training.network import SMALL_NETWORK, SegmentationNetwork
from edge_adapt.training.source import Loader, SceneSource
from edge_adapt.training.trainer import TrainConfig, Trainer, cosine_rate, read_network, train
from edge_adapt.training.validate import picture, validate
from robin_perception.core.errors import Code, RobinError
from robin_perception.core.output import locked
from robin_perception.core.scene import CLASSES


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_toy_dataset(tmp_path_factory.mktemp("toy") / "data", 2, boxes=5)


def _config(dataset: Path, out: Path, **changes: object) -> TrainConfig:
    values = {
        "data": (dataset,),
        "validation_data": dataset,
        "out": out,
        "steps": 4,
        "batch": 2,
        "learning_rate": 5e-3,
        "bf16": False,
        "threads": 1,
        "log_steps": 2,
        "average_decay": 0.9,
        "validation_scenes": 2,
        "network": SMALL_NETWORK,
        "augment": NO_AUGMENTATION,
    }
    return TrainConfig.model_validate(values | changes)


def _weights(checkpoint: Path) -> dict[str, torch.Tensor]:
    network = SegmentationNetwork(SMALL_NETWORK)
    load_module(checkpoint, network, "network")
    return network.state_dict()


@pytest.mark.slow
def test_a_small_network_learns_two_scenes_by_heart(dataset: Path, tmp_path: Path) -> None:
    lines: list[str] = []
    result = train(_config(dataset, tmp_path, steps=90, log_steps=15), lines.append)
    records = [json.loads(line) for line in (tmp_path / "train_log.jsonl").read_text().splitlines()]
    losses = [record["loss"] for record in records if "loss" in record]
    assert losses[-1] < 0.4 * losses[0]
    assert result.finished and result.steps == 90
    assert result.validation["mean_iou"] > 0.6
    assert any("images/s" in line for line in lines)
    network = read_network(result.checkpoint)
    from edge_adapt.training.data import read_scene

    scene = read_scene(dataset / "000000")
    assert validate(network, [scene])["recall50"] > 0.5
    assert picture(network, scene).shape == (384, 1536, 3)


def test_a_resumed_run_ends_where_an_uninterrupted_one_does(dataset: Path, tmp_path: Path) -> None:
    train(_config(dataset, tmp_path / "whole"), lambda _: None)

    def stop_at_first_report(line: str) -> None:
        if line.startswith("step 2 ") and "images/s" in line:
            signal.raise_signal(signal.SIGTERM)

    half = train(_config(dataset, tmp_path / "parts"), stop_at_first_report)
    assert not half.finished and half.steps == 2
    lines: list[str] = []
    rest = train(_config(dataset, tmp_path / "parts"), lines.append)
    assert rest.finished and rest.steps == 4
    assert any(line.startswith("resumed at step 2") for line in lines)
    whole, parts = _weights(tmp_path / "whole" / "checkpoint"), _weights(tmp_path / "parts" / "checkpoint")
    for name, value in whole.items():
        assert torch.allclose(value.float(), parts[name].float(), atol=1e-6), name


def test_checkpoints_hold_no_pickle(dataset: Path, tmp_path: Path) -> None:
    result = train(_config(dataset, tmp_path, steps=1), lambda _: None)
    assert {path.suffix for path in result.checkpoint.iterdir()} == {".safetensors", ".json"}
    assert not list(tmp_path.glob(".*"))


def test_another_network_does_not_resume(dataset: Path, tmp_path: Path) -> None:
    train(_config(dataset, tmp_path, steps=1), lambda _: None)
    wider = SMALL_NETWORK.model_copy(update={"stage4": 16})
    with pytest.raises(RobinError) as caught:
        train(_config(dataset, tmp_path, steps=2, network=wider), lambda _: None)
    assert caught.value.code in (Code.MODEL_TENSOR_MISSING, Code.CONFIG_OUT_OF_RANGE)


def test_an_empty_or_missing_dataset_is_named(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for name in ("empty", "missing"):
        with pytest.raises(RobinError, match=name) as caught:
            train(_config(tmp_path / name, tmp_path / "out"), lambda _: None)
        assert caught.value.code == Code.INPUT_MISSING
        assert not (tmp_path / "out").exists()


def test_a_folder_that_cannot_be_written_is_named(dataset: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(RobinError, match="file/out") as caught:
        train(_config(dataset, tmp_path / "file/out"), lambda _: None)
    assert caught.value.code == Code.OPTION_INVALID


def test_a_full_disk_leaves_the_checkpoint_before(dataset: Path, tmp_path: Path) -> None:
    """The system refuses to let a file grow, as a full disk does; safetensors has an error of its own for that."""
    before = _weights(train(_config(dataset, tmp_path, steps=1), lambda _: None).checkpoint)
    trainer = Trainer(_config(dataset, tmp_path, steps=2), lambda _: None)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        with pytest.raises(RobinError, match="checkpoint") as caught:
            trainer.save()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert caught.value.code == Code.DISK_FULL
    assert not list(tmp_path.glob(".*"))
    for name, value in _weights(tmp_path / "checkpoint").items():
        assert torch.equal(value, before[name]), name


def test_the_rate_warms_up_and_falls_to_its_share(tmp_path: Path) -> None:
    config = TrainConfig(data=(tmp_path,), validation_data=tmp_path, out=tmp_path, learning_rate=1.0)
    rates = [cosine_rate(config, share / 100) for share in range(101)]
    assert rates[0] < 0.05 and max(rates) == pytest.approx(1.0, abs=0.01)
    assert rates[-1] == pytest.approx(config.final_rate_share)
    assert all(a >= b for a, b in itertools.pairwise(rates[3:]))


def test_a_training_replaces_nothing_but_a_training(dataset: Path, tmp_path: Path) -> None:
    harms = {
        "checkpoint": lambda out: ((out / "checkpoint").mkdir(), (out / "checkpoint/mine").touch()),
        "config.json": lambda out: (out / "config.json").write_text("{}"),
    }
    for name, harm in harms.items():
        out = tmp_path / f"with_{name}"
        out.mkdir()
        harm(out)
        before = sorted(out.rglob("*"))
        with pytest.raises(RobinError) as caught:
            train(_config(dataset, out), lambda _: None)
        assert caught.value.code == Code.OPTION_INVALID and name in caught.value.text
        assert sorted(out.rglob("*")) == before


def test_one_folder_takes_one_training_at_a_time(dataset: Path, tmp_path: Path) -> None:
    with locked(tmp_path), pytest.raises(RobinError) as caught:
        train(_config(dataset, tmp_path), lambda _: None)
    assert caught.value.code == Code.OPTION_INVALID and "another process" in caught.value.text


def test_shares_say_how_often_a_data_set_is_drawn_from(dataset: Path, tmp_path: Path) -> None:
    other = write_toy_dataset(tmp_path / "other", 2, boxes=1)
    config = _config(dataset, tmp_path / "run", data=(dataset, other), shares=(1e-9, 1.0))
    source = SceneSource(config.source(), CLASSES, lambda _: None)
    assert all(len(source.batch(step).cell) <= 2 for step in range(4)), "one box in each of two scenes"
    with pytest.raises(ValidationError, match="shares"):
        _config(dataset, tmp_path / "run", shares=(1.0, 2.0))


def test_several_loader_threads_make_the_batches_of_one(dataset: Path, tmp_path: Path) -> None:
    source = SceneSource(_config(dataset, tmp_path).source(), CLASSES, lambda _: None)
    loader = Loader(source, 5, threads=3)
    try:
        for step in range(5, 12):
            batch, again = loader.next(), source.batch(step)
            assert torch.equal(batch.depth, again.depth) and torch.equal(batch.cell, again.cell)
    finally:
        loader.close()


def test_a_loader_tells_what_went_wrong_in_its_thread(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = SceneSource(_config(dataset, tmp_path).source(), CLASSES, lambda _: None)
    monkeypatch.setattr(source, "batch", lambda step: 1 / 0)
    loader = Loader(source, 0)
    with pytest.raises(ZeroDivisionError):
        loader.next()
    loader.close()


@pytest.mark.skipif(torch.cuda.is_available(), reason="here is a GPU")
def test_a_gpu_that_is_not_there_is_refused_before_anything_is_written(dataset: Path, tmp_path: Path) -> None:
    with pytest.raises(RobinError) as caught:
        train(_config(dataset, tmp_path / "run", device="cuda"), lambda _: None)
    assert caught.value.code == Code.OPTION_INVALID and "cuda" in caught.value.text
    assert not (tmp_path / "run/checkpoint").exists()
    assert train(_config(dataset, tmp_path / "run", device="auto", steps=1), lambda _: None).finished


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
def test_a_gpu_computes_the_losses_of_the_cpu(dataset: Path, tmp_path: Path) -> None:
    terms = []
    for device in ("cpu", "cuda"):
        config = _config(dataset, tmp_path / device, device=device)
        trainer = Trainer(config, lambda _: None)
        terms.append(trainer.step(SceneSource(config.source(), CLASSES, lambda _: None).batch(0)))
    assert terms[1] == pytest.approx(terms[0], rel=0.02, abs=0.02)
