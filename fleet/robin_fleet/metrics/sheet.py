"""Pictures of picks side by side: one row of those where a figure is low, one where it is high."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray

from edge_adapt.recording import png_bytes
from robin_fleet.ledger.metrics import Fact
from robin_fleet.ledger.samples import SAMPLE_FILES, SAMPLES
from robin_fleet.objects.interface import Objects
from robin_perception.core.bounded_arrays import decode_image
from robin_perception.core.errors import RobinError

WIDTH, HEIGHT, CAPTION = 240, 180, 34
_COLOUR = "color.png"
_MOST_LOOKED = 400  # picks whose pictures are looked for
_INK, _PAPER = (20, 20, 20), (245, 245, 245)


@dataclass(frozen=True)
class Tile:
    """rgb: uint8 [H, W, 3], None where the fleet has no picture of that pick. lines: what stands below."""

    rgb: NDArray[np.uint8] | None
    lines: tuple[str, str]


def tiles(
    connection: sa.Connection, objects: Objects, facts: Sequence[Fact], target: str, count: int
) -> tuple[Tile, ...]:
    """Of the first ``count`` picks whose pictures the fleet holds; of others where there are too few of those."""
    found = []
    for one in facts[:_MOST_LOOKED]:
        rgb = _picture(connection, objects, one)
        value = one.facts.get(target)
        told = one.facts["result"] if value is None else f"{target} {value:.4g}"
        found.append(Tile(rgb, (f"{one.robot} {told}", one.decision[-40:])))
        if sum(tile.rgb is not None for tile in found) == count:
            break
    return tuple(sorted(found, key=lambda tile: tile.rgb is None)[:count])


def sheet_png(rows: Sequence[Sequence[Tile]]) -> bytes:
    """PNG of the rows; empty places stay empty."""
    columns = max((len(row) for row in rows), default=0) or 1
    paper = np.full((len(rows) * (HEIGHT + CAPTION), columns * WIDTH, 3), _PAPER, np.uint8)
    for y, row in enumerate(rows):
        for x, tile in enumerate(row):
            top, left = y * (HEIGHT + CAPTION), x * WIDTH
            if tile.rgb is not None:
                paper[top : top + HEIGHT, left : left + WIDTH] = _fitted(tile.rgb)
            for number, line in enumerate(tile.lines):
                place = (left + 4, top + HEIGHT + 13 + 15 * number)
                cv2.putText(paper, line[:38], place, cv2.FONT_HERSHEY_SIMPLEX, 0.37, _INK, 1, cv2.LINE_AA)
    return png_bytes(paper)


def _fitted(rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
    scale = min(WIDTH / rgb.shape[1], HEIGHT / rgb.shape[0])
    size = (max(1, round(rgb.shape[1] * scale)), max(1, round(rgb.shape[0] * scale)))
    small = cv2.resize(rgb, size, interpolation=cv2.INTER_AREA)
    place = np.full((HEIGHT, WIDTH, 3), _PAPER, np.uint8)
    place[: size[1], : size[0]] = small
    return place


def _picture(connection: sa.Connection, objects: Objects, fact: Fact) -> NDArray[np.uint8] | None:
    """A picture that is gone or damaged leaves its place empty."""
    joined = SAMPLES.join(SAMPLE_FILES, SAMPLES.c.sample == SAMPLE_FILES.c.sample)
    own = (SAMPLES.c.decision_id == fact.decision, SAMPLES.c.robot == fact.robot, SAMPLE_FILES.c.file == _COLOUR)
    blob = connection.execute(sa.select(SAMPLE_FILES.c.blob).select_from(joined).where(*own)).scalar()
    if blob is None:
        return None
    try:
        return np.ascontiguousarray(decode_image(objects.get(blob), blob, cv2.IMREAD_COLOR)[..., ::-1])
    except RobinError:
        return None
