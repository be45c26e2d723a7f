"""The film network: what it is taught, that a stopped training goes on, and that its graph tells the same."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import onnxruntime as ort
import pytest
import torch
from helpers.training_scenes import CAMERA_HEIGHT_M, write_toy_dataset

from edge_adapt.training.augment import NO_AUGMENTATION
from edge_adapt.training.data import read_scene
from edge_adapt.training.export import random_bundle, random_network
from edge_adapt.training.film import GRID, FilmGraph, FilmNetwork, HeightAround, film_heights, film_terms
from edge_adapt.training.film_train import FilmSource, FilmTrainConfig, collated, export_film, film_cells, train_film
from edge_adapt.training.network import SMALL_NETWORK
from robin_perception.core.errors import Code, RobinError
from robin_perception.core.image_folder import FILM_UNIT_M, load_film, load_labels

FILM_OVER_M = 0.03


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Boxes of which the first two are covered by film, 3 cm above what the depth camera sees."""
    folder = write_toy_dataset(tmp_path_factory.mktemp("film") / "data", 2, boxes=5)
    for scene in sorted(folder.iterdir()):
        if scene.is_dir():
            depth = cv2.imread(str(scene / "depth.png"), cv2.IMREAD_UNCHANGED) * 0.001
            covered = np.isin(load_labels(scene), (1, 2))
            film = np.where(covered, (depth - FILM_OVER_M) / FILM_UNIT_M, 0)
            cv2.imwrite(str(scene / "film.png"), np.rint(film).astype(np.uint16))
    return folder


def config(dataset: Path, model: Path, out: Path, **changes: object) -> FilmTrainConfig:
    values = {"data": (dataset,), "model": model, "out": out, "steps": 4, "batch": 2, "threads": 1, "start_batches": 1}
    values |= {"augment": NO_AUGMENTATION, "checkpoint_steps": 2, "log_steps": 2}
    return FilmTrainConfig.model_validate(values | changes)


def film_network(seed: int = 0) -> FilmNetwork:
    network = random_network(seed)
    return FilmNetwork(network.preprocess, network.trunk, SMALL_NETWORK.pyramid4)


def test_film_of_a_cell_is_that_at_its_centre_and_unknown_stays_unknown() -> None:
    film = np.zeros((384, 512), dtype=np.float32)
    film[:8, :8] = 1.0
    film[1:3, 1:3] = [[1.0, 1.1], [1.2, 1.3]]
    film[5, 5] = 0.0  # one of the four in the middle of a cell
    film[100:104, 100:104] = -1
    cells = film_cells(film)
    assert cells.shape == GRID
    assert cells[0, 0] == pytest.approx(1.15) and cells[0, 1] == pytest.approx(1.0)
    assert cells[1, 1] == 0 and cells[2, 2] == 0 and cells[25, 25] == -1


def test_the_height_around_is_what_is_seen_there_and_bridges_holes(dataset: Path) -> None:
    depth = torch.full((1, 384, 512), CAMERA_HEIGHT_M - 0.1)
    depth[:, 150:200, 200:260] = 0.0
    depth[:, :, :100] = CAMERA_HEIGHT_M
    batch = collated([read_scene(dataset / "000000")])
    _, _, intrinsics, plane = batch.pictures
    around = HeightAround()(depth, intrinsics, plane)
    assert around.shape == (1, 1, *GRID)
    assert around[0, 0, 40:48, 54:62] == pytest.approx(0.1, abs=0.005)
    assert around[0, 0, :, :10] == pytest.approx(0.0, abs=0.005)
    nothing = HeightAround()(torch.zeros_like(depth), intrinsics, plane)
    assert nothing.abs().max() < 1e-6


def test_the_truth_costs_nothing_and_whoever_does_not_know_film_is_not_asked(dataset: Path) -> None:
    batch = collated([read_scene(dataset / "000000")])
    around = HeightAround()(*batch.pictures[1:])
    truth = (batch.height - around) / 0.03
    sure = torch.where(batch.film[:, None] > 0, 20.0, -20.0)
    terms = film_terms(torch.cat((truth, sure), dim=1), around, batch.film, batch.height, batch.labels)
    assert max(float(value) for value in terms.values()) < 1e-4
    wrong = film_terms(torch.cat((truth + 1, sure), dim=1), around, batch.film, batch.height, batch.labels)
    assert float(wrong["error_mm"]) == pytest.approx(30.0, rel=0.01) and float(wrong["slope"]) < 1e-4
    unknown = torch.full_like(batch.film, -1)
    heights = film_heights(unknown, *batch.pictures[2:])
    terms = film_terms(torch.zeros_like(torch.cat((truth, sure), dim=1)), around, unknown, heights, batch.labels)
    assert max(float(value) for value in terms.values()) == 0


def test_an_untrained_network_tells_what_is_seen_and_no_film(dataset: Path) -> None:
    batch = collated([read_scene(dataset / "000000")])
    told, around = film_network().eval()(*batch.pictures)
    assert told.shape == (1, 2, *GRID) and around.shape == (1, 1, *GRID)
    assert torch.count_nonzero(told[:, 0]) == 0 and bool((told[:, 1] < 0).all())


def test_the_graph_tells_what_the_network_does(dataset: Path) -> None:
    network = film_network(3).eval()
    torch.nn.init.normal_(network.told.weight, std=0.5)
    pictures = collated([read_scene(dataset / "000001")]).pictures
    with torch.no_grad():
        expected = FilmGraph(network)(*(part[0] for part in pictures)).numpy()
    session = ort.InferenceSession(export_film(network, {"seed": 3}), providers=["CPUExecutionProvider"])
    assert session.get_modelmeta().custom_metadata_map == {"robin": '{"seed": 3}'}
    names = ("rgb", "depth", "intrinsics", "belt_plane")
    found = session.run(["film"], {name: part[0].numpy() for name, part in zip(names, pictures, strict=True)})[0]
    assert found.shape == (2, *GRID)
    assert np.abs(found - expected).max() < 1e-4


@pytest.mark.slow
def test_film_is_learned_by_heart(dataset: Path, tmp_path: Path) -> None:
    model = random_bundle(tmp_path / "m", 1).directory
    lines: list[str] = []
    settings = config(dataset, model, tmp_path / "out", steps=80, learning_rate=5e-3, log_steps=20)
    graph = train_film(settings, lines.append)
    told = [float(line.split("error_mm ")[1].split()[0]) for line in lines if "error_mm" in line]
    assert told[-1] < 0.5 * told[0]
    scene = read_scene(dataset / "000000")
    session = ort.InferenceSession(graph, providers=["CPUExecutionProvider"])
    frame = {name: getattr(scene, name) for name in ("rgb", "depth", "intrinsics", "belt_plane")}
    film = session.run(["film"], frame)[0]
    covered = film_cells(scene.film) > 0
    assert film[1][covered].mean() > 2 * film[1][~covered].mean()


def test_a_stopped_training_goes_on_and_another_bundles_is_refused(dataset: Path, tmp_path: Path) -> None:
    model = random_bundle(tmp_path / "m", 1).directory
    whole = train_film(config(dataset, model, tmp_path / "whole"), lambda line: None)
    train_film(config(dataset, model, tmp_path / "parts", steps=2, final_rate_share=1, warmup_share=0), lambda _: None)
    lines: list[str] = []
    train_film(config(dataset, model, tmp_path / "parts"), lines.append)
    assert "resumed at step 2" in lines
    assert len(whole) > 1000
    other = random_bundle(tmp_path / "other", 2).directory
    with pytest.raises(RobinError, match="began with") as caught:
        train_film(config(dataset, other, tmp_path / "parts"), lambda line: None)
    assert caught.value.code is Code.CONFIG_OUT_OF_RANGE


def test_batches_are_a_function_of_seed_and_step(dataset: Path, tmp_path: Path) -> None:
    source = FilmSource(config(dataset, tmp_path, tmp_path), lambda line: None)
    again = FilmSource(config(dataset, tmp_path, tmp_path), lambda line: None)
    ahead = again.batches(5)
    for step in (5, 6, 7):
        assert torch.equal(source.batch(step).film, next(ahead).film)
    ahead.close()


def test_a_data_set_without_scenes_is_named(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(RobinError) as caught:
        FilmSource(config(tmp_path / "empty", tmp_path, tmp_path), lambda line: None)
    assert caught.value.code is Code.INPUT_MISSING and "empty" in str(caught.value)


def test_scenes_that_do_not_tell_film_are_unknown(tmp_path: Path, dataset: Path) -> None:
    bare = write_toy_dataset(tmp_path / "bare", 1)
    assert load_film(bare / "000000") is None
    assert (read_scene(bare / "000000").film == -1).all()
    scene = read_scene(dataset / "000000")
    assert set(np.unique(scene.labels[scene.film > 0])) == {1, 2}
