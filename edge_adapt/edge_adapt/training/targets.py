"""What the losses compare with: per scene a small table of parcels and a few maps, computed after augmentation."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from edge_adapt.training.data import IGNORE, TrainingScene
from edge_adapt.training.geometry import NETWORK_HEIGHT, NETWORK_WIDTH
from edge_adapt.training.head import STRIDE_PEAK
from robin_perception.core.errors import Code, RobinError
from robin_perception.core.scene import CLASSES

_MIN_HALF_PIXELS = 20
_MIN_VISIBLE = 0.05
_PEAK_GRID = (NETWORK_HEIGHT // STRIDE_PEAK, NETWORK_WIDTH // STRIDE_PEAK)
_SIGMA_PER_SIZE = 0.11
_SIGMA_CELLS = (0.6, 2.0)


@dataclass(frozen=True)
class ParcelTarget:
    """centre_px (x, y) inside the visible mask; box_px (x0, y0, x1, y1); size_px: square root of the visible area."""

    id: int
    kind: str
    visible_fraction: float
    variant: str
    centre_px: tuple[float, float]
    box_px: tuple[float, float, float, float]
    size_px: float


@dataclass(frozen=True)
class SceneTargets:
    """labels uint8 [192,256] at half resolution, 255 = ignore; heat float32 [48,64], -1 = ignore; the parcels."""

    labels: NDArray[np.uint8]
    heat: NDArray[np.float32]
    parcels: tuple[ParcelTarget, ...]


def inner_centre(mask: NDArray[np.uint8]) -> tuple[float, float]:
    """(x, y) in pixels of ``mask`` [h, w]: the point nearest to the centroid, and at least half the mask's greatest
    depth away from its edge."""
    padded = cv2.copyMakeBorder(mask, 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0)
    depth = cv2.distanceTransform(padded, cv2.DIST_L2, 3)[1:-1, 1:-1]
    rows, columns = np.nonzero(mask)
    x, y = float(columns.mean()), float(rows.mean())
    inside = depth[round(y), round(x)]
    deepest = float(depth.max())
    if inside >= 0.5 * deepest:
        return x, y
    rows, columns = np.nonzero(depth >= 0.5 * deepest)
    nearest = int(np.argmin((columns - x) ** 2 + (rows - y) ** 2))
    return float(columns[nearest]), float(rows[nearest])


def scene_targets(scene: TrainingScene, phase: tuple[int, int] = (0, 0)) -> SceneTargets:
    """Half-resolution labels, parcels with at least 80 visible pixels (smaller ones become ignore) and the heat map.

    ``phase`` (row, column), each 0 or 1: the pixel of every 2x2 block that is taken. Training draws it, so that on the
    mean the samples stand at the blocks' centres and the masks learn no half-pixel shift.
    """
    labels = np.ascontiguousarray(scene.labels[phase[0] :: 2, phase[1] :: 2])
    counts = np.bincount(labels.reshape(-1), minlength=256)
    by_id = {instance.id: instance for instance in scene.instances}
    parcels = []
    for identity in np.nonzero(counts[1:IGNORE])[0] + 1:
        known = by_id.get(int(identity))
        if known is None or counts[identity] < _MIN_HALF_PIXELS or known.visible_fraction < _MIN_VISIBLE:
            labels[labels == identity] = IGNORE
            continue
        mask = (labels == identity).astype(np.uint8)
        x0, y0, width, height = cv2.boundingRect(mask)
        cx, cy = inner_centre(np.ascontiguousarray(mask[y0 : y0 + height, x0 : x0 + width]))
        parcels.append(
            ParcelTarget(
                id=int(identity),
                kind=known.kind,
                visible_fraction=known.visible_fraction,
                variant=known.variant,
                centre_px=(2 * (x0 + cx) + phase[1], 2 * (y0 + cy) + phase[0]),
                box_px=(2.0 * x0, 2.0 * y0, 2.0 * (x0 + width), 2.0 * (y0 + height)),
                size_px=2 * float(np.sqrt(counts[identity])),
            )
        )
    return SceneTargets(labels, _heat_map(labels, parcels), tuple(parcels))


def peak_cell(centre_px: tuple[float, float]) -> tuple[int, int]:
    """(row, column) of the stride-8 cell that holds the point."""
    column = int(np.clip(centre_px[0] // STRIDE_PEAK, 0, _PEAK_GRID[1] - 1))
    row = int(np.clip(centre_px[1] // STRIDE_PEAK, 0, _PEAK_GRID[0] - 1))
    return row, column


def _heat_map(labels: NDArray[np.uint8], parcels: list[ParcelTarget]) -> NDArray[np.float32]:
    """Gaussians at the centres (Zhou et al. 2019, "Objects as Points"), exactly 1 at the centre's cell."""
    height, width = _PEAK_GRID
    block = STRIDE_PEAK // 2
    ignored = (labels == IGNORE).reshape(height, block, width, block).mean(axis=(1, 3)) > 0.5
    heat = np.zeros(_PEAK_GRID, dtype=np.float32)
    rows = np.arange(height, dtype=np.float32)
    columns = np.arange(width, dtype=np.float32)
    for parcel in parcels:
        row, column = peak_cell(parcel.centre_px)
        sigma = float(np.clip(_SIGMA_PER_SIZE * parcel.size_px / STRIDE_PEAK, *_SIGMA_CELLS))
        along_y = np.exp(-((rows - row) ** 2) / (2 * sigma * sigma))
        along_x = np.exp(-((columns - column) ** 2) / (2 * sigma * sigma))
        np.maximum(heat, np.outer(along_y, along_x), out=heat)
    heat[heat < 0.01] = 0
    heat[ignored & (heat < 1)] = -1
    return heat


@dataclass
class Batch:
    """Network inputs, maps and the flat table of the P training locations (one per parcel).

    rgb uint8 [B,384,512,3]; depth float32 [B,384,512]; intrinsics, belt_plane float32 [B,4]; labels uint8 [B,192,256];
    heat float32 [B,48,64]. Per location: image, cell (row * 64 + column), identity, class_index, variant int64 [P];
    visible [P], box [P,4] px; centres float32 [B,256,2]: scaled centre of each label id.
    """

    rgb: Tensor
    depth: Tensor
    intrinsics: Tensor
    belt_plane: Tensor
    labels: Tensor
    heat: Tensor
    image: Tensor
    cell: Tensor
    identity: Tensor
    class_index: Tensor
    variant: Tensor
    visible: Tensor
    box: Tensor
    centres: Tensor

    @property
    def pictures(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """What the network gets."""
        return self.rgb, self.depth, self.intrinsics, self.belt_plane

    def to(self, device: torch.device) -> Batch:
        """The same batch in that device's memory."""
        return Batch(**{name: value.to(device, non_blocking=True) for name, value in vars(self).items()})


def choose_location(parcel: ParcelTarget, labels: NDArray[np.uint8], rng: np.random.Generator) -> int:
    """Flat index into the stride-8 grid [48, 64]: the centre's cell, or now and then a neighbour on the parcel: peaks
    are not always in the right cell. labels: half resolution [192, 256]."""
    row, column = peak_cell(parcel.centre_px)
    if rng.random() < 0.4:
        other_row = int(np.clip(row + rng.integers(-1, 2), 0, _PEAK_GRID[0] - 1))
        other_column = int(np.clip(column + rng.integers(-1, 2), 0, _PEAK_GRID[1] - 1))
        block = STRIDE_PEAK // 2
        inside = labels[
            other_row * block + 1 : other_row * block + 3, other_column * block + 1 : other_column * block + 3
        ]
        if (inside == parcel.id).all():
            row, column = other_row, other_column
    return row * _PEAK_GRID[1] + column


def class_index(kind: str, classes: tuple[str, ...]) -> int:
    """-1 for a parcel whose kind is not told. Raises RobinError INPUT_UNREADABLE."""
    if not kind:
        return -1
    if kind not in classes:
        raise RobinError(Code.INPUT_UNREADABLE, f"a parcel is of kind '{kind}', known are {', '.join(classes)}")
    return classes.index(kind)


def variant_code(name: str) -> int:
    """A stable small number for a kind/variant name (the same in every process, unlike ``hash``)."""
    code = 0
    for byte in name.encode():
        code = (code * 131 + byte) % 1_000_003
    return code


def collate(
    scenes: list[TrainingScene],
    max_parcels: int,
    rng: np.random.Generator,
    jitter: bool = True,
    classes: tuple[str, ...] = CLASSES,
) -> Batch:
    """Targets of every scene, at most ``max_parcels`` locations per scene; ``jitter`` draws the phase of the labels.

    Raises RobinError INPUT_UNREADABLE for a parcel whose kind is none of ``classes``.
    """
    phases = rng.integers(0, 2, (len(scenes), 2)) if jitter else np.zeros((len(scenes), 2), dtype=np.int64)
    targets = [scene_targets(scene, (int(v), int(u))) for scene, (v, u) in zip(scenes, phases, strict=True)]
    rows: list[tuple[int, ...]] = []
    visible: list[float] = []
    boxes: list[tuple[float, ...]] = []
    centres = np.zeros((len(scenes), 256, 2), dtype=np.float32)
    middle = np.array([(NETWORK_WIDTH - 1) / 2, (NETWORK_HEIGHT - 1) / 2], dtype=np.float32)
    for image, target in enumerate(targets):
        for parcel in target.parcels:
            centres[image, parcel.id] = (np.array(parcel.centre_px) - middle) / 128.0
        order = rng.permutation(len(target.parcels))[:max_parcels]
        for parcel in (target.parcels[i] for i in order):
            cell = choose_location(parcel, target.labels, rng)
            rows.append((image, cell, parcel.id, class_index(parcel.kind, classes), variant_code(parcel.variant)))
            visible.append(parcel.visible_fraction)
            boxes.append(parcel.box_px)
    table = torch.tensor(rows, dtype=torch.int64).reshape(-1, 5)
    return Batch(
        rgb=torch.from_numpy(np.stack([s.rgb for s in scenes])),
        depth=torch.from_numpy(np.stack([s.depth for s in scenes])),
        intrinsics=torch.from_numpy(np.stack([s.intrinsics for s in scenes])),
        belt_plane=torch.from_numpy(np.stack([s.belt_plane for s in scenes])),
        labels=torch.from_numpy(np.stack([t.labels for t in targets])),
        heat=torch.from_numpy(np.stack([t.heat for t in targets])),
        image=table[:, 0],
        cell=table[:, 1],
        identity=table[:, 2],
        class_index=table[:, 3],
        variant=table[:, 4],
        visible=torch.tensor(visible, dtype=torch.float32),
        box=torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
        centres=torch.from_numpy(centres),
    )
