"""Cases on disk: one file per pile, whole under its name or not there, with all that the pick check may look at.

A file is an .npz: pictures as PNG (lossless; depth in steps of 0.1 mm), sensor traces as arrays, the rest as one JSON
text under "header". A pile's frames stand once each: the frame after a pick is the frame before the next. "looks" may
name others than "load", in files that were written before; they are not read.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from robin_grasp.picks.outcome import PickOutcome, PickResult
from robin_grasp.picks.traces import LoadView, PickTraces
from robin_grasp.plan import Grasp
from robin_grasp.tool import CellConfig
from robin_perception.core.bounded import parse_json, read_plain_bytes
from robin_perception.core.bounded_arrays import decode_image, parse_npy, parse_npz
from robin_perception.core.disk import write_atomic
from robin_perception.core.errors import Code, RobinError
from robin_perception.core.frame import Frame, depth_units
from robin_perception.core.scene import Instance, Scene

FORMAT = "robin-pick-cases-2"
DEPTH_UNIT_M = 1e-4
MOST_BYTES = 1 << 30
Arrays = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class PickCase:
    """One executed pick. group: scenario, planner, seed and pile, which have the pile in common. cell: with the pile's
    workspace. outcome: with traces, load and truth."""

    group: str
    number: int
    cell: CellConfig
    scene: Scene
    before: Frame
    after: Frame
    grasp: Grasp
    outcome: PickOutcome


def save_cases(path: Path, cases: Sequence[PickCase]) -> None:
    """Write a pile's cases; an empty pile leaves a file too, so that it is not made again. Raises RobinError DISK_FULL
    or OPTION_INVALID."""
    arrays: Arrays = {}
    frames: list[Frame] = []
    rows = []
    for k, case in enumerate(cases):
        traces, load = case.outcome.traces, case.outcome.load
        arrays[f"{k}.labels"] = _png(case.scene.labels)
        if traces is not None:
            arrays[f"{k}.vacuum"], arrays[f"{k}.weight"] = traces.vacuum_pa, traces.weight_n
        if load is not None:
            arrays |= _pictures(f"{k}.load", load.frame)
        rows.append(
            {
                "number": case.number,
                "before": _place(frames, case.before),
                "after": _place(frames, case.after),
                "scene": _scene_json(case.scene),
                "grasp": _grasp_json(case.grasp),
                "outcome": _outcome_json(case.outcome),
            }
        )
    for k, frame in enumerate(frames):
        arrays |= _pictures(f"frame{k}", frame)
    header = {
        "format": FORMAT,
        "group": cases[0].group if cases else path.stem,
        "cell": cases[0].cell.model_dump(mode="json") if cases else {},
        "frames": [_frame_json(frame) for frame in frames],
        "picks": rows,
    }
    buffer = io.BytesIO()
    np.savez(buffer, header=np.array(json.dumps(header)), **arrays)  # type: ignore[arg-type]
    write_atomic(path, buffer.getvalue())


def case_count(path: Path) -> int:
    """How many cases a file holds, from its header alone. Raises RobinError RECORD_INVALID naming the file."""
    try:
        with zipfile.ZipFile(path) as archive:
            header = parse_npy(archive.read("header.npy"), f"{path}: header")
    except (OSError, KeyError, zipfile.BadZipFile):
        raise RobinError(Code.RECORD_INVALID, f"{path}: not a file of pick cases ('{FORMAT}')") from None
    return len(_header(header, path)["picks"])


def load_cases(path: Path) -> Iterator[PickCase]:
    """The cases of one file, in order. Raises RobinError INPUT_* or RECORD_INVALID naming the file."""
    arrays = parse_npz(read_plain_bytes(path, MOST_BYTES), str(path), MOST_BYTES)
    header = _header(arrays.get("header"), path)
    frames = [_frame(arrays, f"frame{k}", row, path) for k, row in enumerate(header["frames"])]
    for k, row in enumerate(header["picks"]):
        labels = _image(arrays, f"{k}.labels", path).astype(np.uint16)
        yield PickCase(
            header["group"],
            int(row["number"]),
            CellConfig.model_validate(header["cell"]),
            _scene(row["scene"], labels),
            frames[row["before"]],
            frames[row["after"]],
            _grasp(row["grasp"]),
            _outcome(row["outcome"], arrays, k, path),
        )


def _header(array: NDArray[Any] | None, path: Path) -> dict[str, Any]:
    text = "null" if array is None else str(array)
    header = parse_json(text, f"{path}: header", Code.RECORD_INVALID)
    if not isinstance(header, dict) or header.get("format") != FORMAT:
        raise RobinError(Code.RECORD_INVALID, f"{path}: not a file of pick cases ('{FORMAT}')")
    return header


def _place(frames: list[Frame], frame: Frame) -> int:
    for k, known in enumerate(frames):
        if known is frame:
            return k
    frames.append(frame)
    return len(frames) - 1


def _png(image: NDArray[Any]) -> NDArray[np.uint8]:
    return np.asarray(cv2.imencode(".png", image, [cv2.IMWRITE_PNG_COMPRESSION, 1])[1], dtype=np.uint8).ravel()


def _pictures(name: str, frame: Frame) -> Arrays:
    colour = cv2.cvtColor(frame.rgb, cv2.COLOR_RGB2BGR)
    return {f"{name}.color": _png(colour), f"{name}.depth": _png(depth_units(frame.depth, DEPTH_UNIT_M))}


def _image(arrays: Arrays, name: str, path: Path) -> NDArray[Any]:
    if name not in arrays:
        raise RobinError(Code.RECORD_INVALID, f"{path}: '{name}' is missing")
    return decode_image(arrays[name].tobytes(), f"{path}: {name}")


def _frame_json(frame: Frame) -> dict[str, Any]:
    return {
        "K": frame.K.tolist(),
        "T_base_camera": frame.T_base_camera.tolist(),
        "stamp_s": frame.stamp_s,
        "camera_id": frame.camera_id,
    }


def _frame(arrays: Arrays, name: str, row: dict[str, Any], path: Path) -> Frame:
    rgb = cv2.cvtColor(_image(arrays, f"{name}.color", path), cv2.COLOR_BGR2RGB)
    depth = _image(arrays, f"{name}.depth", path).astype(np.float32) * np.float32(DEPTH_UNIT_M)
    K, pose = np.array(row["K"]), np.array(row["T_base_camera"])
    return Frame(np.asarray(rgb, dtype=np.uint8), depth, K, pose, row["stamp_s"], row["camera_id"])


def _scene_json(scene: Scene) -> dict[str, Any]:
    return {
        "stamp_s": scene.stamp_s,
        "model_id": scene.model_id,
        "class_names": list(scene.class_names),
        "instances": [
            {
                "id": i.id,
                "bbox": list(i.bbox),
                "area_px": i.area_px,
                "class_probabilities": [round(float(p), 5) for p in i.class_probabilities],
                "detection": i.detection,
                "mask_quality": i.mask_quality,
                "visible_fraction": i.visible_fraction,
                "boundary_uncertainty_px": i.boundary_uncertainty_px,
                "film_depth": list(i.film_depth),
            }
            for i in scene.instances
        ],
    }


def _scene(row: dict[str, Any], labels: NDArray[np.uint16]) -> Scene:
    instances = tuple(
        Instance(
            id=i["id"],
            bbox=(i["bbox"][0], i["bbox"][1], i["bbox"][2], i["bbox"][3]),
            area_px=i["area_px"],
            class_probabilities=np.array(i["class_probabilities"], dtype=np.float32),
            detection=i["detection"],
            mask_quality=i["mask_quality"],
            visible_fraction=i["visible_fraction"],
            boundary_uncertainty_px=i["boundary_uncertainty_px"],
            embedding=np.zeros(0, dtype=np.float32),
            film_depth=tuple(i.get("film_depth", ())),
        )
        for i in row["instances"]
    )
    boundary = np.zeros((1, 1), dtype=np.float32)
    return Scene(row["stamp_s"], row["model_id"], labels, instances, boundary, class_names=tuple(row["class_names"]))


def _grasp_json(grasp: Grasp) -> dict[str, Any]:
    return {
        "T_base_tool": grasp.T_base_tool.tolist(),
        "cups": grasp.cups,
        "instance_id": grasp.instance_id,
        "score": grasp.score,
        "terms": grasp.terms,
        "cup_seal": list(grasp.cup_seal),
    }


def _grasp(row: dict[str, Any]) -> Grasp:
    pose = np.array(row["T_base_tool"])
    return Grasp(pose, row["cups"], row["instance_id"], row["score"], row["terms"], tuple(row["cup_seal"]))


def _look_json(look: LoadView) -> dict[str, Any]:
    return {"frame": _frame_json(look.frame), "T_base_tool": look.T_base_tool.tolist()}


def _outcome_json(outcome: PickOutcome) -> dict[str, Any]:
    traces, load = outcome.traces, outcome.load
    return {
        "result": outcome.result.value,
        "vacuum_pa": list(outcome.vacuum_pa),
        "lifted_weight_n": outcome.lifted_weight_n,
        "duration_s": outcome.duration_s,
        "truth": {name: value for name, value in outcome.truth.items() if name not in ("seals", "releases")},
        "traces": None if traces is None else {"rate_hz": traces.rate_hz, "marks": dict(traces.marks)},
        "looks": {} if load is None else {"load": _look_json(load)},
    }


def _outcome(row: dict[str, Any], arrays: Arrays, k: int, path: Path) -> PickOutcome:
    traces = load = None
    if row["traces"] is not None:
        rate, marks = row["traces"]["rate_hz"], row["traces"]["marks"]
        traces = PickTraces(rate, arrays[f"{k}.vacuum"], arrays[f"{k}.weight"], marks)
    if (look := row["looks"].get("load")) is not None:
        load = LoadView(_frame(arrays, f"{k}.load", look["frame"], path), np.array(look["T_base_tool"]))
    return PickOutcome(
        PickResult(row["result"]),
        tuple(row["vacuum_pa"]),
        row["lifted_weight_n"],
        row["duration_s"],
        row["truth"],
        traces,
        load,
    )
