"""What is kept of a pick besides its record: the frame as an image folder, the segmentation, the frame after, what the
tool's sensors told over time and the look at the load."""

from __future__ import annotations

from typing import Any

import cv2
from numpy.typing import NDArray

from edge_adapt.traces_file import TRACES_FILE, traces_bytes
from robin_grasp.picks.outcome import PickOutcome
from robin_perception.core.errors import Code, RobinError
from robin_perception.core.frame import Frame, depth_units
from robin_perception.core.image_folder import CameraFile
from robin_perception.core.scene import Scene

DEPTH_SCALE_M = 0.0001  # 0.1 mm per unit reaches 6.5 m: finer than the sensor, far enough for any cell


def pick_images(
    frame: Frame, scene: Scene, after: Frame | None, outcome: PickOutcome | None = None
) -> dict[str, bytes]:
    """File name -> bytes.

    color.png, depth.png and camera.json make an image folder that ``robin plan`` reads; labels.png holds the predicted
    instance ids; after.png and after_depth.png are the next frame, where there is one. Of the outcome's traces and look
    at the load, where it has them: traces.safetensors; load.png, load_depth.png.
    """
    images = {
        "color.png": png_bytes(frame.rgb),
        "depth.png": png_bytes(depth_units(frame.depth, DEPTH_SCALE_M)),
        "camera.json": CameraFile.of(frame, DEPTH_SCALE_M).to_text().encode(),
        "labels.png": png_bytes(scene.labels),
    }
    if after is not None:
        images["after.png"] = png_bytes(after.rgb)
        images["after_depth.png"] = png_bytes(depth_units(after.depth, DEPTH_SCALE_M))
    if outcome is not None and outcome.traces is not None:
        images[TRACES_FILE] = traces_bytes(outcome.traces)
    if outcome is not None and outcome.load is not None:
        images["load.png"] = png_bytes(outcome.load.frame.rgb)
        images["load_depth.png"] = png_bytes(depth_units(outcome.load.frame.depth, DEPTH_SCALE_M))
    return images


def png_bytes(image: NDArray[Any]) -> bytes:
    """RGB or one channel, compressed quickly. Raises RobinError RECORD_INVALID."""
    ok, data = cv2.imencode(".png", image[:, :, ::-1] if image.ndim == 3 else image, [cv2.IMWRITE_PNG_COMPRESSION, 1])
    if not ok:
        raise RobinError(Code.RECORD_INVALID, f"cannot encode an image of {image.dtype} {image.shape}")
    return data.tobytes()
