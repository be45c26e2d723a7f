"""One labelled scene for training or evaluation: what is drawn, how it is labelled, which strata it belongs to."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, field_validator

from robin_grasp.tool import WorkspaceConfig, tote_workspace
from robin_perception.core.config import StrictConfig
from robin_perception.core.frame import Frame
from robin_perception.core.image_folder import IGNORE_LABEL
from robin_perception.core.scene import OTHER
from robin_sim.any_cell.config import AnyCellConfig
from robin_sim.any_cell.layouts import Goods
from robin_sim.any_cell.scenes import draw_any_scene
from robin_sim.cameras import CameraView, draw_camera, misplaced
from robin_sim.goods import draw_goods, full_load_l
from robin_sim.model import Parcel, Pile, RenderedView
from robin_sim.parcels import BASE_TRAINING_MIX, ParcelMix, draw_parcels
from robin_sim.physics import UnstableSimulationError
from robin_sim.piles import make_pile
from robin_sim.render import draw_background, draw_lighting, render
from robin_sim.scenario import ScenarioConfig
from robin_sim.sensor import draw_sensor, spoil

_PILE_STREAM, _SCENE_STREAM = 0, 1
_FLUSH_STEP_M = 0.010
_FLUSH_SHARE = 0.3
_OCCLUDED_BELOW = 0.7


class DatasetConfig(StrictConfig):
    """What a data set is drawn from. Shares are fractions of scenes.

    image_sizes: (width, height, share). views_per_pile: how many consecutive scenes look at one pile, each with its own
    camera, light and background and with some parcels from the top taken away; held-out sets use 1.
    """

    image_sizes: tuple[tuple[int, int, float], ...] = ((512, 384, 0.65), (512, 288, 0.35))
    views_per_pile: int = Field(3, ge=1, le=10)
    mix: ParcelMix = BASE_TRAINING_MIX
    arrangements: dict[str, float] = Field(
        default_factory=lambda: {"tumbled": 0.42, "flush": 0.22, "stacked": 0.14, "single_layer": 0.22}
    )
    parcels_min: int = Field(5, ge=1, le=60)
    parcels_max: int = Field(60, ge=1, le=60)
    tote_share: float = Field(0.3, ge=0, le=1)
    tote_parcels_max: int = Field(25, ge=1, le=60)
    same_texture_share: float = Field(0.15, ge=0, le=1, description="piles where most parcels repeat a design")
    fitted_share: float = Field(0.0, ge=0, le=1, description="piles whose goods fit their container, as in the cell")
    sparse_share: float = Field(0.025, ge=0, le=1, description="piles of no, one or two parcels")
    last_share: float = Field(0.0, ge=0, le=1, description="scenes of which only the last one to four parcels are left")
    pose_error_m: float = Field(0.0015, ge=0, le=0.05, description="sigma of the reported camera position")
    pose_error_rad: float = Field(0.002, ge=0, le=0.1, description="sigma of the reported camera direction")
    ignore_below_fraction: float = Field(0.10, ge=0, le=1)
    scenario: ScenarioConfig | None = Field(
        None, description="scenes are of this one's cell; then only ignore_below_* count of the rest"
    )
    any_cell: AnyCellConfig | None = Field(
        None,
        description="scenes of any cell; then only image_sizes, views_per_pile and ignore_below_* count of the rest",
    )
    ignore_below_px: float = Field(80.0, ge=0, description="visible pixels of a picture 512 columns wide")

    @property
    def class_names(self) -> tuple[str, ...]:
        """Classes of the labels: those of the mix; with any cell those of its mix and things that are no parcels."""
        return self.mix.class_names if self.any_cell is None else (*self.any_cell.mix.class_names, OTHER)

    @field_validator("image_sizes")
    @classmethod
    def _sizes(cls, value: tuple[tuple[int, int, float], ...]) -> tuple[tuple[int, int, float], ...]:
        if not value or any(w < 64 or h < 48 or w > 4096 or h > 4096 or share <= 0 for w, h, share in value):
            raise ValueError("each size is (width 64..4096, height 48..4096, share > 0)")
        return value


@dataclass(frozen=True)
class LabelledScene:
    """frame: what the camera delivers. labels uint16 [H, W]: 0 background, 65535 ignore, else instance id. film float32
    [H, W], metres: where film is what a pixel shows, its true depth, else 0. info: scene.json."""

    frame: Frame
    labels: NDArray[np.uint16]
    film: NDArray[np.float32]
    info: dict[str, object]


def pile_rng(seed: int, group: int) -> np.random.Generator:
    """The generator that the pile of ``group`` is drawn from."""
    return np.random.default_rng([seed, _PILE_STREAM, group])


def scene_rng(seed: int, index: int) -> np.random.Generator:
    """The generator that camera, light, background and noise of scene ``index`` are drawn from."""
    return np.random.default_rng([seed, _SCENE_STREAM, index])


def draw_workspace(rng: np.random.Generator, config: DatasetConfig) -> WorkspaceConfig:
    """A belt or a tote, of about the usual size."""
    stretch = rng.uniform(0.85, 1.15, 2)
    if rng.random() < config.tote_share:
        tote = tote_workspace()
        size = (float(tote.size_m[0] * stretch[0]), float(tote.size_m[1] * stretch[1]))
        return tote.model_copy(update={"size_m": size, "wall_height_m": float(rng.uniform(0.12, 0.30))})
    belt = WorkspaceConfig()
    return belt.model_copy(update={"size_m": (float(belt.size_m[0] * stretch[0]), float(belt.size_m[1] * stretch[1]))})


def draw_pile(rng: np.random.Generator, config: DatasetConfig) -> Pile:
    """Workspace, parcels and arrangement; simulated to rest. An unstable simulation is drawn again."""
    workspace = draw_workspace(rng, config)
    names = sorted(config.arrangements)
    weights = np.array([config.arrangements[name] for name in names])
    arrangement = names[int(rng.choice(len(names), p=weights / weights.sum()))]
    top = min(config.parcels_max, config.tote_parcels_max) if workspace.container == "tote" else config.parcels_max
    low = min(config.parcels_min, top)
    count = round(low + (top - low) * rng.beta(1.1, 1.9))
    if rng.random() < config.sparse_share:
        count = int(rng.integers(0, 3))
    mix = config.mix
    if rng.random() < config.same_texture_share:
        mix = mix.model_copy(update={"twin_fraction": 0.85})
    fitted = count > 0 and config.fitted_share > 0 and rng.random() < config.fitted_share
    while True:
        parcels = (
            draw_goods(rng, count, mix, workspace, full_load_l(workspace)) if fitted else draw_parcels(rng, count, mix)
        )
        try:
            return make_pile(rng, parcels, workspace, arrangement)
        except UnstableSimulationError:
            continue


def thinned(pile: Pile, rng: np.random.Generator, share: float) -> Pile:
    """The pile without up to ``share`` of its parcels, taken from where nothing lies on them."""
    if not pile.parcels or share <= 0:
        return pile
    low, high = _boxes(pile)
    overlap = np.all((low[:, None, :2] < high[None, :, :2]) & (low[None, :, :2] < high[:, None, :2]), axis=2)
    above = high[None, :, 2] > high[:, None, 2]
    free = np.flatnonzero(~(overlap & above & ~np.eye(len(low), dtype=bool)).any(axis=1))
    gone = rng.permutation(free)[: round(share * len(pile.parcels))]
    keep = np.setdiff1d(np.arange(len(pile.parcels)), gone)
    parcels = tuple(pile.parcels[i] for i in keep)
    return Pile(parcels, pile.poses[keep], pile.workspace, pile.arrangement, pile.tags)


def picked_down(pile: Pile, rng: np.random.Generator, left: int) -> Pile:
    """The pile picked from the top until at most ``left`` parcels remain where they lay: those a cell meets last."""
    while len(pile.parcels) > left:
        surplus = len(pile.parcels) - left
        pile = thinned(pile, rng, min(surplus, max(1, surplus // 3)) / len(pile.parcels))
    return pile


def _boxes(pile: Pile) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Axis-aligned bounds in base_link, float64 [N, 3] each."""
    half = 0.5 * np.array([p.size_m for p in pile.parcels])
    reach = np.einsum("nij,nj->ni", np.abs(pile.poses[:, :3, :3]), half)
    return pile.poses[:, :3, 3] - reach, pile.poses[:, :3, 3] + reach


def draw_scene(pile: Pile, seed: int, index: int, config: DatasetConfig) -> LabelledScene:
    """Scene ``index`` of the data set, looking at the pile of its group."""
    rng = scene_rng(seed, index)
    view_number = index % config.views_per_pile
    pile = thinned(pile, rng, min(0.6, view_number * rng.uniform(0.05, 0.2)))
    if config.last_share > 0 and rng.random() < config.last_share:
        pile = picked_down(pile, rng, int(rng.integers(1, 5)))
    width, height = _draw_size(rng, config)
    camera = draw_camera(rng, pile.workspace, width, height)
    background = draw_background(rng, pile.workspace)
    view = render(pile, camera, draw_lighting(rng), background)
    error_m, error_rad = abs(rng.normal(0, config.pose_error_m)), abs(rng.normal(0, config.pose_error_rad))
    frame = spoil(view, misplaced(camera, rng, error_m, error_rad), rng, draw_sensor(rng))
    return label_scene(pile, view, camera, frame, config, {"seed": seed, "index": index, "background": background.kind})


def _draw_size(rng: np.random.Generator, config: DatasetConfig) -> tuple[int, int]:
    shares = np.array([size[2] for size in config.image_sizes])
    width, height, _ = config.image_sizes[int(rng.choice(len(shares), p=shares / shares.sum()))]
    return width, height


def any_cell_scene(kind: str, goods: Goods, seed: int, index: int, config: DatasetConfig) -> LabelledScene:
    """Scene ``index`` of a data set of any cell, with the goods of its group."""
    assert config.any_cell is not None
    rng = scene_rng(seed, index)
    scene = draw_any_scene(rng, config.any_cell, kind, goods, _draw_size(rng, config))
    origin: dict[str, object] = {"seed": seed, "index": index, "background": kind, "depth_camera": scene.depth_camera}
    return label_scene(scene.pile, scene.view, scene.camera, scene.frame, config, origin)


def label_scene(
    pile: Pile,
    view: RenderedView,
    camera: CameraView,
    frame: Frame,
    config: DatasetConfig,
    origin: dict[str, object],
) -> LabelledScene:
    """Labels with barely visible parcels set to ignore, and scene.json with every labelled instance and its strata."""
    area = np.bincount(view.labels.reshape(-1), minlength=len(pile.parcels) + 1)[1:]
    needed = config.ignore_below_px * (camera.width / 512.0) ** 2
    kept = (view.visible_fraction >= config.ignore_below_fraction) & (area >= needed)
    lookup = np.concatenate([[0], np.where(kept, np.arange(1, len(kept) + 1), IGNORE_LABEL)]).astype(np.uint16)
    labels = lookup[view.labels]
    pairs = neighbours(view.labels, camera.heights(view.depth, pile.workspace.belt_z_m))
    instances: list[dict[str, object]] = []
    found: set[str] = set()
    for i in np.flatnonzero(kept).tolist():
        strata = _strata(pile, i, pairs.get(i + 1, {}), float(view.visible_fraction[i]))
        found.update(strata)
        instances.append(
            {
                "id": i + 1,
                "kind": pile.parcels[i].kind_name,
                "variant": pile.parcels[i].variant,
                "visible_fraction": round(float(view.visible_fraction[i]), 4),
                "strata": strata,
            }
        )
    info = {
        **origin,
        "arrangement": pile.arrangement,
        "container": pile.workspace.container,
        "strata": sorted(found) if instances else ["empty"],
        "instances": instances,
    }
    film = np.where(view.extras["transmission"] > 0, view.depth, np.float32(0))
    return LabelledScene(frame, labels, film, info)


def _strata(pile: Pile, index: int, touching: dict[int, bool], visible: float) -> list[str]:
    """What makes parcel ``index`` hard to segment. touching: label of each neighbour -> whether they are flush."""
    strata = ["flush"] if any(touching.values()) else []
    if any(same_design(pile.parcels[index], pile.parcels[label - 1]) for label in touching):
        strata.append("same_texture")
    if visible < _OCCLUDED_BELOW:
        strata.append("occluded")
    return strata


def same_design(a: Parcel, b: Parcel) -> bool:
    """Whether two parcels carry the same print: copies of one design share their texture."""
    return a.material.albedo is b.material.albedo


def neighbours(labels: NDArray[np.uint16], height_m: NDArray[np.float32]) -> dict[int, dict[int, bool]]:
    """For each label of ``labels`` [H, W], those that it shares a boundary with, and whether the two are flush there.
    height_m [H, W]: above the belt.

    Pixels three apart (in a picture 512 columns wide) are compared, so that a gap of a pixel or two still counts as
    touching. Flush: on at least 30 % of the boundary the heights differ by less than 10 mm.
    """
    offset = max(1, round(3 * labels.shape[1] / 512))
    least = 6 * offset
    codes, level = [], []
    for axis in (0, 1):
        a = [slice(None), slice(None)]
        b = [slice(None), slice(None)]
        a[axis], b[axis] = slice(None, -offset), slice(offset, None)
        first, second = labels[tuple(a)], labels[tuple(b)]
        meet = (first != second) & (first > 0) & (second > 0)
        low, high = np.minimum(first[meet], second[meet]), np.maximum(first[meet], second[meet])
        codes.append(low.astype(np.int64) * 65536 + high)
        level.append(np.abs(height_m[tuple(a)][meet] - height_m[tuple(b)][meet]) < _FLUSH_STEP_M)
    pair, inverse, count = np.unique(np.concatenate(codes), return_inverse=True, return_counts=True)
    flush_px = np.bincount(inverse, np.concatenate(level), minlength=len(pair))
    result: dict[int, dict[int, bool]] = {}
    for code, total, flat in zip(pair.tolist(), count.tolist(), flush_px.tolist(), strict=True):
        if total < least:
            continue
        i, j = divmod(code, 65536)
        flush = flat >= max(_FLUSH_SHARE * total, least)
        result.setdefault(i, {})[j] = flush
        result.setdefault(j, {})[i] = flush
    return result
