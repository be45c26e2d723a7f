"""Simulated piles for the novelty score: known goods in good and in bad light, odd-looking ones to learn from, and
packaging that base training never saw to be judged by."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, replace
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robin_grasp.tool import CellConfig
from robin_perception.core.bounded import read_plain_bytes
from robin_perception.core.disk import make_folder, write_atomic
from robin_perception.core.frame import Frame
from robin_perception.core.scene import Scene
from robin_perception.model.bundle import FEATURE_OUTPUTS
from robin_perception.novelty.appearance import SIZE, appearance, skin_maps
from robin_perception.novelty.scorer import confident
from robin_perception.segmentation.segmenter import Look, Segmenter
from robin_sim.faults import NO_FAULTS, Faults
from robin_sim.goods import draw_goods
from robin_sim.model import Pile, RenderedView
from robin_sim.parcels import BASE_TRAINING_MIX, ParcelMix
from robin_sim.parcels.odd_looks import odd_looking
from robin_sim.physics import UnstableSimulationError
from robin_sim.piles import make_pile
from robin_sim.render import draw_background, draw_lighting, render
from robin_sim.scenario import PileDraw, ScenarioConfig, draw_cameras, draw_pile_start, load_scenario
from robin_sim.sensor import SensorModelConfig, spoil

UNSEEN = {
    "poly_bag/black": "black_bags",
    "poly_bag/clear": "clear_bags",
    "poly_bag/mesh_sack": "mesh",
    "carton/foil": "foil",
    "carton/giftwrap": "gift_wrap",
    "padded_mailer/metallic": "metallic_mailers",
}
"""Packaging that is told of apart: variant -> key of the results."""
UNSEEN_MIX = ParcelMix(
    kind_weights={"carton": 0.4, "padded_mailer": 0.2, "poly_bag": 0.4},
    excluded_variants=("poly_bag/white", "poly_bag/grey", "poly_bag/coloured"),
    unseen_fraction=0.6,
)
FAULTS = (Faults(dark=0.8), Faults(blur=0.7), Faults(dirty_lens=0.7))
"""As bad as in the scenarios dark, blur and dirty_lens."""
_ODD_SHARE = 0.75
_ODD_MOST = 18  # parcels of a pile of odd ones: in a smaller pile more of them lie open
_LEAST_IOU = 0.5


@dataclass(frozen=True)
class Series:
    """What is drawn. mix: the parcels. odd: most of them are given odd looks. views: pictures of each pile, each with
    its own camera, light and ground; faulty: how many of them are spoiled. stream: keeps its draws apart."""

    name: str
    mix: ParcelMix
    stream: int
    views: int
    faulty: int
    odd: bool = False


KNOWN = Series("known", BASE_TRAINING_MIX, 0, views=4, faulty=2)
ODD = Series("odd", BASE_TRAINING_MIX, 1, views=4, faulty=1, odd=True)
UNFAMILIAR = Series("unseen", UNSEEN_MIX, 2, views=3, faulty=0)


@dataclass(frozen=True)
class Seen:
    """Confident instances that show one parcel. appearance float32 [n, SIZE]; cut float32 [n, C]: the trunk's features
    at both strides, averaged over the mask; embedding float32 [n, E]; classes float32 [n, K]; variant, fault: str [n],
    the latter empty in good light; pile int [n]."""

    appearance: NDArray[np.float32]
    cut: NDArray[np.float32]
    embedding: NDArray[np.float32]
    classes: NDArray[np.float32]
    variant: NDArray[np.str_]
    fault: NDArray[np.str_]
    pile: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.pile)

    def only(self, chosen: NDArray[np.bool_]) -> Seen:
        return Seen(**{item.name: getattr(self, item.name)[chosen] for item in fields(self)})

    @property
    def odd(self) -> NDArray[np.bool_]:
        return np.char.endswith(self.variant, "/odd")

    @property
    def unseen(self) -> NDArray[np.str_]:
        """Key of the unseen packaging, empty for known goods. str [n]."""
        return np.array([UNSEEN.get(str(name), "") for name in self.variant], dtype=np.str_)


def joined(parts: list[Seen]) -> Seen:
    return Seen(**{item.name: np.concatenate([getattr(p, item.name) for p in parts]) for item in fields(Seen)})


def collect(
    segmenter: Segmenter,
    series: Series,
    piles: int,
    seed: int,
    work: Path,
    progress: Callable[[int, int], None] | None = None,
) -> Seen:
    """Instances of ``piles`` piles. Each finished pile is kept in ``work`` under its seed and network: a stopped run
    goes on where it was. Raises RobinError DISK_FULL, OPTION_INVALID, ENGINE_FAILED."""
    folder = work / f"{segmenter.model_id}-{series.name}-{seed}"
    make_folder(folder)
    parts = []
    for index in range(piles):
        path = folder / f"{index:05d}.npz"
        if not path.exists():
            buffer = BytesIO()
            seen = look_at_pile(segmenter, series, seed, index)
            np.savez(buffer, **{item.name: getattr(seen, item.name) for item in fields(Seen)})
            write_atomic(path, buffer.getvalue())
        with np.load(BytesIO(read_plain_bytes(path, 100_000_000)), allow_pickle=False) as arrays:
            parts.append(Seen(**{item.name: arrays[item.name] for item in fields(Seen)}))
        if progress is not None:
            progress(index + 1, piles)
    return joined(parts)


def look_at_pile(segmenter: Segmenter, series: Series, seed: int, index: int) -> Seen:
    """All views of pile ``index``; it depends on (seed, series, index) and the network alone."""
    views = _views(series, seed, index)
    return joined([_seen(segmenter, frame, truth, shown, fault, index) for frame, truth, shown, fault in views])


def pile_frames(series: Series, seed: int, index: int) -> Iterator[Frame]:
    """The frames of pile ``index``."""
    return (frame for frame, *_ in _views(series, seed, index))


def _views(series: Series, seed: int, index: int) -> Iterator[tuple[Frame, RenderedView, Pile, str]]:
    """(frame, truth, what lies there, names of the faults) of each view."""
    rng = np.random.default_rng([seed, series.stream, index])
    config = load_scenario("mixed").config.model_copy(update={"mix": series.mix})
    start, pile = _draw_pile(config, series, rng)
    for number in range(series.views):
        shown = _odd(pile, rng) if series.odd else pile
        spoiled = number >= series.views - series.faulty
        faults = FAULTS[(index + number) % len(FAULTS)] if spoiled else NO_FAULTS
        believed, true = (
            (start.camera, start.true_camera) if number == 0 else draw_cameras(config, start.workspace, rng)
        )
        truth = render(shown, true, draw_lighting(rng), draw_background(rng, start.workspace))
        frame = spoil(truth, believed, rng, SensorModelConfig(), faults)
        yield frame, truth, shown, ",".join(faults.active)


def _draw_pile(config: ScenarioConfig, series: Series, rng: np.random.Generator) -> tuple[PileDraw, Pile]:
    while True:
        start = draw_pile_start(config, CellConfig(), rng)
        count = min(start.parcel_count, _ODD_MOST) if series.odd else start.parcel_count
        goods = draw_goods(rng, count, config.mix, start.workspace, start.fill_l)
        try:
            return start, make_pile(rng, goods, start.workspace, start.arrangement)
        except UnstableSimulationError:
            continue


def _odd(pile: Pile, rng: np.random.Generator) -> Pile:
    parcels = (odd_looking(p, rng) if rng.random() < _ODD_SHARE else p for p in pile.parcels)
    return replace(pile, parcels=tuple(parcels))


def _seen(segmenter: Segmenter, frame: Frame, truth: RenderedView, pile: Pile, fault: str, index: int) -> Seen:
    scene, look = segmenter.analyse(frame, FEATURE_OUTPUTS)
    owner = parcels_shown(scene, truth, len(pile.parcels))
    sure = confident(scene, look.view, segmenter.config.novelty) & (owner >= 0)
    chosen = np.flatnonzero(sure)
    names = [f"{pile.parcels[i].kind.value}/{pile.parcels[i].variant}" for i in owner[chosen]]
    outputs = segmenter.engine.outputs
    return Seen(
        appearance=_rows(list(appearance(skin_maps(look.view), look.view, scene)), SIZE)[chosen],
        cut=_cut(scene, look)[chosen],
        embedding=_rows([one.embedding for one in scene.instances], outputs["embedding"].shape[1])[chosen],
        classes=_rows([one.class_probabilities for one in scene.instances], len(scene.class_names))[chosen],
        variant=np.array(names, dtype="U40"),
        fault=np.full(len(chosen), fault, dtype="U40"),
        pile=np.full(len(chosen), index, dtype=np.int64),
    )


def parcels_shown(scene: Scene, truth: RenderedView, count: int) -> NDArray[np.int64]:
    """Index of the parcel that each mask shows with an IoU of .5 or more, -1 for none; int [instances]."""
    shape = len(scene.instances) + 1, count + 1
    pairs = scene.labels.astype(np.int64).ravel() * shape[1] + truth.labels.ravel()
    shared = np.bincount(pairs, minlength=shape[0] * shape[1]).reshape(shape)
    union = shared.sum(axis=1, keepdims=True) + shared.sum(axis=0, keepdims=True) - shared
    iou = (shared / np.maximum(union, 1))[1:, 1:]
    if not iou.size:
        return np.full(len(iou), -1, dtype=np.int64)
    return np.where(iou.max(axis=1) >= _LEAST_IOU, iou.argmax(axis=1), -1)


def _cut(scene: Scene, look: Look) -> NDArray[np.float32]:
    """Features at the cut, averaged over each mask, float32 [instances, C]."""
    (width, height), found = look.view.box.network_size, []
    for name in FEATURE_OUTPUTS:
        features = look.tensors[name]
        stride = round((width * height / features.shape[1]) ** 0.5)
        x, y = ((np.arange(size // stride) + 0.5) * stride - 0.5 for size in (width, height))
        grid = np.stack(np.meshgrid(x, y), axis=-1)
        at = np.rint(look.view.box.to_frame(grid)).astype(np.intp)
        rows, columns = (np.clip(at[..., k], 0, scene.labels.shape[1 - k] - 1) for k in (1, 0))
        labels = scene.labels[rows, columns].ravel()
        masks = [labels == one.id for one in scene.instances]
        means = [features @ mask.astype(np.float32) / max(np.count_nonzero(mask), 1) for mask in masks]
        found.append(_rows(means, len(features)))
    return np.concatenate(found, axis=1)


def _rows(rows: list[Any], width: int) -> NDArray[np.float32]:
    return np.asarray(rows, dtype=np.float32).reshape(len(rows), width)
