"""What a pick says about masks."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from robin_perception.core.config import StrictConfig
from robin_perception.core.errors import Code

PILE_PICKS = 24
"""That label each other's frames, at most."""


class Origin(str, Enum):
    """pick: the frame right before the pick that took the parcel. earlier: a frame before, since which nothing of the
    mask moved."""

    PICK = "pick"
    EARLIER = "earlier"


@dataclass(frozen=True)
class MaskLabel:
    """These pixels show one parcel. mask, ignore: bool [H, W]; what is ignored says neither yes nor no, inside the
    mask and outside. confidence: [0, 1]. stamp_s: of the frame that it labels. instance: id in that frame's scene;
    0: none."""

    mask: NDArray[np.bool_]
    ignore: NDArray[np.bool_]
    confidence: float
    origin: Origin
    stamp_s: float
    instance: int = 0


@dataclass(frozen=True)
class TwoLabel:
    """A double pick: what was taken for one parcel was two, and no mask is told. instances: ids in the scene of the
    frame at ``stamp_s``. One: that mask holds two parcels. More: these are not one parcel."""

    instances: tuple[int, ...]
    confidence: float
    stamp_s: float


@dataclass(frozen=True)
class NoLabel:
    """The pick says nothing about masks: the numbered reason and one line."""

    code: Code
    text: str


PickLabel = MaskLabel | TwoLabel | NoLabel


class LabelConfig(StrictConfig):
    """When a pick is believed."""

    least_probability: float = Field(0.9, gt=0.5, le=1, description="of the pick check's result; below: no label")
    least_gone: float = Field(0.5, ge=0, le=1, description="share of a label's pixels that must show that it is gone")
    most_changed_elsewhere: float = Field(
        0.35, gt=0, le=1, description="share of the rest of the picture that may change with one pick"
    )
    band_px: int = Field(2, ge=0, le=50, description="half width of the ignored band along a label's edge")
    most_moved: float = Field(
        0.25, gt=0, lt=1, description="share of a parcel that may change between frames while it counts as unmoved"
    )
