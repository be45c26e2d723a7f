"""One labelled scene of any cell: goods, place, camera, sensor and plane are drawn along the axes of
``AnyCellConfig``."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from robin_grasp.tool import WorkspaceConfig
from robin_perception.core.errors import RobinError
from robin_perception.core.frame import Frame
from robin_perception.core.gate import CameraModel, make_frame
from robin_sim.any_cell.config import AnyCellConfig, Range
from robin_sim.any_cell.depth import measure, missing
from robin_sim.any_cell.layouts import Goods, draw_layout, scaled
from robin_sim.any_cell.places import Place, draw_place
from robin_sim.cameras import CameraView, intrinsics, look_at
from robin_sim.colour_camera import draw_colour, photograph
from robin_sim.faults import NO_FAULTS
from robin_sim.model import Pile, RenderedView
from robin_sim.render import draw_lighting, render

_SHELF_TILT_RAD = {False: (0.9, 1.5), True: (1.25, 1.55)}  # by whether a top covers it
_MOST_HEIGHT = 0.5  # of the goods, over the distance
_STEEP_RAD = 0.3  # a camera that looks more obliquely than this hangs upright


@dataclass(frozen=True)
class AnyScene:
    """What was drawn and seen: the pile in base_link, the perfect view and its camera, the frame as delivered."""

    pile: Pile
    view: RenderedView
    camera: CameraView
    frame: Frame
    place: str
    depth_camera: str


def draw_goods_of_group(rng: np.random.Generator, config: AnyCellConfig) -> tuple[str, Goods]:
    """The place's kind and the layout that a group of scenes shares."""
    kind = weighted(rng, config.places)
    while True:
        layout = weighted(rng, config.layouts)
        if kind == "shelf":
            layout = "standing"
        elif kind == "pallet" and layout == "standing":
            layout = "grid"
        goods = draw_layout(rng, config, layout, boxed=kind in ("tote", "shelf"))
        if goods.parcels:
            return kind, goods


def draw_any_scene(
    rng: np.random.Generator, config: AnyCellConfig, kind: str, goods: Goods, size_px: tuple[int, int]
) -> AnyScene:
    """A view of the goods from a camera, at a scale and in a place of its own. A frame that no door of the product
    would take, with no depth at all or most of it at the lens, is drawn again."""
    while True:
        scene = _draw_once(rng, config, kind, goods, size_px)
        if _is_taken(scene.frame):
            return scene


def _is_taken(frame: Frame) -> bool:
    model = CameraModel(frame.K, frame.width, frame.height)
    try:
        make_frame(frame.rgb, frame.depth, model, frame.T_base_camera)
    except RobinError:
        return False
    return True


def _draw_once(
    rng: np.random.Generator, config: AnyCellConfig, kind: str, goods: Goods, size_px: tuple[int, int]
) -> AnyScene:
    hfov = rng.uniform(*config.hfov_rad)
    distance = log_uniform(rng, config.distance_m)
    goods = scaled(goods, _scale(rng, config, goods, distance, hfov))
    workspace = _workspace(goods)
    middle = np.array([*workspace.centre_m, 0.0])
    place = draw_place(rng, config, kind, goods.extent_m)
    pile = _pile(goods, workspace)
    camera = _camera(rng, config, place, goods, middle, distance, hfov, size_px)
    # Walls and tops keep lamps off: most of these cameras meter the picture.
    light = replace(draw_lighting(rng), adaptation=float(rng.uniform(0.3, 1.0)))
    view = render(pile, camera, light, place.background(middle))
    depth_camera = weighted(rng, config.depth_cameras)
    depth = measure(view, camera, rng, depth_camera, distance)
    depth = np.where(missing(view, camera, rng, config, place, middle), np.float32(0), depth)
    rgb = photograph(view, rng, draw_colour(rng), NO_FAULTS)
    pose = _told_pose(rng, config, camera.T_base_camera, goods, place, middle, distance)
    return AnyScene(pile, view, camera, Frame(rgb, depth, camera.K.copy(), pose, 0.0), kind, depth_camera)


def weighted(rng: np.random.Generator, weights: dict[str, float]) -> str:
    names = sorted(weights)
    share = np.array([weights[name] for name in names])
    return names[int(rng.choice(len(names), p=share / share.sum()))]


def log_uniform(rng: np.random.Generator, bounds: Range) -> float:
    low, high = bounds
    return float(np.exp(rng.uniform(math.log(low), math.log(high))))


def _scale(rng: np.random.Generator, config: AnyCellConfig, goods: Goods, distance_m: float, hfov_rad: float) -> float:
    """Factor that gives the goods their share of the picture, within the sizes that goods have and well below the
    camera."""
    width = 2 * distance_m * math.tan(hfov_rad / 2)
    longest = float(np.median([max(parcel.size_m) for parcel in goods.parcels]))
    least, most = (bound / longest for bound in config.goods_m)
    wanted = log_uniform(rng, config.goods_share) * width / longest
    return min(float(np.clip(wanted, least, most)), _MOST_HEIGHT * distance_m / float(goods.extent_m[2]))


def _workspace(goods: Goods) -> WorkspaceConfig:
    x, y = (float(v) for v in goods.extent_m[:2])
    return WorkspaceConfig(size_m=(x, y))


def _pile(goods: Goods, workspace: WorkspaceConfig) -> Pile:
    poses = goods.poses.copy()
    poses[:, :2, 3] += workspace.centre_m
    return Pile(goods.parcels, poses, workspace, goods.arrangement)


def _camera(
    rng: np.random.Generator,
    config: AnyCellConfig,
    place: Place,
    goods: Goods,
    middle: NDArray[np.float64],
    distance_m: float,
    hfov_rad: float,
    size_px: tuple[int, int],
) -> CameraView:
    """Places are built to be seen from +x, so that walls and floor stand behind them; a camera that looks down may
    stand anywhere around."""
    shelf = place.back_m is not None
    tilt = rng.uniform(*(_SHELF_TILT_RAD[place.covered] if shelf else config.tilt_rad))
    steep = tilt < _STEEP_RAD
    azimuth = rng.uniform(-math.pi, math.pi) if steep else rng.normal(0.0, 0.15 if shelf else 0.35)
    roll = rng.uniform(-math.pi, math.pi) if steep else azimuth + math.pi / 2 + rng.normal(0, 0.06)
    target = middle + np.array([0.0, 0.0, 0.4 * goods.extent_m[2]])
    target[:2] += rng.normal(0.0, 0.2, 2) * np.minimum(goods.extent_m[:2], 0.6 * distance_m)
    width, height = size_px
    K = intrinsics(width, height, hfov_rad)
    K[0, 2] += rng.normal(0.0, 0.012) * width
    K[1, 2] += rng.normal(0.0, 0.012) * height
    # From before the goods, however deep they are along the line of sight.
    away = distance_m + 0.5 * float(goods.extent_m[:2].max()) * max(0.0, math.sin(tilt) - 0.5)
    return CameraView(width, height, K, look_at(target, away, tilt, azimuth, roll))


def _told_pose(
    rng: np.random.Generator,
    config: AnyCellConfig,
    pose: NDArray[np.float64],
    goods: Goods,
    place: Place,
    middle: NDArray[np.float64],
    distance_m: float,
) -> NDArray[np.float64]:
    """T_base_camera as it is delivered: its plane z = 0 is off by the plane's error, or is another surface's."""
    if rng.random() < config.plane_elsewhere_share:
        if place.back_m is not None:  # the back wall faces +x
            turn = np.eye(4)
            turn[:3, :3] = np.array([[0.0, 1.0, 0.0], [0.0, 0.0, 1.0], [1.0, 0.0, 0.0]])
            origin = np.eye(4)
            origin[:3, 3] = -(middle + np.array([-place.back_m, 0.0, 0.0]))
            return np.asarray(turn @ origin @ pose)
        _, tops = goods.boxes_m
        pose = pose.copy()
        pose[2, 3] -= float(np.median(tops[:, 2])) * rng.uniform(0.5, 1.0)
    if rng.random() >= config.plane_error_share:
        return pose
    axis = np.array([*rng.normal(size=2), 0.0])
    error = np.eye(4)
    rotation = cv2.Rodrigues(axis / np.linalg.norm(axis) * rng.normal(0, config.plane_error_rad))[0]
    error[:3, :3] = rotation
    error[:3, 3] = middle - rotation @ middle
    error[2, 3] += rng.normal(0, config.plane_error_m) * distance_m
    return np.asarray(error @ pose)
