"""What the trunk hands to the head, computed once and kept on disk: a head is taught on it without the trunk.

A folder holds stride4.bin and stride8.bin (half precision, row by row) and features.json, which names the trunk by its
digest. A row counts when both files hold it in full, so that a run that was stopped goes on where it was.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_adapt.training.data import TrainingScene
from robin_perception.core.disk import make_folder, write_atomic, write_error
from robin_perception.core.errors import Code, RobinError
from robin_perception.core.image_folder import read_json
from robin_perception.core.output import locked
from robin_perception.engines import Engine
from robin_perception.model.bundle import FEATURE_OUTPUTS, NETWORK_FILE, Bundle

INDEX_FILE = "features.json"
_FILES = ("stride4.bin", "stride8.bin")
_HALF_MAX = float(np.finfo(np.float16).max)
_SYNCED_TOGETHER = 16

Half = NDArray[np.float16]


@dataclass(frozen=True)
class Maps:
    """Features of N frames: stride4 float16 [N, C4, 96*128], stride8 float16 [N, C8, 48*64]; mapped from the disk."""

    stride4: Half
    stride8: Half


class FeatureCache:
    """The features of numbered frames under one trunk. One process at a time fills it."""

    def __init__(self, folder: Path, bundle: Bundle, engine: Engine, content: str) -> None:
        """content: digest of the frames. Raises RobinError FEATURES_FOREIGN where the folder's features are of another
        trunk or of other frames."""
        self.folder = folder
        self.engine = engine
        shapes = [list(engine.outputs[name].shape) for name in FEATURE_OUTPUTS]
        self._shapes: list[tuple[int, ...]] = [tuple(shape) for shape in shapes]
        self._about = {"trunk": bundle.manifest.files[NETWORK_FILE], "content": content, "shapes": shapes}
        make_folder(folder)
        path = folder / INDEX_FILE
        if not path.exists():
            write_atomic(path, (json.dumps(self._about) + "\n").encode())
        found: Any = read_json(path)
        for key, value in self._about.items():
            if not isinstance(found, dict) or found.get(key) != value:
                text = f"{path}: '{key}' is another than this bundle's and these frames'; remove the folder"
                raise RobinError(Code.FEATURES_FOREIGN, text)

    def __len__(self) -> int:
        """Rows that are whole."""
        return min(
            path.stat().st_size // (2 * int(np.prod(shape))) if path.is_file() else 0
            for path, shape in zip(self._paths, self._shapes, strict=True)
        )

    @property
    def _paths(self) -> list[Path]:
        return [self.folder / name for name in _FILES]

    def fill(self, scene: Callable[[int], TrainingScene], count: int) -> Iterator[int]:
        """Run the trunk on the frames that are not in yet, up to ``count``; yields how many are. Raises RobinError
        ENGINE_FAILED, DISK_FULL, OPTION_INVALID."""
        try:
            with locked(self.folder):
                begin = len(self)
                files = []
                for path, shape in zip(self._paths, self._shapes, strict=True):
                    path.touch()
                    os.truncate(path, begin * 2 * int(np.prod(shape)))
                    files.append(path.open("ab"))
                try:
                    for row in range(begin, count):
                        for file, values in zip(files, self._features(scene(row)), strict=True):
                            file.write(values.tobytes())
                        if row % _SYNCED_TOGETHER == _SYNCED_TOGETHER - 1 or row == count - 1:
                            for file in files:
                                file.flush()
                                os.fsync(file.fileno())
                        yield row + 1
                finally:
                    for file in files:
                        file.close()
        except OSError as exc:
            raise write_error(self.folder, exc) from None

    def _features(self, scene: TrainingScene) -> list[Half]:
        inputs: dict[str, NDArray[Any]] = {
            "rgb": scene.rgb,
            "depth": scene.depth,
            "intrinsics": scene.intrinsics,
            "belt_plane": scene.belt_plane,
        }
        found = self.engine.run(inputs, FEATURE_OUTPUTS)
        return [np.clip(found[name], -_HALF_MAX, _HALF_MAX).astype(np.float16) for name in FEATURE_OUTPUTS]

    def maps(self) -> Maps:
        """All whole rows."""
        count = len(self)
        first, second = (
            np.memmap(path, np.float16, "r", shape=(count, *shape))
            for path, shape in zip(self._paths, self._shapes, strict=True)
        )
        return Maps(first, second)
