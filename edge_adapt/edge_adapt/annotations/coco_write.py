"""COCO instances, written: what ``coco.read_coco``, pycocotools and FiftyOne read."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from robin_perception.core.disk import write_atomic


class CocoWriter:
    """Collects images and masks; ``save`` writes them as one file. Categories are numbered in the order in which their
    names come."""

    def __init__(self) -> None:
        self._images: list[dict[str, Any]] = []
        self._annotations: list[dict[str, Any]] = []
        self._categories: dict[str, int] = {}

    def image(self, number: int, file_name: str, size: tuple[int, int], depth: str | None = None, **told: Any) -> None:
        """size: (width, height). told: more keys of the image."""
        values = {"id": number, "file_name": file_name, "width": size[0], "height": size[1]}
        if depth is not None:
            values["depth_file_name"] = depth
        self._images.append({**values, **told})

    def mask(
        self,
        image: int,
        name: str,
        counts: str,
        size: tuple[int, int],
        bbox: tuple[int, int, int, int],
        area: int,
        *,
        crowd: bool = False,
        told: Mapping[str, Any] | None = None,
    ) -> None:
        """counts: run lengths of the picture of ``size`` (width, height). bbox: x0, y0, x1, y1. crowd: its pixels are
        ignored. told: more keys of the annotation."""
        x0, y0, x1, y1 = bbox
        self._annotations.append(
            {
                "id": len(self._annotations) + 1,
                "image_id": image,
                "category_id": self._categories.setdefault(name, len(self._categories) + 1),
                "segmentation": {"size": [size[1], size[0]], "counts": counts},
                "bbox": [x0, y0, x1 - x0, y1 - y0],
                "area": area,
                "iscrowd": int(crowd),
                **(told or {}),
            }
        )

    def save(self, path: Path) -> None:
        """Raises RobinError DISK_FULL, OPTION_INVALID."""
        categories = [{"id": number, "name": name} for name, number in self._categories.items()]
        values = {"images": self._images, "annotations": self._annotations, "categories": categories}
        write_atomic(path, json.dumps(values).encode())
