"""What the segmenter says about one frame."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from robin_perception.core.condition import Condition
from robin_perception.core.errors import Code, RobinError
from robin_perception.core.support_check import SupportSeen

CLASSES = ("carton", "flat_mailer", "padded_mailer", "poly_bag", "tube")
"""Kinds of parcels. A scene names the classes of its bundle: ``Scene.class_names``."""
OTHER = "other"
"""The class of things that are no parcels, where a bundle has it."""
FILM_TERMS = 6
"""Of ``Instance.film_depth``."""


@dataclass(frozen=True)
class Instance:
    """One parcel as seen. Scores are separate and calibrated, each in [0, 1].

    id: 1-based value of this instance in ``Scene.labels``.
    bbox: (x0, y0, x1, y1) in frame pixels, half open.
    class_probabilities: float32 [C], in the order of ``Scene.class_names``.
    detection: P(this is one parcel whose mask has IoU >= .5 with it).
    mask_quality: expected IoU of the mask with the parcel's visible part.
    visible_fraction: visible share of the parcel's silhouette.
    boundary_uncertainty_px: 1-sigma of the mask's edge, frame pixels.
    embedding: float32 [E], unit length.
    novelty: how unlike all known goods it looks, 0 usual; the station's limit is 1. NaN: not measured.
    film_depth: where it is film that the depth camera looks through, FILM_TERMS figures: the depth of its face, metres,
    is (1, u, v, u², uv, v²) · film_depth, u and v from -1 to 1 across ``bbox``. Empty: its depth is as it is seen.
    """

    id: int
    bbox: tuple[int, int, int, int]
    area_px: int
    class_probabilities: NDArray[np.float32]
    detection: float
    mask_quality: float
    visible_fraction: float
    boundary_uncertainty_px: float
    embedding: NDArray[np.float32]
    novelty: float = float("nan")
    film_depth: tuple[float, ...] = ()


def version_text(version: int | None) -> str:
    """A model's number in its registry as messages tell it; empty for None."""
    return "" if version is None else str(version)


def parsed_version(text: str) -> int | None:
    """What ``version_text`` wrote. Raises RobinError INPUT_UNREADABLE."""
    if text and not (text.isascii() and text.isdigit() and len(text) <= 9):
        raise RobinError(Code.INPUT_UNREADABLE, f"model version '{text[:20]}' is no number of a registry")
    return int(text) if text else None


@dataclass(frozen=True)
class Scene:
    """Segmented frame. labels: uint16 [H, W] at frame size, 0 = no parcel, else Instance.id (non-overlapping).

    boundary: float32 [h, w] in [0, 1], probability of a parcel edge at the network's mask grid, covering the whole
    frame. flags: short lower-case words, e.g. "instances_truncated".
    timings_ms: stage -> milliseconds. class_names: of the bundle that made it, the order of class probabilities.
    engine: the one that answered, "fallback:NAME" where it stood in for another; empty where none was asked.
    conditions: of station and goods, as they stand with this frame. model_version: of the model in the registry that it
    is from; None: it is from none.
    support: the surface under the parcels as the frame shows it; None where it was not seen or not measured.
    """

    stamp_s: float
    model_id: str
    labels: NDArray[np.uint16]
    instances: tuple[Instance, ...]
    boundary: NDArray[np.float32]
    flags: tuple[str, ...] = ()
    timings_ms: dict[str, float] = field(default_factory=dict)
    class_names: tuple[str, ...] = CLASSES
    engine: str = ""
    support: SupportSeen | None = None
    conditions: tuple[Condition, ...] = ()
    model_version: int | None = None

    def class_name(self, instance: Instance) -> str:
        """The most probable of ``class_names``."""
        return self.class_names[int(np.argmax(instance.class_probabilities))]

    def other_probability(self, instance: Instance) -> float:
        """P(the instance is no parcel); 0 where the bundle does not know such things."""
        return float(instance.class_probabilities[self.class_names.index(OTHER)]) if OTHER in self.class_names else 0.0

    def mask(self, instance: Instance) -> NDArray[np.bool_]:
        """Full-size boolean mask [H, W]; prefer ``crop`` on the hot path."""
        return np.asarray(self.labels == instance.id)

    def crop(self, instance: Instance) -> NDArray[np.bool_]:
        """Boolean mask of the instance inside its bbox, [y1 - y0, x1 - x0]."""
        x0, y0, x1, y1 = instance.bbox
        return np.asarray(self.labels[y0:y1, x0:x1] == instance.id)
